//! A request as people read it: who was tried, its failed attempts and state changes as log lines.

use std::time::Instant;

use arbstr_route::{FinishedAttempt, Offer, Waterfall};

use crate::app::Live;
use crate::arrival::Arrival;
use crate::clock::whole_ms;
use crate::upstream::error::{AttemptError, AttemptErrorKind};

/// Each attempt's provider and reason, for the error that tells that all failed.
pub(crate) fn tried(waterfall: &Waterfall, live: &Live) -> Vec<(String, String)> {
    let reason = |tried: &FinishedAttempt| live.redact(&tried.outcome.reason()).into_owned();
    let line = |tried: &FinishedAttempt| {
        (
            waterfall.offer_of(tried).provider().to_owned(),
            reason(tried),
        )
    };
    waterfall.attempts().iter().map(line).collect()
}

/// Each provider that could not be asked, and why, for the error that tells that nobody was.
pub(crate) fn passed_over(waterfall: &Waterfall, now: Instant) -> Vec<String> {
    let obstacles = waterfall.obstacles(now);
    obstacles
        .map(|(offer, skip)| format!("{} {skip}", offer.provider()))
        .collect()
}

/// One line per failed attempt. Bodies and keys stay out of it; text from outside is quoted, so that it cannot forge a
/// line.
pub(crate) fn attempt_failed(
    arrival: &Arrival,
    live: &Live,
    offer: &Offer,
    error: &AttemptError,
    tried: &FinishedAttempt,
) {
    let reason = live.redact(&tried.outcome.reason()).into_owned();
    let cause = error.cause().map(|cause| {
        live.redact(&cause)
            .chars()
            .take(CAUSE_CHARS)
            .collect::<String>()
    });
    let (request_id, provider, model) = (&*arrival.id, offer.provider(), offer.model());
    let duration_ms = whole_ms(tried.took);
    if matches!(error.kind, AttemptErrorKind::Cancelled) {
        tracing::debug!(
            request_id,
            provider,
            model,
            duration_ms,
            "attempt broken off"
        );
        return;
    }
    let operator = tried.verdict.operator;
    let hint = operator.then_some("check this provider's key, balance and model list");
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
}

/// Enough for an error of the system, too little for a prompt.
const CAUSE_CHARS: usize = 200;
