//! The record of one request: who was asked, how it ended and what it cost.
//!
//! What goes on record is [`Pending`] until the requests that a thread has in hand are all at this point; nothing is sent before.
//! A [`RequestRecord`] is opened before the first upstream byte, with who is asked first, and completed exactly once: by
//! the stage that knows the outcome, or by `Drop` when a panic or a lost task took that stage away.

mod bill;
mod pending;
mod telemetry;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::{BtcPrice, Decimal, Rates, Sats};
use arbstr_route::{Offer, Plan};
use arbstr_store::{Asked, Attempt, Completion, NextAttempt, Opening, Records, Store};
use arbstr_wire::{Endpoint, Request};
use hyper::header::{HeaderMap, HeaderName};

pub(crate) use self::bill::{Bill, sunk_cost};
pub(crate) use self::pending::Pending;
use self::telemetry::RequestTelemetry;
use crate::app::{App, Live};
use crate::arrival::Arrival;
use crate::clock;
use crate::log::is_hidden;

/// The record of one request, until it is completed.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    store: Store,
    telemetry: RequestTelemetry,
    arrival: Arrival,
    info: RequestInfo,
    attempts: Vec<RecordedAttempt>,
    winner: Option<Winner>,
    opened: bool,
    completed: bool,
}

/// What is known of a request before anyone is asked.
#[derive(Debug)]
pub(crate) struct RequestInfo {
    endpoint: Endpoint,
    model: String,
    policy: Option<String>,
    streaming: bool,
    client_id: Option<String>,
    traceparent: Option<String>,
    plan: Option<String>,
    input_estimate: u64,
    candidate_rates: Vec<Rates>,
}

/// The provider whose answer the client gets.
#[derive(Debug, Clone)]
pub(crate) struct Winner {
    /// Its offer.
    pub(crate) offer: Arc<Offer>,
    /// Just before the request was sent.
    pub(crate) sent_at: Instant,
    /// From then to its first byte.
    pub(crate) latency: Duration,
    /// Cost in a response header of its own, where it sends one.
    pub(crate) reported_cost: Option<Sats>,
    /// What a bitcoin cost, for a provider that reports dollars.
    pub(crate) btc_price: Option<BtcPrice>,
}

/// One attempt, as it will stand in the record.
#[derive(Debug)]
struct RecordedAttempt {
    offer: Arc<Offer>,
    outcome: Cow<'static, str>,
    end: AttemptEnd,
    started_after: Duration,
    duration: Duration,
}

/// What goes on record of how an attempt ended, beside its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AttemptEnd {
    /// The status of its answer, if there was one.
    pub(crate) status: Option<u16>,
    /// What it cost although it failed, as far as the provider told.
    pub(crate) sunk_cost: Option<Sats>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// The answer is complete and was handed to the client.
    Complete,
    /// The client left first.
    ClientLeft,
    /// The upstream ended without `[DONE]`.
    Incomplete,
    /// The upstream broke, timed out or sent an error event; the kind.
    Broke(String),
    /// arbstr shut down before the upstream was through, and nobody was told so by a status.
    ShutDown,
    /// arbstr refused or failed with this status and code.
    Refused(u16, String),
}

impl RequestInfo {
    /// What `request` says, and what its client calls it.
    pub(crate) fn of(request: &Request<'_>, policy: Option<&str>, headers: &HeaderMap) -> Self {
        let text = |name| Some(bounded(headers.get(name)?.to_str().ok()?, HEADER_CHARS).to_owned());
        Self {
            endpoint: request.endpoint(),
            model: bounded_name(request.model()).to_owned(),
            policy: policy.map(|policy| bounded_name(policy).to_owned()),
            streaming: request.is_stream(),
            client_id: text(&REQUEST_ID),
            traceparent: text(&TRACEPARENT),
            plan: None,
            input_estimate: 0,
            candidate_rates: Vec::new(),
        }
    }

    /// The same with its plan, which goes on record as that JSON.
    pub(crate) fn planned(self, plan: &Plan, on_record: String) -> Self {
        let rates = plan
            .eligible()
            .filter_map(|candidate| candidate.offer.rates().copied());
        Self {
            policy: plan.policy.as_deref().map(str::to_owned),
            plan: Some(on_record),
            input_estimate: plan
                .candidates
                .first()
                .map_or(0, |candidate| candidate.tokens.input),
            candidate_rates: rates.collect(),
            ..self
        }
    }
}

impl RequestRecord {
    /// Of a request that is going to be on record as soon as anybody is asked, or waited for.
    pub(crate) fn new(app: &App, live: &Arc<Live>, arrival: &Arrival, info: RequestInfo) -> Self {
        Self {
            store: app.store.clone(),
            telemetry: RequestTelemetry::begin(app, live, info.traceparent.as_deref(), arrival),
            arrival: arrival.clone(),
            info,
            attempts: Vec::new(),
            winner: None,
            opened: false,
            completed: false,
        }
    }

