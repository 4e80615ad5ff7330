//! One look at everything, as Prometheus text.
//!
//! What is counted comes from the registry; how things stand is asked here and now, so that it costs nothing while
//! nobody scrapes.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use arbstr_route::{CircuitState as Circuit, OfferSnapshot, ProviderSnapshot};
use arbstr_store::Status;
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Metrics;
use super::process::Process;
use super::spending::{Spending, Total};
use crate::app::{App, Live};
use crate::discover::DiscoveryStatus;
use crate::trace::Tracer;
use crate::{clock, log};

/// All metrics in the text format that Prometheus scrapes, version 0.0.4.
pub(crate) fn text(app: &App) -> String {
    let live = app.live();
    let mut families = app.metrics.registry.gather();
    families.extend(spending(&app.metrics));
    families.push(sunk(&app.metrics));
    families.push(exploration(&live));
    families.extend(discovery(&live));
    let snapshots = live.market.snapshot(clock::now());
    families.extend(providers(&snapshots));
    families.extend(offers(&live, &snapshots));
    families.extend(store(&app.store.status(clock::unix_ms())));
    families.extend(about_arbstr(app));
    families.extend(app.tracer.iter().flat_map(traces));
    families.extend(Process::now().iter().flat_map(process));
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    TextEncoder::new()
        .encode_to_string(&families)
        .expect("every family has a name and samples of its kind")
}

fn spending(metrics: &Metrics) -> Vec<MetricFamily> {
    let all = metrics
        .spending
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let sats = |name: &str, help: &str, total: fn(&Spending) -> &Total| {
        let samples = all.iter().map(|of| {
            (
                vec![("model", &*of.model), ("provider", &*of.provider)],
                total(of).as_f64(),
            )
        });
        family(name, help, MetricType::COUNTER, samples)
    };
    let count = |name: &str, help: &str, total: fn(&Spending) -> &AtomicU64| {
        let samples = all.iter().map(|of| {
            (
                vec![("model", &*of.model), ("provider", &*of.provider)],
                as_f64(total(of).load(Ordering::Relaxed)),
            )
        });
        family(name, help, MetricType::COUNTER, samples)
    };
    vec![
        sats(
            "arbstr_cost_sats_total",
            "What answers cost, where it is known.",
            |of| &of.cost,
        ),
        sats(
            "arbstr_reference_cost_sats_total",
            "What they would have cost at the dearest candidates; less arbstr_cost_sats_total it is what was saved.",
            |of| &of.reference,
        ),
        sats(
            "arbstr_estimated_cost_sats_total",
            "What answers seem to have cost whose cost is an estimate; not in arbstr_cost_sats_total.",
            |of| &of.estimated,
        ),
        count(
            "arbstr_cost_estimated_total",
            "Answers whose cost is an estimate.",
            |of| &of.estimates,
        ),
        count(
            "arbstr_cost_unknown_total",
            "Answers whose cost is not even estimated; requests that ended without an answer are not among them.",
            |of| &of.unknown,
        ),
    ]
}

fn sunk(metrics: &Metrics) -> MetricFamily {
    let all = metrics.sunk.lock().unwrap_or_else(PoisonError::into_inner);
    let samples = all
        .iter()
        .map(|(provider, total)| (vec![("provider", &**provider)], total.as_f64()));
    let help = "What failed attempts cost all the same; not in arbstr_cost_sats_total.";
    family(
        "arbstr_sunk_cost_sats_total",
        help,
        MetricType::COUNTER,
        samples,
    )
}

fn exploration(live: &Live) -> MetricFamily {
    let total = Total::default();
    total.add(Some(live.market.explored()));
    let help = "What asking dearer providers was expected to cost more, to find out what they really charge.";
    let name = "arbstr_exploration_sats_total";
    one(name, help, MetricType::COUNTER, total.as_f64())
}

