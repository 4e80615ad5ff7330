//! A strict reader of JSON text that finds spans instead of building values.
//!
//! arbstr edits bodies by span, so it has to know where a member lies, not what is in the other
//! thousand of them. A [`Cursor`] walks the text once, front to back, accepts exactly RFC 8259 and builds nothing.
//! It never recurses: nesting costs a bit each, up to [`MAX_DEPTH`].
//!
//! UTF-8 is not looked at here; a body is validated once, whole, before a cursor walks it.
//!
//! Keys are short and many: what is done for each of them is inlined always, since handing it back through memory would cost
//! more than finding it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

mod decimal;
mod pointer;
mod skip;
mod stops;
mod strings;

pub(crate) use decimal::{rounded_units, whole_number};
pub use pointer::scalar_at;
pub use strings::{Each, Strings};
pub(crate) use strings::{LongStrings, Noting, Walked};

/// Objects and arrays that may be open at once.
pub const MAX_DEPTH: u32 = 128;

/// What kind of value begins at a position, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// `-` or a digit
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text ends inside a value.
    #[error("expected {expected} at byte {at}, but the text ends there")]
    StreamEnd {
        /// Offset of the missing byte: the length of the text.
        at: usize,
        /// What would have been right.
        expected: Expected,
    },
    /// A byte that cannot stand where it stands.
    #[error("expected {expected} at byte {at}")]
    Unexpected {
        /// Offset of that byte.
        at: usize,
        /// What would have been right.
        expected: Expected,
    },
    /// More than [`MAX_DEPTH`] objects and arrays inside one another.
    #[error("nested deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Offset of the bracket that is one too many.
        at: usize,
    },
    /// The text is not UTF-8.
    #[error("invalid UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first byte that is not part of a character.
        at: usize,
    },
}

impl JsonError {
    /// Offset of the error in the text.
    pub const fn at(&self) -> usize {
        match *self {
            Self::StreamEnd { at, .. }
            | Self::Unexpected { at, .. }
            | Self::TooDeep { at }
            | Self::NotUtf8 { at } => at,
        }
    }

    /// Whether the text is a beginning of JSON that was cut short.
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::StreamEnd { .. })
    }
}

/// What the grammar asks for at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Any value.
    Value,
    /// `{`
    Object,
    /// `[`
    Array,
    /// A string.
    String,
    /// A member's name, or `}` where none came yet.
    Key,
    /// `:`
    Colon,
    /// `,` or `}`
    CommaOrBrace,
    /// `,` or `]`
    CommaOrBracket,
    /// A digit.
    Digit,
    /// One of the letters of `true`, `false`, `null`.
    Literal,
    /// A character that may stand in a string: no bare control character.
    StringCharacter,
    /// One of `"\/bfnrt` or `u` and four hex digits.
    Escape,
    /// Nothing but whitespace.
    EndOfText,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "a value",
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Key => "a member name in quotes",
            Self::Colon => "a colon",
            Self::CommaOrBrace => "a comma or a closing brace",
            Self::CommaOrBracket => "a comma or a closing bracket",
            Self::Digit => "a digit",
            Self::Literal => "true, false or null",
            Self::StringCharacter => "a closing quote (a control character must be escaped)",
            Self::Escape => "a valid escape",
            Self::EndOfText => "the end of the text",
        })
    }
}

/// A string of the text: its bytes between the quotes, still escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Str<'a> {
    raw: &'a [u8],
    start: usize,
    escaped: bool,
}

impl<'a> Str<'a> {
    /// The bytes between the quotes, as they stand.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The whole string with its quotes, as offsets in the text.
    pub const fn span(&self) -> Range<usize> {
        self.start..self.start + self.raw.len() + 2
    }

    /// The bytes between its quotes, as offsets in the text.
    pub(crate) const fn inside(&self) -> Range<usize> {
        self.start + 1..self.start + 1 + self.raw.len()
    }

