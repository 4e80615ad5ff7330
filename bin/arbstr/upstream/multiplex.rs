//! HTTP/2 connections to one provider: many requests on each, and another connection before one is full.
//!
//! A provider says how many streams it takes at once on a connection (RFC 9113, section 5.1.2), usually 100. What is sent
//! beyond waits inside the connection, unseen, and would look like a provider that is slow to answer. So a request goes
//! on a connection that has room, and where none has, it opens one.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::client::{Outgoing, Response, SendFault, Source, Stream};

/// The connections of one thread to one provider.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Vec<Lane>>);

/// One connection.
#[derive(Clone)]
struct Lane {
    sender: http2::SendRequest<Full<Bytes>>,
    most: Arc<AtomicUsize>,
    /// Held here once, and once by each request on it.
    riders: Arc<()>,
}

/// A request's place on a connection.
pub(super) struct Seat {
    sender: http2::SendRequest<Full<Bytes>>,
    rider: Rider,
}

/// Keeps the place until the answer is read.
#[derive(Debug)]
pub(crate) struct Rider(#[expect(dead_code, reason = "it is held to be counted")] Arc<()>);

/// A request that an HTTP/2 connection did not answer.
pub(super) enum Unsent {
    /// It may have gone out.
    Failed(SendFault),
    /// It certainly did not.
    Returned,
}

impl Lanes {
    /// A place on a connection that is open and has room.
    pub(super) fn board(&self) -> Option<Seat> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| !lane.sender.is_closed());
        lanes.iter().find(|lane| lane.has_room()).map(Lane::board)
    }

    /// A place on a new connection, which later requests may use too unless another has room for them by now.
    pub(super) async fn open(&self, stream: Stream) -> Result<Seat, hyper::Error> {
        let lane = Lane::open(stream).await?;
        let seat = lane.board();
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !lanes.iter().any(Lane::has_room) {
            lanes.push(lane);
        }
        Ok(seat)
    }
}

impl Lane {
    async fn open(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        let most = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let told = Arc::clone(&most);
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                told.store(connection.current_max_send_streams(), Ordering::Relaxed);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a provider's connection ended early");
            }
        });
        Ok(Self {
            sender,
            most,
            riders: Arc::default(),
        })
    }

    fn board(&self) -> Seat {
        Seat {
            sender: self.sender.clone(),
            rider: Rider(Arc::clone(&self.riders)),
        }
    }

    fn has_room(&self) -> bool {
        Arc::strong_count(&self.riders) <= self.most.load(Ordering::Relaxed)
    }
}

impl Seat {
    /// Sends a request and reads the head of its answer.
    pub(super) async fn send(mut self, outgoing: Outgoing<'_>) -> Result<Response, Unsent> {
        if self.sender.ready().await.is_err() {
            return Err(Unsent::Returned);
        }
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.target.method.clone();
        *request.uri_mut() = outgoing.target.uri.clone();
        let fields = outgoing.fields.iter();
        // In HTTP/2 the authority says which host.
        for (name, value) in fields.filter(|(name, _)| *name != header::HOST) {
            request.headers_mut().append(name.clone(), value.clone());
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                let (head, incoming): (_, Incoming) = response.into_parts();
                Ok(Response {
                    status: head.status,
                    headers: head.headers,
                    body: Source::Http2 {
                        incoming,
                        _rider: self.rider,
                    },
                })
            }
            Err(mut error) => Err(match error.take_message() {
                Some(_) => Unsent::Returned,
                None => Unsent::Failed(SendFault::sending(error.into_error())),
            }),
        }
    }
}

const PING: Duration = Duration::from_secs(30);
/// What one stream may have in hand before its client takes it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Wide, so that a stream whose client does not read cannot use it up for the others.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
