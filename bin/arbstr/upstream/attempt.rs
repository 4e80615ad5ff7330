//! One attempt at one provider: from the request to an answer the client may see, or to the reason why not.
//!
//! Nothing of it reaches the client before it is known to be good: a JSON answer is read whole, a
//! stream is read to its first event.

use std::time::{Duration, Instant};

use arbstr_wire::{Answer, Endpoint, FirstEvent, Rewriter, usage_in};
use bytes::{Bytes, BytesMut};
use hyper::header::{self, HeaderMap, HeaderValue};
use tokio::time::timeout_at;

use super::client::{OutgoingRequest, Response};
use super::error::{AttemptError, AttemptErrorKind};
use super::headers::Fields;
use super::{Body, OpenedStream, ResponseHead, Upstream};
use crate::{clock, due};

/// One request to one provider.
pub(crate) struct Call<'a> {
    /// Whom to ask.
    pub(crate) upstream: &'a Upstream,
    /// Which API.
    pub(crate) endpoint: Endpoint,
    /// The client's headers, of which the listed ones go along.
    pub(crate) client_headers: &'a HeaderMap,
    /// The body as this provider gets it.
    pub(crate) body: Bytes,
    /// What writes its stream for the client; `None` when none was asked for.
    pub(crate) stream: Option<Box<Rewriter>>,
    /// How long each part may take.
    pub(crate) limits: Limits,
    /// When that begins.
    pub(crate) sent_at: Instant,
}

/// How long each part of an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the sending to the response head, or for a stream to its first event.
    pub(crate) first: Duration,
    /// How far comments before the first event may extend that wait, counted from the sending.
    pub(crate) extended: Duration,
    /// Between two reads of a JSON answer, which may take its time.
    pub(crate) pause: Duration,
    /// The end of the whole request, if it has one.
    pub(crate) until: Option<Instant>,
}

/// An answer that the client may see.
pub(crate) enum GoodAnswer {
    /// A JSON answer, read whole: its bytes, decoded, and what they say.
    Whole(ResponseHead, Bytes, Answer),
    /// A stream whose first event is good.
    Stream(ResponseHead, Box<OpenedStream>),
}

impl GoodAnswer {
    /// Its head.
    pub(crate) fn head(&self) -> &ResponseHead {
        match self {
            Self::Whole(head, ..) | Self::Stream(head, _) => head,
        }
    }
}

/// Asks the provider once.
///
/// # Errors
/// Why the client must not see what came.
pub(crate) async fn attempt(call: &mut Call<'_>) -> Result<GoodAnswer, AttemptError> {
    let rewriter = call.stream.take();
    let due = call.limits.bounded(call.sent_at + call.limits.first);
    let response = match timeout_at(due.into(), send(call)).await {
        Ok(sent) => sent?,
        Err(_) => {
            return Err(AttemptError::new(
                call.limits.lost(AttemptErrorKind::FirstTimeout),
            ));
        }
    };
    let mut head = ResponseHead {
        status: response.status,
        headers: response.headers,
        first_byte: clock::now(),
    };
    let body = Body::new(&head.headers, response.body);
    if !head.status.is_success() {
        return Err(Box::pin(refused(call, head, body.ok())).await);
    }
    let mut body = match body {
        Ok(body) => body,
        Err(coding) => {
            return Err(AttemptError::answered(
                head,
                AttemptErrorKind::Coding(coding),
            ));
        }
    };
    let mut content = content(&head.headers);
    if content == Content::Unsaid && rewriter.is_some() {
        content = match timeout_at(due.into(), Box::pin(body.begins_as_event_stream())).await {
            Ok(true) => {
                let kind = HeaderValue::from_static("text/event-stream");
                head.headers.insert(header::CONTENT_TYPE, kind);
                Content::EventStream
            }
            Ok(false) => Content::Json,
            Err(_) => {
                let kind = call.limits.lost(AttemptErrorKind::FirstTimeout);
                return Err(AttemptError::answered(head, kind));
            }
        };
    }
    match (content, rewriter) {
        (Content::EventStream, Some(rewriter)) => open_stream(call, rewriter, head, body).await,
        // A provider that knows no streaming may answer a streaming request with one JSON completion. And without a
        // stream the bytes decide.
        (Content::Json | Content::Unsaid, _) | (Content::Other(_), None) => {
            whole(call, head, body).await
        }
        (Content::EventStream, None) => Err(AttemptError::answered(
            head,
            AttemptErrorKind::UnexpectedStream,
        )),
        (Content::Other(kind), Some(_)) => Err(AttemptError::answered(
            head,
            AttemptErrorKind::WrongContent(kind),
        )),
    }
}

