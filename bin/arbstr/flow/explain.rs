//! A request as people read it: its plan as JSON, its failed attempts and state changes as log lines.

use std::io::Write as _;
use std::time::Instant;

use arbstr_price::{Quote, Sats};
use arbstr_route::{Candidate, FinishedAttempt, Offer, Plan, Waterfall};
use serde::Serialize;

use crate::app::Live;
use crate::arrival::Arrival;
use crate::clock::{self, age_secs, whole_ms};
use crate::upstream::error::{AttemptError, AttemptErrorKind};

/// The plan as `/v1/cost` shows it, whole.
pub(crate) fn plan(plan: &Plan) -> String {
    written(plan, plan.candidates.iter(), clock::now())
}

/// The plan as it goes on record and `/v1/requests/{id}` shows it: the best candidates, and how many are left out.
///
/// Some places are kept for those that can be asked, should all of the best be passed over.
pub(crate) fn plan_on_record(plan: &Plan, now: Instant) -> String {
    let mut passed_over = 0;
    let is_told = move |candidate: &&Candidate| {
        passed_over += usize::from(candidate.skipped.is_some());
        candidate.skipped.is_none() || passed_over <= MOST_PASSED_OVER
    };
    let told = plan.candidates.iter().filter(is_told);
    written(plan, told.take(MOST_ON_RECORD), now)
}

/// Straight into one text, since each request has one: exact amounts by way of serde_json cost twice as much.
fn written<'a>(
    plan: &Plan,
    candidates: impl Iterator<Item = &'a Candidate>,
    now: Instant,
) -> String {
    let likely = plan.candidates.len().min(MOST_ON_RECORD);
    let mut json = Json(Vec::with_capacity(128 + CANDIDATE_BYTES * likely));
    json.text(r#"{"model":"#, &plan.model);
    json.value(r#","policy":"#, plan.policy.as_deref());
    json.text(r#","strategy":"#, plan.strategy.as_str());
    json.raw(r#","candidates":["#);
    let mut told = 0;
    for candidate in candidates {
        json.raw(if told == 0 { "" } else { "," });
        json.candidate(candidate, now);
        told += 1;
    }
    json.raw("]");
    let omitted = plan.candidates.len() - told;
    if omitted > 0 {
        json.count(r#","omitted":"#, Some(omitted as u64));
    }
    json.raw("}");
    String::from_utf8(json.0).expect("JSON is UTF-8")
}

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

/// JSON as it grows.
struct Json(Vec<u8>);

impl Json {
    fn candidate(&mut self, candidate: &Candidate, now: Instant) {
        self.text(r#"{"provider":"#, candidate.offer.provider());
        self.text(r#","model":"#, candidate.offer.model());
        let tokens = &candidate.tokens;
        self.count(r#","expected_input_tokens":"#, Some(tokens.input));
        let cached = tokens.cached_input;
        self.count(r#","expected_cached_input_tokens":"#, Some(cached));
        self.count(r#","expected_output_tokens":"#, Some(tokens.output));
        self.amount(r#","expected_cost_sats":"#, candidate.expected_cost());
        // How old the price is that its provider published; `null` where it is the operator's own.
        let price_age = age_secs(candidate.offer.priced_at(), now);
        self.count(r#","price_age_secs":"#, price_age);
        self.parts(candidate.quote.as_ref());
        self.value(r#","success_rate":"#, candidate.success);
        self.count(r#","latency_ms":"#, candidate.latency.map(whole_ms));
        self.reasons(candidate);
        self.raw("}");
    }

    /// What the expected cost is made of.
    fn parts(&mut self, quote: Option<&Quote>) {
        let Some(quote) = quote else {
            return self.raw(r#","cost_parts":null"#);
        };
        self.amount(r#","cost_parts":{"input_sats":"#, Some(quote.input));
        self.amount(r#","cached_input_sats":"#, Some(quote.cached_input));
        self.amount(r#","output_sats":"#, Some(quote.output));
        self.amount(r#","base_fee_sats":"#, Some(quote.base_fee));
        self.amount(r#","failure_sats":"#, Some(quote.failure));
        self.raw("}");
    }

    /// Why it stands where it stands, or why it is passed over.
    fn reasons(&mut self, candidate: &Candidate) {
        match &candidate.skipped {
            // No rank has a letter that JSON would escape.
            None => {
                write!(self.0, r#","ranked":"{}","skipped":null"#, candidate.rank).expect(GROWS)
            }
            Some(skip) => self.text(r#","ranked":null,"skipped":"#, &skip.to_string()),
        }
    }

    /// An exact number, which a float would not be.
    #[inline(always)]
    fn amount(&mut self, key: &str, amount: Option<Sats>) {
        self.raw(key);
        match amount {
            Some(amount) => self.raw(amount.to_decimal().as_str()),
            None => self.raw("null"),
        }
    }

    #[inline(always)]
    fn count(&mut self, key: &str, count: Option<u64>) {
        self.raw(key);
        match count {
            Some(count) => self.raw(itoa::Buffer::new().format(count)),
            None => self.raw("null"),
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            self.raw(key);
            self.raw("\"");
            self.raw(text);
            self.raw("\"");
        } else {
            self.value(key, text);
        }
    }

    fn value(&mut self, key: &str, value: impl Serialize) {
        self.raw(key);
        serde_json::to_writer(&mut self.0, &value).expect(GROWS);
    }

    /// Inlined, since most of what it writes is known beforehand: that is copied without a call.
    #[inline(always)]
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Candidates of a plan on record; two hundred would make each row 73 KB long.
const MOST_ON_RECORD: usize = 32;
/// Those of them that are passed over. The others are as many as are asked, unless `retry.max_attempts` says more.
const MOST_PASSED_OVER: usize = 24;
const GROWS: &str = "a Vec takes all that is written";
/// About as much as one candidate takes.
const CANDIDATE_BYTES: usize = 512;
/// Enough for an error of the system, too little for a prompt.
const CAUSE_CHARS: usize = 200;
