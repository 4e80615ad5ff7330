//! The bytes of a client connection, watched for request smuggling before hyper reads them.
//!
//! A request with both `Content-Length` and `Transfer-Encoding` is read differently by different servers on its way,
//! which is how a second request is smuggled past the first server (RFC 9112, section 6.1). hyper drops the one header
//! silently; the detector sees both and has the connection refused. It follows the framing of each request to know where
//! the next head begins, and keeps nothing but an unfinished head.
//!
//! ```text
//!         head complete                     all bytes seen
//!  Head ──────────────────► Length(n) ──────────────────────► Head
//!    │  └─────────────────► Chunked ──── last chunk, trailers ─► Head
//!    └─ HTTP/2, or nothing hyper would accept ► Blind
//! ```

use memchr::{memchr, memchr_iter};

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct SmugglingDetector(State);

/// A request that two servers would read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Smuggled;

#[derive(Debug)]
enum State {
    Head { seen: Vec<u8> },
    Length { left: u64 },
    Chunked(Chunk),
    Blind,
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size { value: u64 },
    Extension { value: u64 },
    Data { left: u64 },
    Trailer { line: usize },
}

impl SmugglingDetector {
    /// A connection that nothing was read from.
    pub(super) fn new() -> Self {
        Self(State::Head { seen: Vec::new() })
    }

    /// Takes in what was read next.
    ///
    /// # Errors
    /// When a head declares two framings; the connection must not be read on.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Smuggled> {
        while !bytes.is_empty() {
            bytes = match &mut self.0 {
                State::Blind => return Ok(()),
                State::Head { .. } => self.push_head(bytes)?,
                State::Length { left } => {
                    let rest = skip(left, bytes);
                    if *left == 0 {
                        *self = Self::new();
                    }
                    rest
                }
                State::Chunked(_) => self.push_chunked(bytes),
            };
        }
        Ok(())
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(&self.0, State::Head { seen } if !seen.is_empty())
    }

    /// Whether all that came of requests so far is whole, but perhaps for a head.
    pub(super) fn is_between_bodies(&self) -> bool {
        matches!(self.0, State::Head { .. })
    }

    fn push_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Smuggled> {
        let State::Head { seen } = &mut self.0 else {
            return Ok(bytes);
        };
        if seen.is_empty() {
            // Blank lines before a request line are skipped by servers (RFC 9112, section 2.2), any number of them.
            let blank = bytes
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            let bytes = &bytes[blank..];
            if let Some(end) = head_end(bytes, 0) {
                self.0 = framing(&bytes[..end])?;
                return Ok(&bytes[end..]);
            }
            return Ok(self.keep_head(bytes));
        }
        let before = seen.len();
        // Looked for in what came before and here together, at most a head's length of it.
        let here = &bytes[..bytes.len().min(MAX_HEAD)];
        seen.extend_from_slice(here);
        let Some(end) = head_end(seen, before.saturating_sub(3)) else {
            if seen.len() > MAX_HEAD {
                self.0 = State::Blind;
            }
            return Ok(&[]);
        };
        let next = framing(&seen[..end])?;
        self.0 = next;
        Ok(&bytes[end - before..])
    }

    fn keep_head<'a>(&mut self, bytes: &[u8]) -> &'a [u8] {
        self.0 = if bytes.len() > MAX_HEAD {
            State::Blind
        } else {
            State::Head {
                seen: bytes.to_vec(),
            }
        };
        &[]
    }

    fn push_chunked<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let State::Chunked(chunk) = &mut self.0 else {
            return bytes;
        };
        let (next, rest) = chunk.push(bytes);
        self.0 = next.map_or_else(|| State::Head { seen: Vec::new() }, State::Chunked);
        rest
    }
}

impl Chunk {
    /// Reads one piece; `None` at the end of the body.
    fn push(self, bytes: &[u8]) -> (Option<Self>, &[u8]) {
        let Some((&first, rest)) = bytes.split_first() else {
            return (Some(self), bytes);
        };
        match self {
            Self::Size { value } => match char::from(first).to_digit(16) {
                Some(digit) => (
                    Some(Self::Size {
                        value: value.saturating_mul(16).saturating_add(digit.into()),
                    }),
                    rest,
                ),
                None => (Some(Self::Extension { value }), bytes),
            },
            Self::Extension { value } => match memchr(b'\n', bytes) {
                None => (Some(self), &[]),
                Some(end) if value == 0 => (Some(Self::Trailer { line: 0 }), &bytes[end + 1..]),
                // The line end behind the data counts as part of it.
                Some(end) => (
                    Some(Self::Data {
                        left: value.saturating_add(2),
                    }),
                    &bytes[end + 1..],
                ),
            },
            Self::Data { mut left } => {
                let rest = skip(&mut left, bytes);
                (
                    Some(if left == 0 {
                        Self::Size { value: 0 }
                    } else {
                        Self::Data { left }
                    }),
                    rest,
                )
            }
            Self::Trailer { line } => match first {
                b'\n' if line == 0 => (None, rest),
                b'\n' => (Some(Self::Trailer { line: 0 }), rest),
                b'\r' => (Some(self), rest),
                _ => (
                    Some(Self::Trailer {
                        line: line.saturating_add(1),
                    }),
                    rest,
                ),
            },
        }
    }
}