    /// The characters meant, bad UTF-8 as U+FFFD; `None` when an escape is half a surrogate pair.
    pub fn decode(&self) -> Option<Cow<'a, str>> {
        let raw = match std::str::from_utf8(self.raw) {
            Ok(raw) => Cow::Borrowed(raw),
            Err(_) => String::from_utf8_lossy(self.raw),
        };
        if self.escaped {
            skip::unescape(&raw).map(Cow::Owned)
        } else {
            Some(raw)
        }
    }

    /// Whether this string, unescaped, is `name`.
    pub fn is(&self, name: &str) -> bool {
        if self.escaped {
            self.decode().is_some_and(|text| text == name)
        } else {
            self.raw == name.as_bytes()
        }
    }

    /// The name to match on: unescaped where it has escapes; empty where it is no text.
    #[inline]
    pub(crate) fn name(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        self.decode().map_or(Cow::Borrowed(b""), |text| {
            Cow::Owned(text.into_owned().into_bytes())
        })
    }
}

/// A position in a JSON text.
///
/// ```
/// use arbstr_wire::json::Cursor;
/// let mut cursor = Cursor::new(br#"{"a": [1, 2], "b": true}"#);
/// cursor.open_object()?;
/// let mut spans = Vec::new();
/// while let Some(key) = cursor.next_key()? {
///     spans.push((key.decode().unwrap(), cursor.skip()?));
/// }
/// cursor.end()?;
/// assert_eq!(spans, [("a".into(), 6..12), ("b".into(), 19..23)]);
/// # Ok::<(), arbstr_wire::json::JsonError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cursor<'a, S = Each> {
    text: &'a [u8],
    at: usize,
    depth: u32,
    /// An object or array was opened and nothing read from it yet.
    fresh: bool,
    strings: S,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `text`.
    pub const fn new(text: &'a [u8]) -> Self {
        Self::at(text, 0)
    }

    /// A cursor at `offset`, where a value is known to begin.
    pub const fn at(text: &'a [u8], offset: usize) -> Self {
        Self::passing(Each, text, offset)
    }
}

impl<'a> Cursor<'a, Noting> {
    /// A cursor at the beginning of `text` that notes where its long strings are.
    pub(crate) fn noting(text: &'a [u8]) -> Self {
        Self::passing(Noting::default(), text, 0)
    }

    /// What it has noted.
    pub(crate) fn into_noted(self) -> LongStrings {
        self.strings.into_noted()
    }
}

impl<'a, S> Cursor<'a, S> {
    const fn passing(strings: S, text: &'a [u8], offset: usize) -> Self {
        Self {
            text,
            at: offset,
            depth: 0,
            fresh: false,
            strings,
        }
    }
}

impl<'a, S: Strings> Cursor<'a, S> {
    /// Steps into an object.
    ///
    /// # Errors
    /// Another kind of value stands here, or it is nested too deep.
    pub fn open_object(&mut self) -> Result<(), JsonError> {
        self.open(b'{', Expected::Object)
    }

    /// Steps into an array.
    ///
    /// # Errors
    /// Another kind of value stands here, or it is nested too deep.
    pub fn open_array(&mut self) -> Result<(), JsonError> {
        self.open(b'[', Expected::Array)
    }

    /// Goes to the next member's value and tells its key; steps out of the object and tells `None` at its end.
    ///
    /// # Errors
    /// The text breaks the grammar.
    #[inline(always)]
    pub fn next_key(&mut self) -> Result<Option<Str<'a>>, JsonError> {
        if !self.go_to_next(b'}', Expected::CommaOrBrace)? {
            return Ok(None);
        }
        let key = self.string_for(Expected::Key)?;
        self.at = skip::whitespace(self.text, self.at);
        if self.text.get(self.at) != Some(&b':') {
            return Err(self.wrong(Expected::Colon));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Goes to the next element; steps out of the array and tells `false` at its end.
    ///
    /// # Errors
    /// The text breaks the grammar.
    pub fn next_element(&mut self) -> Result<bool, JsonError> {
        self.go_to_next(b']', Expected::CommaOrBracket)
    }

    /// Passes over the value here and tells where it lies.
    ///
    /// # Errors
    /// The text breaks the grammar, or nests too deep.
    #[inline(always)]
    pub fn skip(&mut self) -> Result<Range<usize>, JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        let start = self.at;
        self.at = skip::value(self.text, start, self.depth, &mut self.strings)?;
        Ok(start..self.at)
    }

