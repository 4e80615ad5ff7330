//! The push state machine: bytes in, items out, each byte looked at once.
//!
//! ```text
//!            field line                      blank line
//!   Start ──> Idle ─────> (within the chunk) ──────────> Idle, event lent from the chunk
//!  (BOM)      │ ^  ':'          │ chunk ends
//!             │ └───> Comment   v
//!             │              Block ─────────────────────> Idle, event lent from `held`
//!             │                 │ limit passed
//!             │                 v
//!             └─────────── Overflow <──> OverlongLine     (blank line: Idle, Overflow reported)
//! ```
//!
//! A block that begins and ends within one chunk is never copied. One that goes on into the next is kept in `held`
//! byte for byte, so that a field is the same span of its block wherever the block lies. What `held` has is known to
//! be scanned: only new bytes are searched for line ends.

use alloc::vec::Vec;
use core::time::Duration;

use memchr::memchr2;

use crate::event::{Draft, Event, Item};
use crate::limit::{Limits, Overflow};
use crate::line::{Plain, find_line_end, find_plain, is_line_end};

/// Reads one event stream, pushed to it in chunks of any size (WHATWG HTML 9.2.5 and 9.2.6).
///
/// It allocates nothing until an event spans two chunks, has several `data` lines, or sets an id; a BOM takes eight bytes.
/// It holds at most one event of [`Limits::max_event`] bytes, the joined data of several `data` lines, both in buffers that
/// grow by doubling, and the last event id with the next, each as long as its line may be: some five times the limit where
/// a stream is made to need all of it at once. A large buffer is given back between two chunks or to the first smaller
/// event that needs one; the last event id alone stays, for as long as the stream means it.
///
/// ```
/// use arbstr_sse::{Item, Limits, Parser};
///
/// let mut parser = Parser::new(Limits::default());
/// let mut seen = Vec::new();
/// for chunk in ["data: fi", "rst\n\ndata: second\n", "\n"] {
///     let mut input = chunk.as_bytes();
///     while let Some(item) = parser.next(&mut input) {
///         if let Item::Event(event) = item {
///             seen.push((event.data_str().into_owned(), event.span()));
///         }
///     }
/// }
/// assert_eq!(seen, [("first".into(), 0..13), ("second".into(), 13..27)]);
/// ```
#[derive(Debug)]
pub struct Parser {
    pub(crate) mode: Mode,
    /// Nothing was put into a buffer since the last look at their sizes.
    tidy: bool,
    /// The last byte consumed was a CR: an LF now is the rest of that line end.
    after_cr: bool,
    pub(crate) max: usize,
    /// Offset in the stream of the next byte to come.
    position: u64,
    /// Offset of what is unfinished: of `held[0]`, of the comment line, or of the event that passed the limit.
    pub(crate) start: u64,
    /// The block's bytes so far; in `Overflow`, only those of the unfinished line.
    pub(crate) held: Vec<u8>,
    /// Where the unfinished line starts in `held`.
    line: usize,
    pub(crate) draft: Draft,
}

