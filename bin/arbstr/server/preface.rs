//! The first bytes of a connection, which tell HTTP/2 from HTTP/1.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use crate::read_buffer;

/// What a client sent first.
pub(super) enum Preface {
    /// Of HTTP/1, or nothing that is known; nothing at all if the client closed.
    Http1(Bytes),
    /// Of HTTP/2.
    Http2(Bytes),
}

/// Reads as much as it takes to tell, which until then is in `seen`.
///
/// # Errors
/// As for a read.
pub(super) async fn read(stream: &mut TcpStream, seen: &mut Vec<u8>) -> io::Result<Preface> {
    poll_fn(|cx| read_buffer::lend(|buffer| poll(stream, cx, buffer, seen))).await
}

fn poll(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    seen: &mut Vec<u8>,
) -> Poll<io::Result<Preface>> {
    loop {
        let known = seen.len().min(HTTP2.len());
        if seen[..known] != HTTP2[..known] {
            return Poll::Ready(Ok(Preface::Http1(std::mem::take(seen).into())));
        }
        if known == HTTP2.len() {
            return Poll::Ready(Ok(Preface::Http2(std::mem::take(seen).into())));
        }
        let mut buf = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(Preface::Http1(std::mem::take(seen).into())));
        }
        seen.extend_from_slice(buf.filled());
    }
}

/// RFC 9113, section 3.4.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
