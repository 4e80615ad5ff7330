//! Records, asked for by clients: what a request cost, where it went and why.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arbstr_store::{Attempt, RequestDetail};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Reply;
use super::fault::{Fault, json_reply};
use crate::app::App;
use crate::clock::whole_ms;

/// `GET /v1/requests/{id}`: one record with its plan and attempts.
///
/// # Errors
/// 404 for an unknown id, 503 while the database cannot be read.
pub(crate) async fn request(app: &Arc<App>, id: &str) -> Result<Response<Reply>, Fault> {
    let store = app.store.clone();
    let wanted = id.to_owned();
    let found = tokio::task::spawn_blocking(move || store.request(&wanted))
        .await
        .map_err(|error| Fault::internal(format!("the query was lost: {error}")))?;
    match found {
        Ok(Some(detail)) => {
            let text = serde_json::to_vec(&RequestJson::of(&detail))
                .expect("a record has no map keys that are not strings");
            Ok(json_reply(StatusCode::OK, text))
        }
        Ok(None) => Err(Fault::not_found(
            "request_not_found",
            format!("no request `{id}` is on record"),
        )),
        Err(error) => Err(Fault::unavailable(
            "records_unavailable",
            format!("records cannot be read now: {error}"),
            None,
        )),
    }
}

/// A cost or rate as an exact JSON number; `null` when unknown.
pub(crate) fn exact(amount: Option<impl Display>) -> Option<Box<RawValue>> {
    amount.and_then(|amount| RawValue::from_string(amount.to_string()).ok())
}

/// The columns of a record, as clients see them.
#[derive(Serialize)]
struct RequestJson<'a> {
    correlation_id: &'a str,
    timestamp: i64,
    endpoint: &'a str,
    model: &'a str,
    served_model: Option<&'a str>,
    provider: Option<&'a str>,
    tier: Option<&'a str>,
    policy: Option<&'a str>,
    streaming: bool,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    cost_sats: Option<Box<RawValue>>,
    estimated_cost_sats: Option<Box<RawValue>>,
    reference_cost_sats: Option<Box<RawValue>>,
    provider_cost_sats: Option<Box<RawValue>>,
    sunk_cost_sats: Option<Box<RawValue>>,
    cost_disagrees: bool,
    uncovered_units: bool,
    implausible_usage: bool,
    latency_ms: Option<u64>,
    stream_duration_ms: Option<u64>,
    duration_ms: Option<u64>,
    finish_reason: Option<&'a str>,
    success: bool,
    error_status: Option<u16>,
    error_message: Option<&'a str>,
    plan: Option<Box<RawValue>>,
    attempts: Vec<AttemptJson<'a>>,
}

#[derive(Serialize)]
struct AttemptJson<'a> {
    provider: &'a str,
    model: &'a str,
    outcome: &'a str,
    status: Option<u16>,
    started_ms: u64,
    duration_ms: u64,
    cost_sats: Option<Box<RawValue>>,
}

impl<'a> RequestJson<'a> {
    fn of(detail: &'a RequestDetail) -> Self {
        let row = &detail.row;
        let ms = |duration: Option<Duration>| duration.map(whole_ms);
        Self {
            correlation_id: &row.correlation_id,
            timestamp: row.timestamp_ms,
            endpoint: &row.endpoint,
            model: &row.model,
            served_model: row.served_model.as_deref(),
            provider: row.provider.as_deref(),
            tier: row.tier.as_deref(),
            policy: row.policy.as_deref(),
            streaming: row.streaming,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cached_input_tokens: row.cached_input_tokens,
            reasoning_tokens: row.reasoning_tokens,
            cost_sats: exact(row.cost),
            estimated_cost_sats: exact(row.estimated_cost),
            reference_cost_sats: exact(row.reference_cost),
            provider_cost_sats: exact(row.provider_cost),
            sunk_cost_sats: exact(row.sunk_cost),
            cost_disagrees: row.cost_disagrees,
            uncovered_units: row.uncovered_units,
            implausible_usage: row.implausible_usage,
            latency_ms: ms(row.latency),
            stream_duration_ms: ms(row.stream_duration),
            duration_ms: ms(row.duration),
            finish_reason: row.finish_reason.as_deref(),
            success: row.success,
            error_status: row.error_status,
            error_message: row.error_message.as_deref(),
            plan: detail
                .plan
                .clone()
                .and_then(|plan| RawValue::from_string(plan).ok()),
            attempts: detail.attempts.iter().map(AttemptJson::of).collect(),
        }
    }
}

impl<'a> AttemptJson<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            provider: &attempt.provider,
            model: &attempt.model,
            outcome: &attempt.outcome,
            status: attempt.status,
            started_ms: whole_ms(attempt.started_after),
            duration_ms: whole_ms(attempt.duration),
            cost_sats: exact(attempt.sunk_cost),
        }
    }
}
