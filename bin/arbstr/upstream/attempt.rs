//! One attempt at one provider: from the request to an answer the client may see, or to the reason why not.
//!
//! Nothing of it reaches the client before it is known to be good (SPEC section 5): a JSON answer is read whole, a
//! stream is read to its first event.

use std::time::{Duration, Instant};

use arbstr_wire::{Answer, Endpoint, FirstEvent, Rewriter};
use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use tokio::time::timeout_at;

use super::fault::{Miss, MissKind};
use super::{Body, Upstream, headers};
use crate::clock;

/// One request to one provider.
#[derive(Debug)]
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
    pub(crate) stream: Option<Rewriter>,
    /// How long each part may take.
    pub(crate) limits: Limits,
}

/// How long each part of an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Until the response head, or for a stream until its first event.
    pub(crate) first: Duration,
    /// Whether comments before the first event extend that wait.
    pub(crate) comments_extend: bool,
    /// Between two reads of a JSON answer, which may take its time.
    pub(crate) pause: Duration,
    /// The end of the whole request, if it has one.
    pub(crate) until: Option<Instant>,
}

/// An answer that the client may see.
pub(crate) enum Good {
    /// A JSON answer, read whole.
    Whole {
        /// Its head.
        head: Parts,
        /// Its bytes, decoded.
        body: Bytes,
        /// What it says of itself.
        answer: Answer,
        /// When its first byte came.
        first_byte: Instant,
    },
    /// A stream whose first event is good.
    Stream {
        /// Its head.
        head: Parts,
        /// What is still to come.
        body: Body,
        /// The machine that reads and writes it.
        rewriter: Box<Rewriter>,
        /// What may go to the client already.
        released: Bytes,
        /// When its first byte came.
        first_byte: Instant,
    },
}

impl Good {
    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Whole { head, .. } | Self::Stream { head, .. } => head.status.as_u16(),
        }
    }
}

/// Asks the provider once.
///
/// # Errors
/// Why the client must not see what came.
pub(crate) async fn attempt(mut call: Call<'_>) -> Result<Good, Miss> {
    let rewriter = call.stream.take();
    let call = &call;
    let sent_at = clock::now();
    let first_due = call.limits.first_due(sent_at);
    let response = timeout_at(first_due.into(), send(call))
        .await
        .map_err(|_| Miss::new(MissKind::FirstTimeout))??;
    let first_byte = clock::now();
    let (head, incoming) = response.into_parts();
    let body = Body::new(&head.headers, incoming)
        .map_err(|coding| Miss::answered(&head, MissKind::Coding(coding)))?;
    if !head.status.is_success() {
        return Err(refused(call, head, body).await);
    }
    match (content(&head.headers), rewriter) {
        (Content::EventStream | Content::Unsaid, Some(rewriter)) => {
            open_stream(call, rewriter, (head, body, first_byte)).await
        }
        // A provider that knows no streaming may answer a streaming request with one JSON completion.
        // Without a stream the bytes decide: some providers call their JSON text.
        (Content::Json, _) | (Content::Unsaid | Content::Other(_), None) => {
            whole(call, head, body, first_byte).await
        }
        (Content::EventStream, None) => Err(Miss::answered(&head, MissKind::UnexpectedStream)),
        (Content::Other(kind), Some(_)) => Err(Miss::answered(&head, MissKind::WrongContent(kind))),
    }
}

impl Limits {
    fn first_due(&self, now: Instant) -> Instant {
        self.bounded(now + self.first)
    }

    fn pause_due(&self, now: Instant) -> Instant {
        self.bounded(now + self.pause)
    }

    fn bounded(&self, due: Instant) -> Instant {
        self.until.map_or(due, |until| until.min(due))
    }
}

async fn send(call: &Call<'_>) -> Result<Response<Incoming>, Miss> {
    let client = &call.upstream.client;
    let fault = match client.send(request(call)).await {
        Ok(response) => return Ok(response),
        Err(fault) => fault,
    };
    if !fault.reused {
        return Err(Miss::unsent(&fault));
    }
    // The connection was idle and may have been closed under the request: that says nothing about the provider yet.
    client
        .send_fresh(request(call))
        .await
        .map_err(|fault| Miss::unsent(&fault))
}

fn request(call: &Call<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = call.upstream.uri(call.endpoint);
    *request.headers_mut() = headers::upstream_headers(call.client_headers, &call.upstream.headers);
    request
}

