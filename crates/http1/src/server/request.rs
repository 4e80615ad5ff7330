//! The head of a request: what is asked, and where its body ends.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Uri, Version};

use crate::body::Framing;
use crate::fields::{BadField, BadLength, MAX_FIELDS, Said};
use crate::gather::{Gathered, Gatherer, MAX_HEAD};

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Method, target, version and headers, as they came.
    pub request: Request<()>,
    /// Where its body ends; never where the connection does.
    pub framing: Framing,
    /// Whether the client wants to ask more on the connection.
    pub persists: bool,
    /// The client sends the body once it was told `100 Continue` (RFC 9110, section 10.1.1).
    pub awaits_continue: bool,
}

/// Why the bytes are no head of a request to read on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP/1.
    #[error("what came is no HTTP/1 request: {0}")]
    Malformed(httparse::Error),
    /// It is longer than [`MAX_HEAD`].
    #[error("the head of the request is over {MAX_HEAD} bytes")]
    TooLarge,
    /// It has over 100 fields.
    #[error("the request has over {MAX_FIELDS} header fields")]
    TooManyFields,
    /// The request target is no URI.
    #[error("the request target is no URI")]
    BadTarget,
    /// `Content-Length` is not one number.
    #[error("the request has a bad content-length")]
    BadLength,
    /// `Content-Length` and `Transfer-Encoding`: a server on the way may have read the other one (RFC 9112, section 6.1).
    #[error("a request may have Content-Length or Transfer-Encoding, not both")]
    TwoFramings,
    /// Any transfer coding but `chunked`, or one in HTTP/1.0, which knows none.
    #[error("the only transfer-encoding of a request may be chunked, in HTTP/1.1")]
    BadCoding,
}

/// Reads the head of one request, whatever pieces it comes in.
#[derive(Debug, Default)]
pub struct HeadReader {
    gatherer: Gatherer,
    /// Empty, but perhaps with room.
    headers: HeaderMap,
    /// How much of a part was looked at.
    checked: usize,
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
    /// When this is no request, as soon as that can be told; the connection must not be read on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
        match self.gatherer.push(bytes) {
            Gathered::Part => self.check(bytes.contains(&b'\n')).map(|()| None),
            Gathered::TooLarge => self.check(true).and(Err(HeadError::TooLarge)),
            Gathered::Head(head, length) => {
                let headers = std::mem::take(&mut self.headers);
                parse(&head.into(), headers).map(|head| Some((head, length)))
            }
        }
    }

    /// Whether a part of it came.
    pub fn has_begun(&self) -> bool {
        !self.gatherer.seen().is_empty()
    }

    /// Whether this part can become a head: who speaks TLS, say, would else wait for an answer in vain. It is looked at
    /// when a line ends or it is twice as long as before, so that one that comes by the byte costs little more.
    fn check(&mut self, has_line: bool) -> Result<(), HeadError> {
        let seen = self.gatherer.seen();
        if !has_line && seen.len() < 2 * self.checked {
            return Ok(());
        }
        self.checked = seen.len();
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut asked = httparse::Request::new(&mut []);
        match asked.parse_with_uninit_headers(seen, &mut fields) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            error => Self::Malformed(error),
        }
    }
}

/// Reads a whole head, its fields into `headers`.
fn parse(bytes: &Bytes, mut headers: HeaderMap) -> Result<Head, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut asked = httparse::Request::new(&mut []);
    match asked.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(error) => return Err(error.into()),
        // A blank line where a line should go on.
        Ok(_) => return Err(HeadError::Malformed(httparse::Error::NewLine)),
    }
    headers.reserve(asked.headers.len());
    let said = Said::hear_all(asked.headers, bytes, &mut headers).map_err(|bad| {
        HeadError::Malformed(match bad {
            BadField::Name => httparse::Error::HeaderName,
            BadField::Value => httparse::Error::HeaderValue,
        })
    })?;
    let is_old = asked.version == Some(0);
    let framing = framing(&said, is_old)?;
    let mut request = Request::new(());
    *request.method_mut() = asked
        .method
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
        .ok_or(HeadError::Malformed(httparse::Error::Token))?;
    *request.uri_mut() = asked
        .path
        .and_then(|path| Uri::from_maybe_shared(bytes.slice_ref(path.as_bytes())).ok())
        .ok_or(HeadError::BadTarget)?;
    *request.version_mut() = if is_old {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    *request.headers_mut() = headers;
    Ok(Head {
        request,
        framing,
        persists: said.persists(is_old),
        awaits_continue: said.awaits_continue && !is_old,
    })
}

