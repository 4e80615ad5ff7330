//! Traces for OpenTelemetry: one span for each request, one for each attempt at a provider.
//!
//! A request's spans are made from its record, once it is over, so that tracing has nothing to do while it lasts but to
//! tell each provider whose child its part is. [`export`] sends them as OTLP/JSON over HTTP, many at a time, by a task of
//! its own; what the collector does not take in time is dropped and counted.
//!
//! Names and attributes follow the semantic conventions for generative AI. No text of a prompt or an answer is in them.

mod context;
mod export;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arbstr_store::Completion;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::context::Context;
use self::export::Exporter;
use crate::app::Live;
use crate::arrival::Arrival;
use crate::config::Telemetry;

pub(crate) use self::context::Context as TraceContext;

/// Where requests hand in what happened.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    sender: mpsc::Sender<FinishedRequest>,
    sample_ppm: u32,
    counts: Arc<Counts>,
}

/// The task that sends it on.
#[derive(Debug)]
pub(crate) struct ExporterTask {
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct FinishedRequest {
    /// Whose part it is.
    pub(crate) context: Context,
    /// The settings it ran under, which know where providers are.
    pub(crate) live: Arc<Live>,
    /// Which API, in the words of the conventions.
    pub(crate) operation: &'static str,
    /// Its path.
    pub(crate) route: &'static str,
    /// The model as asked.
    pub(crate) model: String,
    /// The policy that was applied.
    pub(crate) policy: Option<String>,
    /// Whether a stream was asked for.
    pub(crate) streaming: bool,
    /// What is on record.
    pub(crate) row: Completion,
    /// Its end, in microseconds since the epoch.
    pub(crate) ended_micros: i64,
}

/// Requests whose spans were sent, and those whose were not.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Tracer {
    /// Starts sending traces, if `settings` say where to.
    pub(crate) fn start(settings: &Telemetry) -> Option<(Self, ExporterTask)> {
        let counts = Arc::new(Counts::default());
        let (sender, finished) = mpsc::channel(WAITING);
        let stop = Arc::new(Notify::new());
        let exporter = Exporter::new(settings, Arc::clone(&counts))?;
        let task = tokio::spawn(exporter.run(finished, Arc::clone(&stop)));
        let tracer = Self {
            sender,
            sample_ppm: settings.sample_ppm,
            counts,
        };
        Some((tracer, ExporterTask { stop, task }))
    }

    /// The context of a request that has come; `None` when it is not traced.
    pub(crate) fn begin(&self, traceparent: Option<&str>, arrival: &Arrival) -> Option<Context> {
        Context::begin(traceparent, arrival, self.sample_ppm)
    }

    /// Takes a request that is over; when too many wait already, it is dropped and counted.
    pub(crate) fn submit(&self, finished: FinishedRequest) {
        if self.sender.try_send(finished).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many requests' spans were sent, and how many were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let Counts { exported, dropped } = &*self.counts;
        (
            exported.load(Ordering::Relaxed),
            dropped.load(Ordering::Relaxed),
        )
    }
}

impl ExporterTask {
    /// Sends what still waits, for a moment.
    pub(crate) async fn finish(self) {
        self.stop.notify_one();
        // Past the time the rest is lost: a collector must not hold up the end of the process.
        let _ = timeout(FINISH_TIME, self.task).await;
    }
}

/// Requests that may wait to be sent.
const WAITING: usize = 4096;
const FINISH_TIME: Duration = Duration::from_secs(3);