impl Parser {
    /// A parser at the start of a stream.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            mode: Mode::Start,
            tidy: true,
            after_cr: false,
            max: limits.clamped(),
            position: 0,
            start: 0,
            held: Vec::new(),
            line: 0,
            draft: Draft::new(),
        }
    }

    /// The next item of `input`, which is moved past what was consumed; `None` when all of it is.
    ///
    /// Call it until `None`, then with the next chunk. An item is lent until the next call.
    #[inline(always)]
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Option<Item<'a>> {
        let chunk = *input;
        let mut searched = 0;
        if self.mode == Mode::Idle {
            match find_plain(chunk, self.max) {
                Plain::Event { data, used } => {
                    let start = self.position;
                    self.position = start + used as u64;
                    self.after_cr = false;
                    *input = &chunk[used..];
                    return Some(Item::Event(Event {
                        data: &chunk[data.clone()],
                        kind: b"",
                        known: &self.draft.known,
                        start,
                        end: self.position,
                        data_at: start + data.start as u64,
                        tail: false,
                    }));
                }
                Plain::Other { searched: to } => searched = to,
            }
            if chunk.is_empty() && self.tidy {
                return None;
            }
        }
        self.next_any(input, searched)
    }

    /// Ends the stream and lends what was unterminated, as if a blank line followed.
    ///
    /// The standard discards this tail: the event has the id that its lines say, but that does not become
    /// [`last_event_id`](Self::last_event_id), and a retry time in it counts for nothing. What is pushed afterwards is a new
    /// stream, counted from 0, where [`position`](Self::position) stands at once; the last event id and the retry time stay,
    /// as they do for one that reconnects.
    pub fn finish(&mut self) -> Option<Item<'_>> {
        let retry = self.draft.known.retry;
        let mode = core::mem::replace(&mut self.mode, Mode::Ended);
        let span = self.start..self.position;
        (self.start, self.position) = (0, 0);
        match mode {
            Mode::Block => {
                let line = self.line..self.held.len();
                self.draft.read_line(&self.held, line);
            }
            Mode::Overflow => self.draft.read_dropped(&self.held, self.max),
            Mode::OverlongLine => {}
            Mode::Start | Mode::Idle | Mode::Comment | Mode::Ended => return None,
        }
        self.draft.known.retry = retry;
        if !self.draft.has_data() {
            return None;
        }
        Some(if mode == Mode::Block {
            Item::Event(self.draft.lend(&self.held, span, true))
        } else {
            Item::Overflow(Overflow::new(span))
        })
    }

    /// Bytes of the stream consumed so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The offset of the first byte that belongs to an unfinished event, or to an unfinished line before one.
    ///
    /// Whoever relays the stream may let everything before it go: no event still to come begins there. Between events
    /// and inside an event that has passed the limit this is [`position`](Self::position). A comment line counts
    /// until it ends, or until it is itself longer than the limit.
    #[must_use]
    pub const fn pending_from(&self) -> u64 {
        match self.mode {
            Mode::Start | Mode::Block => self.start,
            Mode::Comment if self.position - self.start <= self.max as u64 => self.start,
            _ => self.position,
        }
    }

    /// Whether the stream stands inside an event that has passed the limit, so that an
    /// [`Overflow`](crate::Overflow) is still to come. A block without a `data` line so far is no event yet.
    #[must_use]
    pub const fn is_overflowing(&self) -> bool {
        matches!(self.mode, Mode::Overflow | Mode::OverlongLine) && self.draft.has_data()
    }

    /// The last event id, as of the last blank line; empty when there is none. It is what a client that reconnects
    /// sends as `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> &[u8] {
        &self.draft.known.id
    }

    /// The reconnection time in force, if the stream ever set one.
    #[must_use]
    pub const fn retry(&self) -> Option<Duration> {
        self.draft.known.retry
    }

    /// [`next`](Self::next) in any state; no line ends in the first `searched` bytes.
    #[inline(never)]
    fn next_any<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
        searched: usize,
    ) -> Option<Item<'a>> {
        let chunk = *input;
        if let (Mode::Block, [byte]) = (self.mode, chunk)
            && !is_line_end(*byte)
            && self.held.len() < self.max
        {
            self.held.push(*byte);
            self.position += 1;
            self.after_cr = false;
            *input = &[];
            return None;
        }
        if searched == chunk.len() && searched > 0 && searched <= self.max {
            self.after_cr = false;
            self.draft.open();
            self.hold(chunk, 0, 0);
            self.position += searched as u64;
            *input = &[];
            return None;
        }
        let (used, found) = self.scan(chunk, searched);
        let before = self.position;
        self.position += used as u64;
        *input = &chunk[used..];
        match found? {
            Found::InChunk { base } => {
                let span = before + base as u64..self.position;
                let event = self.draft.lend(&chunk[base..used], span, false);
                Some(Item::Event(event))
            }
            Found::Held => {
                let span = self.start..self.position;
                Some(Item::Event(self.draft.lend(&self.held, span, false)))
            }
            Found::Overflow => {
                let overflow = Overflow::new(self.start..self.position);
                Some(Item::Overflow(overflow))
            }
        }
    }

    /// Consumes `chunk` up to the end of the next item. While it runs, `position` is still that of `chunk[0]`.
    fn scan(&mut self, chunk: &[u8], searched: usize) -> (usize, Option<Found>) {
        self.tidy = false;
        let mut at = self.resume(chunk);
        while at < chunk.len() {
            let (next, found) = match self.mode {
                Mode::Start => self.on_start(chunk, at),
                Mode::Idle => self.on_idle(chunk, at, searched),
                Mode::Comment => self.on_comment(chunk, at),
                Mode::Block => self.on_block(chunk, at),
                Mode::Overflow => {
                    let (next, ended) = self.on_overflow(chunk, at);
                    (next, ended.then_some(Found::Overflow))
                }
                Mode::OverlongLine => (self.on_overlong_line(chunk, at), None),
                Mode::Ended => unreachable!("resume leaves this state"),
            };
            at = next;
            if found.is_some() {
                return (at, found);
            }
        }
        if self.mode == Mode::Idle {
            self.release();
        }
        (at, None)
    }

    /// Begins anew after `finish`, and takes the LF of a CRLF cut in two.
    fn resume(&mut self, chunk: &[u8]) -> usize {
        if self.mode == Mode::Ended {
            self.restart();
        }
        if !self.after_cr || chunk.is_empty() {
            return 0;
        }
        self.after_cr = false;
        if chunk[0] != b'\n' {
            return 0;
        }
        if self.mode == Mode::Block {
            self.held.push(b'\n');
            self.line = self.held.len();
        }
        1
    }

    fn restart(&mut self) {
        self.mode = Mode::Start;
        self.after_cr = false;
        self.held.clear();
        self.line = 0;
        self.draft.open();
    }

    /// The first bytes of the stream: one leading BOM belongs to nothing.
    fn on_start(&mut self, chunk: &[u8], at: usize) -> Turn {
        if chunk[at] != BOM[self.held.len()] {
            self.mode = if self.held.is_empty() {
                Mode::Idle
            } else {
                Mode::Block
            };
            return (at, None);
        }
        self.held.push(chunk[at]);
        if self.held.len() == BOM.len() {
            self.held.clear();
            self.mode = Mode::Idle;
        }
        (at + 1, None)
    }

    /// At a line's start, outside any block.
    #[inline]
    fn on_idle(&mut self, chunk: &[u8], mut at: usize, searched: usize) -> Turn {
        while at < chunk.len() {
            match chunk[at] {
                b'\n' | b'\r' => at = self.pass_line_end(chunk, at),
                b':' => {
                    let Some(end) = find_line_end(chunk, at) else {
                        self.start = self.position + at as u64;
                        self.mode = Mode::Comment;
                        return (chunk.len(), None);
                    };
                    at = self.pass_line_end(chunk, end);
                }
                _ => return self.read_block(chunk, at, searched),
            }
        }
        (at, None)
    }

    /// Inside a comment line outside any block, which need not be kept.
    #[inline]
    fn on_comment(&mut self, chunk: &[u8], at: usize) -> Turn {
        let Some(end) = find_line_end(chunk, at) else {
            return (chunk.len(), None);
        };
        self.mode = Mode::Idle;
        (self.pass_line_end(chunk, end), None)
    }

    /// A block from its first byte, as far as this chunk has it.
    #[inline]
    fn read_block(&mut self, chunk: &[u8], base: usize, searched: usize) -> Turn {
        self.draft.open();
        let block = &chunk[base..];
        let mut at = base;
        while at < chunk.len() {
            if is_line_end(chunk[at]) {
                let used = self.pass_line_end(chunk, at);
                let found = self.close().then_some(Found::InChunk { base });
                return (used, found);
            }
            let end = find_line_end(chunk, at.max(searched));
            if end.unwrap_or(chunk.len()) - base > self.max {
                self.start = self.position + base as u64;
                self.held.clear();
                return (self.drop_line(chunk, at, end), None);
            }
            let Some(end) = end else {
                break;
            };
            self.draft.read_line(block, at - base..end - base);
            at = self.pass_line_end(chunk, end);
        }
        self.hold(chunk, base, at);
        (chunk.len(), None)
    }

    /// Takes the blank line at `at`, which ends a held block.
    #[inline]
    fn end_block(&mut self, chunk: &[u8], at: usize) -> Turn {
        self.mode = Mode::Idle;
        let used = self.pass_line_end(chunk, at);
        (used, self.close().then_some(Found::Held))
    }

    /// Keeps the unfinished block that began at `base` of this chunk, with its last line unfinished from `line`.
    #[inline]
    fn hold(&mut self, chunk: &[u8], base: usize, line: usize) {
        self.mode = Mode::Block;
        self.tidy = false;
        self.start = self.position + base as u64;
        self.line = line - base;
        empty(&mut self.held);
        self.held.extend_from_slice(&chunk[base..]);
    }

    /// Inside a block that began in an earlier chunk.
    #[inline]
    fn on_block(&mut self, chunk: &[u8], mut at: usize) -> Turn {
        while at < chunk.len() {
            if self.line == self.held.len() && is_line_end(chunk[at]) {
                return self.end_block(chunk, at);
            }
            // The rest of a cut line is mostly long.
            let end = if self.line == self.held.len() {
                find_line_end(chunk, at)
            } else {
                memchr2(b'\n', b'\r', &chunk[at..]).map(|length| at + length)
            };
            let part = &chunk[at..end.unwrap_or(chunk.len())];
            if self.held.len() + part.len() > self.max {
                self.held.drain(..self.line);
                return (self.drop_line(chunk, at, end), None);
            }
            self.held.extend_from_slice(part);
            let Some(end) = end else {
                return (chunk.len(), None);
            };
            self.draft.read_line(&self.held, self.line..self.held.len());
            at = self.pass_line_end(chunk, end);
            if chunk.get(at).is_some_and(|byte| is_line_end(*byte)) {
                return self.end_block(chunk, at);
            }
            for byte in &chunk[end..at] {
                self.held.push(*byte);
            }
            self.line = self.held.len();
        }
        (at, None)
    }
}