fn discovery(live: &Live) -> Vec<MetricFamily> {
    let now = clock::now();
    let named = live.config.providers.iter().enumerate();
    let all: Vec<(&str, DiscoveryStatus)> = named
        .filter_map(|(index, provider)| Some((&*provider.name, live.discovery(index, now)?)))
        .collect();
    let each = |name: &str, help: &str, value: fn(&DiscoveryStatus) -> Option<u64>| {
        let samples = all
            .iter()
            .filter_map(|(name, of)| Some((vec![("provider", *name)], as_f64(value(of)?))));
        family(name, help, MetricType::GAUGE, samples)
    };
    vec![
        each(
            "arbstr_discovered_models",
            "Models in a provider's own list, where it is read.",
            |of| of.models.map(|count| count as u64),
        ),
        each(
            "arbstr_discovery_age_seconds",
            "How old that list is.",
            |of| of.age_secs,
        ),
        each(
            "arbstr_discovery_failing_seconds",
            "For how long reading it has been failing; 0 when it is not.",
            |of| Some(of.failing_secs.unwrap_or(0)),
        ),
    ]
}

fn providers(all: &[ProviderSnapshot]) -> Vec<MetricFamily> {
    let each = |name: &str, help: &str, value: fn(&ProviderSnapshot) -> Option<f64>| {
        let samples = all
            .iter()
            .filter_map(|of| Some((vec![("provider", &*of.name)], value(of)?)));
        family(name, help, MetricType::GAUGE, samples)
    };
    vec![
        each(
            "arbstr_provider_circuit_state",
            "The circuit of a provider's connections: 0 closed, 1 half open, 2 open.",
            |of| Some(state(&of.connections)),
        ),
        each(
            "arbstr_provider_in_flight",
            "Requests in flight at a provider.",
            |of| Some(of.in_flight.into()),
        ),
        each(
            "arbstr_provider_concurrency_limit",
            "How many there may be, as configured or learned; absent while there is no limit.",
            |of| of.limit.map(f64::from),
        ),
        each(
            "arbstr_provider_cooldown_seconds",
            "For how much longer a provider is left alone, as it asked.",
            |of| Some(of.cooling_for.unwrap_or_default().as_secs_f64()),
        ),
        each(
            "arbstr_provider_suspended_seconds",
            "For how much longer a provider is left out for its key or balance.",
            |of| Some(of.suspended_for.unwrap_or_default().as_secs_f64()),
        ),
    ]
}

/// Each model of each provider, but of those that only a provider's list names, which may be thousands, only what is in use
/// or left alone.
fn offers(live: &Live, all: &[ProviderSnapshot]) -> Vec<MetricFamily> {
    let shown = all
        .iter()
        .zip(&live.config.providers)
        .flat_map(|(of, config)| {
            let is_configured = |offer: &OfferSnapshot| {
                config
                    .models
                    .iter()
                    .any(|model| *model.name == *offer.model)
            };
            let offers = of.offers.iter();
            offers
                .filter(move |offer| is_stirring(offer) || is_configured(offer))
                .map(|offer| (&*of.name, offer))
        });
    let shown: Vec<(&str, &OfferSnapshot)> = shown.collect();
    let each = |name: &str, help: &str, value: fn(&OfferSnapshot) -> f64| {
        let samples = shown.iter().map(|(provider, offer)| {
            let labels = vec![("model", &*offer.model), ("provider", *provider)];
            (labels, value(offer))
        });
        family(name, help, MetricType::GAUGE, samples)
    };
    vec![
        each(
            "arbstr_circuit_state",
            "The circuit of a model at a provider: 0 closed, 1 half open, 2 open.",
            |offer| state(&offer.circuit),
        ),
        each(
            "arbstr_suspended_seconds",
            "For how much longer a model is left out at a provider.",
            |offer| offer.suspended_for.unwrap_or_default().as_secs_f64(),
        ),
    ]
}

