//! What a client sends: heads of requests, and the body behind each.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use arbstr_http1::server::{Head, HeadError, HeadReader};
use arbstr_http1::{BodyReader, Framing};
use bytes::{BufMut as _, Bytes};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio_util::io::poll_read_buf;

use crate::api::error::ApiError;
use crate::api::{ReadResult, RequestBody};
use crate::{buffer_pool, read_buffer};

/// The reading half of a connection: heads are read between two answers, a body by whoever answers.
pub(super) struct Incoming<'a> {
    socket: ReadHalf<'a>,
    /// Read already, though it is behind the body being read.
    ahead: Bytes,
    /// Of a head that has begun, perhaps.
    reader: Option<HeadReader>,
    body: BodyReader,
    /// Data of the body that came along with its head.
    first: Vec<u8>,
    /// Still to be said before the client sends the body.
    go_on: &'static [u8],
    is_broken: bool,
    /// What comes now is behind the body.
    has_all: &'a AtomicBool,
}

/// Why there is no next head.
pub(super) enum NoHead {
    /// The connection broke.
    Broken(io::Error),
    /// It did not come in time, or is none.
    Refused(ApiError),
}

impl From<io::Error> for NoHead {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<HeadError> for NoHead {
    fn from(error: HeadError) -> Self {
        Self::Refused(ApiError::bad_head(error))
    }
}

impl<'a> Incoming<'a> {
    /// What comes from `socket`, behind what was read `ahead`. `has_all` is kept true while nothing of a body is to come.
    pub(super) const fn new(socket: ReadHalf<'a>, ahead: Bytes, has_all: &'a AtomicBool) -> Self {
        Self {
            socket,
            ahead,
            reader: None,
            body: BodyReader::new(Framing::Length(0)),
            first: Vec::new(),
            go_on: b"",
            is_broken: false,
            has_all,
        }
    }

    /// Whether a part of the next head has come.
    pub(super) fn is_in_head(&self) -> bool {
        self.reader.as_ref().is_some_and(HeadReader::has_begun)
    }

    /// Takes what somebody else read of the connection, behind what was read here.
    pub(super) fn unread(&mut self, bytes: Vec<u8>) {
        if self.ahead.is_empty() {
            self.ahead = bytes.into();
        } else if !bytes.is_empty() {
            self.ahead = [&*self.ahead, &*bytes].concat().into();
        }
    }

    /// The next head, once the body before is over; `None` when the client sends no more.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, NoHead>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            if let Some((head, at)) = self.take_head(&ahead)? {
                self.ahead = ahead.slice(at..);
                return Poll::Ready(Ok(Some(head)));
            }
        }
        read_buffer::lend(|buffer| {
            loop {
                let mut buf = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
                let bytes = buf.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                if let Some((head, at)) = self.take_head(bytes)? {
                    self.ahead = Bytes::copy_from_slice(&bytes[at..]);
                    return Poll::Ready(Ok(Some(head)));
                }
            }
        })
    }

    /// Whether the body cannot be read to its end: its framing is broken, or it waits for a word that was not given.
    pub(super) const fn is_unreadable(&self) -> bool {
        self.is_broken || !self.go_on.is_empty()
    }

    /// Reads whatever comes, to no end, until the client sends no more.
    pub(super) async fn waste(&mut self) {
        poll_fn(|cx| {
            read_buffer::lend(|buffer| {
                loop {
                    let mut buf = ReadBuf::new(buffer);
                    let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf));
                    if read.is_err() || buf.filled().is_empty() {
                        return Poll::Ready(());
                    }
                }
            })
        })
        .await;
    }

    /// The head that ends in `bytes`, and where what is behind its body begins.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
        let reader = self
            .reader
            .get_or_insert_with(|| HeadReader::reusing(buffer_pool::take_headers()));
        let Some((head, at)) = reader.push(bytes)? else {
            return Ok(None);
        };
        self.reader = None;
        self.body = BodyReader::new(head.framing);
        let rest = &bytes[at..];
        self.go_on = if head.awaits_continue && rest.is_empty() && !self.body.is_complete() {
            b"HTTP/1.1 100 Continue\r\n\r\n"
        } else {
            b""
        };
        let room = match self.body.left() {
            Some(left) => rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => rest.len(),
        };
        self.first = Vec::with_capacity(room);
        let length = match self.body.push(rest, &mut self.first) {
            Ok(length) => length,
            Err(_) => {
                self.is_broken = true;
                rest.len()
            }
        };
        self.has_all
            .store(self.body.is_complete(), Ordering::Relaxed);
        Ok(Some((head, at + length)))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<ReadResult> {
        ready!(self.poll_go_on(cx))?;
        if let Some(left) = self.body.left() {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if data.len() == data.capacity() {
                data.reserve(left.min(ROOM));
            }
            let mut room = data.limit(left);
            let length = ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut room))?;
            self.body.skip(length as u64);
            if length == 0 {
                self.body.on_close()?;
            }
            return Poll::Ready(Ok(()));
        }
        read_buffer::lend(|buffer| {
            let mut buf = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.body.on_close()?;
            }
            let length = self.body.push(bytes, data)?;
            self.ahead = Bytes::copy_from_slice(&bytes[length..]);
            Poll::Ready(Ok(()))
        })
    }

    fn poll_go_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.go_on.is_empty() {
            let socket: &TcpStream = self.socket.as_ref();
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_write(self.go_on) {
                Ok(written) => self.go_on = &self.go_on[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl RequestBody for Incoming<'_> {
    fn is_over(&self) -> bool {
        self.body.is_complete() && self.first.is_empty()
    }

    fn announced(&self) -> u64 {
        self.first.len() as u64 + self.body.left().unwrap_or(0)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<ReadResult> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            if data.capacity() == 0 {
                *data = first;
            } else {
                data.extend_from_slice(&first);
            }
            return Poll::Ready(Ok(()));
        }
        if self.is_broken {
            return Poll::Ready(Err(arbstr_http1::BodyError::BadChunk.into()));
        }
        let read = ready!(self.poll_more(cx, data));
        self.is_broken = read.is_err();
        self.has_all
            .store(self.body.is_complete(), Ordering::Relaxed);
        Poll::Ready(read)
    }
}

/// For a body of which nothing came with its head.
const ROOM: usize = 16 * 1024;
