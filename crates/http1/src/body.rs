//! Where a body ends, and its bytes without the framing.
//!
//! ```text
//!  Size ─┬──────────────► SizeLf ─► Data ─► DataCr ─► DataLf ─► Size …
//!        ├► Pad ──┬──────►  │
//!        └► Extension ───►  └ size 0 ─► Line ─┬─► EndLf ─► End
//!                                             └─► Name ─► Value ─► ValueLf ─► Line …
//! ```

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks with their lengths (RFC 9112, section 7.1).
    Chunked,
    /// The connection closes behind it.
    Close,
}

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The chunks are not chunks.
    #[error("the chunked framing is broken")]
    BadChunk,
    /// Extensions or trailers without end.
    #[error("the chunked framing has over {MAX_ASIDES} bytes of extensions or trailers")]
    TooLarge,
    /// The connection closed in the middle.
    #[error("the connection closed before the body was complete")]
    Incomplete,
}

/// Follows the framing of one body.
#[derive(Debug)]
pub struct BodyReader(State);

#[derive(Debug)]
enum State {
    Length { left: u64 },
    Chunked { chunk: Chunk, asides: usize },
    Close { is_over: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size { size: u64, has_digit: bool },
    Pad { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Line,
    Name,
    Value,
    ValueLf,
    EndLf,
    End,
}

impl BodyReader {
    /// A body of which nothing was read.
    pub const fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked {
                chunk: Chunk::SIZE,
                asides: 0,
            },
            Framing::Close => State::Close { is_over: false },
        })
    }

    /// Takes in what came next and appends what of it is data to `data`. Tells how many bytes belonged to the body: fewer
    /// than there are only when it is complete.
    ///
    /// # Errors
    /// When the framing is broken; what was appended before is good.
    pub fn push(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Result<usize, BodyError> {
        match &mut self.0 {
            State::Length { left } => Ok(take(left, bytes, data)),
            State::Close { .. } => {
                data.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            State::Chunked { chunk, asides } => {
                let mut at = 0;
                while at < bytes.len() && *chunk != Chunk::End {
                    at += chunk.push(&bytes[at..], data, asides)?;
                }
                Ok(at)
            }
        }
    }

    /// How many bytes are still to come, if that was said before.
    pub const fn left(&self) -> Option<u64> {
        match self.0 {
            State::Length { left } => Some(left),
            State::Chunked { .. } | State::Close { .. } => None,
        }
    }

    /// So many of the bytes that are [left](Self::left) came, and went where they belong without passing here.
    pub const fn skip(&mut self, length: u64) {
        if let State::Length { left } = &mut self.0 {
            *left = left.saturating_sub(length);
        }
    }

    /// The connection closed.
    ///
    /// # Errors
    /// When there should have been more.
    pub const fn on_close(&mut self) -> Result<(), BodyError> {
        if let State::Close { is_over } = &mut self.0 {
            *is_over = true;
        }
        if self.is_complete() {
            Ok(())
        } else {
            Err(BodyError::Incomplete)
        }
    }

    /// Whether its end was read.
    pub const fn is_complete(&self) -> bool {
        matches!(
            self.0,
            State::Length { left: 0 }
                | State::Chunked {
                    chunk: Chunk::End,
                    ..
                }
                | State::Close { is_over: true }
        )
    }
}

impl Chunk {
    const SIZE: Self = Self::Size {
        size: 0,
        has_digit: false,
    };

    /// Reads one piece of what is not empty; tells its length.
    fn push(
        &mut self,
        bytes: &[u8],
        data: &mut Vec<u8>,
        asides: &mut usize,
    ) -> Result<usize, BodyError> {
        let byte = bytes[0];
        let next = match *self {
            Self::Data { mut left } => {
                let taken = take(&mut left, bytes, data);
                *self = if left == 0 {
                    Self::DataCr
                } else {
                    Self::Data { left }
                };
                return Ok(taken);
            }
            Self::Extension { size } => return self.push_aside(bytes, asides, size),
            Self::Name => {
                let length = take_while(bytes, is_token);
                count(asides, length)?;
                if length > 0 {
                    return Ok(length);
                }
                (byte == b':').then_some(Self::Value)
            }
            Self::Value => {
                let length =
                    take_while(bytes, |byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
                count(asides, length)?;
                if length > 0 {
                    return Ok(length);
                }
                count(asides, LINE_END)?;
                (byte == b'\r').then_some(Self::ValueLf)
            }
            Self::Size { size, has_digit } => after_size(byte, size, has_digit),
            Self::Pad { size } => after_pad(byte, size),
            Self::SizeLf { size: 0 } => (byte == b'\n').then_some(Self::Line),
            Self::SizeLf { size } => (byte == b'\n').then_some(Self::Data { left: size }),
            Self::DataCr => (byte == b'\r').then_some(Self::DataLf),
            Self::DataLf => (byte == b'\n').then_some(Self::SIZE),
            Self::Line if byte == b'\r' => Some(Self::EndLf),
            Self::Line => is_token(byte).then_some(Self::Name),
            Self::ValueLf => (byte == b'\n').then_some(Self::Line),
            Self::EndLf => (byte == b'\n').then_some(Self::End),
            Self::End => return Ok(0),
        };
        *self = next.ok_or(BodyError::BadChunk)?;
        Ok(1)
    }

    /// Passes over a chunk extension, which ends at its CR. A bare LF is refused: some would take it for the end.
    fn push_aside(
        &mut self,
        bytes: &[u8],
        asides: &mut usize,
        size: u64,
    ) -> Result<usize, BodyError> {
        let end = memchr::memchr2(b'\r', b'\n', bytes);
        count(asides, end.unwrap_or(bytes.len()))?;
        match end {
            None => Ok(bytes.len()),
            Some(end) if bytes[end] == b'\r' => {
                *self = Self::SizeLf { size };
                Ok(end + 1)
            }
            Some(_) => Err(BodyError::BadChunk),
        }
    }
}

fn after_size(byte: u8, size: u64, has_digit: bool) -> Option<Chunk> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        let size = size.checked_mul(16)?.checked_add(digit.into())?;
        return Some(Chunk::Size {
            size,
            has_digit: true,
        });
    }
    has_digit.then(|| after_pad(byte, size)).flatten()
}

