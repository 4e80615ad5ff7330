//! What is counted, for Prometheus.
//!
//! What happens to requests is counted as it happens, in [`Metrics`]; how things stand (circuits, store, process) is
//! looked up when somebody scrapes, in [`scrape`]. The request path finds its counters ready in [`Meters`], one table
//! for each market: counting is a handful of atomic additions, without a lock and without an allocation.
//!
//! Labels come from what providers offer. A model that none of them has counts as `other`, so that clients cannot make
//! up series; what a reload takes away loses its series.

mod doubt;
mod meters;
mod outcome;
mod process;
pub(crate) mod scrape;
mod spending;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arbstr_price::Sats;
use hyper::StatusCode;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use self::doubt::Doubts;
pub(crate) use self::meters::Meters;
use self::spending::{Spending, Total};

/// Everything counted since the process started.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    overhead: Histogram,
    tokens: IntCounterVec,
    spending: Mutex<Vec<Arc<Spending>>>,
    sunk: Mutex<BTreeMap<String, Total>>,
    attempts: IntCounterVec,
    retries: IntCounter,
    interruptions: IntCounterVec,
    doubts: Doubts,
    circuit_opens: IntCounterVec,
    responses: IntCounterVec,
    responses_by_code: Box<[OnceLock<IntCounter>]>,
    requests_in_flight: IntGauge,
    streams_in_flight: IntGauge,
    connections: IntGauge,
    reload_succeeded: IntGauge,
    reload_time: IntGauge,
}

