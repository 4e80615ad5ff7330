//! The story of a request, for people: its plan as JSON, its failed attempts and state changes as log lines.

use arbstr_route::{Candidate, Change, Event, Market, Offer, Plan, Tried, Waterfall};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::Arrival;
use crate::api::query::exact;
use crate::app::Live;
use crate::clock::whole_ms;
use crate::upstream::fault::Miss;

/// The plan as `/v1/cost` and `/v1/requests/{id}` show it (SPEC section 3).
pub(crate) fn plan(plan: &Plan) -> String {
    let candidates = plan.candidates.iter().map(CandidateJson::of).collect();
    let shape = PlanJson {
        model: &plan.model,
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

/// One line per failed attempt. Bodies and keys stay out of it.
pub(crate) fn miss(
    (arrival, live): (&Arrival, &Live),
    offer: &Offer,
    miss: &Miss,
    tried: &Tried,
    operator: bool,
) {
    let reason = tried.outcome.reason();
    let (reason, cause) = (live.redact(&reason), miss.kind.cause());
    let duration_ms = whole_ms(tried.took);
    let hint = if operator {
        "; check this provider's key, balance and model list"
    } else {
        ""
    };
    tracing::warn!(
        request_id = %arrival.id,
        provider = offer.provider(),
        model = offer.model(),
        duration_ms,
        cause = cause.as_deref().map(|cause| live.redact(cause)).as_deref(),
        "attempt failed: {reason}{hint}"
    );
}

/// What changed in the standing of providers since somebody looked last: one line a change, not one a request.
pub(crate) fn changes(market: &Market) {
    for Change {
        provider,
        model,
        event,
    } in market.take_changes()
    {
        let model = model.as_deref().unwrap_or("all");
        match event {
            Event::Opened => {
                tracing::warn!(%provider, model, "circuit opened: too many failures in a row")
            }
            Event::Probing => {
                tracing::info!(%provider, model, "circuit half open: one request probes the provider")
            }
            Event::Returned => {
                tracing::debug!(%provider, model, "the probe came back without news")
            }
            Event::Closed => {
                tracing::info!(%provider, model, "circuit closed: the provider serves again")
            }
            Event::Suspended { length } => tracing::warn!(
                %provider, model, secs = length.as_secs(),
                "suspended while others can serve; check this provider's key, balance and model list"
            ),
            Event::CoolingDown { length } => {
                tracing::info!(%provider, model, secs = length.as_secs_f64(), "cooling down, as it asked")
            }
        }
    }
}

#[derive(Serialize)]
struct PlanJson<'a> {
    model: &'a str,
    candidates: Vec<CandidateJson<'a>>,
}

#[derive(Serialize)]
struct CandidateJson<'a> {
    provider: &'a str,
    model: &'a str,
    expected_input_tokens: u64,
    expected_output_tokens: u64,
    expected_cost_sats: Option<Box<RawValue>>,
    skipped: Option<String>,
}

impl<'a> CandidateJson<'a> {
    fn of(candidate: &'a Candidate) -> Self {
        Self {
            provider: candidate.offer.provider(),
            model: candidate.offer.model(),
            expected_input_tokens: candidate.tokens.input,
            expected_output_tokens: candidate.tokens.output,
            expected_cost_sats: exact(candidate.expected_cost()),
            skipped: candidate.skipped.as_ref().map(ToString::to_string),
        }
    }
}
