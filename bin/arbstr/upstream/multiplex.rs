//! HTTP/2 connections to one provider: many requests on each, and another connection before one is full.
//!
//! A provider says how many streams it takes at once on a connection (RFC 9113, section 5.1.2), usually 100. What is sent
//! beyond waits inside the connection, unseen, and would look like a provider that is slow to answer. So a request goes
//! on a connection that has room, and where none has, it opens one.
//!
//! A connection ends in ways that say nothing about the provider: it is retired (GOAWAY), refuses a stream more than it
//! takes, or was dropped by somebody on the way while nobody used it. Whether the request may then be sent once more is
//! said by [`Unsent`]. What nobody used for a while is closed from this side.

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

use super::client::{Outgoing, Response, SendFault, Source, Stream};
use super::fault::find_source;

/// The connections of one thread to one provider.
#[derive(Default)]
pub(super) struct Lanes(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    lanes: Vec<Lane>,
    is_watched: bool,
}

/// One connection.
struct Lane {
    sender: http2::SendRequest<Full<Bytes>>,
    known: Arc<Known>,
    /// Held here once, and once by each request on it.
    riders: Arc<()>,
    /// Somebody came on board since the last look.
    is_used: bool,
}

/// What is known of a connection.
struct Known {
    /// How many streams the provider takes at once.
    most: AtomicUsize,
    has_answered: AtomicBool,
}

/// A request's place on a connection.
pub(super) struct Seat {
    sender: http2::SendRequest<Full<Bytes>>,
    known: Arc<Known>,
    rider: Rider,
}

/// Keeps the place until the answer is read.
#[derive(Debug)]
pub(crate) struct Rider(#[expect(dead_code, reason = "it is held to be counted")] Arc<()>);

/// A request that an HTTP/2 connection did not answer.
pub(super) enum Unsent {
    /// The provider may have seen it.
    Failed(SendFault),
    /// It certainly did nothing about it.
    Returned,
}

impl Lanes {
    /// A place on a connection that is open and has room.
    pub(super) fn board(&self) -> Option<Seat> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.lanes.retain(|lane| !lane.sender.is_closed());
        let lane = open.lanes.iter_mut().find(|lane| lane.has_room());
        lane.map(Lane::board)
    }

    /// A place on a new connection, which later requests may use too unless another has room for them by now.
    pub(super) async fn open(&self, stream: Stream) -> Result<Seat, hyper::Error> {
        let mut lane = Lane::open(stream).await?;
        let seat = lane.board();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.lanes.iter().any(Lane::has_room) {
            return Ok(seat);
        }
        open.lanes.push(lane);
        if !open.is_watched {
            open.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.0)));
        }
        Ok(seat)
    }
}

impl Open {
    /// Closes what nobody used since the last look.
    fn look(&mut self) {
        self.lanes
            .retain_mut(|lane| !lane.sender.is_closed() && lane.was_used());
        self.is_watched = !self.lanes.is_empty();
    }
}

/// Looks after the connections until there is none, or the provider is gone.
async fn watch(open: Weak<Mutex<Open>>) {
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

impl Lane {
    async fn open(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        let known = Arc::new(Known {
            most: AtomicUsize::new(connection.current_max_send_streams()),
            has_answered: AtomicBool::new(false),
        });
        let told = Arc::clone(&known);
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
            known,
            riders: Arc::default(),
            is_used: false,
        })
    }

    fn board(&mut self) -> Seat {
        self.is_used = true;
        Seat {
            sender: self.sender.clone(),
            known: Arc::clone(&self.known),
            rider: Rider(Arc::clone(&self.riders)),
        }
    }

    fn has_room(&self) -> bool {
        let riders = Arc::strong_count(&self.riders) - 1;
        !self.sender.is_closed() && riders < self.known.most.load(Ordering::Relaxed)
    }

    /// Whether somebody used it since this was asked last.
    fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.is_used) || Arc::strong_count(&self.riders) > 1
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
                self.known.has_answered.store(true, Ordering::Relaxed);
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
                None => self.unsent(error.into_error()),
            }),
        }
    }

    fn unsent(&self, error: hyper::Error) -> Unsent {
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
            return Unsent::Returned;
        }
        Unsent::Failed(SendFault {
            is_stale: !is_reset && self.known.has_answered.load(Ordering::Relaxed),
            ..SendFault::sending(error)
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
        let lanes = Lanes::default();
        let stream = MaybeHttpsStream::Http(TokioIo::new(stream));
        let seat = lanes.open(stream).await.unwrap();
        let look = || {
            let mut open = lanes.0.lock().unwrap();
            open.look();
            open.is_watched
        };
        assert_eq!([look(), look()], [true; 2], "somebody is on board");
        drop(seat);
        drop(lanes.board());
        assert_eq!([look(), look()], [true, false]);
        let closed = timeout(Duration::from_secs(5), provider).await;
        assert!(closed.is_ok(), "the provider still waits");
    }
}
