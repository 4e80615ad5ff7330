//! The head of an answer: status, headers, and what they say about the body and the connection behind it.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;

use crate::body::Framing;
use crate::fields::{BadLength, MAX_FIELDS, Said};
use crate::gather::{Gathered, Gatherer, MAX_HEAD};

/// The head of a final answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its status, never 1xx.
    pub status: StatusCode,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether another request may follow on the connection once the body is complete.
    pub persists: bool,
}

/// Why the bytes are no head of an answer to read on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP/1.
    #[error("what came is no HTTP/1 answer")]
    Malformed,
    /// It, or what came before it, is longer than [`MAX_HEAD`].
    #[error("the head of the answer is over {MAX_HEAD} bytes")]
    TooLarge,
    /// `Content-Length` is no number, or several that differ.
    #[error("the answer has a bad content-length")]
    BadLength,
    /// HTTP/1.0 knows no transfer codings.
    #[error("an HTTP/1.0 answer with a transfer-encoding")]
    BadCoding,
    /// 101, which nobody asked for.
    #[error("the provider switched protocols unasked")]
    Switched,
}

/// Reads heads, whatever pieces they come in; interim answers (1xx) are passed over.
#[derive(Debug, Default)]
pub struct HeadReader {
    gatherer: Gatherer,
    /// Empty, but perhaps with room.
    headers: HeaderMap,
}

impl HeadReader {
    /// Puts the headers into `map`, which must be empty: the room it has need not be made again.
    #[must_use]
    pub fn reusing(map: HeaderMap) -> Self {
        Self {
            headers: map,
            ..Self::default()
        }
    }

    /// Takes in what came next. Tells the head once it is whole, and how many of these bytes were before the body.
    ///
    /// # Errors
    /// When this is no answer; the connection must not be read on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
        let mut at = 0;
        loop {
            let (head, length) = match self.gatherer.push(&bytes[at..]) {
                Gathered::Part => return Ok(None),
                Gathered::TooLarge => return Err(HeadError::TooLarge),
                Gathered::Head(head, length) => (head, length),
            };
            at += length;
            if let Some(head) = parse(&head.into(), &mut self.headers)? {
                return Ok(Some((head, at)));
            }
        }
    }

    /// Whether anything came that is not an interim answer.
    pub const fn has_begun(&self) -> bool {
        self.gatherer.has_begun()
    }
}

/// Reads a whole head, its headers into `room`; `None` for an interim one.
fn parse(bytes: &Bytes, room: &mut HeaderMap) -> Result<Option<Head>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut answer, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        _ => return Err(HeadError::Malformed),
    }
    let status = answer
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(HeadError::Malformed)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(HeadError::Switched);
    }
    if status.is_informational() {
        return Ok(None);
    }
    let mut headers = std::mem::take(room);
    headers.reserve(answer.headers.len() + SPARE_FIELDS);
    let said = Said::hear_all(answer.headers, bytes, &mut headers);
    let said = said.map_err(|_| HeadError::Malformed)?;
    let is_old = answer.version == Some(0);
    let framing = framing(&said, status, is_old)?;
    Ok(Some(Head {
        status,
        headers,
        framing,
        persists: framing != Framing::Close && !said.is_twofold() && said.persists(is_old),
    }))
}

/// RFC 9112, section 6.3, for answers to anything but HEAD and CONNECT.
fn framing(said: &Said<'_>, status: StatusCode, is_old: bool) -> Result<Framing, HeadError> {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    match said.length {
        _ if said.coding.is_some() && is_old => Err(HeadError::BadCoding),
        _ if said.is_chunked() => Ok(Framing::Chunked),
        _ if said.coding.is_some() => Ok(Framing::Close),
        None => Ok(Framing::Close),
        Some(Ok(length)) => Ok(Framing::Length(length)),
        Some(Err(BadLength)) => Err(HeadError::BadLength),
    }
}