async fn whole(
    call: &Call<'_>,
    head: Parts,
    mut body: Body,
    first_byte: Instant,
) -> Result<Good, Miss> {
    let recoded = body.is_recoded();
    let bytes = match read_to(&mut body, call.limits, ANSWER_BYTES).await {
        Ok(bytes) => bytes,
        Err(kind) => return Err(Miss::answered(&head, kind)),
    };
    match Answer::read(call.endpoint, &bytes) {
        Ok(answer) if answer.has_result => {
            let mut head = head;
            head.headers = headers::client_headers(&head.headers, recoded);
            Ok(Good::Whole {
                head,
                body: bytes,
                answer,
                first_byte,
            })
        }
        Ok(_) => Err(Miss::answered(&head, MissKind::NoResult)),
        Err(error) => Err(Miss::answered(&head, MissKind::BadAnswer(error))),
    }
}

async fn open_stream(
    call: &Call<'_>,
    mut rewriter: Rewriter,
    (mut head, mut body, first_byte): (Parts, Body, Instant),
) -> Result<Good, Miss> {
    let mut released = BytesMut::new();
    let mut due = call.limits.first_due(first_byte);
    loop {
        let chunk = match timeout_at(due.into(), body.chunk()).await {
            Err(_) => return Err(Miss::answered(&head, MissKind::FirstTimeout)),
            Ok(Some(Err(fault))) => return Err(Miss::answered(&head, MissKind::Broken(fault))),
            Ok(None) => return Err(Miss::answered(&head, MissKind::NoEvent)),
            Ok(Some(Ok(chunk))) => chunk,
        };
        let bytes = rewriter.push(chunk);
        let first = rewriter.first_event();
        hold(&mut released, &bytes, first);
        match first {
            FirstEvent::None if call.limits.comments_extend => {
                due = call.limits.first_due(clock::now())
            }
            FirstEvent::None => {}
            FirstEvent::Good => break,
            FirstEvent::Fault => {
                let fault = rewriter.observation().fault.cloned();
                return Err(Miss::answered(&head, MissKind::ErrorEvent(fault)));
            }
            _ => return Err(Miss::answered(&head, MissKind::NoEvent)),
        }
    }
    head.headers = headers::client_headers(&head.headers, true);
    Ok(Good::Stream {
        head,
        body,
        rewriter: Box::new(rewriter),
        released: released.freeze(),
        first_byte,
    })
}

/// Keeps what may go to the client once the attempt is good. Before the first event that is comments, which say nothing
/// new once there are many of them.
fn hold(released: &mut BytesMut, bytes: &Bytes, first: FirstEvent) {
    if first != FirstEvent::None || released.len() + bytes.len() <= HELD_BYTES {
        released.extend_from_slice(bytes);
    }
}

/// A status that is not a success: its body, as far as it is read, goes along with the miss.
async fn refused(call: &Call<'_>, head: Parts, mut body: Body) -> Miss {
    let limits = Limits {
        until: Some(call.limits.bounded(clock::now() + FAULT_BODY_TIME)),
        ..call.limits
    };
    let bytes = read_some(&mut body, limits, FAULT_BYTES).await;
    Miss {
        body: bytes,
        ..Miss::answered(&head, MissKind::Status)
    }
}

/// Reads a body that must be complete.
async fn read_to(body: &mut Body, limits: Limits, most: usize) -> Result<Bytes, MissKind> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        match timeout_at(limits.pause_due(clock::now()).into(), body.chunk()).await {
            Err(_) => return Err(MissKind::PauseTimeout),
            Ok(Some(Err(fault))) => return Err(MissKind::Broken(fault)),
            Ok(None) if all.is_empty() => return Ok(first),
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(Ok(chunk))) if first.is_empty() => first = chunk,
            Ok(Some(Ok(chunk))) => {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&chunk);
            }
        }
        if first.len().max(all.len()) > most {
            return Err(MissKind::TooLarge(most));
        }
    }
}

/// Reads what there is of a body, up to `most` bytes; an error ends it.
async fn read_some(body: &mut Body, limits: Limits, most: usize) -> Bytes {
    let mut all = BytesMut::new();
    while all.len() < most {
        match timeout_at(limits.pause_due(clock::now()).into(), body.chunk()).await {
            Ok(Some(Ok(chunk))) => all.extend_from_slice(&chunk),
            _ => break,
        }
    }
    all.truncate(most);
    all.freeze()
}

enum Content {
    EventStream,
    Json,
    Unsaid,
    Other(String),
}

fn content(headers: &HeaderMap) -> Content {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Content::Unsaid;
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => Content::EventStream,
        "" => Content::Unsaid,
        kind if kind == "application/json" || kind.ends_with("+json") || kind == "text/json" => {
            Content::Json
        }
        _ => Content::Other(essence),
    }
}

/// The largest JSON answer that is read; batches of embeddings are the largest in use.
const ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// What is kept of a provider's error.
const FAULT_BYTES: usize = 64 * 1024;
const FAULT_BODY_TIME: Duration = Duration::from_secs(5);
const HELD_BYTES: usize = 64 * 1024;
