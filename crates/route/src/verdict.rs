//! What an attempt's outcome means: who is at fault, who is asked next, and what is remembered.
//!
//! The whole table is [`Verdict::of`], so that it can be read, and tested, in one place. Everybody else follows the
//! data: the waterfall picks the next step, the circuits count, the binary logs.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// How one attempt ended, as the binary saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// A good response head and, for a stream, a good first event; a JSON answer read whole and sane.
    Good {
        /// Its status, 200 as a rule.
        status: u16,
    },
    /// Any answer that is not a success.
    ErrorResponse(ErrorResponse),
    /// No connection came about.
    Connect(ConnectError),
    /// Something took too long.
    Timeout(TimeoutKind),
    /// Closed or reset before the response head, or before a stream's first event.
    Closed,
    /// A success whose JSON broke off.
    Cut,
    /// A success with nothing in it.
    Empty,
    /// A success that is neither a stream nor a JSON completion, where a stream was asked for.
    NotSse,
    /// A success that is not JSON.
    BadJson,
    /// A success whose JSON has no result in it.
    NoResult,
    /// A success whose body, or first event, is an error.
    ErrorEvent(ErrorEvent),
    /// More than arbstr is willing to hold.
    Oversized,
    /// The client left before anything came.
    Cancelled,
}

/// A provider's refusal, reduced to what decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// `error.code`, a number as its digits.
    pub code: Option<String>,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.param`.
    pub param: Option<String>,
    /// `error.message`.
    pub message: Option<String>,
    /// How long the provider asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether arbstr had put `stream_options` into this very attempt.
    pub injected_stream_options: bool,
}

/// An error inside a success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorEvent {
    /// `error.code`, a number as its digits.
    pub code: Option<String>,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.message`.
    pub message: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// Refused, reset or unreachable.
    Refused,
    /// TLS did not come about.
    Tls,
    /// The name has no address.
    Dns,
    /// Not within the time for connecting.
    Timeout,
    /// This machine has no socket left for it.
    NoSocket,
}

/// Which time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// That for a stream's first event.
    FirstEvent,
    /// That for a response.
    Response,
    /// That between two reads.
    Idle,
    /// That for the whole request: not the provider's fault.
    Total,
}

/// What follows from an [`AttemptOutcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What happens next.
    pub action: Action,
    /// Whose circuit it counts against.
    pub blame: Blame,
    /// Who is left out for [`SUSPENSION`] while others can serve.
    pub suspend: Option<Scope>,
    /// For how long the provider is left alone while others can serve.
    pub cooldown: Option<Duration>,
    /// Whether the same candidate may be asked again.
    pub retryable: Retryable,
    /// Whether `same_provider_first` applies.
    pub quick: bool,
    /// Whether the operator has to look after it: a key, a balance, a model list, a redirect.
    pub operator: bool,
    /// Whether the provider had too much to do.
    pub congested: bool,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The answer goes to the client.
    Accept,
    /// Another candidate is asked.
    Next,
    /// The refusal goes to the client as it is: its request is at fault.
    ReturnAsIs,
    /// The same candidate is asked once more, without the injected `stream_options`.
    WithoutStreamOptions,
    /// Nobody is asked any more.
    Stop,
}

/// Whose circuit an outcome counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's.
    Nobody,
    /// That of this model at this provider.
    Offer,
    /// That of the provider's connections.
    Provider,
    /// Nobody's: the fault is this machine's, and says nothing of the provider.
    ThisMachine,
}

/// How far something reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This model at this provider.
    Offer,
    /// All models of this provider.
    Provider,
}

/// Whether the same candidate may be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retryable {
    /// Asking again would change nothing.
    Never,
    /// After a pause, when nobody else is left.
    WhenAlone,
}

/// What a sole candidate's last failure was, for the answer that the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answered with a status and perhaps a body, which are passed on.
    Answered,
    /// It did not answer.
    NoAnswer,
    /// It did not answer in time.
    TimedOut,
    /// Its answer was no good.
    BadAnswer,
}

/// How long a provider or model that refused for reasons of its own is left out while others can serve.
pub const SUSPENSION: Duration = Duration::from_secs(60);

impl Verdict {
    /// The table of outcomes.
    #[must_use]
    pub fn of(outcome: &AttemptOutcome) -> Self {
        match outcome {
            AttemptOutcome::Good { .. } => Self::new(Action::Accept),
            AttemptOutcome::ErrorResponse(response) => Self::of_error_response(response),
            AttemptOutcome::Connect(ConnectError::NoSocket) => Self {
                blame: Blame::ThisMachine,
                ..Self::busy(None)
            },
            AttemptOutcome::Connect(_) => Self {
                blame: Blame::Provider,
                ..Self::new(Action::Next)
            },
            AttemptOutcome::Timeout(TimeoutKind::Total) | AttemptOutcome::Cancelled => {
                Self::new(Action::Stop)
            }
            AttemptOutcome::Closed | AttemptOutcome::Cut => Self {
                quick: true,
                ..Self::broken()
            },
            AttemptOutcome::Timeout(_)
            | AttemptOutcome::Empty
            | AttemptOutcome::NotSse
            | AttemptOutcome::BadJson
            | AttemptOutcome::NoResult => Self::broken(),
            AttemptOutcome::ErrorEvent(error) => Self::of_error_event(error),
            AttemptOutcome::Oversized => Self::new(Action::Next),
        }
    }

