//! What the caller hands in and gets back: openings, completions, attempts and whole rows.
//!
//! Plain data without behaviour, so that callers never meet a database type. An amount or count that is not known
//! is `None`, never 0. Text is owned or borrowed, as it suits who has it.

use std::time::Duration;

use arbstr_price::Sats;

/// The text of `error_message` while a request is under way.
pub const IN_PROGRESS: &str = "in_progress";

/// The text of `error_message` when the process that served the request died before its end.
pub const INTERRUPTED: &str = "interrupted";

/// The largest amount that a row can hold. What is beyond it is kept as unknown.
pub const MAX_AMOUNT: Sats = Sats::from_nanosats(i64::MAX as i128);

/// A request as it is known before its first upstream byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening<T = String> {
    /// The request's id, a UUIDv7 as text; unique.
    pub correlation_id: T,
    /// Arrival, in milliseconds since the epoch, UTC.
    pub timestamp_ms: i64,
    /// Which route was asked, in the caller's words.
    pub endpoint: T,
    /// The model as the client named it.
    pub model: T,
    /// The policy that was applied.
    pub policy: Option<T>,
    /// Whether the client asked for a stream.
    pub streaming: bool,
    /// The route plan as JSON text, kept as it is.
    pub plan: Option<T>,
    /// Who is asked first, where that is known already.
    pub asked: Option<Asked<T>>,
}

/// Who is asked by an upstream attempt that is about to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked<T = String> {
    /// The provider.
    pub provider: T,
    /// The model name as it is sent.
    pub model: T,
    /// The provider's tier.
    pub tier: T,
    /// From the request's arrival to the start of the attempt.
    pub started_after: Duration,
}

/// That another attempt begins, so that it is known who has a request if nothing more is heard of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextAttempt<T = String> {
    /// The id of the opening.
    pub correlation_id: T,
    /// Now, in milliseconds since the epoch, UTC.
    pub timestamp_ms: i64,
    /// Which attempt it is; 1 is the first.
    pub number: u32,
    /// Who is asked by it.
    pub asked: Asked<T>,
    /// The attempt before, which failed.
    pub failed: Option<Attempt<T>>,
}

/// A request's end: everything that the opening could not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion<T = String> {
    /// The id of the opening that this completes.
    pub correlation_id: T,
    /// The end, in milliseconds since the epoch, UTC.
    pub ended_ms: i64,
    /// The model name sent to the provider that was tried last.
    pub served_model: Option<T>,
    /// The provider that answered, or was tried last.
    pub provider: Option<T>,
    /// That provider's tier.
    pub tier: Option<T>,
    /// Input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// Output tokens, reasoning ones included.
    pub output_tokens: Option<u64>,
    /// Input tokens that came from the provider's cache.
    pub cached_input_tokens: Option<u64>,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: Option<u64>,
    /// What the request cost.
    pub cost: Option<Sats>,
    /// What the tokens seen would cost, where the true cost is unknown.
    pub estimated_cost: Option<Sats>,
    /// The same tokens at the dearest candidate of the plan.
    pub reference_cost: Option<Sats>,
    /// The cost that the provider itself reported.
    pub provider_cost: Option<Sats>,
    /// Whether the provider's figure differs from ours by more than 1 %.
    pub cost_disagrees: bool,
    /// Whether units were used that no rate covers.
    pub uncovered_units: bool,
    /// Whether the provider's counts do not fit what was sent.
    pub implausible_usage: bool,
    /// From the start of the winning attempt to its first byte.
    pub latency: Option<Duration>,
    /// From just before the winning attempt was sent to its last byte.
    pub stream_duration: Option<Duration>,
    /// From arrival to the end, failed attempts included.
    pub duration: Duration,
    /// Why the model stopped, as the provider says.
    pub finish_reason: Option<T>,
    /// Whether the client got the whole answer.
    pub success: bool,
    /// The HTTP status of the failure.
    pub error_status: Option<u16>,
    /// The failure in a few words; `None` on success.
    pub error_message: Option<T>,
    /// Replaces the opening's plan when there is something new to say.
    pub plan: Option<T>,
    /// The upstream attempts, in order.
    pub attempts: Vec<Attempt<T>>,
}

impl<T> Completion<T> {
    /// What failed attempts cost all the same, together; `None` when none is known to have cost anything.
    #[must_use]
    pub fn sunk_cost(&self) -> Option<Sats> {
        let known = self.unseen_attempts().iter();
        known
            .filter_map(|attempt| attempt.sunk_cost)
            .reduce(Sats::saturating_add)
    }

    /// The attempts of which the client got nothing. What the last one cost is the request's estimated cost already, if it
    /// has one: the client got a part of it.
    #[must_use]
    pub fn unseen_attempts(&self) -> &[Attempt<T>] {
        let seen = usize::from(self.estimated_cost.is_some());
        &self.attempts[..self.attempts.len().saturating_sub(seen)]
    }

