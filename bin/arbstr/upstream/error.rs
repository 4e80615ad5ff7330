//! Why an attempt gave nothing the client may see, and what of it is worth keeping.
//!
//! The reason is data: [`AttemptError::outcome`] says it in the words of `route`, which decides what follows from it. The
//! classification looks at error types, never at their texts.

use std::error::Error;
use std::fs::File;
use std::io;
use std::time::Duration;

use arbstr_route::{self as route, AttemptOutcome, ConnectError, TimeoutKind};
use arbstr_wire::{AnswerError, ErrorObject, Usage, usage_in};
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use rustix::io::Errno;

use super::ResponseHead;
use super::body::{BodyError, UnknownCoding};
use super::client::SendError;
use crate::clock;

/// An attempt without a usable answer.
#[derive(Debug)]
pub(crate) struct AttemptError {
    /// What went wrong.
    pub(crate) kind: AttemptErrorKind,
    /// The head of the answer, if there was one.
    pub(crate) head: Option<ResponseHead>,
    /// The provider's error body, as far as it was read.
    pub(crate) body: Bytes,
    /// What the provider says it used for it all the same.
    pub(crate) usage: Option<Usage>,
}

/// What went wrong with an attempt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptErrorKind {
    /// No connection was made.
    #[error("no connection: {1}")]
    Connect(ConnectError, String),
    /// The connection closed before the head of an answer.
    #[error("the connection closed before an answer: {0}")]
    Closed(String),
    /// No head, or for a stream no event, in time.
    #[error("nothing in time")]
    FirstTimeout,
    /// The time for the whole request was over.
    #[error("the time for the whole request was over")]
    TotalTimeout,
    /// A body that stopped.
    #[error("the answer stopped for longer than the response timeout")]
    PauseTimeout,
    /// A JSON answer that broke.
    #[error(transparent)]
    Broken(BodyError),
    /// A stream that broke before its first event.
    #[error(transparent)]
    StreamBroken(BodyError),
    /// A coding that cannot be read.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// A stream where JSON was asked for.
    #[error("a stream, where one JSON answer was asked for")]
    UnexpectedStream,
    /// Neither a stream nor JSON where a stream was asked for.
    #[error("content type `{0}`, where a stream was asked for")]
    WrongContent(String),
    /// A stream that ended before its first event.
    #[error("the stream ended before its first event")]
    NoEvent,
    /// A stream that began with an error.
    #[error("the first event is an error")]
    ErrorEvent(Option<ErrorObject>),
    /// JSON without choices or data.
    #[error("the answer has no result in it")]
    NoResult,
    /// JSON that is none, or an error object.
    #[error(transparent)]
    BadAnswer(#[from] AnswerError),
    /// More than is read.
    #[error("the answer is over {0} bytes")]
    TooLarge(usize),
    /// A status that is no success.
    #[error("a status that is no success")]
    Status,
    /// The client left, or the process is ending.
    #[error("broken off")]
    Cancelled,
}

impl AttemptError {
    /// An error before any head.
    pub(super) fn new(kind: AttemptErrorKind) -> Self {
        Self {
            kind,
            head: None,
            body: Bytes::new(),
            usage: None,
        }
    }

    /// An error after a head.
    pub(super) fn answered(head: ResponseHead, kind: AttemptErrorKind) -> Self {
        Self {
            head: Some(head),
            ..Self::new(kind)
        }
    }

    /// The same with what the provider used for it.
    pub(super) fn having_used(self, usage: Option<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// The same with the body that told it.
    pub(super) fn having_said(self, body: Bytes) -> Self {
        Self {
            usage: usage_in(&body),
            body,
            ..self
        }
    }

    /// A request that got no head.
    pub(super) fn unsent(failed: &SendError) -> Self {
        let error: &(dyn Error + 'static) = failed.cause.as_ref();
        let text = innermost(error);
        // Who resets a connection has accepted it before; how far the connecting had come by then is chance.
        let is_reset = find_source::<io::Error>(error)
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        if !failed.is_connect || is_reset {
            return Self::new(AttemptErrorKind::Closed(text));
        }
        let is_lookup = find_source::<DnsError>(error).is_some();
        let is_short = find_source::<io::Error>(error).is_some_and(is_out_of_sockets)
            || (is_lookup && has_no_files());
        let kind = if is_short {
            ConnectError::NoSocket
        } else if find_source::<ConnectTimeout>(error).is_some() {
            ConnectError::Timeout
        } else if is_lookup {
            ConnectError::Dns
        } else if is_tls(error) {
            ConnectError::Tls
        } else if find_source::<io::Error>(error)
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            ConnectError::Timeout
        } else {
            ConnectError::Refused
        };
        Self::new(AttemptErrorKind::Connect(kind, text))
    }

    /// An attempt that was broken off from this side.
    pub(crate) fn cancelled() -> Self {
        Self::new(AttemptErrorKind::Cancelled)
    }

    /// What can be said beyond the outcome's own words; a provider's message, which may quote a prompt, is left out.
    pub(crate) fn cause(&self) -> Option<String> {
        match &self.kind {
            AttemptErrorKind::Status => self.redirect(),
            AttemptErrorKind::Cancelled | AttemptErrorKind::ErrorEvent(_) => None,
            AttemptErrorKind::BadAnswer(AnswerError::ErrorObject(_)) => None,
            other => Some(other.to_string()),
        }
    }

    /// Where the provider says it is; arbstr goes where the config says.
    fn redirect(&self) -> Option<String> {
        let head = self.head.as_ref()?;
        let to = head.headers.get(header::LOCATION)?.to_str().ok()?;
        head.status.is_redirection().then(|| {
            format!("a redirect to {to}, which is not followed: is the provider's url right?")
        })
    }

    /// The status of the answer, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status.as_u16())
    }