    fn of_error_response(response: &ErrorResponse) -> Self {
        match response.status {
            400 | 422 if response.rejects_stream_options() => {
                Self::new(Action::WithoutStreamOptions)
            }
            400 if response.is_context_overflow() => Self::new(Action::Next),
            400 if response.denies_model() => Self::suspended(Scope::Offer),
            413 if response.is_throttle() => Self {
                congested: true,
                ..Self::busy(response.retry_after)
            },
            400 | 413 | 415 | 422 => Self::new(Action::ReturnAsIs),
            401 | 402 => Self::suspended(Scope::Provider),
            403 | 404 => Self::suspended(Scope::Offer),
            429 if is_quota(response.code.as_deref(), response.kind.as_deref()) => {
                Self::suspended(Scope::Provider)
            }
            429 => Self {
                congested: true,
                ..Self::busy(response.retry_after)
            },
            409 => Self::busy(None),
            503 => Self {
                blame: Blame::Offer,
                ..Self::busy(response.retry_after)
            },
            408 | 500..=599 => Self {
                blame: Blame::Offer,
                quick: response.status == 500,
                ..Self::busy(None)
            },
            300..=399 => Self {
                operator: true,
                ..Self::new(Action::Next)
            },
            _ => Self::new(Action::Next),
        }
    }

    /// An error inside a success means what its code says, except that the client never sees it and that it is not
    /// worth a second try.
    fn of_error_event(error: &ErrorEvent) -> Self {
        let (code, kind) = (error.code.as_deref(), error.kind.as_deref());
        let number = code.and_then(|code| code.parse::<u16>().ok());
        if is_overflow(code, kind, error.message.as_deref()) {
            return Self::new(Action::Next);
        }
        if is_quota(code, kind) {
            return Self::suspended(Scope::Provider);
        }
        match number {
            Some(401 | 402) => Self::suspended(Scope::Provider),
            Some(403 | 404) => Self::suspended(Scope::Offer),
            Some(429) => Self::throttled(),
            None if [code, kind].iter().flatten().any(|word| is_throttle(word)) => {
                Self::throttled()
            }
            Some(400 | 409 | 413 | 415 | 422) => Self::new(Action::Next),
            _ => Self::broken(),
        }
    }

    const fn new(action: Action) -> Self {
        Self {
            action,
            blame: Blame::Nobody,
            suspend: None,
            cooldown: None,
            retryable: Retryable::Never,
            quick: false,
            operator: false,
            congested: false,
        }
    }

    const fn broken() -> Self {
        Self {
            blame: Blame::Offer,
            ..Self::new(Action::Next)
        }
    }

    const fn suspended(scope: Scope) -> Self {
        Self {
            suspend: Some(scope),
            operator: true,
            ..Self::new(Action::Next)
        }
    }

    const fn throttled() -> Self {
        Self {
            congested: true,
            ..Self::new(Action::Next)
        }
    }

    fn busy(retry_after: Option<Duration>) -> Self {
        Self {
            cooldown: retry_after,
            retryable: Retryable::WhenAlone,
            quick: retry_after.is_some_and(|wait| wait <= QUICK_WAIT),
            ..Self::new(Action::Next)
        }
    }
}

