//! Sends spans to a collector, many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Counts, FinishedRequest, span};
use crate::clock;
use crate::config::Telemetry;
use crate::upstream::{Body, Client, Fields, OutgoingRequest, RequestTarget, tls_config};

/// The way to the collector.
pub(super) struct Exporter {
    client: Client,
    target: RequestTarget,
    headers: HeaderMap,
    service_name: String,
    counts: Arc<Counts>,
    failing: bool,
}

/// Why a batch was not taken.
enum ExportError {
    /// It may be taken later.
    Later(String),
    /// It never will be.
    Never(String),
}

impl Exporter {
    /// The way to where `settings` say; `None` when they say nothing.
    pub(super) fn new(settings: &Telemetry, counts: Arc<Counts>) -> Option<Self> {
        let endpoint = settings.otlp_endpoint.as_ref()?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("arbstr/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in &settings.headers {
            if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        Some(Self {
            client: Client::new(tls_config(endpoint.is_https()), CONNECT_TIME),
            target: RequestTarget::new(Method::POST, endpoint.endpoint("/v1/traces"), &headers),
            headers,
            service_name: settings.service_name.clone(),
            counts,
            failing: false,
        })
    }

    /// Sends what comes until it is told to stop, and then the rest.
    pub(super) async fn run(
        mut self,
        mut finished: mpsc::Receiver<FinishedRequest>,
        stop: Arc<Notify>,
    ) {
        let mut batch = Vec::new();
        loop {
            let stopped = tokio::select! {
                () = gather(&mut finished, &mut batch) => false,
                () = stop.notified() => true,
            };
            if stopped {
                finished.close();
                while let Some(last) = finished.recv().await {
                    batch.push(last);
                }
                for part in batch.chunks(BATCH) {
                    self.deliver(part, 1).await;
                }
                return;
            }
            tokio::select! {
                () = self.deliver(&batch, TRIES) => batch.clear(),
                () = stop.notified() => stop.notify_one(),
            }
        }
    }

    async fn deliver(&mut self, batch: &[FinishedRequest], tries: u32) {
        if batch.is_empty() {
            return;
        }
        let body = Bytes::from(span::export(&self.service_name, batch).to_string());
        let mut pause = FIRST_PAUSE;
        for left in (0..tries).rev() {
            match self.post(body.clone()).await {
                Ok(()) => {
                    self.counts
                        .exported
                        .fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.log_change(None);
                    return;
                }
                Err(ExportError::Later(reason)) if left > 0 => {
                    self.log_change(Some(&reason));
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(ExportError::Later(reason) | ExportError::Never(reason)) => {
                    self.log_change(Some(&reason));
                    break;
                }
            }
        }
        self.counts
            .dropped
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    async fn post(&self, body: Bytes) -> Result<(), ExportError> {
        let outgoing = OutgoingRequest {
            target: &self.target,
            fields: Fields::own(&self.headers),
            body: &body,
        };
        let exchange = async {
            let response = match self.client.send(outgoing).await {
                Err(error) if error.is_stale => self.client.send_fresh(outgoing).await,
                sent => sent,
            };
            let response = response.map_err(|error| ExportError::Later(error.cause.to_string()))?;
            // Read to its end, so that the connection can carry the next batch.
            if let Ok(mut body) = Body::new(&response.headers, response.body) {
                let mut left = ANSWER_BYTES;
                while let Some(Ok(chunk)) = body.chunk().await {
                    left = left.saturating_sub(chunk.len());
                    if left == 0 {
                        break;
                    }
                }
            }
            accepted(response.status)
        };
        match timeout(POST_TIME, exchange).await {
            Ok(done) => done,
            Err(_) => Err(ExportError::Later(format!(
                "no answer within {} s",
                POST_TIME.as_secs()
            ))),
        }
    }

    /// Logs that traces are not taken, and that they are again: once for each change.
    fn log_change(&mut self, failure: Option<&str>) {
        if self.failing == failure.is_some() {
            return;
        }
        self.failing = failure.is_some();
        let endpoint = self.target.uri.to_string();
        match failure {
            Some(reason) => tracing::warn!(
                endpoint,
                reason,
                "the collector does not take traces; requests are not affected"
            ),
            None => tracing::info!(endpoint, "the collector takes traces again"),
        }
    }
}

fn accepted(status: StatusCode) -> Result<(), ExportError> {
    let reason = || format!("it answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 429 | 500..=599 => Err(ExportError::Later(reason())),
        _ => Err(ExportError::Never(reason())),
    }
}

/// Waits for a request to be told of, and a moment longer for others.
async fn gather(finished: &mut mpsc::Receiver<FinishedRequest>, batch: &mut Vec<FinishedRequest>) {
    if batch.is_empty() {
        match finished.recv().await {
            Some(first) => batch.push(first),
            None => std::future::pending().await,
        }
    }
    let due = Instant::from_std(clock::now()) + GATHER;
    while batch.len() < BATCH {
        match timeout_at(due, finished.recv()).await {
            Ok(Some(next)) => batch.push(next),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Requests in one export.
const BATCH: usize = 256;
/// How long the first of them waits for the others.
const GATHER: Duration = Duration::from_millis(500);
/// Of one batch, 1, 2 and 4 seconds apart; what comes meanwhile waits, up to a limit.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIME: Duration = Duration::from_secs(5);
const POST_TIME: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 64 * 1024;