    /// Puts on record that an attempt begins, and the request with it if it is the first; its outcome follows by
    /// [`Self::attempt_ended`]. Nothing is to be sent before that is written.
    #[must_use]
    pub(crate) fn attempt_started(&mut self, offer: Arc<Offer>, now: Instant) -> Pending {
        self.attempts.push(RecordedAttempt {
            offer,
            outcome: Cow::Borrowed("in_progress"),
            end: AttemptEnd::default(),
            started_after: now.saturating_duration_since(self.arrival.at),
            duration: Duration::ZERO,
        });
        let is_first = !std::mem::replace(&mut self.opened, true);
        Pending::add(&self.store, |records| {
            if is_first {
                self.open(records);
            } else {
                self.begin_attempt(records);
            }
        })
    }

    /// Notes that the attempt that began last is being sent only now.
    pub(crate) fn attempt_sent(&mut self, now: Instant) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.started_after = now.saturating_duration_since(self.arrival.at);
        }
    }

    /// Notes how the attempt that began last came out, and what it cost if it failed.
    pub(crate) fn attempt_ended(
        &mut self,
        outcome: Cow<'static, str>,
        end: AttemptEnd,
        now: Instant,
    ) {
        let Some(attempt) = self.attempts.last_mut() else {
            return;
        };
        attempt.outcome = outcome;
        attempt.end = end;
        attempt.duration = now
            .saturating_duration_since(self.arrival.at)
            .saturating_sub(attempt.started_after);
    }

    /// Notes that nobody is going to be asked for this long, on purpose. The request is on record meanwhile.
    pub(crate) fn paused(&mut self, pause: Duration) {
        self.telemetry.paused(pause);
        if !std::mem::replace(&mut self.opened, true) {
            drop(Pending::add(&self.store, |records| self.open(records)));
        }
    }

    /// A client's headers as the attempt that began last should pass them on, where its trace makes a difference.
    pub(crate) fn trace_headers(&self, client: &HeaderMap) -> Option<HeaderMap> {
        self.telemetry.trace_headers(client, self.attempts.len())
    }

    /// Notes that the answer is relayed from now on.
    pub(crate) fn streams(&mut self) {
        self.telemetry.streams();
    }

    /// Notes whose answer the client gets.
    pub(crate) fn won(&mut self, winner: Winner) {
        self.winner = Some(winner);
    }

    /// Just before the attempt that began last.
    pub(crate) fn last_attempt_at(&self) -> Instant {
        let after = self
            .attempts
            .last()
            .map(|attempt| attempt.started_after)
            .unwrap_or_default();
        self.arrival.at + after
    }

    /// When the request came and what it is called.
    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// The provider whose answer the client gets.
    pub(crate) fn winner(&self) -> Option<&Winner> {
        self.winner.as_ref()
    }

    /// Attempts after the first.
    pub(crate) fn retries(&self) -> u32 {
        u32::try_from(self.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Completes the record of a request that ends `now`, once. Nothing that would end it is to be sent before that is written.
    pub(crate) fn complete(
        &mut self,
        outcome: &RequestOutcome,
        bill: &Bill,
        finish_reason: Option<&str>,
        now: Instant,
    ) -> Pending {
        self.completed = true;
        let overhead = self.overhead(now);
        self.close_last_attempt(bill, now);
        let winner = self.winner.as_ref();
        let reported = winner.and_then(|winner| winner.reported_cost).or_else(|| {
            let btc = winner.and_then(|winner| winner.btc_price);
            arbstr_price::reported_cost(&bill.usage, btc)
        });
        let (success, status, message) = outcome.columns();
        let message = message.as_deref().map(bounded_text);
        let finish_reason = finish_reason.map(|reason| self.telemetry.redact(reason));
        let finish_reason = finish_reason.as_deref().map(bounded_text);
        // The one whose answer the client gets, or the last that gave none.
        let last = self.attempts.last().map(|attempt| &*attempt.offer);
        let duration = now.saturating_duration_since(self.arrival.at);
        let completion = Completion {
            correlation_id: &*self.arrival.id,
            ended_ms: self.arrival.unix_ms_after(duration),
            served_model: last.map(Offer::upstream_model),
            provider: last.map(Offer::provider),
            tier: last.map(|offer| offer.tier().as_str()),
            input_tokens: bill.usage.input,
            output_tokens: bill.usage.output,
            cached_input_tokens: bill.usage.cached_input,
            reasoning_tokens: bill.usage.reasoning,
            cost: bill.cost,
            estimated_cost: bill.estimated,
            reference_cost: bill.cost.and_then(|_| self.reference(&bill.usage)),
            provider_cost: reported,
            cost_disagrees: matches!((bill.cost, reported), (Some(ours), Some(theirs)) if arbstr_price::disagrees(ours, theirs)),
            uncovered_units: bill.usage.uncovered,
            implausible_usage: bill.implausible,
            latency: winner.map(|winner| winner.latency),
            stream_duration: winner
                .filter(|_| self.info.streaming)
                .map(|winner| now.saturating_duration_since(winner.sent_at)),
            duration,
            finish_reason: finish_reason.as_deref(),
            success,
            error_status: status,
            error_message: message.as_deref(),
            plan: None,
            attempts: self.attempts.iter().map(RecordedAttempt::row).collect(),
        };
        self.telemetry.ended(&self.info, &completion, overhead, now);
        Pending::add(&self.store, |records| {
            if !self.opened {
                self.open(records);
            }
            records.complete(&completion);
        })
    }

    /// Adds the opening, with the first attempt if it has begun.
    fn open(&self, records: &mut Records) {
        records.open_request(&Opening {
            correlation_id: &*self.arrival.id,
            timestamp_ms: self.arrival.timestamp_ms,
            endpoint: endpoint_word(self.info.endpoint),
            model: &self.info.model,
            policy: self.info.policy.as_deref(),
            streaming: self.info.streaming,
            plan: self.info.plan.as_deref(),
            asked: self.attempts.first().map(RecordedAttempt::asked),
        });
    }

    /// Adds that the last attempt begins: the opening does not tell of it.
    fn begin_attempt(&self, records: &mut Records) {
        let Some((last, before)) = self.attempts.split_last() else {
            return;
        };
        records.begin_attempt(&NextAttempt {
            correlation_id: &*self.arrival.id,
            timestamp_ms: clock::unix_ms(),
            number: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX),
            asked: last.asked(),
            failed: before.last().map(RecordedAttempt::row),
        });
    }

    /// What arbstr added to an answered request; to be asked while the last attempt's duration is still that to its answer.
    fn overhead(&self, now: Instant) -> Option<Duration> {
        self.winner.as_ref()?;
        let done = (!self.telemetry.is_stream()).then_some(now);
        Some(self.telemetry.overhead(&self.arrival, &self.attempts, done))
    }

    /// The winning attempt lasts until its last byte, which may be where its stream broke.
    fn close_last_attempt(&mut self, bill: &Bill, now: Instant) {
        let since_arrival = now.saturating_duration_since(self.arrival.at);
        if let (Some(_), Some(attempt)) = (&self.winner, self.attempts.last_mut()) {
            attempt.duration = since_arrival.saturating_sub(attempt.started_after);
            attempt.end.sunk_cost = bill.sunk;
        }
    }
}

