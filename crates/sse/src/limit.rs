//! How much of one event may be held, and what is told about one that was longer.
//!
//! An event that passes the limit is dropped alone: its bytes are skipped as they come, and the parser is in step
//! again at the blank line that ends it. Whether it passes does not depend on how the stream was cut into chunks.

use core::ops::Range;

use crate::scanner::{Mode, Parser, find_line_end, is_line_end};

/// Bounds on what a [`Parser`](crate::Parser) holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest event, in bytes of the stream from its first field line to the end of its last line, line ends
    /// between them included. A longer one becomes an [`Overflow`]. Less than 16 counts as 16.
    pub max_event: usize,
}

impl Limits {
    /// The limit that is applied: field names must fit, or a long line's kind could not be known.
    pub(crate) const fn clamped(self) -> usize {
        if self.max_event < LEAST {
            LEAST
        } else {
            self.max_event
        }
    }
}

impl Default for Limits {
    /// 1 MiB an event.
    fn default() -> Self {
        Self {
            max_event: 1024 * 1024,
        }
    }
}

/// An event that passed [`Limits::max_event`]: only its place in the stream is known.
///
/// It is reported where it ends. Its `id` and `retry` lines count all the same, unless such a line is itself longer
/// than the limit. A block without a `data` line is not an event, however long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    start: u64,
    end: u64,
}

impl Overflow {
    pub(crate) const fn new(span: Range<u64>) -> Self {
        Self {
            start: span.start,
            end: span.end,
        }
    }

    /// Where the event stood in the stream, measured like [`Event::span`](crate::Event::span).
    #[must_use]
    pub const fn span(&self) -> Range<u64> {
        self.start..self.end
    }
}

impl Parser {
    /// Inside a block that passed the limit: skips a line, or ends the block. Whether an event ended.
    pub(crate) fn on_overflow(&mut self, chunk: &[u8], at: usize) -> (usize, bool) {
        if self.held.is_empty() && is_line_end(chunk[at]) {
            self.mode = Mode::Idle;
            return (self.pass_line_end(chunk, at), self.close());
        }
        let end = find_line_end(chunk, at);
        (self.drop_line(chunk, at, end), false)
    }

    /// Inside a line of such a block that is too long to matter.
    pub(crate) fn on_overlong_line(&mut self, chunk: &[u8], at: usize) -> usize {
        let Some(end) = find_line_end(chunk, at) else {
            return chunk.len();
        };
        self.mode = Mode::Overflow;
        self.pass_line_end(chunk, end)
    }

    /// Drops the line of which `held` has the beginning and `chunk[at..]` the rest, or as much as came when `end` is
    /// unknown. It is kept while it may still be an `id` or `retry` line, which count even here.
    pub(crate) fn drop_line(&mut self, chunk: &[u8], at: usize, end: Option<usize>) -> usize {
        self.mode = Mode::Overflow;
        let part = &chunk[at..end.unwrap_or(chunk.len())];
        if let (Some(end), true) = (end, self.held.is_empty()) {
            self.draft.read_dropped(part, self.max);
            return self.pass_line_end(chunk, end);
        }
        let room = self.max + 1 - self.held.len();
        self.held.extend_from_slice(&part[..part.len().min(room)]);
        let overlong = self.held.len() > self.max;
        if end.is_some() || overlong {
            self.draft.read_dropped(&self.held, self.max);
            self.held.clear();
        }
        let Some(end) = end else {
            if overlong {
                self.mode = Mode::OverlongLine;
            }
            return chunk.len();
        };
        self.pass_line_end(chunk, end)
    }
}

const LEAST: usize = 16;
