//! Why an attempt gave nothing the client may see, and what of it is worth keeping.
//!
//! The reason is data: [`Miss::outcome`] says it in the words of `route`, which decides what follows from it. The
//! classification looks at error types, never at their texts.

use std::error::Error;
use std::io;
use std::time::Duration;

use arbstr_route::{self as route, ConnectFault, Outcome, TimeoutKind};
use arbstr_wire::{AnswerError, Fault, Usage, usage_in};
use bytes::Bytes;
use hyper::header::{self, HeaderMap};

use super::Head;
use super::body::{BodyFault, UnknownCoding};
use super::client::SendFault;
use crate::clock;

/// An attempt without a usable answer.
#[derive(Debug)]
pub(crate) struct Miss {
    /// What went wrong.
    pub(crate) kind: MissKind,
    /// The head of the answer, if there was one.
    pub(crate) head: Option<Head>,
    /// The provider's error body, as far as it was read.
    pub(crate) body: Bytes,
    /// What the provider says it used for it all the same.
    pub(crate) usage: Option<Usage>,
}

/// What went wrong with an attempt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MissKind {
    /// No connection was made.
    #[error("no connection: {1}")]
    Connect(ConnectFault, String),
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
    /// A body that broke.
    #[error(transparent)]
    Broken(#[from] BodyFault),
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
    ErrorEvent(Option<Fault>),
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

impl MissKind {
    /// What can be said beyond the outcome's own words; a provider's message, which may quote a prompt, is left out.
    pub(crate) fn cause(&self) -> Option<String> {
        match self {
            Self::Status | Self::Cancelled | Self::ErrorEvent(_) => None,
            Self::BadAnswer(AnswerError::Fault(_)) => None,
            other => Some(other.to_string()),
        }
    }
}

impl Miss {
    /// A miss before any head.
    pub(super) fn new(kind: MissKind) -> Self {
        Self {
            kind,
            head: None,
            body: Bytes::new(),
            usage: None,
        }
    }

    /// A miss after a head.
    pub(super) fn answered(head: Head, kind: MissKind) -> Self {
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
    pub(super) fn unsent(fault: &SendFault) -> Self {
        let error: &(dyn Error + 'static) = fault.error.as_ref();
        let text = innermost(error);
        // Who resets a connection has accepted it before; how far the connecting had come by then is chance.
        let is_reset = find_source::<io::Error>(error)
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        if !fault.is_connect || is_reset {
            return Self::new(MissKind::Closed(text));
        }
        let kind = if find_source::<ConnectTimeout>(error).is_some() {
            ConnectFault::Timeout
        } else if find_source::<DnsFault>(error).is_some() {
            ConnectFault::Dns
        } else if is_tls(error) {
            ConnectFault::Tls
        } else if find_source::<io::Error>(error)
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            ConnectFault::Timeout
        } else {
            ConnectFault::Refused
        };
        Self::new(MissKind::Connect(kind, text))
    }

    /// An attempt that was broken off from this side.
    pub(crate) fn cancelled() -> Self {
        Self::new(MissKind::Cancelled)
    }

    /// The status of the answer, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status.as_u16())
    }

    /// What happened, in the words of `route`. `injected`: arbstr had added `stream_options` to this attempt.
    pub(crate) fn outcome(&self, streaming: bool, injected: bool) -> Outcome {
        match &self.kind {
            MissKind::Connect(fault, _) => Outcome::Connect(*fault),
            MissKind::Closed(_) => Outcome::Closed,
            MissKind::FirstTimeout if streaming => Outcome::Timeout(TimeoutKind::FirstEvent),
            MissKind::FirstTimeout => Outcome::Timeout(TimeoutKind::Response),
            MissKind::TotalTimeout => Outcome::Timeout(TimeoutKind::Total),
            MissKind::PauseTimeout => Outcome::Timeout(TimeoutKind::Idle),
            MissKind::Broken(BodyFault::Broken(_)) if streaming => Outcome::Closed,
            MissKind::Broken(BodyFault::Broken(_)) => Outcome::Cut,
            MissKind::NoEvent => Outcome::Empty,
            MissKind::BadAnswer(AnswerError::Empty) => Outcome::Empty,
            MissKind::BadAnswer(AnswerError::Cut { .. }) => Outcome::Cut,
            MissKind::BadAnswer(AnswerError::Fault(fault)) | MissKind::ErrorEvent(Some(fault)) => {
                Outcome::ErrorEvent(self.in_band(fault))
            }
            MissKind::ErrorEvent(None) => Outcome::ErrorEvent(route::InBand::default()),
            MissKind::WrongContent(_) => Outcome::NotSse,
            MissKind::Broken(BodyFault::Coding(_))
            | MissKind::Coding(_)
            | MissKind::UnexpectedStream
            | MissKind::NoResult
            | MissKind::BadAnswer(_)
                if streaming =>
            {
                Outcome::NotSse
            }
            MissKind::NoResult | MissKind::BadAnswer(AnswerError::NotAnObject) => Outcome::NoResult,
            MissKind::Broken(BodyFault::Coding(_))
            | MissKind::Coding(_)
            | MissKind::UnexpectedStream
            | MissKind::BadAnswer(_) => Outcome::BadJson,
            MissKind::TooLarge(_) => Outcome::Oversized,
            MissKind::Cancelled => Outcome::Cancelled,
            MissKind::Status => Outcome::Answer(self.answer(injected)),
        }
    }

    fn answer(&self, injected: bool) -> route::Answer {
        let fault = Fault::read(&self.body);
        let retry_after = self
            .head
            .as_ref()
            .and_then(|head| retry_after(&head.headers));
        let known = route::Answer {
            status: self.status().unwrap_or_default(),
            retry_after,
            injected_stream_options: injected,
            ..route::Answer::default()
        };
        match fault {
            None => known,
            Some(fault) => route::Answer {
                code: fault.code,
                kind: fault.kind,
                param: fault.param,
                message: Some(fault.message),
                ..known
            },
        }
    }

    fn in_band(&self, fault: &Fault) -> route::InBand {
        let mut in_band = route::InBand::default();
        in_band.code.clone_from(&fault.code);
        in_band.kind.clone_from(&fault.kind);
        in_band.message = Some(fault.message.clone());
        in_band
    }
}

/// No connection within the time a config gives it.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(super) struct ConnectTimeout(pub(super) Duration);

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("the name could not be looked up: {0}")]
pub(super) struct DnsFault(#[source] pub(super) io::Error);

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    route::parse_retry_after(value, clock::unix_ms() / 1000)
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

/// The last cause in the chain, which names what happened; the outer ones only say where.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_however_deep_it_is_wrapped() {
        let fault = || rustls::Error::General("no".to_owned());
        let once = io::Error::new(io::ErrorKind::InvalidData, fault());
        let twice = io::Error::other(io::Error::other(fault()));
        for error in [once, twice] {
            assert!(find_source::<rustls::Error>(&error).is_some(), "{error:?}");
        }
        let other = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(!is_tls(&other));
    }
}
