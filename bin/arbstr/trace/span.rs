//! A finished request as OTLP/JSON spans, by the semantic conventions for generative AI.

use arbstr_price::Sats;
use arbstr_store::{Attempt, Completion};
use serde_json::{Value, json};

use super::FinishedRequest;
use crate::config::BaseUrl;

/// Everything that one export sends: the spans of several requests under one resource.
pub(super) fn export(service_name: &str, finished: &[FinishedRequest]) -> Value {
    let spans: Vec<Value> = finished.iter().flat_map(spans).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{
            "scope": {"name": "arbstr", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn spans(finished: &FinishedRequest) -> Vec<Value> {
    let row = &finished.row;
    let micros = i64::try_from(row.duration.as_micros()).unwrap_or(i64::MAX);
    let began = finished.ended_micros.saturating_sub(micros);
    let mut spans = vec![request(finished, began)];
    for (index, attempt) in row.attempts.iter().enumerate() {
        spans.push(self::attempt(finished, began, index, attempt));
    }
    spans
}

fn request(finished: &FinishedRequest, began: i64) -> Value {
    let row = &finished.row;
    let mut attributes = common(finished, &finished.model);
    attributes.extend([
        text("http.request.method", "POST"),
        text("http.route", finished.route),
        text("arbstr.request_id", &row.correlation_id),
        number("arbstr.attempts", row.attempts.len() as u64),
    ]);
    attributes.extend(
        finished
            .policy
            .as_deref()
            .map(|policy| text("arbstr.policy", policy)),
    );
    attributes.extend(
        row.provider
            .as_deref()
            .map(|provider| text("gen_ai.provider.name", provider)),
    );
    attributes.extend(
        row.cost
            .map(|cost| fraction("arbstr.cost_sats", sats(cost))),
    );
    attributes.extend(
        client_status(row).map(|status| number("http.response.status_code", status.into())),
    );
    attributes.extend(
        row.error_message
            .as_deref()
            .map(|message| text("error.type", error_type(message))),
    );
    attributes.extend(answer(row));
    json!({
        "traceId": finished.context.trace_id(),
        "spanId": finished.context.span_id(0),
        "parentSpanId": finished.context.parent_id().unwrap_or_default(),
        "flags": SAMPLED,
        "name": name(finished, &finished.model),
        "kind": SERVER,
        "startTimeUnixNano": nanos(began),
        "endTimeUnixNano": nanos(finished.ended_micros),
        "attributes": attributes,
        "status": status(fault(row)),
    })
}

fn attempt(finished: &FinishedRequest, began: i64, index: usize, attempt: &Attempt) -> Value {
    let row = &finished.row;
    let micros = |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let from = began.saturating_add(micros(attempt.started_after));
    let until = from
        .saturating_add(micros(attempt.duration))
        .min(finished.ended_micros.max(from));
    let won = row.latency.is_some() && index + 1 == row.attempts.len();
    let mut attributes = common(finished, &attempt.model);
    attributes.push(text("gen_ai.provider.name", &attempt.provider));
    attributes.extend(address(finished, &attempt.provider));
    attributes.extend(
        attempt
            .status
            .map(|status| number("http.response.status_code", status.into())),
    );
    let failure = if won {
        row.error_message.as_deref()
    } else {
        Some(&*attempt.outcome)
    };
    let failure = failure.filter(|message| *message != "client_disconnected");
    attributes.extend(failure.map(|message| text("error.type", error_type(message))));
    if won {
        attributes.extend(answer(row));
        let first = row.latency.filter(|_| finished.streaming);
        attributes.extend(
            first.map(|first| fraction("gen_ai.response.time_to_first_chunk", first.as_secs_f64())),
        );
    }
    json!({
        "traceId": finished.context.trace_id(),
        "spanId": finished.context.span_id(index + 1),
        "parentSpanId": finished.context.span_id(0),
        "flags": SAMPLED,
        "name": name(finished, &attempt.model),
        "kind": CLIENT,
        "startTimeUnixNano": nanos(from),
        "endTimeUnixNano": nanos(until),
        "attributes": attributes,
        "status": status(failure),
    })
}

fn common(finished: &FinishedRequest, model: &str) -> Vec<Value> {
    let mut attributes = vec![
        text("gen_ai.operation.name", finished.operation),
        text("gen_ai.request.model", model),
    ];
    attributes.extend(
        finished
            .streaming
            .then(|| truth("gen_ai.request.stream", true)),
    );
    attributes
}

/// What is known of the answer.
fn answer(row: &Completion) -> Vec<Value> {
    let tokens = [
        ("gen_ai.usage.input_tokens", row.input_tokens),
        ("gen_ai.usage.output_tokens", row.output_tokens),
        (
            "gen_ai.usage.cache_read.input_tokens",
            row.cached_input_tokens,
        ),
        ("gen_ai.usage.reasoning.output_tokens", row.reasoning_tokens),
    ];
    let mut attributes: Vec<Value> = tokens
        .iter()
        .filter_map(|(key, count)| Some(number(key, (*count)?)))
        .collect();
    attributes.extend(
        row.served_model
            .as_deref()
            .map(|model| text("gen_ai.response.model", model)),
    );
    let reason = row.finish_reason.as_deref().map(|reason| {
        json!({"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": reason}]}}})
    });
    attributes.extend(reason);
    attributes
}

/// Where the provider is, if it is still one.
fn address(finished: &FinishedRequest, provider: &str) -> Vec<Value> {
    let known = finished
        .live
        .config
        .providers
        .iter()
        .find(|known| known.name == provider);
    let Some(url) = known.map(|known| &known.url) else {
        return Vec::new();
    };
    vec![
        text("server.address", BaseUrl::host(url)),
        number("server.port", url.port().into()),
    ]
}

fn name(finished: &FinishedRequest, model: &str) -> String {
    format!("{} {model}", finished.operation)
}

/// What the client was answered with, as far as it is known.
fn client_status(row: &Completion) -> Option<u16> {
    let relayed = || row.latency.and_then(|_| row.attempts.last()?.status);
    row.error_status.or_else(relayed)
}

/// What went wrong on this side: neither a client that left nor a request that was itself at fault.
fn fault(row: &Completion) -> Option<&str> {
    let is_the_clients = row
        .error_status
        .is_some_and(|status| (400..500).contains(&status));
    let message = row.error_message.as_deref()?;
    (message != "client_disconnected" && !is_the_clients).then_some(message)
}

#[expect(clippy::cast_precision_loss, reason = "OTLP has only doubles")]
fn sats(cost: Sats) -> f64 {
    cost.nanosats() as f64 / 1e9
}

/// A failure in the few words that an attribute of low cardinality may have.
fn error_type(message: &str) -> &str {
    let kind = message.strip_prefix("upstream_error: ").unwrap_or(message);
    kind.strip_prefix("error=")
        .or_else(|| kind.strip_prefix("status="))
        .unwrap_or(kind)
}

fn status(failure: Option<&str>) -> Value {
    failure.map_or_else(
        || json!({}),
        |message| json!({"code": ERROR, "message": message}),
    )
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// 64-bit numbers are text in OTLP/JSON.
fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn fraction(key: &str, value: f64) -> Value {
    json!({"key": key, "value": {"doubleValue": value}})
}

fn truth(key: &str, value: bool) -> Value {
    json!({"key": key, "value": {"boolValue": value}})
}

fn nanos(micros: i64) -> String {
    format!("{}000", micros.max(1))
}

const SAMPLED: u32 = 1;
const SERVER: u32 = 2;
const CLIENT: u32 = 3;
const ERROR: u32 = 2;