    /// The same with every text as `text` makes it: owned, say, where this one's are borrowed.
    pub fn map<'a, U>(&'a self, text: impl Fn(&'a T) -> U) -> Completion<U> {
        let text = &text;
        let optional = |field: &'a Option<T>| field.as_ref().map(text);
        Completion {
            correlation_id: text(&self.correlation_id),
            ended_ms: self.ended_ms,
            served_model: optional(&self.served_model),
            provider: optional(&self.provider),
            tier: optional(&self.tier),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cached_input_tokens: self.cached_input_tokens,
            reasoning_tokens: self.reasoning_tokens,
            cost: self.cost,
            estimated_cost: self.estimated_cost,
            reference_cost: self.reference_cost,
            provider_cost: self.provider_cost,
            cost_disagrees: self.cost_disagrees,
            uncovered_units: self.uncovered_units,
            implausible_usage: self.implausible_usage,
            latency: self.latency,
            stream_duration: self.stream_duration,
            duration: self.duration,
            finish_reason: optional(&self.finish_reason),
            success: self.success,
            error_status: self.error_status,
            error_message: optional(&self.error_message),
            plan: optional(&self.plan),
            attempts: self
                .attempts
                .iter()
                .map(|attempt| attempt.map(text))
                .collect(),
        }
    }
}

/// One upstream attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt<T = String> {
    /// Who was asked.
    pub provider: T,
    /// The model name as it was sent.
    pub model: T,
    /// What came of it, such as `status=429` or `error=timeout`.
    pub outcome: T,
    /// The HTTP status, when there was one.
    pub status: Option<u16>,
    /// From the request's arrival to the start of the attempt.
    pub started_after: Duration,
    /// How long the attempt took.
    pub duration: Duration,
    /// What the attempt cost although it failed, if that is known.
    pub sunk_cost: Option<Sats>,
}

impl<T> Attempt<T> {
    /// The same with every text as `text` makes it.
    pub fn map<'a, U>(&'a self, text: impl Fn(&'a T) -> U) -> Attempt<U> {
        Attempt {
            provider: text(&self.provider),
            model: text(&self.model),
            outcome: text(&self.outcome),
            status: self.status,
            started_after: self.started_after,
            duration: self.duration,
            sunk_cost: self.sunk_cost,
        }
    }
}

/// One row of the table `requests`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The request's id.
    pub correlation_id: String,
    /// Arrival, in milliseconds since the epoch, UTC.
    pub timestamp_ms: i64,
    /// The end, in milliseconds since the epoch, UTC.
    pub ended_ms: Option<i64>,
    /// Which route was asked.
    pub endpoint: String,
    /// The model as asked.
    pub model: String,
    /// The model as sent.
    pub served_model: Option<String>,
    /// The provider that answered, or was asked last.
    pub provider: Option<String>,
    /// That provider's tier.
    pub tier: Option<String>,
    /// The policy that was applied.
    pub policy: Option<String>,
    /// Whether the client asked for a stream.
    pub streaming: bool,
    /// Input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// Output tokens, reasoning ones included.
    pub output_tokens: Option<u64>,
    /// Input tokens that came from the provider's cache.
    pub cached_input_tokens: Option<u64>,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: Option<u64>,
    /// What the request cost.
    pub cost: Option<Sats>,
    /// What the tokens seen would cost, where the true cost is unknown.
    pub estimated_cost: Option<Sats>,
    /// The same tokens at the dearest candidate of the plan.
    pub reference_cost: Option<Sats>,
    /// The cost that the provider itself reported.
    pub provider_cost: Option<Sats>,
    /// What failed attempts cost all the same, together.
    pub sunk_cost: Option<Sats>,
    /// Whether the provider's figure differs from ours by more than 1 %.
    pub cost_disagrees: bool,
    /// Whether units were used that no rate covers.
    pub uncovered_units: bool,
    /// Whether the provider's counts do not fit what was sent.
    pub implausible_usage: bool,
    /// Time to the first byte of the winning attempt, in whole milliseconds.
    pub latency: Option<Duration>,
    /// From sending the winning attempt to its last byte, in whole milliseconds.
    pub stream_duration: Option<Duration>,
    /// From arrival to the end, in whole milliseconds.
    pub duration: Option<Duration>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// How many upstream attempts there were, that under way included; `None` until one begins.
    pub attempts: Option<u32>,
    /// Whether the client got the whole answer.
    pub success: bool,
    /// The HTTP status of the failure.
    pub error_status: Option<u16>,
    /// The failure; [`IN_PROGRESS`] until completed, [`INTERRUPTED`] when the process died before.
    pub error_message: Option<String>,
}

impl RequestRow {
    /// Whether the request is still under way, as far as the ledger knows.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.ended_ms.is_none() && self.error_message.as_deref() == Some(IN_PROGRESS)
    }
}

/// A row with what is too long for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDetail {
    /// The row itself.
    pub row: RequestRow,
    /// The route plan as the caller's JSON text.
    pub plan: Option<String>,
    /// The upstream attempts that have ended, in order.
    pub attempts: Vec<Attempt>,
    /// The one after them, which is under way, or was when the process died.
    pub asked: Option<Asked>,
}
