//! How much of one event may be held, and what is told about one that was longer.
//!
//! An event that passes the limit is dropped alone: its bytes are skipped as they come, and the parser is in step
//! again at the blank line that ends it. Whether it passes does not depend on how the stream was cut into chunks.

use core::ops::Range;

use crate::line::{find_line_end, is_line_end};
use crate::scanner::{Mode, Parser};

/// Bounds on what a [`Parser`](crate::Parser) holds in memory, which says how much that is in all.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Item;

    #[test]
    fn hundreds_of_megabytes_pass_in_bounded_memory() {
        let mut parser = Parser::new(Limits {
            max_event: 64 * 1024,
        });
        let chunk = [b'x'; 1 << 20];
        let mut input = &b"id: 1\ndata: "[..];
        assert!(parser.next(&mut input).is_none());
        for _ in 0..300 {
            let mut input = &chunk[..];
            assert!(parser.next(&mut input).is_none());
            assert!(parser.held.capacity() <= 128 * 1024);
            assert_eq!(parser.pending_from(), parser.position());
            assert!(parser.is_overflowing());
        }
        let mut input = &b"\nretry: 5\n\ndata: next\n\n"[..];
        let Some(Item::Overflow(overflow)) = parser.next(&mut input) else {
            panic!("the long event is reported");
        };
        assert_eq!(overflow.span(), 0..12 + (300 << 20) + 11);
        assert_eq!(parser.last_event_id(), b"1");
        let Some(Item::Event(event)) = parser.next(&mut input) else {
            panic!("the parser is in step again");
        };
        assert_eq!(event.data(), b"next");
        assert!(event.retry().is_some(), "short lines of it count");
    }

    #[test]
    fn a_long_block_without_data_is_no_event() {
        let mut parser = Parser::new(Limits { max_event: 16 });
        let mut input = &b"event: far too long for that\nid: 2\n"[..];
        assert!(parser.next(&mut input).is_none());
        assert!(!parser.is_overflowing());
        let mut input = &b"\n"[..];
        assert!(parser.next(&mut input).is_none());
        assert_eq!(parser.last_event_id(), b"2");
    }

    #[test]
    fn the_limit_is_of_content_and_not_of_the_last_line_end() {
        let mut parser = Parser::new(Limits { max_event: 16 });
        let mut input = &b"data: 0123456789\r\n\r\ndata: 0123456789x\n\n"[..];
        assert!(matches!(parser.next(&mut input), Some(Item::Event(_))));
        assert!(matches!(parser.next(&mut input), Some(Item::Overflow(_))));
    }
}
