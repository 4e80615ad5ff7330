//! One answer read to its end, for comparing different cuts of the same bytes, and what must hold for all of them.

use arbstr_http1::client::{HeadError, HeadReader};
use arbstr_http1::{BodyError, BodyReader};

/// How an answer read: its head, its data, how it ended and how many bytes belonged to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The head is still to come.
    Waiting,
    /// It is none.
    NoHead(HeadError),
    /// It has one.
    Answered {
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        persists: bool,
        data: Vec<u8>,
        end: Result<usize, BodyError>,
    },
}

/// Reads an answer from `pieces`, behind which the connection closes.
pub(crate) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut heads = HeadReader::default();
    let mut found = None;
    let mut data = Vec::new();
    let mut total = 0;
    for piece in pieces {
        let mut piece = piece;
        if found.is_none() {
            match heads.push(piece) {
                Err(fault) => return Reading::NoHead(fault),
                Ok(None) => total += piece.len(),
                Ok(Some((head, length))) => {
                    assert!(length <= piece.len(), "no more is taken than came");
                    total += length;
                    piece = &piece[length..];
                    let body = BodyReader::new(head.framing);
                    found = Some((head, body, Ok(())));
                }
            }
        }
        if let Some((_, body, end)) = &mut found
            && end.is_ok()
        {
            match body.push(piece, &mut data) {
                Ok(length) => {
                    assert!(length == piece.len() || body.is_complete());
                    total += length;
                }
                Err(fault) => *end = Err(fault),
            }
        }
    }
    let Some((head, mut body, end)) = found else {
        return Reading::Waiting;
    };
    let fields = head.headers.iter();
    Reading::Answered {
        status: head.status.as_u16(),
        headers: fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        persists: head.persists,
        data,
        end: end.and_then(|()| body.on_close()).map(|()| total),
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
