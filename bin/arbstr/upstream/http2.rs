//! HTTP/2 connections to one provider: many requests on each, and another connection before one is full.
//!
//! A provider says how many streams it takes at once on a connection (RFC 9113, section 5.1.2), usually 100. What is sent
//! beyond waits inside the connection, unseen, and would look like a provider that is slow to answer. So a request goes
//! on a connection that has room, and where none has, it opens one.
//!
//! A connection ends in ways that say nothing about the provider: it is retired (GOAWAY), refuses a stream more than it
//! takes, or was dropped by somebody on the way while nobody used it. Whether the request may then be sent once more is
//! said by [`Http2SendError`]. What nobody used for a while is closed from this side.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::sleep;

use super::client::{BodySource, OutgoingRequest, Response, SendError, Stream};
use super::error::find_source;

/// The connections of one thread to one provider.
#[derive(Default)]
pub(super) struct Http2Pool(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    list: Vec<Http2Connection>,
    is_watched: bool,
}

/// One connection.
struct Http2Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    peer: Arc<PeerState>,
    /// Held here once, and once by each request on it.
    streams: Arc<()>,
    /// A stream was opened on it since the last look.
    is_used: bool,
}

/// What is known of a connection.
struct PeerState {
    /// How many streams the provider takes at once.
    most: AtomicUsize,
    has_answered: AtomicBool,
}

/// A request's place on a connection.
pub(super) struct StreamSlot {
    sender: http2::SendRequest<Full<Bytes>>,
    peer: Arc<PeerState>,
    count: StreamCount,
}

/// Keeps the place until the answer is read.
#[derive(Debug)]
pub(crate) struct StreamCount(#[expect(dead_code, reason = "it is held to be counted")] Arc<()>);

/// A request that an HTTP/2 connection did not answer.
pub(super) enum Http2SendError {
    /// The provider may have seen it.
    Failed(SendError),
    /// It certainly did nothing about it.
    NotProcessed,
}

impl Http2Pool {
    /// A place on a connection that is open and has room.
    pub(super) fn reserve(&self) -> Option<StreamSlot> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.list
            .retain(|connection| !connection.sender.is_closed());
        let connection = open
            .list
            .iter_mut()
            .find(|connection| connection.has_room());
        connection.map(Http2Connection::reserve)
    }

    /// A place on a new connection, which later requests may use too unless another has room for them by now.
    pub(super) async fn open(&self, stream: Stream) -> Result<StreamSlot, hyper::Error> {
        let mut connection = Http2Connection::open(stream).await?;
        let slot = connection.reserve();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.list.iter().any(Http2Connection::has_room) {
            return Ok(slot);
        }
        open.list.push(connection);
        if !open.is_watched {
            open.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
        Ok(slot)
    }
}

impl Connections {
    /// Closes what nobody used since the last look.
    fn look(&mut self) {
        self.list
            .retain_mut(|connection| !connection.sender.is_closed() && connection.was_used());
        self.is_watched = !self.list.is_empty();
    }
}

/// Looks after the connections until there is none, or the provider is gone.
async fn watch(open: Weak<Mutex<Connections>>) {
    loop {
        sleep(KEPT).await;
        let Some(open) = open.upgrade() else {
            return;
        };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.look();
        if !open.is_watched {
            return;
        }
    }
}

impl Http2Connection {
    async fn open(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        let peer = Arc::new(PeerState {
            most: AtomicUsize::new(connection.current_max_send_streams()),
            has_answered: AtomicBool::new(false),
        });
        let told = Arc::clone(&peer);
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                let most = connection.current_max_send_streams();
                told.most.store(most, Ordering::Relaxed);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a provider's connection ended early");
            }
        });
        Ok(Self {
            sender,
            peer,
            streams: Arc::default(),
            is_used: false,
        })
    }

    fn reserve(&mut self) -> StreamSlot {
        self.is_used = true;
        StreamSlot {
            sender: self.sender.clone(),
            peer: Arc::clone(&self.peer),
            count: StreamCount(Arc::clone(&self.streams)),
        }
    }

    fn has_room(&self) -> bool {
        let streams = Arc::strong_count(&self.streams) - 1;
        !self.sender.is_closed() && streams < self.peer.most.load(Ordering::Relaxed)
    }

    /// Whether somebody used it since this was asked last.
    fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.is_used) || Arc::strong_count(&self.streams) > 1
    }
}

impl StreamSlot {
    /// Sends a request and reads the head of its answer.
    pub(super) async fn send(
        mut self,
        outgoing: OutgoingRequest<'_>,
    ) -> Result<Response, Http2SendError> {
        if self.sender.ready().await.is_err() {
            return Err(Http2SendError::NotProcessed);
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
                self.peer.has_answered.store(true, Ordering::Relaxed);
                let (head, incoming): (_, Incoming) = response.into_parts();
                Ok(Response {
                    status: head.status,
                    headers: head.headers,
                    body: BodySource::Http2 {
                        incoming,
                        _count: self.count,
                    },
                })
            }
            Err(mut error) => Err(match error.take_message() {
                Some(_) => Http2SendError::NotProcessed,
                None => self.send_error(error.into_error()),
            }),
        }
    }

    fn send_error(&self, error: hyper::Error) -> Http2SendError {
        let cause = find_source::<h2::Error>(&error).filter(|cause| cause.is_remote());
        let reason = cause.and_then(h2::Error::reason);
        let is_reset = cause.is_some_and(h2::Error::is_reset);
        // RFC 9113, section 8.7: nothing was done about a stream that was refused, or that a GOAWAY leaves out; of those
        // it names, nobody hears of the GOAWAY.
        let untouched = if is_reset {
            h2::Reason::REFUSED_STREAM
        } else {
            h2::Reason::NO_ERROR
        };
        if reason == Some(untouched) {
            return Http2SendError::NotProcessed;
        }
        Http2SendError::Failed(SendError {
            is_stale: !is_reset && self.peer.has_answered.load(Ordering::Relaxed),
            ..SendError::sending(error)
        })
    }
}

/// How often connections are looked at: one that nobody uses is closed after this time, or twice as much.
const KEPT: Duration = Duration::from_secs(90);
const PING: Duration = Duration::from_secs(30);
/// What one stream may have in hand before its client takes it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Wide, so that a stream whose client does not read cannot use it up for the others.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_rustls::MaybeHttpsStream;
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_closed_once_nobody_used_it_between_two_looks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let provider = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok(_)) = connection.accept().await {}
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let pool = Http2Pool::default();
        let stream = MaybeHttpsStream::Http(TokioIo::new(stream));
        let slot = pool.open(stream).await.unwrap();
        let look = || {
            let mut open = pool.0.lock().unwrap();
            open.look();
            open.is_watched
        };
        assert_eq!([look(), look()], [true; 2], "a stream is open");
        drop(slot);
        drop(pool.reserve());
        assert_eq!([look(), look()], [true, false]);
        let closed = timeout(Duration::from_secs(5), provider).await;
        assert!(closed.is_ok(), "the provider still waits");
    }
}
