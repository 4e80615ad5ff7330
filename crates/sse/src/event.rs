//! One event: how its fields are read, and the view that is lent of it.
//!
//! [`Draft`] is the event being read. It keeps fields as spans of the block's own bytes, wherever these lie, and
//! copies only what must be joined: the data of an event with several `data` lines.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use crate::limit::Overflow;
use crate::scanner::empty;

/// What the parser found.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Item<'a> {
    /// An event, dispatched by its blank line.
    Event(Event<'a>),
    /// An event longer than the limit, dropped; reported at its end.
    Overflow(Overflow),
}

impl Item<'_> {
    /// Where the item stood in the stream, as absolute byte offsets.
    #[must_use]
    pub const fn span(&self) -> Range<u64> {
        match self {
            Self::Event(event) => event.span(),
            Self::Overflow(overflow) => overflow.span(),
        }
    }
}

/// An event, lent by the parser: spans of the caller's chunk when the event lies within it, of the parser's own
/// buffer otherwise.
///
/// Bytes are as they came. Text is decoded on demand by the `_str` methods, with U+FFFD for what is not UTF-8, as the
/// standard says; they borrow when the bytes are valid.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) kind: &'a [u8],
    pub(crate) known: &'a Known,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where the data lies in the stream; [`SCATTERED`] when it was joined from several lines.
    pub(crate) data_at: u64,
    /// Whether this is the unterminated end of a stream, whose id was not yet taken.
    pub(crate) tail: bool,
}

impl<'a> Event<'a> {
    /// The data, its lines joined by LF, without a last one.
    #[must_use]
    #[inline]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// [`data`](Self::data) as text.
    #[must_use]
    #[inline]
    pub fn data_str(&self) -> Cow<'a, str> {
        decode(self.data)
    }

    /// The event's type; `message` when it named none.
    #[must_use]
    #[inline]
    pub const fn event_type(&self) -> &'a [u8] {
        if self.kind.is_empty() {
            b"message"
        } else {
            self.kind
        }
    }

    /// [`event_type`](Self::event_type) as text.
    #[must_use]
    pub fn event_type_str(&self) -> Cow<'a, str> {
        decode(self.event_type())
    }

    /// The stream's last event id as of this event; empty when there is none.
    #[must_use]
    pub fn id(&self) -> &'a [u8] {
        if self.tail && self.known.has_next {
            &self.known.next_id
        } else {
            &self.known.id
        }
    }

    /// [`id`](Self::id) as text.
    #[must_use]
    pub fn id_str(&self) -> Cow<'a, str> {
        decode(self.id())
    }

    /// The reconnection time in force at this event, if the stream ever set one.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.known.retry
    }

    /// Where the event stood in the stream: absolute byte offsets, from the first byte of its first field line to the
    /// end of the blank line that dispatched it.
    ///
    /// When that blank line is a CRLF whose LF had not come yet, the span ends after the CR: the event is complete,
    /// and the LF that follows belongs to nothing.
    #[must_use]
    #[inline]
    pub const fn span(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Where [`data`](Self::data) stood in the stream, when it is the value of exactly one `data` line; `None` when it
    /// was joined from several.
    #[must_use]
    #[inline]
    pub const fn data_span(&self) -> Option<Range<u64>> {
        if self.data_at == SCATTERED {
            return None;
        }
        Some(self.data_at..self.data_at + self.data.len() as u64)
    }
}

impl core::fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Event")
            .field("event_type", &self.event_type_str())
            .field("data", &self.data_str())
            .field("id", &self.id_str())
            .field("retry", &self.retry())
            .field("span", &self.span())
            .finish()
    }
}

/// What a stream remembers from one event to the next.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The last event ID string, as of the last blank line.
    pub(crate) id: Vec<u8>,
    /// The last event ID buffer, where the open block has set it: when `has_next`.
    pub(crate) next_id: Vec<u8>,
    pub(crate) has_next: bool,
    pub(crate) retry: Option<Duration>,
}

impl Known {
    /// Takes the id that the block set: every blank line does, whether or not it dispatches.
    #[inline]
    pub(crate) fn commit(&mut self) {
        if self.has_next {
            core::mem::swap(&mut self.id, &mut self.next_id);
            self.has_next = false;
            if self.next_id.capacity() > KEPT_ID {
                self.next_id = Vec::new();
            }
        }
    }
}

/// The block being read: its fields as spans relative to the block's first byte.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) known: Known,
    kind: Range<usize>,
    data: Range<usize>,
    lines: Lines,
    joined: Vec<u8>,
}

impl Draft {
    pub(crate) const fn new() -> Self {
        Self {
            known: Known {
                id: Vec::new(),
                next_id: Vec::new(),
                has_next: false,
                retry: None,
            },
            kind: 0..0,
            data: 0..0,
            lines: Lines::None,
            joined: Vec::new(),
        }
    }

    /// Starts a new block.
    #[inline]
    pub(crate) fn open(&mut self) {
        self.lines = Lines::None;
        self.kind = 0..0;
        self.known.has_next = false;
    }

