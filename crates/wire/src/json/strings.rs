//! How a walk passes strings: it reads each of them, notes the long ones, or knows those from an earlier walk.
//!
//! A prompt of a megabyte is walked once to see that it is JSON and once more to see what it says. The second walk need
//! not look for the end of a text that the first one has found.

use super::{Cursor, JsonError, skip};

/// Passes strings on behalf of a [`Cursor`].
pub trait Strings: Clone + std::fmt::Debug {
    /// The offset of the closing quote of the string whose first character is at `at`, and whether it has escapes.
    ///
    /// # Errors
    /// The string is malformed.
    fn pass(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), JsonError>;
}

/// Reads each string.
#[derive(Debug, Clone, Copy)]
pub struct Each;

/// Reads each string and notes the long ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noting {
    long: LongStrings,
}

/// Reads only what was not noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted<'n> {
    long: &'n LongStrings,
}

/// Where the long strings of a text lie, in order. It takes a tenth of the room that they take, at most.
#[derive(Debug, Clone, Default)]
pub(crate) struct LongStrings(Vec<LongString>);

#[derive(Debug, Clone, Copy)]
struct LongString {
    at: usize,
    quote: usize,
    escaped: bool,
}

impl Noting {
    /// What was noted.
    pub(crate) fn into_noted(self) -> LongStrings {
        self.long
    }
}

/// A text that one walk has found valid, and what it noted on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked<'a, 'n> {
    pub(crate) text: &'a str,
    pub(crate) long: &'n LongStrings,
}

impl<'a, 'n> Walked<'a, 'n> {
    /// A cursor at `offset`, where a value is known to begin.
    pub(crate) const fn cursor(self, offset: usize) -> Cursor<'a, Noted<'n>> {
        Cursor::passing(Noted { long: self.long }, self.text.as_bytes(), offset)
    }
}

impl Strings for Each {
    #[inline]
    fn pass(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
        skip::string(text, at)
    }
}

impl Strings for Noting {
    #[inline]
    fn pass(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
        let (quote, escaped) = skip::string(text, at)?;
        if quote - at >= LONG {
            self.long.0.push(LongString { at, quote, escaped });
        }
        Ok((quote, escaped))
    }
}

impl Strings for Noted<'_> {
    #[inline]
    fn pass(&mut self, text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
        let long = &self.long.0;
        match long.binary_search_by_key(&at, |string| string.at) {
            Ok(found) => Ok((long[found].quote, long[found].escaped)),
            Err(_) => skip::string(text, at),
        }
    }
}

/// Shorter strings are read as fast as they are looked up.
const LONG: usize = 256;