fn skip<'a>(left: &mut u64, bytes: &'a [u8]) -> &'a [u8] {
    let here = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *left -= here as u64;
    &bytes[here..]
}

/// One past the blank line that ends a head, searched from `from` on. A line may end with a bare LF, as servers accept.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', &bytes[from..]).find_map(|at| match &bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// How the body behind a head is framed. What is no head at all is refused as well: hyper would refuse it, or read it in
/// a way that this detector does not know.
fn framing(head: &[u8]) -> Result<State, Smuggled> {
    if head.starts_with(b"PRI * HTTP/2.0\r\n") {
        return Ok(State::Blind);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        // hyper answers these with a 4xx of its own and closes.
        Err(_) => return Ok(State::Blind),
        Ok(_) => return Err(Smuggled),
    }
    let named = |name: &str| {
        request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
    };
    match (named("transfer-encoding"), named("content-length")) {
        (Some(_), Some(_)) => Err(Smuggled),
        (Some(_), None) => Ok(State::Chunked(Chunk::Size { value: 0 })),
        (None, None) => Ok(State::Head { seen: Vec::new() }),
        (None, Some(length)) => {
            let digits = str::from_utf8(length.value)
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
            Ok(match digits {
                Some(0) => State::Head { seen: Vec::new() },
                Some(left) => State::Length { left },
                None => State::Blind,
            })
        }
    }
}

/// hyper refuses heads that are larger or have more headers, and closes.
const MAX_HEAD: usize = super::MAX_HEAD;
const MAX_HEADERS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &str = "POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nt: 1\r\n\r\n";
    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const BOTH: &str =
        "POST /c HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    fn at_every_split(text: &str) -> Vec<bool> {
        let bytes = text.as_bytes();
        let splits = (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
        let single = std::iter::once(bytes.chunks(1).collect());
        splits
            .chain(single)
            .map(|pieces: Vec<&[u8]>| {
                let mut detector = SmugglingDetector::new();
                pieces.iter().any(|piece| detector.push(piece).is_err())
            })
            .collect()
    }

    #[test]
    fn sees_two_framings_wherever_the_request_stands_and_however_it_is_cut() {
        let split = "GET / HTTP/1.1\nhost: x\n\r\n";
        for before in ["", PLAIN, CHUNKED, GET, split, "\r\n", "\r\n\r\n", "\n\n\n"] {
            let text = format!("{before}{BOTH}");
            assert!(at_every_split(&text).iter().all(|seen| *seen), "{before:?}");
        }
    }

    #[test]
    fn sees_two_framings_behind_bare_line_feeds() {
        let bare = "POST /c HTTP/1.1\ncontent-length: 3\ntransfer-encoding: chunked\n\r\n0\r\n\r\n";
        assert!(at_every_split(bare).iter().all(|seen| *seen));
    }

    #[test]
    fn a_head_in_two_reads_is_seen_however_large_the_second() {
        let (first, second) = BOTH.split_at(20);
        let mut detector = SmugglingDetector::new();
        assert_eq!(detector.push(first.as_bytes()), Ok(()));
        let second = [second.as_bytes(), &[b'x'; 2 * MAX_HEAD]].concat();
        assert_eq!(detector.push(&second), Err(Smuggled));
    }

    #[test]
    fn lets_well_framed_requests_pass() {
        let all = format!("{PLAIN}{CHUNKED}{GET}{PLAIN}{GET}{CHUNKED}");
        assert!(at_every_split(&all).iter().all(|seen| !*seen));
    }

    #[test]
    fn what_stands_in_a_body_is_no_head() {
        let body = "POST /c HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = format!(
            "POST /a HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}{GET}",
            body.len()
        );
        assert!(at_every_split(&text).iter().all(|seen| !*seen));
    }

    #[test]
    fn looks_away_from_http2_and_from_what_is_no_http() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nanything",
            "garbage\r\n\r\nmore",
        ] {
            assert!(at_every_split(text).iter().all(|seen| !*seen), "{text:?}");
        }
    }
}