impl AttemptOutcome {
    /// One word for tables and metrics: `status`, `timeout`, `connect`, …
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Good { .. } => "good",
            Self::ErrorResponse(_) => "status",
            Self::Connect(ConnectError::Refused) => "connect",
            Self::Connect(ConnectError::Tls) => "tls",
            Self::Connect(ConnectError::Dns) => "dns",
            Self::Connect(ConnectError::Timeout) => "connect_timeout",
            Self::Connect(ConnectError::NoSocket) => "no_socket",
            Self::Timeout(_) => "timeout",
            Self::Closed => "closed",
            Self::Cut => "cut",
            Self::Empty => "empty",
            Self::NotSse => "not_sse",
            Self::BadJson => "bad_json",
            Self::NoResult => "no_result",
            Self::ErrorEvent(_) => "error_event",
            Self::Oversized => "too_large",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status, where the provider answered with one that counts.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Good { status } | Self::ErrorResponse(ErrorResponse { status, .. }) => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// The reason in words, for a log line or an error message; quotes codes, never a message or a body.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::Good { status } => format!("answered {status}").into(),
            Self::ErrorResponse(response) => named(
                format!("answered {}", response.status),
                [&response.code, &response.kind],
            ),
            Self::Connect(ConnectError::Refused) => "could not be reached".into(),
            Self::Connect(ConnectError::Tls) => "no TLS connection came about".into(),
            Self::Connect(ConnectError::Dns) => "its host name has no address".into(),
            Self::Connect(ConnectError::Timeout) => "did not connect in time".into(),
            Self::Connect(ConnectError::NoSocket) => {
                "could not be asked, because arbstr has no files left to open".into()
            }
            Self::Timeout(TimeoutKind::FirstEvent) => "sent no first event in time".into(),
            Self::Timeout(TimeoutKind::Response) => "did not answer in time".into(),
            Self::Timeout(TimeoutKind::Idle) => "fell silent".into(),
            Self::Timeout(TimeoutKind::Total) => "the time for the request ran out".into(),
            Self::Closed => "closed the connection before it had answered".into(),
            Self::Cut => "broke off in the middle of its answer".into(),
            Self::Empty => "answered with nothing".into(),
            Self::NotSse => "answered with something that is not a stream".into(),
            Self::BadJson => "answered with something that is not JSON".into(),
            Self::NoResult => "answered with JSON that has no result in it".into(),
            Self::ErrorEvent(error) => named(
                "answered with an error".to_owned(),
                [&error.code, &error.kind],
            ),
            Self::Oversized => "answered with more than can be held".into(),
            Self::Cancelled => "the client left first".into(),
        }
    }

    /// What it is to the client of a sole candidate.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::ErrorResponse(ErrorResponse { status, .. }) if *status >= 400 => {
                Failure::Answered
            }
            Self::Timeout(_) | Self::Connect(ConnectError::Timeout) => Failure::TimedOut,
            Self::Connect(_) | Self::Closed | Self::Cancelled => Failure::NoAnswer,
            _ => Failure::BadAnswer,
        }
    }

    /// Whether the request was too long for this candidate.
    #[must_use]
    pub fn is_context_overflow(&self) -> bool {
        matches!(self, Self::ErrorResponse(response) if response.is_context_overflow())
    }
}

impl AttemptOutcome {
    /// As [`Display`](fmt::Display) writes it; the usual ones take no memory.
    #[must_use]
    pub fn word(&self) -> Cow<'static, str> {
        match self.status() {
            Some(200) => Cow::Borrowed("status=200"),
            _ => Cow::Owned(self.to_string()),
        }
    }
}

impl fmt::Display for AttemptOutcome {
    /// As a structured-fields parameter: `status=429`, `error=timeout`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status() {
            // By far the most, and each is written more than once.
            Some(200) => f.write_str("status=200"),
            Some(status) => write!(f, "status={status}"),
            None => write!(f, "error={}", self.kind()),
        }
    }
}

impl ErrorResponse {
    fn rejects_stream_options(&self) -> bool {
        let names = |text: &Option<String>| {
            text.as_deref().is_some_and(|text| {
                text.contains("stream_options") || text.contains("include_usage")
            })
        };
        self.injected_stream_options && (names(&self.param) || names(&self.message))
    }

    /// Whether it says, with the status of a bad request, that it does not have the model: its model list is at fault.
    fn denies_model(&self) -> bool {
        let words = [self.code.as_deref(), self.kind.as_deref()];
        words
            .into_iter()
            .flatten()
            .any(|word| matches!(word, "model_not_found" | "invalid_model"))
    }

    /// Whether it means too many tokens a minute, as Groq's 413 does, and not a body too large.
    fn is_throttle(&self) -> bool {
        let words = [self.code.as_deref(), self.kind.as_deref()];
        words.into_iter().flatten().any(is_throttle)
    }

    fn is_context_overflow(&self) -> bool {
        let Self {
            code,
            kind,
            message,
            ..
        } = self;
        self.status == 400 && is_overflow(code.as_deref(), kind.as_deref(), message.as_deref())
    }
}

/// The longest `Retry-After` for which the same provider may come before the next candidate.
const QUICK_WAIT: Duration = Duration::from_secs(3);

/// By code or type (OpenAI's, llama.cpp's), or by the phrase that servers without either use (vLLM and others, Anthropic).
fn is_overflow(code: Option<&str>, kind: Option<&str>, message: Option<&str>) -> bool {
    let is_named = [code, kind].into_iter().flatten().any(|word| {
        matches!(
            word,
            "context_length_exceeded" | "exceed_context_size_error"
        )
    });
    let phrases = ["maximum context length", "prompt is too long"];
    is_named || message.is_some_and(|text| phrases.iter().any(|phrase| text.contains(phrase)))
}

fn is_quota(code: Option<&str>, kind: Option<&str>) -> bool {
    [code, kind].contains(&Some("insufficient_quota"))
}

fn is_throttle(word: &str) -> bool {
    matches!(
        word,
        "rate_limit_exceeded" | "rate_limit_error" | "rate_limit" | "overloaded_error"
    )
}

fn named(start: String, names: [&Option<String>; 2]) -> Cow<'static, str> {
    let name = names.into_iter().flatten().find(|name| is_plain(name));
    match name {
        Some(name) => format!("{start} ({name})").into(),
        None => start.into(),
    }
}

/// Codes come from a provider and go into logs and messages: only what looks like one does.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