/// RFC 9112, section 6.3, and no leniency: whatever two servers could read in two ways is refused.
fn framing(said: &Said<'_>, is_old: bool) -> Result<Framing, HeadError> {
    match said.length {
        _ if said.is_twofold() => Err(HeadError::TwoFramings),
        _ if said.codings == 1 && said.is_chunked() && !is_old => Ok(Framing::Chunked),
        _ if said.coding.is_some() => Err(HeadError::BadCoding),
        None => Ok(Framing::Length(0)),
        Some(Ok(length)) if !said.is_list => Ok(Framing::Length(length)),
        Some(Ok(_) | Err(BadLength)) => Err(HeadError::BadLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str) -> Result<Option<(Head, usize)>, HeadError> {
        HeadReader::default().push(wire.as_bytes())
    }

    fn framing_of(fields: &str) -> Result<(Framing, bool), HeadError> {
        let (head, _) = read(&format!("POST /a HTTP/1.1\r\n{fields}\r\n"))?.expect("it is whole");
        Ok((head.framing, head.persists))
    }

    #[test]
    fn the_framing_follows_from_the_headers() {
        let cases = [
            ("", Ok((Framing::Length(0), true))),
            ("content-length: 5\r\n", Ok((Framing::Length(5), true))),
            ("Content-Length: 5, 5\r\n", Err(HeadError::BadLength)),
            (
                "content-length: 5\r\ncontent-length: 5\r\n",
                Ok((Framing::Length(5), true)),
            ),
            ("connection: Close\r\n", Ok((Framing::Length(0), false))),
            ("connection: x, close\r\n", Ok((Framing::Length(0), false))),
            (
                "transfer-encoding: Chunked\r\n",
                Ok((Framing::Chunked, true)),
            ),
            (
                "content-length: 5\r\nTransfer-Encoding: chunked\r\n",
                Err(HeadError::TwoFramings),
            ),
            (
                "transfer-encoding: x\r\ncontent-length: 5\r\n",
                Err(HeadError::TwoFramings),
            ),
            (
                "transfer-encoding: gzip, chunked\r\n",
                Err(HeadError::BadCoding),
            ),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                Err(HeadError::BadCoding),
            ),
            ("transfer-encoding: identity\r\n", Err(HeadError::BadCoding)),
            ("transfer-encoding: \r\n", Err(HeadError::BadCoding)),
            (
                "transfer-encoding: \x0bchunked\r\n",
                Err(HeadError::Malformed(httparse::Error::HeaderValue)),
            ),
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
    fn http_1_0_persists_only_when_it_says_so_and_has_no_codings() {
        let persists = |fields: &str| {
            read(&format!("GET / HTTP/1.0\r\n{fields}\r\n"))
                .map(|read| read.is_some_and(|(head, _)| head.persists))
        };
        assert_eq!(persists(""), Ok(false));
        assert_eq!(persists("connection: Keep-Alive\r\n"), Ok(true));
        assert_eq!(
            persists("transfer-encoding: chunked\r\n"),
            Err(HeadError::BadCoding)
        );
    }

    #[test]
    fn a_body_is_held_back_only_in_http_1_1_and_for_the_one_word() {
        let waits = |version: &str, expect: &str| {
            let wire = format!("POST / HTTP/{version}\r\nexpect: {expect}\r\n\r\n");
            let (head, _) = read(&wire).expect("it is a head").expect("it is whole");
            head.awaits_continue
        };
        assert!(waits("1.1", "100-Continue"));
        assert!(!waits("1.0", "100-continue"));
        assert!(!waits("1.1", "200-maybe"));
    }

    #[test]
    fn a_head_is_read_however_it_is_cut() {
        let wire = "\r\n\nPUT http://a/b?c HTTP/1.1\r\nA: b\r\nx: \r\na:  c \r\n\r\nbody";
        for cut in 0..wire.len() - 4 {
            let mut reader = HeadReader::default();
            let (first, second) = wire.as_bytes().split_at(cut);
            assert!(reader.push(first).expect("a part is no fault").is_none());
            assert_eq!(reader.has_begun(), cut > 3 || cut == 1);
            let (head, length) = reader
                .push(second)
                .expect("it is a head")
                .expect("it is whole");
            assert_eq!(length, second.len() - 4, "{cut}");
            assert_eq!(head.request.method(), Method::PUT);
            assert_eq!(head.request.uri(), "http://a/b?c");
            let values: Vec<_> = head.request.headers().get_all("a").iter().collect();
            assert_eq!(values, ["b", "c"]);
        }
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_at_once() {
        let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(101));
        let cases = [
            "\x16\x03\x01\x02",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "G@",
            "GET / HTTP/2\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n",
            "\rGET",
            &many,
        ];
        for part in cases {
            let fault = read(part).map(|_| ());
            assert!(fault.is_err(), "{part:?}");
            let mut reader = HeadReader::default();
            let mut faults = part.bytes().map(|byte| reader.push(&[byte]).map(|_| ()));
            assert_eq!(faults.find(Result::is_err), Some(fault), "{part:?}");
        }
    }

    #[test]
    fn blank_lines_before_a_request_are_no_part_of_it() {
        let mut reader = HeadReader::default();
        for (blank, has_begun) in [("\r\n\n", false), ("\r", true), ("\n", false)] {
            assert!(
                reader
                    .push(blank.as_bytes())
                    .expect("it is no fault")
                    .is_none()
            );
            assert_eq!(reader.has_begun(), has_begun, "{blank:?}");
        }
        let (_, length) = reader
            .push(b"\nGET / HTTP/1.1\r\n\r\n")
            .expect("it is a head")
            .expect("it is whole");
        assert_eq!(length, 19);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        use httparse::Error;
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let endless = format!("GET /{}", "x".repeat(MAX_HEAD));
        let blanks = "\r\n".repeat(MAX_HEAD);
        let malformed = HeadError::Malformed;
        let cases = [
            ("HELLO\r\n\r\n", malformed(Error::Token)),
            ("GET /\r\n\r\n", malformed(Error::Token)),
            ("GET / HTTP/2.0\r\n\r\n", malformed(Error::Version)),
            ("G@T / HTTP/1.1\r\n\r\n", malformed(Error::Token)),
            (
                "GET / HTTP/1.1\r\nno colon\r\n\r\n",
                malformed(Error::HeaderName),
            ),
            (
                "GET / HTTP/1.1\r\na : b\r\n\r\n",
                malformed(Error::HeaderName),
            ),
            (
                "GET / HTTP/1.1\r\n a: b\r\n\r\n",
                malformed(Error::HeaderName),
            ),
            (
                "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
                malformed(Error::HeaderName),
            ),
            (
                "GET / HTTP/1.1\r\na: b\r\r\n\r\n",
                malformed(Error::HeaderValue),
            ),
            (
                "GET / HTTP/1.1\r\na: b\0\r\n\r\n",
                malformed(Error::HeaderValue),
            ),
            ("GET http:// HTTP/1.1\r\n\r\n", HeadError::BadTarget),
            (&many, HeadError::TooManyFields),
            (&long, HeadError::TooLarge),
            (&endless, HeadError::TooLarge),
            (&blanks, HeadError::TooLarge),
        ];
        for (wire, expected) in cases {
            let start = &wire[..wire.len().min(40)];
            assert_eq!(read(wire).map(|_| ()), Err(expected), "{start:?}");
        }
    }
}