    /// Passes over the value here.
    ///
    /// # Errors
    /// The text breaks the grammar, or nests too deep.
    pub fn pass(&mut self) -> Result<(), JsonError> {
        self.skip()?;
        Ok(())
    }

    /// The bytes of a span of the text.
    pub fn slice(&self, span: Range<usize>) -> &'a [u8] {
        &self.text[span]
    }

    /// Passes over the value here and lends its bytes.
    pub(crate) fn slice_skipped(&mut self) -> Result<&'a [u8], JsonError> {
        let span = self.skip()?;
        Ok(self.slice(span))
    }

    /// Reads the string here.
    ///
    /// # Errors
    /// Another kind of value stands here, or the string is malformed.
    #[inline]
    pub fn string(&mut self) -> Result<Str<'a>, JsonError> {
        self.string_for(Expected::String)
    }

    /// Asserts that only whitespace is left.
    ///
    /// # Errors
    /// Something else is.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        if self.at < self.text.len() {
            Err(self.wrong(Expected::EndOfText))
        } else {
            Ok(())
        }
    }

    /// The kind of the value here.
    ///
    /// # Errors
    /// No value begins here.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind, JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        kind_of(self.text, self.at).ok_or_else(|| self.wrong(Expected::Value))
    }

    /// The offset reached.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// The string that is expected here.
    #[inline(always)]
    fn string_for(&mut self, expected: Expected) -> Result<Str<'a>, JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        if self.text.get(self.at) != Some(&b'"') {
            return Err(self.wrong(expected));
        }
        let start = self.at;
        let (quote, escaped) = self.strings.pass(self.text, start + 1)?;
        self.at = quote + 1;
        Ok(Str {
            raw: &self.text[start + 1..quote],
            start,
            escaped,
        })
    }

    fn open(&mut self, bracket: u8, expected: Expected) -> Result<(), JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        if self.text.get(self.at) != Some(&bracket) {
            return Err(self.wrong(expected));
        }
        if self.depth == MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at });
        }
        self.depth += 1;
        self.at += 1;
        self.fresh = true;
        Ok(())
    }

    /// Passes the comma before the next member or element, or the bracket that closes.
    #[inline(always)]
    fn go_to_next(&mut self, closing: u8, expected: Expected) -> Result<bool, JsonError> {
        self.at = skip::whitespace(self.text, self.at);
        let fresh = std::mem::take(&mut self.fresh);
        match self.text.get(self.at) {
            Some(&byte) if byte == closing => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            _ if fresh => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.wrong(expected)),
        }
    }

    fn wrong(&self, expected: Expected) -> JsonError {
        wrong(self.text, self.at, expected)
    }
}

/// Whether `text` is one JSON value in UTF-8.
///
/// # Errors
/// It is not; the error says where.
pub fn check(text: &[u8]) -> Result<(), JsonError> {
    check_utf8(text)?;
    let mut cursor = Cursor::new(text);
    cursor.skip()?;
    cursor.end()
}

/// Whether `text` is UTF-8.
pub(crate) fn check_utf8(text: &[u8]) -> Result<&str, JsonError> {
    simdutf8::compat::from_utf8(text).map_err(|error| JsonError::NotUtf8 {
        at: error.valid_up_to(),
    })
}

/// The kind of the value that begins at `at`.
#[inline]
pub(crate) fn kind_of(text: &[u8], at: usize) -> Option<Kind> {
    Some(match text.get(at)? {
        b'{' => Kind::Object,
        b'[' => Kind::Array,
        b'"' => Kind::String,
        b'-' | b'0'..=b'9' => Kind::Number,
        b't' | b'f' => Kind::Bool,
        b'n' => Kind::Null,
        _ => return None,
    })
}

/// The offset of the closing quote of the string whose first character is at `at`, if it is well formed.
pub(crate) fn pass_string(text: &[u8], at: usize) -> Option<usize> {
    skip::string(text, at).ok().map(|(quote, _)| quote)
}

#[cold]
fn wrong(text: &[u8], at: usize, expected: Expected) -> JsonError {
    if at >= text.len() {
        JsonError::StreamEnd {
            at: text.len(),
            expected,
        }
    } else {
        JsonError::Unexpected { at, expected }
    }
}

#[cfg(test)]
mod tests;