    /// What happened, in the words of `route`. `injected`: arbstr had added `stream_options` to this attempt.
    pub(crate) fn outcome(&self, streaming: bool, injected: bool) -> AttemptOutcome {
        match &self.kind {
            AttemptErrorKind::Connect(error, _) => AttemptOutcome::Connect(*error),
            AttemptErrorKind::Closed(_) => AttemptOutcome::Closed,
            AttemptErrorKind::FirstTimeout if streaming => {
                AttemptOutcome::Timeout(TimeoutKind::FirstEvent)
            }
            AttemptErrorKind::FirstTimeout => AttemptOutcome::Timeout(TimeoutKind::Response),
            AttemptErrorKind::TotalTimeout => AttemptOutcome::Timeout(TimeoutKind::Total),
            AttemptErrorKind::PauseTimeout => AttemptOutcome::Timeout(TimeoutKind::Idle),
            AttemptErrorKind::StreamBroken(BodyError::Broken(_)) => AttemptOutcome::Closed,
            // Whatever was asked for: what came is the beginning of an answer.
            AttemptErrorKind::Broken(BodyError::Broken(_)) => AttemptOutcome::Cut,
            AttemptErrorKind::StreamBroken(BodyError::Coding(_)) => AttemptOutcome::NotSse,
            AttemptErrorKind::NoEvent => AttemptOutcome::Empty,
            AttemptErrorKind::BadAnswer(AnswerError::Empty) => AttemptOutcome::Empty,
            AttemptErrorKind::BadAnswer(AnswerError::Cut { .. }) => AttemptOutcome::Cut,
            AttemptErrorKind::BadAnswer(AnswerError::ErrorObject(error))
            | AttemptErrorKind::ErrorEvent(Some(error)) => {
                AttemptOutcome::ErrorEvent(self.error_event(error))
            }
            AttemptErrorKind::ErrorEvent(None) => {
                AttemptOutcome::ErrorEvent(route::ErrorEvent::default())
            }
            AttemptErrorKind::WrongContent(_) => AttemptOutcome::NotSse,
            AttemptErrorKind::Broken(BodyError::Coding(_))
            | AttemptErrorKind::Coding(_)
            | AttemptErrorKind::UnexpectedStream
            | AttemptErrorKind::NoResult
            | AttemptErrorKind::BadAnswer(_)
                if streaming =>
            {
                AttemptOutcome::NotSse
            }
            AttemptErrorKind::NoResult | AttemptErrorKind::BadAnswer(AnswerError::NotAnObject) => {
                AttemptOutcome::NoResult
            }
            AttemptErrorKind::Broken(BodyError::Coding(_))
            | AttemptErrorKind::Coding(_)
            | AttemptErrorKind::UnexpectedStream
            | AttemptErrorKind::BadAnswer(_) => AttemptOutcome::BadJson,
            AttemptErrorKind::TooLarge(_) => AttemptOutcome::Oversized,
            AttemptErrorKind::Cancelled => AttemptOutcome::Cancelled,
            AttemptErrorKind::Status => {
                AttemptOutcome::ErrorResponse(self.error_response(injected))
            }
        }
    }

    fn error_response(&self, injected: bool) -> route::ErrorResponse {
        let error = ErrorObject::read(&self.body);
        let retry_after = self
            .head
            .as_ref()
            .and_then(|head| retry_after(&head.headers));
        let known = route::ErrorResponse {
            status: self.status().unwrap_or_default(),
            retry_after,
            injected_stream_options: injected,
            ..route::ErrorResponse::default()
        };
        match error {
            None => known,
            Some(error) => route::ErrorResponse {
                code: error.code,
                kind: error.kind,
                param: error.param,
                message: Some(error.message),
                ..known
            },
        }
    }

    fn error_event(&self, error: &ErrorObject) -> route::ErrorEvent {
        let mut event = route::ErrorEvent::default();
        event.code.clone_from(&error.code);
        event.kind.clone_from(&error.kind);
        event.message = Some(error.message.clone());
        event
    }
}

/// No connection within the time a config gives it.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(super) struct ConnectTimeout(pub(super) Duration);

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("the name could not be looked up: {0}")]
pub(super) struct DnsError(#[source] pub(super) io::Error);

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    text(&RETRY_AFTER_MS)
        .and_then(route::parse_retry_after_ms)
        .or_else(|| route::parse_retry_after(text(&header::RETRY_AFTER)?, clock::unix_ms() / 1000))
}

/// The first error of type `T` among an error and its causes.
pub(super) fn find_source<'a, T: Error + 'static>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // `source` of an `io::Error` passes over the error that it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    find_source::<rustls::Error>(error).is_some()
        || find_source::<io::Error>(error)
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// Whether this machine, not the provider, is why there is no connection. An address that is not available is none of it:
/// that is also said of any IPv6 address where there is no IPv6, after IPv4 was refused.
fn is_out_of_sockets(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// A lookup of a name opens files itself, and does not say when it could not.
fn has_no_files() -> bool {
    File::open("/dev/null").is_err_and(|error| is_out_of_sockets(&error))
}

/// The last cause in the chain, which names what happened; the outer ones only say where.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Finer than `Retry-After`, which comes beside it; OpenAI and Azure send it.
static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_however_deep_it_is_wrapped() {
        let error = || rustls::Error::General("no".to_owned());
        let once = io::Error::new(io::ErrorKind::InvalidData, error());
        let twice = io::Error::other(io::Error::other(error()));
        for error in [once, twice] {
            assert!(find_source::<rustls::Error>(&error).is_some(), "{error:?}");
        }
        let other = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(!is_tls(&other));
    }
}
