//! Bytes off a socket, each read bounded by a deadline: what both scripted ends have in common.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A socket and what was read from it but not yet used.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    held: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            held: Vec::new(),
        }
    }

    /// Reads once; 0 bytes is the other side's FIN.
    pub(crate) fn read_more(&mut self, until: Instant) -> io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut space = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut space) {
                Ok(count) => {
                    self.held.extend_from_slice(&space[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything up to and including `end`; `None` when the other side closed before its first byte.
    pub(crate) fn until(&mut self, end: &[u8], deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.held[from..], end) {
                return Ok(Some(self.held.drain(..from + at + end.len()).collect()));
            }
            from = self.held.len().saturating_sub(end.len());
            if self.read_more(deadline)? == 0 {
                return if self.held.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Exactly `count` bytes.
    pub(crate) fn exactly(&mut self, count: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.held.len() < count {
            if self.read_more(deadline)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.held.drain(..count).collect())
    }

    /// Whatever is there, at least one byte; empty at the other side's FIN.
    pub(crate) fn some(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        if self.held.is_empty() {
            self.read_more(deadline)?;
        }
        Ok(std::mem::take(&mut self.held))
    }

    /// One chunk of a chunked body; `None` for the last one (trailers read too).
    pub(crate) fn chunk(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let line = self
            .until(b"\r\n", deadline)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = String::from_utf8_lossy(&line);
        let size = size.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {size:?}"))
        })?;
        if size == 0 {
            while self
                .until(b"\r\n", deadline)?
                .ok_or(io::ErrorKind::UnexpectedEof)?
                != b"\r\n"
            {}
            return Ok(None);
        }
        let payload = self.exactly(size, deadline)?;
        self.exactly(2, deadline)?;
        Ok(Some(payload))
    }

    /// True once the other side has closed (looks without taking anything, without waiting).
    pub(crate) fn is_closed(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let looked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match looked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Closes with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Name and value of each header line of a head, as sent; the first line left out.
pub(crate) fn header_lines(head: &str) -> Vec<(String, String)> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The value of the first header of that name, whatever its case.
pub(crate) fn header<'a>(lines: &'a [(String, String)], name: &str) -> Option<&'a str> {
    lines
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// Where `needle` begins in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}