impl RecordedAttempt {
    fn asked(&self) -> Asked<&str> {
        Asked {
            provider: self.offer.provider(),
            model: self.offer.upstream_model(),
            tier: self.offer.tier().as_str(),
            started_after: self.started_after,
        }
    }

    fn row(&self) -> Attempt<&str> {
        Attempt {
            provider: self.offer.provider(),
            model: self.offer.upstream_model(),
            outcome: &self.outcome,
            status: self.end.status,
            started_after: self.started_after,
            duration: self.duration,
            sunk_cost: self.end.sunk_cost,
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if !self.completed {
            drop(self.complete(
                &RequestOutcome::Broke("internal".to_owned()),
                &Bill::default(),
                None,
                clock::now(),
            ));
        }
    }
}

impl RequestOutcome {
    fn columns(&self) -> (bool, Option<u16>, Option<Cow<'_, str>>) {
        match self {
            Self::Complete => (true, None, None),
            Self::ClientLeft => (false, None, Some("client_disconnected".into())),
            Self::Incomplete => (false, None, Some("stream_incomplete".into())),
            Self::Broke(kind) => (false, None, Some(format!("upstream_error: {kind}").into())),
            Self::ShutDown => (false, None, Some("server_shutting_down".into())),
            Self::Refused(status, code) => (false, Some(*status), Some(code.as_str().into())),
        }
    }
}

/// A cost as its exact decimal text.
pub(crate) fn decimal(cost: Option<Sats>) -> Option<Decimal> {
    cost.map(Sats::to_decimal)
}

/// What the record keeps of a name.
pub(crate) fn bounded_name(text: &str) -> &str {
    bounded(text, NAME_CHARS)
}

/// What the record keeps of a word that a provider may choose as it likes. Who prints what stands in the database gets
/// nothing that ends the line, moves the cursor or turns the text around: blanks instead.
fn bounded_text(text: &str) -> Cow<'_, str> {
    let text = bounded_name(text);
    if text.contains(is_hidden) {
        Cow::Owned(text.replace(is_hidden, " "))
    } else {
        Cow::Borrowed(text)
    }
}

fn bounded(text: &str, chars: usize) -> &str {
    let end = text.char_indices().nth(chars).map(|(at, _)| at);
    &text[..end.unwrap_or(text.len())]
}

fn endpoint_word(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Chat => "chat.completions",
        Endpoint::Completions => "completions",
        Endpoint::Embeddings => "embeddings",
    }
}

/// What is kept of a header that a client may make as long as it likes.
const HEADER_CHARS: usize = 128;
/// What is kept of a name that a client or a provider may make as long as it likes: a record, its roll-ups, a log line and
/// a span all have it. No list of models may have a longer one.
const NAME_CHARS: usize = 256;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
