//! All requests of one connection, for comparing different cuts of the same bytes, and what must hold for all of them.

use arbstr_http1::BodyReader;
use arbstr_http1::server::{Head, HeadError, HeadReader};

/// One request, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) data: Vec<u8>,
    pub(crate) is_whole: bool,
}

/// The requests that came, and why there are no more, if that is a fault of theirs.
pub(crate) type Reading = (Vec<Asked>, Option<HeadError>);

/// Reads requests from `pieces`, behind which the client closes.
pub(crate) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut asked = Vec::new();
    let mut heads = HeadReader::default();
    let mut current: Option<(Head, BodyReader)> = None;
    for mut piece in pieces {
        loop {
            if current.is_none() {
                let (head, length) = match heads.push(piece) {
                    Err(fault) => return (asked, Some(fault)),
                    Ok(None) => break,
                    Ok(Some(read)) => read,
                };
                assert!(length <= piece.len(), "no more is taken than came");
                piece = &piece[length..];
                asked.push(begun(&head));
                let body = BodyReader::new(head.framing);
                current = Some((head, body));
            }
            let Some((head, body)) = &mut current else {
                break;
            };
            let last = asked.last_mut().expect("one has begun");
            match body.push(piece, &mut last.data) {
                Ok(length) => piece = &piece[length..],
                Err(_) => return (asked, None),
            }
            if !body.is_complete() {
                assert!(piece.is_empty(), "all of a body is taken");
                break;
            }
            last.is_whole = true;
            if !head.persists {
                return (asked, None);
            }
            current = None;
            heads = HeadReader::default();
            if piece.is_empty() {
                break;
            }
        }
    }
    // What cannot become a head may be told later than it could be, but no later than at the end of a line.
    let fault = if heads.has_begun() {
        heads.push(b"\n").err()
    } else {
        None
    };
    (asked, fault)
}

fn begun(head: &Head) -> Asked {
    let request = &head.request;
    let fields = request.headers().iter();
    Asked {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        data: Vec::new(),
        is_whole: false,
    }
}

/// Holds different cuts of `wire` against each other.
pub(crate) fn check(wire: &[u8]) {
    let whole = read([wire]);
    assert_eq!(read(wire.chunks(1)), whole);
    assert_eq!(read(wire.chunks(7)), whole);
    let middle = wire.len() / 2;
    assert_eq!(read([&wire[..middle], &wire[middle..]]), whole);
}
