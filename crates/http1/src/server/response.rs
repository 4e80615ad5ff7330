//! The head of an answer as it goes out, and the chunks behind it.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};

use crate::write;

/// What the head of an answer says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// There is none, nor a word about it: 204, 304.
    None,
    /// So many bytes, or would be: HEAD.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All that comes until the connection closes, for clients of HTTP/1.0.
    UntilClose,
}

/// What becomes of the connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It stays open, as usual.
    Persists,
    /// It stays open, which must be said to a client of HTTP/1.0.
    PersistsForOld,
    /// It closes.
    Closes,
}

/// Appends the head of an answer to `out`.
///
/// What frames the body and speaks of the connection is written here and nowhere else: such fields among `headers` are left
/// out. `date` is the time as RFC 9110, section 5.6.7, has it, for answers that have none of their own.
pub fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    date: &[u8],
    content: Content,
    ending: Ending,
) {
    out.reserve(USUAL_HEAD);
    for part in [
        b"HTTP/1.1 ",
        status.as_str().as_bytes(),
        b" ",
        status.canonical_reason().unwrap_or_default().as_bytes(),
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
    let mut is_dated = false;
    for (name, value) in headers {
        if !WRITTEN_HERE.contains(name) {
            is_dated |= name == header::DATE;
            write::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if !is_dated {
        write::field(out, b"date", date);
    }
    match content {
        Content::None | Content::UntilClose => {}
        Content::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Content::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write::number::<10>(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
    match ending {
        Ending::Persists => {}
        Ending::PersistsForOld => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Ending::Closes => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `data` as one chunk (RFC 9112, section 7.1); nothing if it is empty, which would be the last.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + CHUNK_FRAME);
    write::number::<16>(out, data.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends what ends a body of chunks.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

const WRITTEN_HERE: [HeaderName; 3] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];
/// Room for the head of a usual answer.
const USUAL_HEAD: usize = 512;
/// The most bytes around the data of a chunk.
const CHUNK_FRAME: usize = 20;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::{BodyReader, Framing, client};

    fn written(
        status: u16,
        fields: &[(&'static str, &'static str)],
        content: Content,
        ending: Ending,
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("it is a status");
        let mut out = Vec::new();
        write_head(&mut out, status, &headers, b"now", content, ending);
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn a_head_says_each_thing_once() {
        assert_eq!(
            written(
                200,
                &[
                    ("a", "b"),
                    ("connection", "x"),
                    ("content-length", "9"),
                    ("transfer-encoding", "y"),
                    ("a", "c")
                ],
                Content::Length(12_345_678_901),
                Ending::Persists,
            ),
            "HTTP/1.1 200 OK\r\na: b\r\na: c\r\ndate: now\r\ncontent-length: 12345678901\r\n\r\n"
        );
        assert_eq!(
            written(299, &[("date", "then")], Content::Chunked, Ending::Closes),
            "HTTP/1.1 299 \r\ndate: then\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            written(304, &[], Content::None, Ending::PersistsForOld),
            "HTTP/1.1 304 Not Modified\r\ndate: now\r\nconnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            written(200, &[], Content::UntilClose, Ending::Closes),
            "HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let pieces = [vec![b'x'; 1], vec![b'y'; 16], vec![b'z'; 70_000]];
        let mut wire = written(200, &[], Content::Chunked, Ending::Persists).into_bytes();
        for piece in pieces.iter().chain([&Vec::new()]) {
            write_chunk(&mut wire, piece);
        }
        write_last_chunk(&mut wire);
        let (head, at) = client::HeadReader::default()
            .push(&wire)
            .expect("it is a head")
            .expect("it is whole");
        assert_eq!((head.framing, head.persists), (Framing::Chunked, true));
        let (mut body, mut data) = (BodyReader::new(head.framing), Vec::new());
        assert_eq!(body.push(&wire[at..], &mut data), Ok(wire.len() - at));
        assert!(body.is_complete());
        assert_eq!(data, pieces.concat());
    }
}
