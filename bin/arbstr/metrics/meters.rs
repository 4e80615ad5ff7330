//! The counters of one market, ready for its requests.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arbstr_route::ProviderSnapshot;
use arbstr_store::Completion;
use hashbrown::HashMap;
use prometheus::{Histogram, IntCounter};

use super::Metrics;
use super::doubt::Doubt;
use super::outcome::{OutcomeLabel, status_word};
use super::spending::Spending;
use crate::config::VirtualModel;

/// Every combination of a model and a provider that there may be, with its counters once they are used.
#[derive(Debug)]
pub(crate) struct Meters {
    metrics: Arc<Metrics>,
    models: HashMap<String, usize>,
    providers: HashMap<String, usize>,
    /// By provider within model; the last model is any other, the last provider is none.
    /// Boxed: a market has far more cells than are ever used.
    series: Box<[OnceLock<Box<Series>>]>,
    /// Good answers, by provider.
    good: Box<[OnceLock<IntCounter>]>,
}

/// The counters of one model at one provider.
#[derive(Debug)]
struct Series {
    outcomes: [IntCounter; OutcomeLabel::ALL.len()],
    served: Option<Served>,
}

/// What only a request has that reached a provider.
#[derive(Debug)]
struct Served {
    duration: Histogram,
    first_byte: Histogram,
    tokens: [IntCounter; KINDS.len()],
    spending: Arc<Spending>,
    interruptions: IntCounter,
}

impl Meters {
    /// The counters of what `providers` offer and of the names that stand for several models. What `previous` had counted
    /// goes on; what is offered no longer is dropped.
    pub(crate) fn build(
        providers: &[ProviderSnapshot],
        virtual_models: &[VirtualModel],
        previous: Option<&Self>,
    ) -> Self {
        let metrics =
            previous.map_or_else(|| Arc::new(Metrics::new()), |old| Arc::clone(&old.metrics));
        let offers = providers.iter().flat_map(|provider| &provider.offers);
        let names = offers.map(|offer| &*offer.model);
        let models = numbered(names.chain(virtual_models.iter().map(|model| &*model.name)));
        let providers = numbered(providers.iter().map(|provider| &*provider.name));
        if previous.is_some() {
            metrics.retain(&|model, provider| {
                (model.is_empty() || model == OTHER || models.contains_key(model))
                    && (provider.is_empty() || providers.contains_key(provider))
            });
        }
        // A rate needs a first value to rise from.
        for provider in providers.keys() {
            metrics.circuit_opens.with_label_values(&[provider]);
            metrics.interruptions.with_label_values(&[provider]);
            metrics.doubts.expect(provider);
        }
        let empty = |count: usize| (0..count).map(|_| OnceLock::new()).collect();
        let series = empty((models.len() + 1) * (providers.len() + 1));
        let good = (0..providers.len()).map(|_| OnceLock::new()).collect();
        Self {
            metrics,
            models,
            providers,
            series,
            good,
        }
    }

    /// What is counted over all configs.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Counts an attempt; `kind`: how it came out, in one of few words.
    pub(crate) fn attempt_ended(&self, provider: &str, kind: &'static str, status: Option<u16>) {
        let count = || {
            self.metrics
                .attempts
                .with_label_values(&[provider, kind, status_word(status)])
        };
        let ready = self.providers.get(provider).map(|&at| &self.good[at]);
        match ready {
            Some(good) if kind == "good" && status == Some(200) => good.get_or_init(count).inc(),
            _ => count().inc(),
        }
    }

    /// Counts a request; `overhead`: the part of it that was arbstr's own doing.
    pub(crate) fn request_ended(
        &self,
        model: &str,
        streaming: bool,
        row: &Completion<&str>,
        overhead: Option<Duration>,
    ) {
        let series = self.series(model, row.provider);
        let outcome = OutcomeLabel::of(row);
        series.outcomes[outcome as usize].inc();
        if let Some(overhead) = overhead {
            self.metrics.overhead.observe(overhead.as_secs_f64());
        }
        let retries = row.attempts.len().saturating_sub(1);
        if retries > 0 {
            self.metrics.retries.inc_by(retries as u64);
        }
        for attempt in row.unseen_attempts() {
            if let Some(cost) = attempt.sunk_cost {
                self.metrics.add_sunk(attempt.provider, cost);
            }
        }
        let Some(served) = &series.served else { return };
        served.duration.observe(row.duration.as_secs_f64());
        let Some(latency) = row.latency else { return };
        served.first_byte.observe(latency.as_secs_f64());
        served.spending.add(row);
        let tokens = [
            row.input_tokens,
            row.output_tokens,
            row.cached_input_tokens,
            row.reasoning_tokens,
        ];
        for (counter, count) in served.tokens.iter().zip(tokens) {
            if let Some(count) = count.filter(|count| *count > 0) {
                counter.inc_by(count);
            }
        }
        if streaming && outcome.is_interruption() {
            served.interruptions.inc();
        }
    }

    /// Counts what puts the price of the request's provider in doubt; what of it is to be told.
    pub(crate) fn price_doubted(&self, row: &Completion<&str>, now: Instant) -> Vec<Doubt> {
        self.metrics.doubts.count(row, now)
    }

    fn series(&self, model: &str, provider: Option<&str>) -> &Series {
        let known = self.models.get_key_value(model);
        let (model, row) = known.map_or((OTHER, self.models.len()), |(name, &at)| (name, at));
        let known = provider.and_then(|name| self.providers.get_key_value(name));
        let (provider, column) = known.map_or(("", self.providers.len()), |(name, &at)| (name, at));
        let cell = &self.series[row * (self.providers.len() + 1) + column];
        cell.get_or_init(|| Box::new(Series::new(&self.metrics, model, provider)))
    }
}

impl Series {
    fn new(metrics: &Metrics, model: &str, provider: &str) -> Self {
        let outcome = |outcome: OutcomeLabel| {
            metrics
                .requests
                .with_label_values(&[model, provider, outcome.word()])
        };
        Self {
            outcomes: OutcomeLabel::ALL.map(outcome),
            served: (!provider.is_empty()).then(|| Served::new(metrics, model, provider)),
        }
    }
}

impl Served {
    fn new(metrics: &Metrics, model: &str, provider: &str) -> Self {
        let labels = [model, provider];
        Self {
            duration: metrics.duration.with_label_values(&labels),
            first_byte: metrics.first_byte.with_label_values(&labels),
            tokens: KINDS.map(|kind| metrics.tokens.with_label_values(&[model, provider, kind])),
            spending: metrics.spending(model, provider),
            interruptions: metrics.interruptions.with_label_values(&[provider]),
        }
    }
}

impl Metrics {
    /// The sums of one model at one provider, made when they are asked for first.
    fn spending(&self, model: &str, provider: &str) -> Arc<Spending> {
        let mut all = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all
            .iter()
            .find(|of| of.model == model && of.provider == provider);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let new = Arc::new(Spending::new(model, provider));
        all.push(Arc::clone(&new));
        new
    }
}

fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let unique: HashSet<&str> = names.collect();
    unique.into_iter().map(str::to_owned).zip(0..).collect()
}

/// Stands for every model that the config does not know.
const OTHER: &str = "other";
const KINDS: [&str; 4] = ["input", "output", "cached_input", "reasoning"];
