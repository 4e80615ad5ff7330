//! What was found, when, and whether the latest look went well.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::BtcPrice;
use arbstr_wire::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::offers::Btc;
use super::reading::{bitcoin, target};
use crate::config::Config;
use crate::records::exact;

/// Something that is read again and again: the last good reading, and trouble since.
#[derive(Debug, Clone)]
pub(crate) struct Tracked<T> {
    /// What was read, and when.
    pub(crate) latest: Option<(T, Instant)>,
    /// Since when and why it cannot be read.
    pub(crate) trouble: Option<(Instant, String)>,
}

/// Everything that was discovered, beside one config.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// The lists of the providers, in the order of the config; empty for those that are not discovered.
    pub(crate) lists: Vec<Tracked<Arc<Catalog>>>,
    /// The price of bitcoin from the config's source.
    pub(crate) btc: Tracked<BtcPrice>,
}

/// How the discovery of a provider stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiscoveryStatus {
    /// Models in its list; `None` before the first.
    pub(crate) models: Option<usize>,
    /// How old the list is.
    pub(crate) age_secs: Option<u64>,
    /// How long reading it has been failing.
    pub(crate) failing_secs: Option<u64>,
    /// Why.
    error: Option<String>,
}

/// What a bitcoin costs and who says so, for people.
#[derive(Debug, Serialize)]
pub(crate) struct BtcPriceStatus {
    usd: Option<Box<RawValue>>,
    /// How old the source's word is; `None` when the price is the config's.
    age_secs: Option<u64>,
    failing_secs: Option<u64>,
    error: Option<String>,
}

impl<T> Tracked<T> {
    /// Takes in a reading at `now`; trouble goes on since it began.
    pub(crate) fn on_read(&mut self, read: Result<T, String>, now: Instant) {
        match read {
            Ok(value) => {
                self.latest = Some((value, now));
                self.trouble = None;
            }
            Err(why) => {
                let since = self.trouble.as_ref().map_or(now, |(since, _)| *since);
                self.trouble = Some((since, why));
            }
        }
    }

    /// How old the last good reading is.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let (_, at) = self.latest.as_ref()?;
        Some(now.saturating_duration_since(*at))
    }

    /// How long it cannot be read, and why.
    fn failing(&self, now: Instant) -> (Option<u64>, Option<String>) {
        let trouble = self.trouble.as_ref();
        let since = trouble.map(|(since, _)| now.saturating_duration_since(*since).as_secs());
        (since, trouble.map(|(_, why)| why.clone()))
    }
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self {
            latest: None,
            trouble: None,
        }
    }
}

impl Findings {
    /// Nothing yet of what `config` wants discovered, but for what `previous`, under the config `before`, has of the
    /// same providers and the same source.
    pub(crate) fn inherit(config: &Config, previous: Option<(&Config, &Self)>) -> Self {
        let known = |name: &dyn Fn(&Config, usize) -> bool| {
            let (before, findings) = previous?;
            let index = (0..findings.lists.len()).find(|index| name(before, *index))?;
            Some(findings.lists[index].clone())
        };
        let lists = config.providers.iter().map(|provider| {
            let same = |before: &Config, index: usize| {
                target(&before.providers[index]) == target(provider)
            };
            provider
                .discover
                .and_then(|_| known(&same))
                .unwrap_or_default()
        });
        let source = |config: &Config| config.prices.source.as_ref().map(bitcoin);
        let btc = previous
            .filter(|(before, _)| source(before).is_some() && source(before) == source(config));
        Self {
            lists: lists.collect(),
            btc: btc.map_or_else(Tracked::default, |(_, findings)| findings.btc.clone()),
        }
    }

    /// What a bitcoin costs: by the source's latest word, else by the operator's.
    pub(crate) fn btc_price(&self, config: &Config) -> Option<Btc> {
        let read = self.btc.latest.map(|(price, at)| (price, Some(at)));
        read.or_else(|| config.prices.usd_per_btc.map(|price| (price, None)))
    }
}

impl DiscoveryStatus {
    /// How `list` stands at `now`.
    pub(crate) fn of(list: &Tracked<Arc<Catalog>>, now: Instant) -> Self {
        let (failing_secs, error) = list.failing(now);
        Self {
            models: list.latest.as_ref().map(|(list, _)| list.models.len()),
            age_secs: list.age(now).map(|age| age.as_secs()),
            failing_secs,
            error,
        }
    }
}

impl fmt::Display for DiscoveryStatus {
    /// `models listed: 345, read 12 s ago`, and trouble since.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.models, self.age_secs) {
            (Some(models), Some(age)) => write!(f, "models listed: {models}, read {age} s ago")?,
            _ => f.write_str("its list was not read yet")?,
        }
        match (&self.error, self.failing_secs) {
            (Some(error), Some(secs)) => write!(f, "; failing for {secs} s: {error}"),
            _ => Ok(()),
        }
    }
}

impl BtcPriceStatus {
    /// How the price stands at `now`; `None` when `config` says nothing of it.
    pub(crate) fn of(findings: &Findings, config: &Config, now: Instant) -> Option<Self> {
        let price = findings.btc_price(config);
        if price.is_none() && config.prices.source.is_none() {
            return None;
        }
        let (failing_secs, error) = findings.btc.failing(now);
        Some(Self {
            usd: exact(price.map(|(price, _)| price)),
            age_secs: findings.btc.age(now).map(|age| age.as_secs()),
            failing_secs,
            error,
        })
    }
}