/// Room for the fields of whoever passes the answer on: the map is then not made anew for them.
const SPARE_FIELDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str) -> Result<Option<(Head, usize)>, HeadError> {
        HeadReader::default().push(wire.as_bytes())
    }

    fn framing_of(fields: &str) -> Result<(Framing, bool), HeadError> {
        let (head, _) = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))?.expect("it is whole");
        Ok((head.framing, head.persists))
    }

    #[test]
    fn the_framing_follows_from_the_headers() {
        let cases = [
            ("content-length: 5\r\n", Ok((Framing::Length(5), true))),
            ("Content-Length: 5, 5\r\n", Ok((Framing::Length(5), true))),
            (
                "content-length: 5\r\ncontent-length: 5\r\n",
                Ok((Framing::Length(5), true)),
            ),
            (
                "content-length: 5\r\nconnection: Close\r\n",
                Ok((Framing::Length(5), false)),
            ),
            (
                "transfer-encoding: Chunked\r\n",
                Ok((Framing::Chunked, true)),
            ),
            (
                "transfer-encoding: gzip, chunked\r\n",
                Ok((Framing::Chunked, true)),
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
                Ok((Framing::Chunked, false)),
            ),
            ("transfer-encoding: gzip\r\n", Ok((Framing::Close, false))),
            ("", Ok((Framing::Close, false))),
            (
                "content-length: 5\r\ncontent-length: 6\r\n",
                Err(HeadError::BadLength),
            ),
            ("content-length: +5\r\n", Err(HeadError::BadLength)),
            ("content-length: \r\n", Err(HeadError::BadLength)),
            (
                "content-length: 99999999999999999999\r\n",
                Err(HeadError::BadLength),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(framing_of(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn http_1_0_persists_only_when_it_says_so() {
        let of = |fields: &str| {
            read(&format!(
                "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n{fields}\r\n"
            ))
        };
        let persists =
            |fields: &str| of(fields).map(|read| read.is_some_and(|(head, _)| head.persists));
        assert_eq!(persists(""), Ok(false));
        assert_eq!(persists("connection: keep-alive\r\n"), Ok(true));
        assert_eq!(
            persists("transfer-encoding: chunked\r\n"),
            Err(HeadError::BadCoding)
        );
    }

    #[test]
    fn statuses_without_a_body_have_none_whatever_they_say() {
        for status in [204, 304] {
            let wire = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\n");
            let (head, _) = read(&wire).expect("it is a head").expect("it is whole");
            assert_eq!(head.framing, Framing::Length(0));
        }
    }

    #[test]
    fn interim_answers_and_blank_lines_are_passed_over_however_they_are_cut() {
        let wire = "\r\n\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for cut in 0..wire.len() {
            let mut reader = HeadReader::default();
            let (first, second) = wire.as_bytes().split_at(cut);
            assert!(reader.push(first).expect("a part is no fault").is_none());
            let (head, length) = reader
                .push(second)
                .expect("it is a head")
                .expect("it is whole");
            assert_eq!((head.status.as_u16(), length), (200, second.len()), "{cut}");
            assert_eq!(head.headers["a"], "b");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD));
        let interims = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3_000);
        let blanks = "\r\n".repeat(MAX_HEAD);
        let cases = [
            ("HELLO\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 200 OK\r\na : b\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 200 OK\r\na: b\r\r\n\r\n", HeadError::Malformed),
            ("HTTP/2 200\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 099 X\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 101 Switching\r\n\r\n", HeadError::Switched),
            (&many, HeadError::Malformed),
            (&long, HeadError::TooLarge),
            (&endless, HeadError::TooLarge),
            (&interims, HeadError::TooLarge),
            (&blanks, HeadError::TooLarge),
        ];
        for (wire, expected) in cases {
            let start = &wire[..wire.len().min(40)];
            assert_eq!(read(wire).map(|_| ()), Err(expected), "{start:?}");
        }
    }
}