/// Holds a gauge one higher for as long as it lives.
#[derive(Debug)]
pub(crate) struct GaugeGuard(IntGauge);

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let make = Maker(Registry::new());
        Self {
            requests: make.counters("arbstr_requests_total", "Requests on record, by how they ended.", &["model", "provider", "outcome"]),
            duration: make.histograms("arbstr_request_duration_seconds", "Arrival to end of requests that reached a provider, failed attempts included.", &DURATION_BUCKETS),
            first_byte: make.histograms("arbstr_time_to_first_byte_seconds", "Sending to first byte of the attempt whose answer the client got.", &FIRST_BYTE_BUCKETS),
            overhead: make.histogram("arbstr_overhead_seconds", "What arbstr itself added before the client's first byte: neither the client's upload nor attempts nor pauses between them.", &OVERHEAD_BUCKETS),
            tokens: make.counters("arbstr_tokens_total", "Tokens that providers reported; cached_input is part of input, reasoning part of output.", &["model", "provider", "kind"]),
            spending: Mutex::default(),
            sunk: Mutex::default(),
            attempts: make.counters("arbstr_attempts_total", "Attempts at providers, by how they ended.", &["provider", "outcome", "status"]),
            retries: make.counter("arbstr_retries_total", "Attempts after the first of their request."),
            interruptions: make.counters("arbstr_stream_interruptions_total", "Streams that broke, fell silent or ended unfinished after their first event.", &["provider"]),
            doubts: Doubts::new(make.counters("arbstr_price_doubts_total", "Answers whose cost the provider puts otherwise, that used units no rate covers, or that report tokens they cannot have.", &["provider", "kind"])),
            circuit_opens: make.counters("arbstr_circuit_opens_total", "Circuits that opened, those of single models included.", &["provider"]),
            responses: make.counters("arbstr_http_responses_total", "Answers to clients on every route, by status.", &["code"]),
            responses_by_code: (0..CODES).map(|_| OnceLock::new()).collect(),
            requests_in_flight: make.gauge("arbstr_requests_in_flight", "Requests that are being served."),
            streams_in_flight: make.gauge("arbstr_streams_in_flight", "Streams that are being relayed or read on."),
            connections: make.gauge("arbstr_client_connections", "Open connections of clients."),
            reload_succeeded: make.gauge("arbstr_config_last_reload_successful", "Whether the config was good when it was last read."),
            reload_time: make.gauge("arbstr_config_last_reload_success_timestamp_seconds", "When a good config was last read, in seconds since the epoch."),
            registry: make.0,
        }
    }

    /// Counts an answer of any route.
    pub(crate) fn answered(&self, status: StatusCode) {
        let slot = status.as_u16().checked_sub(FIRST_CODE).map(usize::from);
        if let Some(counter) = slot.and_then(|slot| self.responses_by_code.get(slot)) {
            counter
                .get_or_init(|| self.responses.with_label_values(&[status.as_str()]))
                .inc();
        }
    }

    /// Counts a circuit that opened.
    pub(crate) fn circuit_opened(&self, provider: &str) {
        self.circuit_opens.with_label_values(&[provider]).inc();
    }

    /// Notes that a config was read at `unix_ms` and taken over, or not.
    pub(crate) fn config_read(&self, taken_over: bool, unix_ms: i64) {
        self.reload_succeeded.set(taken_over.into());
        if taken_over {
            self.reload_time.set(unix_ms / 1000);
        }
    }

    /// Whether the config was good when it was last read.
    pub(crate) fn is_last_reload_successful(&self) -> bool {
        self.reload_succeeded.get() == 1
    }

    /// Counts what a failed attempt cost all the same.
    fn add_sunk(&self, provider: &str, cost: Sats) {
        let mut all = self.sunk.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(provider.to_owned()).or_default().add(Some(cost));
    }

    /// A client connected; it has left when the result is dropped.
    pub(crate) fn connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// A request is being served until the result is dropped.
    pub(crate) fn request(&self) -> GaugeGuard {
        GaugeGuard::new(&self.requests_in_flight)
    }

    /// A stream is being relayed until the result is dropped.
    pub(crate) fn stream(&self) -> GaugeGuard {
        GaugeGuard::new(&self.streams_in_flight)
    }

    /// Takes out what `keeps` says is no longer of interest, asked with a model (empty: any) and a provider.
    fn retain(&self, keeps: &dyn Fn(&str, &str) -> bool) {
        let mut spending = self.spending.lock().unwrap_or_else(PoisonError::into_inner);
        spending.retain(|of| keeps(&of.model, &of.provider));
        drop(spending);
        let mut sunk = self.sunk.lock().unwrap_or_else(PoisonError::into_inner);
        sunk.retain(|provider, _| keeps("", provider));
        drop(sunk);
        let counters = [
            &self.requests,
            &self.tokens,
            &self.attempts,
            &self.interruptions,
            &self.doubts.counters,
            &self.circuit_opens,
        ];
        counters.into_iter().for_each(|vector| prune(vector, keeps));
        [&self.duration, &self.first_byte]
            .into_iter()
            .for_each(|vector| prune(vector, keeps));
    }
}

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes instruments that the registry knows. Names and labels are constants, so that a mistake in one would show in
/// every test.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.known(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.known(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.known(IntGauge::new(name, help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.known(Histogram::with_opts(options))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.known(HistogramVec::new(options, &["model", "provider"]))
    }

    fn known<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("names and labels are valid");
        let registered = self.0.register(Box::new(made.clone()));
        registered.expect("every name is registered once");
        made
    }
}

/// Removes the children of a vector that are not kept.
fn prune<T: MetricVecBuilder>(vector: &MetricVec<T>, keeps: &dyn Fn(&str, &str) -> bool) {
    for metric in vector
        .collect()
        .iter()
        .flat_map(|family| family.get_metric())
    {
        let labels: HashMap<&str, &str> = metric
            .get_label()
            .iter()
            .map(|pair| (pair.name(), pair.value()))
            .collect();
        let value = |name: &str| labels.get(name).copied().unwrap_or_default();
        if !keeps(value("model"), value("provider")) {
            // An error means that it is gone already.
            let _ = vector.remove(&labels);
        }
    }
}

/// Every status that HTTP knows.
const FIRST_CODE: u16 = 100;
const CODES: usize = 500;
const DURATION_BUCKETS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
const FIRST_BYTE_BUCKETS: [f64; 13] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 120.0,
];
const OVERHEAD_BUCKETS: [f64; 11] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5,
];
