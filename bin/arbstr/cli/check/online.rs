//! `arbstr check --online`: each provider's own list against the config, all asked at once.
//!
//! A list that anybody may read says nothing about a key. So where the list came, it is asked for once more without the
//! key, and a key is called accepted only when that was refused.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use arbstr_price::Rates;
use arbstr_wire::Catalog;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::screen::Screen;
use super::super::table::{Cell, Column, Table, Tone};
use super::super::{Failure, json_line};
use crate::clock::{self, whole_ms};
use crate::config::{Config, Model, Provider, nearest};
use crate::discover::{Btc, published, read_bitcoin, read_list, without_echoes};
use crate::records::exact;
use crate::upstream::{Upstream, tls_config};

/// What the providers of a config say.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    providers: Vec<Finding>,
    usd_per_btc: Option<Box<RawValue>>,
    /// Why the named source gives no price of bitcoin.
    btc_price_error: Option<String>,
}

/// What one provider says.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    url: String,
    /// It gave its list.
    ok: bool,
    error: Option<String>,
    took_ms: u64,
    key: Key,
    /// Models in its list.
    listed: Option<usize>,
    /// Models of the config that are not in it.
    missing: Vec<Missing>,
    /// Models in it that the config does not name.
    not_in_config: Option<usize>,
    /// Prices that the config and the list see differently.
    prices: Vec<Difference>,
}

/// What became of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    /// The list came with it and not without.
    Accepted,
    /// The provider refused it.
    Refused,
    /// Anybody gets the list.
    NotTested,
    /// The config has none.
    None,
    /// The provider said nothing of it.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Missing {
    model: String,
    upstream_model: String,
    /// What was probably meant.
    nearest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Difference {
    model: String,
    config: Price,
    published: Price,
}

#[derive(Debug, Serialize)]
struct Price {
    input_rate: Option<Box<RawValue>>,
    output_rate: Option<Box<RawValue>>,
    cached_input_rate: Option<Box<RawValue>>,
    base_fee: Option<Box<RawValue>>,
}

/// Asks everybody.
///
/// # Errors
/// Only when nobody can be asked at all.
pub(super) fn ask(config: &Config) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let report = runtime.block_on(ask_all(config));
    runtime.shutdown_timeout(Duration::from_millis(100));
    report
}

impl Report {
    /// What does not work, for the error at the end: who gave no list, and in whose list a model of the config is missing.
    /// `None` when all is well; a price that differs may be the operator's word.
    pub(super) fn failed(&self) -> Option<String> {
        let named = |fails: fn(&Finding) -> bool| -> Vec<&str> {
            let failing = self.providers.iter().filter(|finding| fails(finding));
            failing.map(|finding| finding.name.as_str()).collect()
        };
        let mut silent = named(|finding| !finding.ok);
        if self.btc_price_error.is_some() {
            silent.push("prices.btc_price_url");
        }
        let lacking = named(|finding| !finding.missing.is_empty());
        let failures = [
            ("no usable answer from", silent),
            ("models of the config are missing in the list of", lacking),
        ];
        let told = failures.iter().filter(|(_, names)| !names.is_empty());
        let told: Vec<String> = told
            .map(|(what, names)| format!("{what} {}", names.join(", ")))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// As JSON on one line.
    pub(super) fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json_line(self, out)
    }

    /// As a table, and a line for each thing to look into.
    pub(super) fn print_table(&self, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(vec![
            Column::text("PROVIDER"),
            Column::text("LIST"),
            Column::text("KEY"),
            Column::number("MODELS"),
            Column::number("MISSING"),
            Column::number("NOT IN CONFIG").dispensable(1),
            Column::number("OTHER PRICE").dispensable(2),
        ]);
        for finding in &self.providers {
            table.row(finding.cells());
        }
        table.print(out, screen)?;
        writeln!(out)?;
        for finding in &self.providers {
            finding.print_details(out)?;
        }
        if let Some(price) = &self.usd_per_btc {
            writeln!(out, "bitcoin: {price} US dollars")?;
        }
        if let Some(error) = &self.btc_price_error {
            writeln!(out, "prices.btc_price_url: {error}")?;
        }
        Ok(())
    }
}

impl Finding {
    fn cells(&self) -> Vec<Cell> {
        let (list, tone) = match &self.error {
            None => (format!("read in {} ms", self.took_ms), Tone::Good),
            Some(error) => (error.clone(), Tone::Bad),
        };
        let missing = self.listed.map(|_| self.missing.len());
        let different = self.listed.map(|_| self.prices.len());
        vec![
            Cell::text(&self.name),
            Cell::text(&list).toned(tone),
            Cell::text(self.key.word()).toned(self.key.tone()),
            Cell::number(self.listed),
            Cell::number(missing),
            Cell::number(self.not_in_config),
            Cell::number(different),
        ]
    }

    fn print_details(&self, out: &mut dyn Write) -> io::Result<()> {
        use super::super::screen::printable;
        for missing in &self.missing {
            let meant = missing.nearest.as_deref();
            let hint = meant.map_or_else(String::new, |name| {
                format!("; did you mean {}?", printable(name))
            });
            let (name, model) = (&self.name, printable(&missing.upstream_model));
            writeln!(out, "{name}: its list has no {model}{hint}")?;
        }
        for difference in &self.prices {
            let (name, model) = (&self.name, printable(&difference.model));
            let (ours, theirs) = (&difference.config, &difference.published);
            writeln!(
                out,
                "{name}: {model} costs {ours} by the config, {theirs} by its list"
            )?;
        }
        Ok(())
    }
}

