//! The client's socket, watched in both directions.
//!
//! Writing: while a client does not read, nobody polls the body that feeds it, so no timer of the body could fire. The
//! connection itself is woken here instead: a pending write arms a timer, and the timer fails the write.
//!
//! Leaving: while a request is answered hyper would read on, to notice a client that closes, and set 8 KiB aside for that.
//! It is told not to; the socket is looked at here instead, whenever the connection is polled.
//!
//! Reading: a head that was begun must be complete in time, and what comes in passes the [`SmugglingDetector`]
//! on its way to hyper.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::smuggling::SmugglingDetector;
use crate::api::error::ApiError;
use crate::read_buffer;

/// A client connection whose writes fail once the client has taken nothing for `limit`, and whose reads fail at a
/// request with two framings.
pub(super) struct Guard {
    stream: TokioIo<TcpStream>,
    detector: SmugglingDetector,
    stall_limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    head_limit: Duration,
    head_due: Option<Pin<Box<Sleep>>>,
    /// Read already, to tell the protocol by it.
    ahead: Vec<u8>,
}

impl Guard {
    /// Watches `stream`. A client may take nothing for `stall_limit` (zero: for ever), and has `head_limit` for its first
    /// byte and for each head it has begun.
    pub(super) fn new(stream: TcpStream, stall_limit: Duration, head_limit: Duration) -> Self {
        Self {
            stream: TokioIo::new(stream),
            detector: SmugglingDetector::new(),
            stall_limit,
            stalled: None,
            head_limit,
            head_due: Some(Box::pin(sleep(head_limit))),
            ahead: Vec::new(),
        }
    }

    /// Waits for the first bytes, which tell HTTP/2 from HTTP/1. They are not lost: the first read gives them out.
    ///
    /// # Errors
    /// As for a read.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| read_buffer::lend(|buffer| self.poll_protocol(cx, buffer))).await
    }

    fn poll_protocol(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<bool>> {
        loop {
            let known = self.ahead.len().min(PREFACE.len());
            if self.ahead[..known] != PREFACE[..known] {
                return Poll::Ready(Ok(false));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            let mut buf = ReadBuf::new(buffer);
            ready!(self.poll_socket(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.ahead.extend_from_slice(buf.filled());
        }
    }

    /// Ready with an error once a head takes too long.
    fn watch_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(due) = &mut self.head_due else {
            return Poll::Pending;
        };
        ready!(due.as_mut().poll(cx));
        self.refuse(&ApiError::head_timeout());
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the head of a request took too long",
        )))
    }

    /// Reads what there is, if it may pass; nothing at the end.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if Pin::new(self.stream.inner_mut())
            .poll_read(cx, buf)?
            .is_pending()
        {
            return self.watch_head(cx);
        }
        if self.detector.push(&buf.filled()[before..]).is_err() {
            self.refuse(&ApiError::two_framings());
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a request with two framings",
            )));
        }
        self.head_due = match self.head_due.take() {
            _ if !self.detector.is_in_head() => None,
            Some(due) => Some(due),
            None => Some(Box::pin(sleep(self.head_limit))),
        };
        Poll::Ready(Ok(()))
    }

    /// An error once the client has closed its side: nobody waits for what is being answered.
    fn watch_leaving(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // What is left of a body is hyper's to read, and its end is behind that.
        if !self.detector.is_between_bodies() || !self.ahead.is_empty() {
            return Ok(());
        }
        let mut byte = [0];
        match self
            .stream
            .inner()
            .poll_peek(cx, &mut ReadBuf::new(&mut byte))
        {
            Poll::Ready(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client has left",
            )),
            Poll::Ready(Err(error)) => Err(error),
            // The next request may already be there.
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Answers past hyper, which never gets to see the request.
    fn refuse(&self, error: &ApiError) {
        // Most sockets have room for it; one that has not gets a bare close.
        let _ = self.stream.inner().try_write(&error.to_wire());
    }

    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if self.stall_limit.is_zero() {
            return Poll::Pending;
        }
        let limit = self.stall_limit;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client reads nothing",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(cursor.remaining());
            cursor.put_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            if self.ahead.is_empty() {
                // Not a byte of it is kept for the life of the connection.
                self.ahead = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut TokioIo::new(Inspected(&mut self))).poll_read(cx, cursor)
    }
}

/// What is read for hyper straight into its buffer, which shows its contents to no one but a [`TokioIo`].
struct Inspected<'a>(&'a mut Guard);

impl AsyncRead for Inspected<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_socket(cx, buf)
    }
}

impl Write for Guard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch_leaving(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, written)
    }
}

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