impl Parser {
    /// Takes the blank line of a block: the id it set is now the stream's. Whether the block is an event.
    #[inline]
    pub(crate) fn close(&mut self) -> bool {
        self.draft.known.commit();
        self.draft.has_data()
    }

    /// Passes the line end at `end`, and notes a CR whose LF may be in the next chunk.
    #[inline]
    pub(crate) fn pass_line_end(&mut self, chunk: &[u8], end: usize) -> usize {
        if chunk[end] == b'\n' {
            return end + 1;
        }
        match chunk.get(end + 1) {
            Some(b'\n') => end + 2,
            Some(_) => end + 1,
            None => {
                self.after_cr = true;
                end + 1
            }
        }
    }

    /// Gives large buffers back: nothing is held between events.
    fn release(&mut self) {
        self.held.clear();
        if self.held.capacity() > KEEP {
            self.held = Vec::new();
        }
        self.draft.release(KEEP);
        self.tidy = true;
    }
}

/// Where the parser stands between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// At the first bytes of the stream; `held` has what matched of the BOM.
    Start,
    /// At a line's start outside any block; what `held` has is of the past, perhaps still lent.
    Idle,
    /// Inside a comment line outside any block; nothing is held.
    Comment,
    /// Inside a block, all of which is held.
    Block,
    /// Inside a block that passed the limit; the unfinished line is held.
    Overflow,
    /// Inside a line of such a block that passed the limit by itself; nothing is held.
    OverlongLine,
    /// After `finish`: the next byte begins a new stream.
    Ended,
}

/// What ended a scan, to be lent once nothing else borrows the parser.
enum Found {
    /// An event that began at `base` of this chunk.
    InChunk { base: usize },
    /// An event in `held`.
    Held,
    /// An event that passed the limit.
    Overflow,
}

/// Empties a buffer. Large room that what it had did not need is given back: no chunk may ever end between events.
#[inline]
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP && buffer.len() <= KEEP {
        *buffer = Vec::new();
    }
    buffer.clear();
}

/// How far one step came in the chunk, and what it found there.
type Turn = (usize, Option<Found>);

const BOM: &[u8; 3] = b"\xEF\xBB\xBF";
/// Capacity that an idle parser, or one of small events, may keep, in bytes.
const KEEP: usize = 4096;

#[cfg(test)]
mod tests;
