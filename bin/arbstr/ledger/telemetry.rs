//! One request as those who watch the process see it: a line in the log, what is counted, and its trace.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::Decimal;
use arbstr_store::Completion;

use arbstr_wire::Endpoint;
use hyper::HeaderMap;

use super::{RecordedAttempt, RequestInfo, decimal};
use crate::app::{App, Live};
use crate::arrival::Arrival;
use crate::clock;
use crate::metrics::GaugeGuard;
use crate::trace::{FinishedRequest, TraceContext, Tracer};

/// What is seen of a request while it lasts.
#[derive(Debug)]
pub(super) struct RequestTelemetry {
    live: Arc<Live>,
    trace: Option<(Tracer, TraceContext)>,
    paused: Duration,
    _in_flight: GaugeGuard,
    stream: Option<GaugeGuard>,
}

impl RequestTelemetry {
    /// A request that begins under `live`.
    pub(super) fn begin(
        app: &App,
        live: &Arc<Live>,
        traceparent: Option<&str>,
        arrival: &Arrival,
    ) -> Self {
        let trace = app.tracer.as_ref().and_then(|tracer| {
            let context = tracer.begin(traceparent, arrival)?;
            Some((tracer.clone(), context))
        });
        Self {
            live: Arc::clone(live),
            trace,
            paused: Duration::ZERO,
            _in_flight: live.meters.metrics().request(),
            stream: None,
        }
    }

    /// Nobody was asked for this long, on purpose.
    pub(super) fn paused(&mut self, pause: Duration) {
        self.paused += pause;
    }

    /// A client's headers with this attempt of a traced request as their parent.
    pub(super) fn trace_headers(&self, client: &HeaderMap, attempt: usize) -> Option<HeaderMap> {
        let (_, context) = self.trace.as_ref()?;
        Some(context.headers(client, attempt))
    }

    /// From now on its answer is relayed.
    pub(super) fn streams(&mut self) {
        self.stream = Some(self.live.meters.metrics().stream());
    }

    /// Whether its answer was relayed.
    pub(super) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// `text` of a provider's making without any key it may echo.
    pub(super) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.live.redact(text)
    }

    /// What arbstr itself took of the time until the answer was there: all but the client's upload, the attempts and the
    /// pauses between them. `done`: when the answer had been written, where all of it was written at once.
    pub(super) fn overhead(
        &self,
        arrival: &Arrival,
        attempts: &[RecordedAttempt],
        done: Option<Instant>,
    ) -> Duration {
        let attempted: Duration = attempts.iter().map(|attempt| attempt.duration).sum();
        let answered = attempts
            .last()
            .map(|last| last.started_after + last.duration);
        done.map(|done| done.saturating_duration_since(arrival.at))
            .or(answered)
            .unwrap_or_default()
            .saturating_sub(arrival.read_at.saturating_duration_since(arrival.at))
            .saturating_sub(attempted + self.paused)
    }

    /// Tells how it ended, `now`.
    pub(super) fn ended(
        &self,
        info: &RequestInfo,
        row: &Completion<&str>,
        overhead: Option<Duration>,
        now: Instant,
    ) {
        self.live
            .meters
            .request_ended(&info.model, info.streaming, row, overhead);
        log(info, row);
        for doubt in self.live.meters.price_doubted(row, now) {
            tracing::warn!(
                request_id = row.correlation_id,
                provider = row.provider.unwrap_or("-"),
                model = info.model.as_str(),
                kind = doubt.word(),
                cost_sats = decimal(row.cost).as_ref().map(Decimal::as_str),
                provider_cost_sats = decimal(row.provider_cost).as_ref().map(Decimal::as_str),
                "{}; told once a minute at most",
                doubt.sentence()
            );
        }
        if let Some((tracer, context)) = &self.trace {
            let (operation, route) = words(info.endpoint);
            tracer.submit(FinishedRequest {
                context: context.clone(),
                live: Arc::clone(&self.live),
                operation,
                route,
                model: info.model.clone(),
                policy: info.policy.clone(),
                streaming: info.streaming,
                row: row.map(|text| (*text).to_owned()),
                ended_micros: clock::unix_micros(),
            });
        }
    }
}

/// An API as the conventions for traces call it, and its path.
fn words(endpoint: Endpoint) -> (&'static str, &'static str) {
    match endpoint {
        Endpoint::Chat => ("chat", "/v1/chat/completions"),
        Endpoint::Completions => ("text_completion", "/v1/completions"),
        Endpoint::Embeddings => ("embeddings", "/v1/embeddings"),
    }
}

fn log(info: &RequestInfo, row: &Completion<&str>) {
    tracing::info!(
        request_id = row.correlation_id,
        model = info.model.as_str(),
        provider = row.provider.unwrap_or("-"),
        streaming = info.streaming,
        client_id = info.client_id,
        traceparent = info.traceparent,
        input_tokens = row.input_tokens,
        output_tokens = row.output_tokens,
        cost_sats = decimal(row.cost).as_ref().map(Decimal::as_str),
        latency_ms = row.latency.map(clock::whole_ms),
        duration_ms = clock::whole_ms(row.duration),
        attempts = row.attempts.len(),
        outcome = row.error_message.unwrap_or("success"),
        "request"
    );
}