    /// Reads the complete line `line` of the block `base` (WHATWG HTML 9.2.6, "process the field").
    #[inline]
    pub(crate) fn read_line(&mut self, base: &[u8], line: Range<usize>) {
        let Range { start, end } = line;
        match field_of(&base[start..end]) {
            Field::Data(at) => self.add_data(base, start + at..end),
            Field::Event(at) => self.kind = start + at..end,
            Field::Id(at) => self.set_id(&base[start + at..end]),
            Field::Retry(at) => self.set_retry(&base[start + at..end]),
            Field::Ignored => {}
        }
    }

    /// Reads a line of a block that passed the limit, of which only `id`, `retry` and whether there is data still
    /// count.
    pub(crate) fn read_dropped(&mut self, line: &[u8], max: usize) {
        match field_of(line) {
            Field::Data(_) => self.lines = Lines::Many,
            Field::Id(at) if line.len() <= max => self.set_id(&line[at..]),
            Field::Retry(at) if line.len() <= max => self.set_retry(&line[at..]),
            _ => {}
        }
    }

    /// Whether the block has data, and so is an event.
    #[inline]
    pub(crate) const fn has_data(&self) -> bool {
        !matches!(self.lines, Lines::None)
    }

    /// The event that the block `base` makes, with `base` starting at stream offset `start`.
    #[inline]
    pub(crate) fn lend<'a>(&'a self, base: &'a [u8], span: Range<u64>, tail: bool) -> Event<'a> {
        let (data, data_at) = match self.lines {
            Lines::Many => (&self.joined[..], SCATTERED),
            _ => (
                &base[self.data.clone()],
                span.start + self.data.start as u64,
            ),
        };
        Event {
            data,
            kind: &base[self.kind.clone()],
            known: &self.known,
            start: span.start,
            end: span.end,
            data_at,
            tail,
        }
    }

    /// How large the join buffer is.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> usize {
        self.joined.capacity()
    }

    /// Gives back a join buffer of more than `keep` bytes.
    pub(crate) fn release(&mut self, keep: usize) {
        if self.joined.capacity() > keep {
            self.joined = Vec::new();
        }
    }

    #[inline]
    fn add_data(&mut self, base: &[u8], value: Range<usize>) {
        match self.lines {
            Lines::None => {
                self.data = value;
                self.lines = Lines::One;
                return;
            }
            Lines::One => {
                empty(&mut self.joined);
                self.joined.extend_from_slice(&base[self.data.clone()]);
                self.lines = Lines::Many;
            }
            Lines::Many => {}
        }
        self.joined.push(b'\n');
        self.joined.extend_from_slice(&base[value]);
    }

    fn set_id(&mut self, value: &[u8]) {
        if !value.contains(&0) {
            self.known.next_id.clear();
            self.known.next_id.extend_from_slice(value);
            self.known.has_next = true;
        }
    }

    fn set_retry(&mut self, value: &[u8]) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return;
        }
        let millis = value.iter().fold(0_u64, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        });
        self.known.retry = Some(Duration::from_millis(millis));
    }
}

/// How many `data` lines the block has had.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Lines {
    #[default]
    None,
    One,
    /// Joined in the draft's own buffer.
    Many,
}

/// A line's field, with the place of its value in the line.
enum Field {
    Data(usize),
    Event(usize),
    Id(usize),
    Retry(usize),
    /// A comment, or a name that the standard does not know.
    Ignored,
}

#[inline]
fn field_of(line: &[u8]) -> Field {
    let field = if let Some(rest) = line.strip_prefix(b"data") {
        value_at(rest, 4).map(Field::Data)
    } else if let Some(rest) = line.strip_prefix(b"id") {
        value_at(rest, 2).map(Field::Id)
    } else if let Some(rest) = line.strip_prefix(b"event") {
        value_at(rest, 5).map(Field::Event)
    } else if let Some(rest) = line.strip_prefix(b"retry") {
        value_at(rest, 5).map(Field::Retry)
    } else {
        None
    };
    field.unwrap_or(Field::Ignored)
}

/// Where the value starts after a name of `name` bytes: after the colon and at most one space; at the line's end when
/// there is no colon. `None` when the name goes on.
#[inline]
fn value_at(after_name: &[u8], name: usize) -> Option<usize> {
    match after_name {
        [] => Some(name),
        [b':', b' ', ..] => Some(name + 2),
        [b':', ..] => Some(name + 1),
        _ => None,
    }
}

/// Text of bytes: a plain check first, as it is many times faster than the lossy decoder and mostly enough.
#[inline]
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match check(bytes) {
        Some(text) => Cow::Borrowed(text),
        None => String::from_utf8_lossy(bytes),
    }
}

#[cfg(feature = "simdutf8")]
fn check(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

#[cfg(not(feature = "simdutf8"))]
fn check(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok()
}

/// The room of the id before the last is kept up to this size.
const KEPT_ID: usize = 256;
/// Marks data that has no single place in the stream.
pub(crate) const SCATTERED: u64 = u64::MAX;
