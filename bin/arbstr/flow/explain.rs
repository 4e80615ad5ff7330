//! The story of a request, for people: its plan as JSON, its failed attempts and state changes as log lines.

use std::io::Write as _;
use std::time::Instant;

use arbstr_price::{Quote, Sats};
use arbstr_route::{Candidate, Offer, Plan, Tried, Waterfall};
use serde::Serialize;

use crate::app::Live;
use crate::arrival::Arrival;
use crate::clock::{self, age_secs, whole_ms};
use crate::upstream::fault::{Miss, MissKind};

/// The plan as `/v1/cost` and `/v1/requests/{id}` show it.
///
/// Written straight into one text, since each request has one: exact amounts by way of serde_json cost twice as much.
pub(crate) fn plan(plan: &Plan) -> String {
    let now = clock::now();
    let mut json = Json(Vec::with_capacity(
        128 + CANDIDATE_BYTES * plan.candidates.len(),
    ));
    json.member("{", "model", &*plan.model);
    json.member(",", "policy", plan.policy.as_deref());
    json.member(",", "strategy", plan.strategy.as_str());
    json.key(",", "candidates");
    json.raw("[");
    for (index, candidate) in plan.candidates.iter().enumerate() {
        json.raw(if index == 0 { "" } else { "," });
        json.candidate(candidate, now);
    }
    json.raw("]}");
    String::from_utf8(json.0).expect("JSON is UTF-8")
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

/// JSON as it grows.
struct Json(Vec<u8>);

impl Json {
    fn candidate(&mut self, candidate: &Candidate, now: Instant) {
        self.member("{", "provider", candidate.offer.provider());
        self.member(",", "model", candidate.offer.model());
        let tokens = &candidate.tokens;
        self.member(",", "expected_input_tokens", tokens.input);
        self.member(",", "expected_cached_input_tokens", tokens.cached_input);
        self.member(",", "expected_output_tokens", tokens.output);
        self.amount(",", "expected_cost_sats", candidate.expected_cost());
        // How old the price is that its provider published; `null` where it is the operator's own.
        let price_age = age_secs(candidate.offer.priced_at(), now);
        self.member(",", "price_age_secs", price_age);
        self.parts(candidate.quote.as_ref());
        self.member(",", "success_rate", candidate.success);
        self.member(",", "latency_ms", candidate.latency.map(whole_ms));
        self.member(",", "ranked", ranked(candidate));
        let skipped = candidate.skipped.as_ref().map(ToString::to_string);
        self.member(",", "skipped", skipped);
        self.raw("}");
    }

    /// What the expected cost is made of.
    fn parts(&mut self, quote: Option<&Quote>) {
        let Some(quote) = quote else {
            return self.member(",", "cost_parts", None::<u64>);
        };
        self.key(",", "cost_parts");
        self.amount("{", "input_sats", Some(quote.input));
        self.amount(",", "cached_input_sats", Some(quote.cached_input));
        self.amount(",", "output_sats", Some(quote.output));
        self.amount(",", "base_fee_sats", Some(quote.base_fee));
        self.amount(",", "failure_sats", Some(quote.failure));
        self.raw("}");
    }

    /// An exact number, which a float would not be.
    fn amount(&mut self, before: &str, name: &str, amount: Option<Sats>) {
        self.key(before, name);
        match amount {
            Some(amount) => write!(self.0, "{amount}").expect(GROWS),
            None => self.raw("null"),
        }
    }

    fn member(&mut self, before: &str, name: &str, value: impl Serialize) {
        self.key(before, name);
        serde_json::to_writer(&mut self.0, &value).expect(GROWS);
    }

    fn key(&mut self, before: &str, name: &str) {
        self.raw(before);
        self.raw("\"");
        self.raw(name);
        self.raw("\":");
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Why it stands where it stands, unless it is passed over.
fn ranked(candidate: &Candidate) -> Option<String> {
    match candidate.skipped {
        None => Some(candidate.rank.to_string()),
        Some(_) => None,
    }
}

const GROWS: &str = "a Vec takes all that is written";
/// About as much as one candidate takes.
const CANDIDATE_BYTES: usize = 512;
/// Enough for an error of the system, too little for a prompt.
const CAUSE_CHARS: usize = 200;
