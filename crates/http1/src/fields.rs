//! What header fields say about the body behind them and the connection (RFC 9112, sections 6, 7 and 9).

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Hears the fields of one head.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    /// Of `Content-Length`, if it was there.
    pub(crate) length: Option<Result<u64, BadLength>>,
    /// It was a list, as one who joins repeated fields makes it.
    pub(crate) is_list: bool,
    /// The last transfer coding.
    pub(crate) coding: Option<&'a [u8]>,
    /// How many transfer codings there were.
    pub(crate) codings: usize,
    /// `Expect` is `100-continue`.
    pub(crate) awaits_continue: bool,
    closes: bool,
    keeps_alive: bool,
}

/// A field that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadField {
    /// Its name is no token.
    Name,
    /// Its value has bytes that none may have.
    Value,
}

/// `Content-Length` is no number, or several that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLength;

impl<'a> Said<'a> {
    /// Puts the `fields` of a head, which is `bytes`, into `headers`.
    ///
    /// # Errors
    /// When one of them is none.
    pub(crate) fn hear_all(
        fields: &[httparse::Header<'a>],
        bytes: &Bytes,
        headers: &mut HeaderMap,
    ) -> Result<Self, BadField> {
        let mut said = Self::default();
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let name = name.map_err(|_| BadField::Name)?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
            let value = value.map_err(|_| BadField::Value)?;
            said.hear(&name, field.value);
            headers.append(name, value);
        }
        Ok(said)
    }

    /// Takes in one field.
    fn hear(&mut self, name: &HeaderName, value: &'a [u8]) {
        let items = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if name == header::CONTENT_LENGTH {
            self.is_list |= items().nth(1).is_some();
            items().for_each(|item| self.hear_length(item));
        } else if name == header::TRANSFER_ENCODING {
            self.codings += items().count();
            self.coding = items().next_back();
        } else if name == header::CONNECTION {
            for item in items() {
                self.closes |= item.eq_ignore_ascii_case(b"close");
                self.keeps_alive |= item.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name == header::EXPECT {
            self.awaits_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
    }

    /// Whether the connection is to stay open behind this message, which is one of HTTP/1.0 if it `is_old`.
    pub(crate) const fn persists(&self, is_old: bool) -> bool {
        !self.closes && (!is_old || self.keeps_alive)
    }

    /// Whether the body is framed twice: another server may have read the other framing.
    pub(crate) const fn is_twofold(&self) -> bool {
        self.coding.is_some() && self.length.is_some()
    }

    /// Whether the last coding frames the body.
    pub(crate) fn is_chunked(&self) -> bool {
        self.coding
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
    }

    /// The length may be repeated, as long as it is the same.
    fn hear_length(&mut self, item: &[u8]) {
        let digits = str::from_utf8(item).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let said = digits.and_then(|text| text.parse().ok());
        self.length = Some(match (self.length, said) {
            (None, Some(said)) => Ok(said),
            (Some(Ok(before)), Some(said)) if before == said => Ok(said),
            _ => Err(BadLength),
        });
    }
}

/// The most fields of one head.
pub(crate) const MAX_FIELDS: usize = 100;
