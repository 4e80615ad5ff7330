//! The story of a request, for people: its plan as JSON, its failed attempts and state changes as log lines.

use std::time::Instant;

use arbstr_price::Quote;
use arbstr_route::{Candidate, Offer, Plan, Tried, Waterfall};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::Live;
use crate::arrival::Arrival;
use crate::clock::{self, age_secs, whole_ms};
use crate::records::exact;
use crate::upstream::fault::{Miss, MissKind};

/// The plan as `/v1/cost` and `/v1/requests/{id}` show it.
pub(crate) fn plan(plan: &Plan) -> String {
    let now = clock::now();
    let candidates = plan.candidates.iter();
    let candidates = candidates
        .map(|candidate| CandidateJson::of(candidate, now))
        .collect();
    let shape = PlanJson {
        model: &plan.model,
        policy: plan.policy.as_deref(),
        strategy: plan.strategy.as_str(),
        candidates,
    };
    serde_json::to_string(&shape).expect("a plan has no map keys that are not strings")
}

/// Each attempt's provider and reason, for the error that tells that all failed.
pub(crate) fn tried(fall: &Waterfall, live: &Live) -> Vec<(String, String)> {
    let reason = |tried: &Tried| live.redact(&tried.outcome.reason()).into_owned();
    let line = |tried: &Tried| (fall.offer_of(tried).provider().to_owned(), reason(tried));
    fall.attempts().iter().map(line).collect()
}

/// One line per failed attempt. Bodies and keys stay out of it; text from outside is quoted, so that it cannot forge a
/// line.
pub(crate) fn miss(arrival: &Arrival, live: &Live, offer: &Offer, miss: &Miss, tried: &Tried) {
    let reason = live.redact(&tried.outcome.reason()).into_owned();
    let cause = miss.kind.cause().map(|cause| {
        live.redact(&cause)
            .chars()
            .take(CAUSE_CHARS)
            .collect::<String>()
    });
    let (request_id, provider, model) = (arrival.id.as_ref(), offer.provider(), offer.model());
    let duration_ms = whole_ms(tried.took);
    if matches!(miss.kind, MissKind::Cancelled) {
        tracing::debug!(
            request_id,
            provider,
            model,
            duration_ms,
            "attempt broken off"
        );
    } else if tried.verdict.operator {
        let hint = "check this provider's key, balance and model list";
        tracing::warn!(
            request_id,
            provider,
            model,
            duration_ms,
            reason,
            cause,
            hint,
            "attempt failed"
        );
    } else {
        tracing::warn!(
            request_id,
            provider,
            model,
            duration_ms,
            reason,
            cause,
            "attempt failed"
        );
    }
}

#[derive(Serialize)]
struct PlanJson<'a> {
    model: &'a str,
    policy: Option<&'a str>,
    strategy: &'static str,
    candidates: Vec<CandidateJson<'a>>,
}

#[derive(Serialize)]
struct CandidateJson<'a> {
    provider: &'a str,
    model: &'a str,
    expected_input_tokens: u64,
    expected_cached_input_tokens: u64,
    expected_output_tokens: u64,
    expected_cost_sats: Option<Box<RawValue>>,
    /// How old the price is that its provider published; `null` where it is the operator's own.
    price_age_secs: Option<u64>,
    cost_parts: Option<PartsJson>,
    success_rate: Option<f32>,
    latency_ms: Option<u64>,
    ranked: Option<String>,
    skipped: Option<String>,
}

/// What the expected cost is made of.
#[derive(Serialize)]
struct PartsJson {
    input_sats: Option<Box<RawValue>>,
    cached_input_sats: Option<Box<RawValue>>,
    output_sats: Option<Box<RawValue>>,
    base_fee_sats: Option<Box<RawValue>>,
    failure_sats: Option<Box<RawValue>>,
}

impl PartsJson {
    fn of(quote: &Quote) -> Self {
        Self {
            input_sats: exact(Some(quote.input)),
            cached_input_sats: exact(Some(quote.cached_input)),
            output_sats: exact(Some(quote.output)),
            base_fee_sats: exact(Some(quote.base_fee)),
            failure_sats: exact(Some(quote.failure)),
        }
    }
}

impl<'a> CandidateJson<'a> {
    fn of(candidate: &'a Candidate, now: Instant) -> Self {
        Self {
            provider: candidate.offer.provider(),
            model: candidate.offer.model(),
            expected_input_tokens: candidate.tokens.input,
            expected_cached_input_tokens: candidate.tokens.cached_input,
            expected_output_tokens: candidate.tokens.output,
            expected_cost_sats: exact(candidate.expected_cost()),
            price_age_secs: age_secs(candidate.offer.priced_at(), now),
            cost_parts: candidate.quote.as_ref().map(PartsJson::of),
            success_rate: candidate.success,
            latency_ms: candidate.latency.map(whole_ms),
            ranked: ranked(candidate),
            skipped: candidate.skipped.as_ref().map(ToString::to_string),
        }
    }
}

/// Why it stands where it stands, unless it is passed over.
fn ranked(candidate: &Candidate) -> Option<String> {
    match candidate.skipped {
        None => Some(candidate.rank.to_string()),
        Some(_) => None,
    }
}

/// Enough for an error of the system, too little for a prompt.
const CAUSE_CHARS: usize = 200;