const fn after_pad(byte: u8, size: u64) -> Option<Chunk> {
    match byte {
        b' ' | b'\t' => Some(Chunk::Pad { size }),
        b';' => Some(Chunk::Extension { size }),
        b'\r' => Some(Chunk::SizeLf { size }),
        _ => None,
    }
}

fn take_while(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_wanted(**byte)).count()
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Appends up to `left` bytes.
fn take(left: &mut u64, bytes: &[u8], data: &mut Vec<u8>) -> usize {
    let here = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *left -= here as u64;
    data.extend_from_slice(&bytes[..here]);
    here
}

fn count(asides: &mut usize, more: usize) -> Result<(), BodyError> {
    *asides += more;
    if *asides > MAX_ASIDES {
        return Err(BodyError::TooLarge);
    }
    Ok(())
}

/// Of a trailer.
const LINE_END: usize = 2;
/// The most bytes of extensions and trailers in one body.
const MAX_ASIDES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, how many bytes belonged to the body, whether it is complete.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut reader, mut data, mut length) = (BodyReader::new(framing), Vec::new(), 0);
        for piece in pieces {
            length += reader.push(piece, &mut data)?;
        }
        Ok((data, length, reader.is_complete()))
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let bodies = [
            "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
            "0005 \t\r\nhello\r\n1;a=\"b\"\r\n!\r\n0;last\r\ntrailer: x\r\nother:\ty\u{e9}\r\n\r\n",
        ];
        for body in bodies {
            let wire = [body.as_bytes(), b"rest"].concat();
            let expected = Ok((b"hello!".to_vec(), body.len(), true));
            for cut in 0..=wire.len() {
                let (first, second) = wire.split_at(cut);
                assert_eq!(read(Framing::Chunked, &[first, second]), expected, "{cut}");
            }
            let single: Vec<&[u8]> = wire.chunks(1).collect();
            assert_eq!(read(Framing::Chunked, &single), expected);
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        let long = format!("1;{}\r\n", "x".repeat(MAX_ASIDES + 1));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MAX_ASIDES));
        let cases = [
            ("\r\n", BodyError::BadChunk),
            ("g\r\n", BodyError::BadChunk),
            ("-1\r\n", BodyError::BadChunk),
            ("1 1\r\n", BodyError::BadChunk),
            ("1\nx\n", BodyError::BadChunk),
            ("1;a\nx", BodyError::BadChunk),
            ("1\r\nxy\r\n", BodyError::BadChunk),
            ("1\r\nx\n", BodyError::BadChunk),
            ("ffffffffffffffff1\r\n", BodyError::BadChunk),
            ("0\r\n\rx", BodyError::BadChunk),
            ("0\r\nGET / HTTP/1.1\r\n", BodyError::BadChunk),
            ("0\r\nno colon\r\n", BodyError::BadChunk),
            ("0\r\n: a\r\n", BodyError::BadChunk),
            ("0\r\na : b\r\n", BodyError::BadChunk),
            ("0\r\na: b\r\n c\r\n", BodyError::BadChunk),
            ("0\r\na: \0\r\n", BodyError::BadChunk),
            ("0\r\na: b\n\r\n", BodyError::BadChunk),
            ("0\r\na: b\r\r\n", BodyError::BadChunk),
            (&long, BodyError::TooLarge),
            (&trailers, BodyError::TooLarge),
        ];
        for (wire, expected) in cases {
            let start = &wire[..wire.len().min(20)];
            assert_eq!(
                read(Framing::Chunked, &[wire.as_bytes()]).map(|_| ()),
                Err(expected),
                "{start:?}"
            );
        }
    }

    #[test]
    fn a_length_ends_where_it_says_and_a_close_where_it_comes() {
        let expected = Ok((b"hello".to_vec(), 5, true));
        assert_eq!(read(Framing::Length(5), &[b"hel", b"lo more"]), expected);
        assert_eq!(read(Framing::Length(0), &[]), Ok((Vec::new(), 0, true)));
        let mut short = BodyReader::new(Framing::Length(5));
        assert_eq!(short.on_close(), Err(BodyError::Incomplete));
        let mut open = BodyReader::new(Framing::Close);
        assert!(!open.is_complete());
        assert_eq!(open.on_close(), Ok(()));
        assert!(open.is_complete());
    }
}