impl Limits {
    fn bounded(&self, due: Instant) -> Instant {
        self.until.map_or(due, |until| until.min(due))
    }

    /// When a body that begins to be waited for now must have gone on.
    fn pause_ends(&self) -> Instant {
        self.bounded(clock::now() + self.pause)
    }

    /// What to call a limit that was passed: the end of the whole request is not the provider's fault.
    fn lost(&self, kind: AttemptErrorKind) -> AttemptErrorKind {
        if self.until.is_some_and(|until| clock::now() >= until) {
            AttemptErrorKind::TotalTimeout
        } else {
            kind
        }
    }
}

async fn send(call: &Call<'_>) -> Result<Response, AttemptError> {
    let client = &call.upstream.client;
    let error = match client.send(request(call)).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    if !error.is_stale {
        return Err(AttemptError::unsent(&error));
    }
    // The connection was idle and may have been closed under the request: that says nothing about the provider yet.
    Box::pin(client.send_fresh(request(call)))
        .await
        .map_err(|error| AttemptError::unsent(&error))
}

fn request<'a>(call: &'a Call<'_>) -> OutgoingRequest<'a> {
    OutgoingRequest {
        target: call.upstream.target(call.endpoint),
        fields: Fields::passed_on(call.client_headers, &call.upstream.headers),
        body: &call.body,
    }
}

async fn whole(
    call: &Call<'_>,
    head: ResponseHead,
    mut body: Body,
) -> Result<GoodAnswer, AttemptError> {
    let bytes = match read_to(&mut body, call.limits, ANSWER_BYTES).await {
        Ok(bytes) => bytes,
        Err(kind) => return Err(AttemptError::answered(head, kind)),
    };
    match Answer::read(call.endpoint, &bytes) {
        Ok(answer) if answer.has_result => Ok(GoodAnswer::Whole(head, bytes, answer)),
        Ok(answer) => {
            Err(AttemptError::answered(head, AttemptErrorKind::NoResult).having_used(answer.usage))
        }
        Err(error) => Err(
            AttemptError::answered(head, AttemptErrorKind::BadAnswer(error))
                .having_used(usage_in(&bytes)),
        ),
    }
}

async fn open_stream(
    call: &Call<'_>,
    mut rewriter: Box<Rewriter>,
    head: ResponseHead,
    mut body: Body,
) -> Result<GoodAnswer, AttemptError> {
    let (limits, sent_at) = (call.limits, call.sent_at);
    let mut due = limits.bounded(sent_at + limits.first);
    let mut held = HeldBack::default();
    loop {
        let chunk = match due::before(|| due, body.chunk()).await {
            None => {
                return Err(AttemptError::answered(
                    head,
                    limits.lost(AttemptErrorKind::FirstTimeout),
                ));
            }
            Some(Some(Err(error))) => {
                return Err(AttemptError::answered(
                    head,
                    AttemptErrorKind::StreamBroken(error),
                ));
            }
            Some(None) => return Err(AttemptError::answered(head, AttemptErrorKind::NoEvent)),
            Some(Some(Ok(chunk))) => chunk,
        };
        let bytes = rewriter.push(chunk);
        let first = rewriter.first_event();
        held.add(&bytes, first);
        match first {
            FirstEvent::None => {
                let extended = (clock::now() + limits.first).min(sent_at + limits.extended);
                due = due.max(limits.bounded(extended));
            }
            FirstEvent::Good => break,
            FirstEvent::Error => {
                let seen = rewriter.observation();
                let kind = AttemptErrorKind::ErrorEvent(seen.error.cloned());
                return Err(AttemptError::answered(head, kind).having_used(seen.usage));
            }
            FirstEvent::Done => {
                return Err(AttemptError::answered(head, AttemptErrorKind::NoEvent));
            }
        }
    }
    let opened = OpenedStream {
        body,
        rewriter,
        released: held.bytes.freeze(),
    };
    Ok(GoodAnswer::Stream(head, Box::new(opened)))
}