impl Key {
    fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotTested => "not tested: the list is public",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Accepted => Tone::Good,
            Self::Refused => Tone::Bad,
            Self::NotTested | Self::None | Self::Unknown => Tone::Plain,
        }
    }
}

impl Price {
    fn of(rates: &Rates) -> Self {
        Self {
            input_rate: exact(Some(rates.input)),
            output_rate: exact(Some(rates.output)),
            cached_input_rate: exact(Some(rates.cached_rate())),
            base_fee: exact(Some(rates.base_fee)),
        }
    }
}

impl std::fmt::Display for Price {
    /// `10000 in, 30000 out`, and what else there is to it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |amount: &Option<Box<RawValue>>| {
            amount
                .as_ref()
                .map_or("?", |amount| amount.get())
                .to_owned()
        };
        let (input, cached) = (text(&self.input_rate), text(&self.cached_input_rate));
        write!(f, "{input} in")?;
        if cached != input {
            write!(f, " ({cached} cached)")?;
        }
        write!(f, ", {} out", text(&self.output_rate))?;
        match text(&self.base_fee) {
            fee if fee == "0" => Ok(()),
            fee => write!(f, ", {fee} a request"),
        }
    }
}

async fn ask_all(config: &Config) -> Result<Report, Failure> {
    let is_https = |provider: &Provider| provider.url.is_https();
    let tls = tls_config(config.providers.iter().any(is_https));
    let btc = bitcoin(config).await;
    let price = match &btc {
        Ok(price) => *price,
        Err(_) => None,
    };
    let secrets: Vec<&str> = config.secrets().collect();
    let asked = config.providers.iter().map(|provider| {
        let (upstream, secrets) = (Upstream::new(provider, &tls), &secrets);
        async move {
            let upstream = upstream.map_err(Failure::BadConfig)?;
            Ok(ask_one(provider, &upstream, secrets, price).await)
        }
    });
    let providers = futures_util::future::join_all(asked).await;
    Ok(Report {
        providers: providers.into_iter().collect::<Result<_, Failure>>()?,
        usd_per_btc: exact(price.map(|(price, _)| price)),
        btc_price_error: btc.err(),
    })
}

/// What a bitcoin costs: by the source where one is named, else by the config.
async fn bitcoin(config: &Config) -> Result<Option<Btc>, String> {
    let prices = &config.prices;
    match &prices.source {
        None => Ok(prices.usd_per_btc.map(|price| (price, None))),
        Some(source) => {
            let price = read_bitcoin(source, prices.usd_per_btc).await?;
            Ok(Some((price, Some(clock::now()))))
        }
    }
}

async fn ask_one(
    provider: &Provider,
    upstream: &Upstream,
    secrets: &[&str],
    btc: Option<Btc>,
) -> Finding {
    let began = clock::now();
    let read = read_list(upstream).await;
    let took_ms = whole_ms(clock::now().saturating_duration_since(began));
    let key = match (&provider.api_key, &read) {
        (None, _) => Key::None,
        (Some(_), Ok(_)) if upstream.lists_without_key().await => Key::NotTested,
        (Some(_), Ok(_)) => Key::Accepted,
        (Some(_), Err(error)) if error.is_key_refused() => Key::Refused,
        (Some(_), Err(_)) => Key::Unknown,
    };
    let read = without_echoes(read.map_err(|error| error.to_string()), secrets);
    let mut finding = Finding {
        name: provider.name.clone(),
        url: provider.url.to_string(),
        ok: read.is_ok(),
        error: read.as_ref().err().cloned(),
        took_ms,
        key,
        listed: None,
        missing: Vec::new(),
        not_in_config: None,
        prices: Vec::new(),
    };
    if let Ok(catalog) = &read {
        finding.compare(&provider.models, catalog, btc, began);
    }
    finding
}

impl Finding {
    /// Holds the config's `models` against the list.
    fn compare(&mut self, models: &[Model], catalog: &Catalog, btc: Option<Btc>, now: Instant) {
        let mut named = 0;
        for model in models {
            let listed = catalog.models.iter().find(|one| one.id == model.upstream);
            let Some(listed) = listed else {
                let known = catalog.models.iter().map(|listed| listed.id.as_str());
                self.missing.push(Missing {
                    model: model.name.clone(),
                    upstream_model: model.upstream.clone(),
                    nearest: nearest(&model.upstream, known).map(str::to_owned),
                });
                continue;
            };
            named += 1;
            let theirs = listed.price.as_ref();
            let theirs = theirs.and_then(|price| published(price, now, btc).ok());
            if let (Some(ours), Some((theirs, _))) = (&model.rates, theirs)
                && Charge::of(ours) != Charge::of(&theirs)
            {
                self.prices.push(Difference {
                    model: model.name.clone(),
                    config: Price::of(ours),
                    published: Price::of(&theirs),
                });
            }
        }
        self.listed = Some(catalog.models.len());
        self.not_in_config = Some(catalog.models.len() - named);
    }
}

/// What rates come to, however they are written.
#[derive(PartialEq, Eq)]
struct Charge(Rates);

impl Charge {
    fn of(rates: &Rates) -> Self {
        Self(Rates {
            cached_input: Some(rates.cached_rate()),
            ..*rates
        })
    }
}