fn is_stirring(offer: &OfferSnapshot) -> bool {
    offer.circuit != Circuit::Closed
        || offer.suspended_for.is_some()
        || offer.experience.success.is_some()
}

fn store(status: &Status) -> Vec<MetricFamily> {
    let (gauge, counter) = (MetricType::GAUGE, MetricType::COUNTER);
    let yes = |is: bool| f64::from(u8::from(is));
    vec![
        one(
            "arbstr_store_queue_records",
            "Records that are not in the database yet.",
            gauge,
            as_f64(status.depth),
        ),
        one(
            "arbstr_store_lag_seconds",
            "Age of the oldest of them.",
            gauge,
            status.lag.as_secs_f64(),
        ),
        one(
            "arbstr_store_memory_only_records",
            "Those of them that a crash would lose.",
            gauge,
            as_f64(status.memory_only),
        ),
        one(
            "arbstr_store_dropped_records_total",
            "Records lost: for want of room, or because the database refuses them.",
            counter,
            as_f64(status.dropped),
        ),
        one(
            "arbstr_store_unmatched_records_total",
            "Records that found no row to work on.",
            counter,
            as_f64(status.unmatched),
        ),
        one(
            "arbstr_store_database_ready",
            "Whether the database could be written when it was last tried.",
            gauge,
            yes(status.database_ready),
        ),
        one(
            "arbstr_store_journal_ready",
            "Whether the journal is open.",
            gauge,
            yes(status.journal_ready),
        ),
    ]
}

fn about_arbstr(app: &App) -> Vec<MetricFamily> {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    vec![
        family(
            "arbstr_build_info",
            "Always 1; the version is a label.",
            MetricType::GAUGE,
            [(version, 1.0)],
        ),
        one(
            "process_start_time_seconds",
            "Start time of the process, in seconds since the epoch.",
            MetricType::GAUGE,
            as_f64(app.started_secs()),
        ),
        one(
            "arbstr_log_dropped_lines_total",
            "Lines of the log that stderr did not take.",
            MetricType::COUNTER,
            as_f64(log::dropped_lines()),
        ),
    ]
}

fn traces(tracer: &Tracer) -> Vec<MetricFamily> {
    let (exported, dropped) = tracer.counts();
    vec![
        one(
            "arbstr_traces_exported_total",
            "Requests whose spans the collector took.",
            MetricType::COUNTER,
            as_f64(exported),
        ),
        one(
            "arbstr_traces_dropped_total",
            "Requests whose spans it did not take in time.",
            MetricType::COUNTER,
            as_f64(dropped),
        ),
    ]
}

fn process(process: &Process) -> Vec<MetricFamily> {
    let (gauge, counter) = (MetricType::GAUGE, MetricType::COUNTER);
    vec![
        one(
            "process_cpu_seconds_total",
            "User and system CPU time spent, in seconds.",
            counter,
            process.cpu_seconds,
        ),
        one(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            gauge,
            process.resident_bytes,
        ),
        one(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            gauge,
            process.virtual_bytes,
        ),
        one("process_threads", "Threads.", gauge, process.threads),
        one(
            "process_open_fds",
            "Open file descriptors.",
            gauge,
            process.open_fds,
        ),
        one(
            "process_max_fds",
            "Most file descriptors that may be open.",
            gauge,
            process.max_fds,
        ),
    ]
}

/// A family of one sample without labels.
fn one(name: &str, help: &str, kind: MetricType, value: f64) -> MetricFamily {
    family(name, help, kind, [(Vec::new(), value)])
}

fn family<'a>(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    let samples = samples
        .into_iter()
        .map(|(labels, value)| sample(kind, &labels, value));
    family.set_metric(samples.collect());
    family
}

fn sample(kind: MetricType, labels: &[(&str, &str)], value: f64) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn state(circuit: &Circuit) -> f64 {
    match circuit {
        Circuit::Closed => 0.0,
        Circuit::HalfOpen => 1.0,
        Circuit::Open { .. } => 2.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only doubles")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
