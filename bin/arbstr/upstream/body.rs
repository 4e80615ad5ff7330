//! The bytes of a provider's answer, whatever coding they came in.
//!
//! arbstr asks for no compression; some providers and many reverse proxies gzip all the same, and are decoded here so
//! that everything behind reads plain bytes. The decoder is fed small pieces: a few kilobytes that would inflate to
//! megabytes are spread over many polls instead of landing in memory at once.

use std::error::Error;
use std::io::Write;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use hyper::header::{self, HeaderMap};

use super::client::BodySource;

/// A provider's body, decoded.
#[derive(Debug)]
pub(crate) struct Body {
    source: BodySource,
    coding: Coding,
    /// What was looked at before it was wanted.
    ahead: Option<Result<Bytes, BodyError>>,
}

#[derive(Debug)]
enum Coding {
    Plain,
    Gzip {
        decoder: Box<MultiGzDecoder<Vec<u8>>>,
        packed: Bytes,
        ended: bool,
    },
}

/// A body that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection broke, or its framing is wrong.
    #[error("the connection broke: {0}")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// The gzip inside is damaged or cut.
    #[error("the gzip coding is damaged: {0}")]
    Coding(#[source] std::io::Error),
}

impl BodyError {
    /// What it is called in the record.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Broken(_) => "reset",
            Self::Coding(_) => "coding",
        }
    }
}

/// A coding that arbstr neither asked for nor reads.
#[derive(Debug, thiserror::Error)]
#[error("content-encoding `{0}` was not asked for and cannot be read")]
pub(crate) struct UnknownCoding(pub(crate) String);

impl Body {
    /// A body with the coding its headers declare.
    ///
    /// # Errors
    /// When the coding is neither gzip nor none.
    pub(crate) fn new(headers: &HeaderMap, source: BodySource) -> Result<Self, UnknownCoding> {
        let declared = headers
            .get(header::CONTENT_ENCODING)
            .map(|coding| coding.to_str().unwrap_or("?").trim());
        let coding = match declared {
            None | Some("") => Coding::Plain,
            Some(name) if name.eq_ignore_ascii_case("identity") => Coding::Plain,
            Some(name)
                if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") =>
            {
                Coding::Gzip {
                    decoder: Box::new(MultiGzDecoder::new(Vec::new())),
                    packed: Bytes::new(),
                    ended: false,
                }
            }
            Some(name) => return Err(UnknownCoding(name.to_owned())),
        };
        Ok(Self {
            source,
            coding,
            ahead: None,
        })
    }

    /// Whether the first bytes are those of an event stream: a field or a comment. As many are waited for as it takes to
    /// tell, however they come, and stay to be read.
    pub(crate) async fn begins_as_event_stream(&mut self) -> bool {
        let mut begin = BytesMut::new();
        loop {
            let is_ended = match self.chunk().await {
                Some(Ok(chunk)) => {
                    begin.extend_from_slice(&chunk);
                    begin.len() > MOST_AHEAD
                }
                Some(Err(error)) => {
                    self.ahead = Some(Err(error));
                    return false;
                }
                None => true,
            };
            let told = is_event_stream(&begin).or_else(|| is_ended.then_some(false));
            if let Some(is_event_stream) = told {
                self.ahead = (!begin.is_empty()).then(|| Ok(begin.freeze()));
                return is_event_stream;
            }
        }
    }

    /// The next decoded bytes, never empty; `None` at a clean end.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.ahead.is_some() {
            return Poll::Ready(self.ahead.take());
        }
        loop {
            if let Coding::Gzip {
                decoder,
                packed,
                ended,
            } = &mut self.coding
            {
                match unpack(decoder, packed, *ended) {
                    Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                    Ok(None) if *ended => return Poll::Ready(None),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(BodyError::Coding(error)))),
                }
            }
            match (ready!(self.source.poll_data(cx)), &mut self.coding) {
                (Some(Ok(bytes)), Coding::Plain) => return Poll::Ready(Some(Ok(bytes))),
                (Some(Ok(bytes)), Coding::Gzip { packed, .. }) => *packed = bytes,
                (Some(Err(error)), _) => return Poll::Ready(Some(Err(BodyError::Broken(error)))),
                (None, Coding::Plain) => return Poll::Ready(None),
                (None, Coding::Gzip { ended, .. }) => *ended = true,
            }
        }
    }

    /// [`Self::poll_chunk`] as a future.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}

/// Whether a body that begins so is a stream of events: a byte order mark, blank lines, then a field's name or a comment.
/// `None` while that cannot be told.
fn is_event_stream(begin: &[u8]) -> Option<bool> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let begin = begin.strip_prefix(BOM).unwrap_or(begin);
    let line = begin.trim_ascii_start();
    let names = [&b"data:"[..], b"event:", b"id:", b"retry:", b":"];
    if names.iter().any(|name| line.starts_with(name)) {
        Some(true)
    } else if BOM.starts_with(line) || names.iter().any(|name| name.starts_with(line)) {
        None
    } else {
        Some(false)
    }
}

/// Decodes until something comes out or the packed bytes are used up.
fn unpack(
    decoder: &mut MultiGzDecoder<Vec<u8>>,
    packed: &mut Bytes,
    ended: bool,
) -> std::io::Result<Option<Bytes>> {
    while !packed.is_empty() {
        let piece = &packed[..packed.len().min(PIECE)];
        let taken = decoder.write(piece)?;
        packed.advance(taken);
        decoder.flush()?;
        if !decoder.get_ref().is_empty() {
            return Ok(Some(std::mem::take(decoder.get_mut()).into()));
        }
        if taken == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    if ended {
        decoder.try_finish()?;
        let rest = std::mem::take(decoder.get_mut());
        return Ok((!rest.is_empty()).then(|| rest.into()));
    }
    Ok(None)
}

/// Blank lines are waited behind for so many bytes.
const MOST_AHEAD: usize = 4096;

/// Deflate expands at most about a thousandfold, so a piece of this size comes out as at most 64 KiB.
const PIECE: usize = 64;

#[cfg(test)]
mod tests {
    use super::is_event_stream;

    #[test]
    fn an_event_stream_is_told_by_its_first_bytes_however_few_there_are() {
        for (text, expected) in [
            ("data: x", true),
            ("\u{feff}\r\n\ndata:", true),
            (": ping", true),
            ("event:", true),
            ("id:1", true),
            ("retry: 1", true),
            ("{\"choices\":[]}", false),
            ("\n [", false),
            ("dear user", false),
            ("\u{feff}{", false),
        ] {
            let told = (0..=text.len()).find_map(|end| is_event_stream(&text.as_bytes()[..end]));
            assert_eq!(told, Some(expected), "{text:?}");
            assert_eq!(is_event_stream(text.as_bytes()), told, "{text:?} at once");
        }
        for undecided in ["", "\r\n\r\n", "d", "dat", "ret"] {
            assert_eq!(is_event_stream(undecided.as_bytes()), None, "{undecided:?}");
        }
    }
}
