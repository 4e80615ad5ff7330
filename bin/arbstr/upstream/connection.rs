//! One HTTP/1.1 connection to a provider: a request out, an answer in.
//!
//! There is no task behind a connection and no buffer in it: whoever waits for an answer reads the socket, into one buffer
//! a thread, and takes everything that came as one piece. A silent stream so holds no memory for bytes that may come, and
//! events that arrive together leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arbstr_http1::client::{Head, HeadError, HeadReader};
use arbstr_http1::{BodyError, BodyReader};
use bytes::Bytes;
use hyper::rt::{Read as _, Write as _};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pool::Pool;
use crate::unwritten::{Unwritten, WriteParts};
use crate::{buffer_pool, read_buffer};

/// A connection on which no answer is being read.
pub(super) struct Connection {
    stream: Stream,
    was_used: bool,
}

/// The body of an answer, on its connection.
pub(crate) struct Http1Body {
    connection: Option<Connection>,
    body: BodyReader,
    /// Came along with the head.
    first: Vec<u8>,
    error: Option<BodyError>,
    request: Unwritten,
    /// Where the connection goes when another request may follow on it.
    home: Option<Pool>,
}

/// A request that got no head of an answer.
#[derive(Debug)]
pub(super) struct ExchangeError {
    /// Why.
    pub(super) cause: Cause,
    /// The connection had carried an answer before, and none of this one came: it may only have met a keep-alive that the
    /// provider had closed.
    pub(super) is_stale: bool,
}

/// Why a request got no head.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// It was closed.
    #[error("connection closed before message completed")]
    Closed,
    /// What came is no answer.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// What can break while the body of an answer is read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http1BodyError {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The body's framing did.
    #[error(transparent)]
    Framing(#[from] BodyError),
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<HttpsStream>),
}

type HttpsStream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Connection {
    /// A connection that was just opened.
    pub(super) fn new(stream: HttpsStream) -> Self {
        let stream = match stream {
            MaybeHttpsStream::Http(plain) => Stream::Plain(plain.into_inner()),
            tls @ MaybeHttpsStream::Https(_) => Stream::Tls(Box::new(tls)),
        };
        Self {
            stream,
            was_used: false,
        }
    }

    /// Sends a request and reads the head of its answer; the connection then belongs to the answer and goes to `home`
    /// afterwards, if both sides keep it.
    pub(super) async fn exchange(
        self,
        head: Vec<u8>,
        body: Bytes,
        home: &Pool,
    ) -> Result<(Head, Http1Body), ExchangeError> {
        let mut exchange = Exchange {
            connection: Some(self),
            home,
            reader: HeadReader::reusing(buffer_pool::take_headers()),
            request: Unwritten::new(head, body),
            unwritable: None,
        };
        std::future::poll_fn(|cx| exchange.poll(cx)).await
    }

    /// Whether it is open and silent, as one must be that waits for its next request. `cx` is woken when that changes.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.poll_read(cx, &mut [0]).is_pending()
    }
}

/// A request on its way out and the head of its answer on its way in.
struct Exchange<'a> {
    /// Until the answer has it.
    connection: Option<Connection>,
    home: &'a Pool,
    reader: HeadReader,
    request: Unwritten,
    /// A provider may refuse a request before it has read it all, and close: its answer counts more than the broken pipe.
    unwritable: Option<io::Error>,
}

impl Exchange<'_> {
    /// The head, and the body with what came of it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Http1Body), ExchangeError>> {
        let connection = self.connection.as_mut().expect(NOT_OVER);
        if self.unwritable.is_none()
            && let Poll::Ready(Err(error)) = self.request.poll_send(&mut connection.stream, cx)
        {
            self.unwritable = Some(error);
        }
        read_buffer::lend(|buffer| self.poll_head(cx, &mut buffer[..READ_BYTES]))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<(Head, Http1Body), ExchangeError>> {
        let connection = self.connection.as_mut().expect(NOT_OVER);
        loop {
            let cause = match ready!(connection.stream.poll_read(cx, buffer)) {
                Ok(0) => self.unwritable.take().map_or(Cause::Closed, Cause::Broken),
                Err(error) => Cause::Broken(error),
                Ok(length) => match self.reader.push(&buffer[..length]) {
                    Ok(None) => continue,
                    Ok(Some((head, at))) => {
                        let body = self.body(&head, &buffer[at..length]);
                        return Poll::Ready(Ok((head, body)));
                    }
                    Err(error) => Cause::Head(error),
                },
            };
            let is_stale = connection.was_used && !self.reader.has_begun();
            return Poll::Ready(Err(ExchangeError { cause, is_stale }));
        }
    }

    /// The body behind `head`, which begins with `rest`.
    fn body(&mut self, head: &Head, rest: &[u8]) -> Http1Body {
        let mut body = Http1Body {
            connection: self.connection.take(),
            body: BodyReader::new(head.framing),
            first: Vec::new(),
            error: None,
            request: std::mem::take(&mut self.request),
            home: head.persists.then(|| self.home.clone()),
        };
        body.first = body.take_in(rest);
        body
    }
}

impl Http1Body {
    /// The next bytes of the body, all that came since, never empty; `None` at its clean end.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Http1BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first).into())));
        }
        if let Some(error) = self.error {
            return Poll::Ready(Some(Err(error.into())));
        }
        read_buffer::lend(|buffer| {
            loop {
                let Some(connection) = &mut self.connection else {
                    return Poll::Ready(None);
                };
                // An answer may begin before its request is out; a failure to write on is none of the answer.
                let _ = self.request.poll_send(&mut connection.stream, cx);
                match ready!(connection.stream.poll_read(cx, &mut buffer[..READ_BYTES])) {
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                    Ok(0) => {
                        self.connection = None;
                        let closed = self.body.on_close();
                        return Poll::Ready(closed.err().map(|error| Err(error.into())));
                    }
                    Ok(length) => {
                        let data = self.take_in(&buffer[..length]);
                        match self.error {
                            _ if !data.is_empty() => return Poll::Ready(Some(Ok(data.into()))),
                            Some(error) => return Poll::Ready(Some(Err(error.into()))),
                            None => {}
                        }
                    }
                }
            }
        })
    }

    /// The data in what came. Once the body is complete the connection goes home, or is closed.
    fn take_in(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut data = Vec::with_capacity(bytes.len());
        match self.body.push(bytes, &mut data) {
            Err(error) => {
                self.error = Some(error);
                self.connection = None;
            }
            Ok(length) if self.body.is_complete() => {
                let in_order = length == bytes.len() && self.request.is_sent();
                if let (Some(mut connection), Some(home), true) =
                    (self.connection.take(), self.home.take(), in_order)
                {
                    connection.was_used = true;
                    home.put(connection);
                }
            }
            Ok(_) => {}
        }
        data
    }
}

impl std::fmt::Debug for Http1Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1Body")
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Self::Tls(stream) => {
                let mut buffer = hyper::rt::ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, buffer.unfilled()))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }
}

impl WriteParts for Stream {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // A socket has nothing of its own to flush.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

const NOT_OVER: &str = "a future is not polled after it was ready";
/// What one read takes at most; with what is gathered for the client this bounds what a stream has in hand.
const READ_BYTES: usize = 32 * 1024;