/// What may go to the client once the attempt is good. Before the first event that is comments, which say nothing new
/// once there are many of them: then whole lines of them are left out.
#[derive(Default)]
struct HeldBack {
    bytes: BytesMut,
    /// The last byte of what was left out.
    left_out: Option<u8>,
}

impl HeldBack {
    fn add(&mut self, bytes: &[u8], first: FirstEvent) {
        let is_room = self.left_out.is_none() && self.bytes.len() + bytes.len() <= HELD_BYTES;
        if first != FirstEvent::None {
            self.bytes
                .extend_from_slice(&bytes[self.rest_of_line(bytes)..]);
        } else if is_room {
            self.bytes.extend_from_slice(bytes);
        } else if let Some(last) = bytes.last() {
            let whole = memchr::memrchr2(b'\r', b'\n', &self.bytes).map_or(0, |end| end + 1);
            self.bytes.truncate(whole);
            self.left_out = Some(*last);
        }
    }

    /// How many of the bytes that come next end a line of which the beginning was left out.
    fn rest_of_line(&self, next: &[u8]) -> usize {
        let end = match self.left_out {
            None | Some(b'\n') => return 0,
            Some(b'\r') => 0,
            Some(_) => match memchr::memchr2(b'\r', b'\n', next) {
                Some(at) if next[at] == b'\r' => at + 1,
                Some(at) => at,
                None => next.len(),
            },
        };
        end + usize::from(next.get(end) == Some(&b'\n'))
    }
}

/// A status that is not a success: its body, as far as it can be read, goes along with the error.
async fn refused(call: &Call<'_>, head: ResponseHead, body: Option<Body>) -> AttemptError {
    let limits = Limits {
        until: Some(call.limits.bounded(clock::now() + ERROR_BODY_TIME)),
        ..call.limits
    };
    let body = match body {
        Some(mut body) => read_some(&mut body, limits, ERROR_BYTES).await,
        None => Bytes::new(),
    };
    AttemptError::answered(head, AttemptErrorKind::Status).having_said(body)
}

/// Reads a body that must be complete.
async fn read_to(body: &mut Body, limits: Limits, most: usize) -> Result<Bytes, AttemptErrorKind> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        match due::before(|| limits.pause_ends(), body.chunk()).await {
            None => return Err(limits.lost(AttemptErrorKind::PauseTimeout)),
            Some(Some(Err(error))) => return Err(AttemptErrorKind::Broken(error)),
            Some(None) if all.is_empty() => return Ok(first),
            Some(None) => return Ok(all.freeze()),
            Some(Some(Ok(chunk))) if first.is_empty() => first = chunk,
            Some(Some(Ok(chunk))) => {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&chunk);
            }
        }
        if first.len().max(all.len()) > most {
            return Err(AttemptErrorKind::TooLarge(most));
        }
    }
}

/// Reads what there is of a body, up to `most` bytes; an error ends it.
async fn read_some(body: &mut Body, limits: Limits, most: usize) -> Bytes {
    let mut all = BytesMut::new();
    while all.len() < most {
        match due::before(|| limits.pause_ends(), body.chunk()).await {
            Some(Some(Ok(chunk))) => all.extend_from_slice(&chunk),
            _ => break,
        }
    }
    all.truncate(most);
    all.freeze()
}

/// What a provider calls its answer.
#[derive(PartialEq)]
enum Content {
    EventStream,
    Json,
    /// Nothing, or what servers say that do not know: the bytes decide.
    Unsaid,
    Other(String),
}

fn content(headers: &HeaderMap) -> Content {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Content::Unsaid;
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is = |kind: &str| essence.eq_ignore_ascii_case(kind);
    let is_suffixed = || {
        let suffix = essence.rsplit_once('+').map(|(_, suffix)| suffix);
        suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
    };
    if essence.is_empty() || is("text/plain") || is("application/octet-stream") {
        Content::Unsaid
    } else if is("application/json") || is("text/json") || is_suffixed() {
        Content::Json
    } else if is("text/event-stream") {
        Content::EventStream
    } else {
        Content::Other(essence.to_ascii_lowercase())
    }
}

/// The largest JSON answer that is read; batches of embeddings are the largest in use.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// What is kept of a provider's error.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);
const HELD_BYTES: usize = 64 * 1024;
