//! What a client gets, and whether it still takes it.
//!
//! While nothing is to be written, the socket is looked at for a client that left.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arbstr_http1::server::{Content, Ending, write_chunk, write_head, write_last_chunk};
use bytes::Bytes;
use hyper::body::Body as _;
use hyper::{Response, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

use super::date;
use crate::api::ResponseBody;
use crate::buffer_pool;
use crate::relay::Piece;
use crate::server::stall::StallGuard;
use crate::unwritten::{Unwritten, WriteParts};

/// The writing half of a connection.
pub(super) struct Outgoing<'a> {
    socket: WriteHalf<'a>,
    unwritten: Unwritten,
    stall: StallGuard,
    /// What comes in now is behind the body of the request.
    has_all: &'a AtomicBool,
    early: Vec<u8>,
}

/// What of a request shapes the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Only the head of the answer is wanted.
    pub(super) head_only: bool,
    /// In HTTP/1.0.
    pub(super) is_old: bool,
    /// The connection stays open behind the answer.
    pub(super) persists: bool,
}

impl<'a> Outgoing<'a> {
    /// What goes to `socket`, whose client may take nothing for `stall_limit`; zero: for ever. `has_all` is true while nothing
    /// of a body is to come.
    pub(super) fn new(
        socket: WriteHalf<'a>,
        stall_limit: Duration,
        has_all: &'a AtomicBool,
    ) -> Self {
        Self {
            socket,
            unwritten: Unwritten::default(),
            stall: StallGuard::new(stall_limit),
            has_all,
            early: Vec::new(),
        }
    }

    /// Writes an answer; tells whether another may follow it.
    ///
    /// # Errors
    /// When the client has left or takes nothing any more.
    pub(super) async fn answer(
        &mut self,
        response: Response<ResponseBody>,
        asked: Asked,
    ) -> io::Result<bool> {
        let (parts, mut body) = response.into_parts();
        let content = match body.size_hint().exact() {
            _ if matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            ) =>
            {
                Content::None
            }
            Some(length) => Content::Length(length),
            None if asked.is_old => Content::UntilClose,
            None => Content::Chunked,
        };
        let persists = asked.persists && content != Content::UntilClose;
        let ending = match (persists, asked.is_old) {
            (false, _) => Ending::Closes,
            (true, false) => Ending::Persists,
            (true, true) => Ending::PersistsForOld,
        };
        let mut head = Vec::new();
        date::with(|date| {
            write_head(
                &mut head,
                parts.status,
                &parts.headers,
                date,
                content,
                ending,
            );
        });
        buffer_pool::keep_headers(parts.headers);
        match content {
            Content::Chunked | Content::UntilClose if !asked.head_only => {
                self.unwritten = Unwritten::new(head, Bytes::new());
                let mut is_over = false;
                std::future::poll_fn(|cx| self.poll_stream(cx, &mut body, content, &mut is_over))
                    .await?;
            }
            _ => {
                let whole = if asked.head_only || content == Content::None {
                    None
                } else {
                    whole(&mut body)
                };
                self.unwritten = Unwritten::new(head, whole.unwrap_or_default());
                std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
            }
        }
        Ok(persists)
    }

    /// Nobody will be answered any more.
    pub(super) async fn end(&mut self) {
        // A client that has closed already needs no end.
        let _ = self.socket.shutdown().await;
    }

    /// Ready once the client has closed its side: nobody waits for what is being answered.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let socket: &TcpStream = self.socket.as_ref();
        loop {
            match ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut [0]))) {
                Ok(0) => {
                    return Poll::Ready(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the client has left",
                    ));
                }
                Err(error) => return Poll::Ready(error),
                Ok(_) if !self.has_all.load(Ordering::Relaxed) => return Poll::Pending,
                Ok(_) if self.early.len() >= MOST_EARLY => return Poll::Pending,
                // The next request. That its client leaves is seen behind it only.
                Ok(_) => {
                    self.early.reserve(MOST_EARLY);
                    match socket.try_read_buf(&mut self.early) {
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                            return Poll::Ready(error);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// What [`Self::poll_left`] read of the next requests.
    pub(super) fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// Passes on what `body` gives, all that it has at once in one write.
    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut ResponseBody,
        content: Content,
        is_over: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !*is_over && self.unwritten.head_mut().len() < MOST_GATHERED {
                let Poll::Ready(piece) = body.poll_piece(cx) else {
                    break;
                };
                let data = match piece {
                    Piece::Data(data) => data,
                    Piece::Ending if self.is_behind() => break,
                    Piece::Ending if self.has_room()? => body.end(),
                    Piece::Ending if !self.unwritten.is_sent() => break,
                    Piece::Ending => {
                        ready!(self.poll_room(cx))?;
                        continue;
                    }
                    Piece::Over => {
                        *is_over = true;
                        if content == Content::Chunked {
                            write_last_chunk(self.unwritten.head_mut());
                        }
                        break;
                    }
                };
                let out = self.unwritten.head_mut();
                if content == Content::Chunked {
                    write_chunk(out, &data);
                } else {
                    out.extend_from_slice(&data);
                }
            }
            if self.unwritten.is_sent() {
                return if *is_over {
                    Poll::Ready(Ok(()))
                } else {
                    self.poll_left(cx).map(Err)
                };
            }
            ready!(self.poll_flush(cx))?;
        }
    }

    /// Whether more waits to be sent than may go along with the end of a stream.
    fn is_behind(&mut self) -> bool {
        self.unwritten.sent() > 0 || self.unwritten.head_mut().len() > MOST_BEFORE_END
    }

    /// Whether the client takes the end of a stream now: the system says so while a third of the socket's buffer is free.
    /// That all before was taken proves little, it may have filled the buffer.
    fn has_room(&self) -> io::Result<bool> {
        let socket: &TcpStream = self.socket.as_ref();
        let mut asked = [PollFd::new(socket, PollFlags::OUT)];
        rustix::event::poll(&mut asked, Some(&Timespec::default()))?;
        let told = asked[0].revents();
        if told.intersects(PollFlags::ERR | PollFlags::HUP) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(told.contains(PollFlags::OUT))
    }

    /// Ready when it is time to ask again for room, which there was none of.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.socket.as_ref();
        // What the runtime took the socket for is out of date: the last write filled it to the brim.
        let is_full = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(Interest::WRITABLE, is_full);
        let ready = socket.poll_write_ready(cx);
        self.stall.watch(cx, ready, false)
    }

    /// Writes what there is.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.unwritten.sent();
        let sent = self.unwritten.poll_send(&mut Socket(&mut self.socket), cx);
        let was_taken = self.unwritten.sent() > before;
        self.stall.watch(cx, sent, was_taken)
    }
}

/// A body that is ready.
fn whole(body: &mut ResponseBody) -> Option<Bytes> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        _ => None,
    }
}

struct Socket<'a, 'b>(&'a mut WriteHalf<'b>);

impl WriteParts for Socket<'_, '_> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, parts)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing of its own to flush.
        Poll::Ready(Ok(()))
    }
}

/// A stream gives no more at once while its client has so much to take.
const MOST_GATHERED: usize = 32 * 1024;
/// What may leave in one write with the end of a stream.
const MOST_BEFORE_END: usize = 4096;
/// Of the next requests.
const MOST_EARLY: usize = 4096;
