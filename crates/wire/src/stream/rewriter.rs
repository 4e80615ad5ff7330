//! Turns a provider's stream into the client's, chunk by chunk.
//!
//! ```text
//!   ┌──────┐ push: [DONE]                ┌──────────┐ trailer ┌───────┐
//!   │ Open │────────────────────────────►│   Done   │────────►│ Ended │
//!   └──────┘                             └──────────┘         └───────┘
//!     │ │ │  finish: [DONE] without line ends ▲                 ▲ ▲ ▲
//!     │ │ ├───────────────────────────────────┘                 │ │ │
//!     │ │ │  finish: all choices finished ┌──────────┐ trailer  │ │ │
//!     │ │ ├──────────────────────────────►│ Complete │──────────┘ │ │
//!     │ │ │                               └──────────┘            │ │
//!     │ │ │  finish: anything else        ┌──────────┐ break_off  │ │
//!     │ │ └──────────────────────────────►│   Cut    │────────────┘ │
//!     │ │                                 └──────────┘              │
//!     │ └── break_off ────────────────────────────────────────────►─┘
//! ```
//!
//! Only the unfinished tail of an event is held back, and it is copied out of its chunk so that a large read buffer is
//! not kept for a few bytes of it. The parser says how far bytes may be released; an event over its limit is released
//! as it comes, unedited.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arbstr_sse::{Item, Limits, Parser};
use bytes::Bytes;

use super::boundary::{Boundary, LastLf};
use super::observer::{self, Edit, FirstEvent, Observation, Observer};
use super::overlong;
use super::trailer::{self, BreakCode, Trailer};
use super::window::{Window, add_cuts, offset};
use super::{Metadata, StreamSettings};
use crate::outline::Outline;
use crate::redact::{Secrets, find_echoes, merge};

/// Bytes of an unfinished event that are held back at most: 64 KiB with its line ends.
pub const MAX_EVENT: usize = 64 * 1024 - 16;

/// A buffer up to this size is kept for the next tail.
const KEPT_CAPACITY: usize = 1024;

/// How an upstream that ended cleanly left its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// With `[DONE]`.
    Done,
    /// Without it, but every choice had its finish reason.
    CompleteWithoutDone,
    /// In the middle.
    Incomplete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Done,
    Complete,
    Cut,
    Ended,
}

/// One stream on its way to the client.
#[derive(Debug)]
pub struct Rewriter {
    settings: StreamSettings,
    parser: Parser,
    observer: Observer,
    secrets: Option<Arc<dyn Secrets>>,
    phase: Phase,
    /// Bytes that came and may not be released yet; the last of them is at the parser's position.
    held: Vec<u8>,
    /// Where in the stream the first byte is that was neither released nor cut.
    released_to: u64,
    boundary: Boundary,
    /// A cut event ended with a CR at the very end of its chunk: a LF that comes next was part of it.
    cut_before_lf: bool,
    /// Whether the event that is partly released, being too large to be held, begins as an error.
    is_overlong_error: bool,
}

impl Rewriter {
    /// The relay of one stream.
    pub const fn new(settings: StreamSettings) -> Self {
        Self {
            settings,
            parser: Parser::new(Limits {
                max_event: MAX_EVENT,
            }),
            observer: Observer::new(settings.choices),
            secrets: None,
            phase: Phase::Open,
            held: Vec::new(),
            released_to: 0,
            boundary: Boundary::new(),
            cut_before_lf: false,
            is_overlong_error: false,
        }
    }

    /// The same, taking secrets out of the provider's error events.
    #[must_use]
    pub fn redacting(self, secrets: Arc<dyn Secrets>) -> Self {
        Self {
            secrets: Some(secrets),
            ..self
        }
    }

    /// Takes a chunk from upstream; returns what may go to the client now, which may be nothing.
    ///
    /// What comes after `[DONE]` is dropped.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.phase != Phase::Open || chunk.is_empty() {
            return Bytes::new();
        }
        let window = Window {
            held: &self.held,
            chunk: &chunk,
            start: self.released_to,
        };
        let mut cuts = Vec::new();
        let cut_lf = std::mem::take(&mut self.cut_before_lf) && chunk[0] == b'\n';
        if cut_lf {
            let at = self.parser.position();
            cuts.push(at..at + 1);
        }
        let mut input = &chunk[..];
        let mut done_at = None;
        let mut item_from = self.released_to;
        let mut is_begun = self.parser.is_overflowing();
        while let Some(item) = self.parser.next(&mut input) {
            let span = item.span();
            (item_from, is_begun) = (span.end, false);
            let Item::Event(event) = item else {
                let is_error = std::mem::take(&mut self.is_overlong_error)
                    || overlong::is_error(&window.head(span.start));
                self.observer
                    .observe_overflow(span.end - span.start, is_error);
                continue;
            };
            if observer::is_done(event.data()) {
                self.observer.mark_done();
                done_at = Some(event.span().end);
                break;
            }
            let edit = inspect(
                &mut self.observer,
                event.data(),
                self.settings.hide_usage,
                self.secrets.as_deref(),
            );
            add_cuts(&edit, &event, &window, &mut cuts);
        }
        let end = window.end();
        self.cut_before_lf =
            cuts.last().is_some_and(|cut| cut.end == end) && chunk.last() == Some(&b'\r');
        let release_to = done_at.unwrap_or_else(|| self.parser.pending_from());
        if release_to > item_from && done_at.is_none() && !is_begun {
            self.is_overlong_error |= overlong::is_error(&window.head(item_from));
        }
        let released = self.release(chunk, release_to, &cuts);
        self.note_overflow();
        if done_at.is_some() {
            self.close_done(released)
        } else {
            released
        }
    }

    /// The upstream ended cleanly: releases a tail that is complete but for its line ends, and says how it ended.
    pub fn finish(&mut self) -> (Bytes, StreamEnd) {
        match self.phase {
            Phase::Open => {}
            Phase::Done => return (Bytes::new(), StreamEnd::Done),
            Phase::Complete => return (Bytes::new(), StreamEnd::CompleteWithoutDone),
            Phase::Ended if self.observer.observation().done => {
                return (Bytes::new(), StreamEnd::Done);
            }
            Phase::Cut | Phase::Ended => return (Bytes::new(), StreamEnd::Incomplete),
        }
        let released = self.finish_tail();
        let seen = self.observer.observation();
        let (phase, end) = match (seen.done, seen.all_choices_finished) {
            (true, _) => (Phase::Done, StreamEnd::Done),
            (false, true) => (Phase::Complete, StreamEnd::CompleteWithoutDone),
            (false, false) => (Phase::Cut, StreamEnd::Incomplete),
        };
        self.phase = phase;
        (released, end)
    }

    /// What arbstr appends, after [`is_done`](Self::is_done) or [`finish`](Self::finish): nothing unless it is due.
    /// It belongs into the same write as the bytes before it.
    pub fn trailer(&mut self, trailer: &Trailer<'_>) -> Bytes {
        let due = match self.phase {
            Phase::Open | Phase::Cut | Phase::Ended => return Bytes::new(),
            Phase::Done => true,
            Phase::Complete => !self.settings.requires_done,
        };
        self.phase = Phase::Ended;
        if !due || self.settings.metadata == Metadata::Off {
            return Bytes::new();
        }
        let mut out = String::from(self.boundary.missing());
        match self.settings.metadata {
            Metadata::Event => trailer::write_event(
                &mut out,
                self.settings.endpoint,
                &self.observer.observation(),
                trailer,
            ),
            Metadata::Comment => trailer::write_comment(&mut out, trailer),
            Metadata::Off => {}
        }
        out.into()
    }

    /// The stream breaks off here, or [ended](Self::finish) incomplete: the error event for the client, on a line of its
    /// own. The tail held back is dropped. Nothing when the stream was over already.
    pub fn break_off(&mut self, code: BreakCode, message: &str, trailer: &Trailer<'_>) -> Bytes {
        if !matches!(self.phase, Phase::Open | Phase::Cut) {
            return Bytes::new();
        }
        self.phase = Phase::Ended;
        self.held = Vec::new();
        let mut out = String::from(self.boundary.missing());
        let trailer = Some(trailer).filter(|_| self.settings.metadata == Metadata::Event);
        trailer::write_break(&mut out, code, message, trailer);
        out.into()
    }

    /// Whether the upstream's `[DONE]` was released. The response ends here, after the trailer.
    pub const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// What came first, for holding back the client's status line.
    pub const fn first_event(&self) -> FirstEvent {
        self.observer.first_event()
    }

    /// What was learned so far.
    pub fn observation(&self) -> Observation<'_> {
        self.observer.observation()
    }

    /// Bytes of memory that an idle stream holds on to beside this struct.
    pub const fn held_capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Hands out what lies before `to`, less the cuts, and keeps the rest.
    fn release(&mut self, chunk: Bytes, to: u64, cuts: &[Range<u64>]) -> Bytes {
        let window = Window {
            held: &self.held,
            chunk: &chunk,
            start: self.released_to,
        };
        let (chunk_start, end) = (window.chunk_start(), window.end());
        let whole = self.held.is_empty() && cuts.is_empty();
        let released = if whole {
            Bytes::new()
        } else {
            window.gather(to, cuts).into()
        };
        let released = if whole {
            chunk.slice(..offset(to, chunk_start))
        } else {
            released
        };
        self.boundary.pass(&released);
        if to >= chunk_start {
            keep(&mut self.held, &chunk[offset(to, chunk_start)..]);
        } else {
            self.held.drain(..offset(to, self.released_to));
            extend(&mut self.held, &chunk);
        }
        debug_assert!(to + self.held.len() as u64 == end);
        self.released_to = to;
        released
    }

    /// An event too large to be held opens the gate while it is still coming: whoever waits for it holds its bytes.
    fn note_overflow(&mut self) {
        let waits = self.observer.first_event() == FirstEvent::None;
        if waits && self.parser.is_overflowing() {
            self.observer.mark_overflowing(self.is_overlong_error);
        }
    }

    /// After `[DONE]`: nothing is held any more. Where a chunk ended between the CR and the LF of the last line, the LF
    /// was not waited for; so whether it is passed on hangs on the line before it, not on the chunking.
    fn close_done(&mut self, released: Bytes) -> Bytes {
        self.phase = Phase::Done;
        self.held = Vec::new();
        match self.boundary.last_lf() {
            LastLf::Right => released,
            LastLf::Missing => {
                self.boundary.pass(b"\n");
                [&released, b"\n".as_slice()].concat().into()
            }
            LastLf::Stray => released.slice(..released.len().saturating_sub(1)),
        }
    }

    /// The unterminated last event, if it is whole.
    fn finish_tail(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held);
        let window = Window {
            held: &held,
            chunk: &[],
            start: self.released_to,
        };
        let mut cuts = Vec::new();
        let is_done = match self.parser.finish() {
            Some(Item::Event(event)) if observer::is_done(event.data()) => {
                self.observer.mark_done();
                true
            }
            Some(Item::Event(event)) if matches!(Outline::read(event.data()), Ok(Some(_))) => {
                let edit = inspect(
                    &mut self.observer,
                    event.data(),
                    self.settings.hide_usage,
                    self.secrets.as_deref(),
                );
                add_cuts(&edit, &event, &window, &mut cuts);
                false
            }
            Some(Item::Event(_)) | None => return Bytes::new(),
            Some(item) => {
                let span = item.span();
                self.observer
                    .observe_overflow(span.end - span.start, self.is_overlong_error);
                return Bytes::new();
            }
        };
        let mut released = window.gather(window.end(), &cuts);
        self.boundary.pass(&released);
        if !is_done && !released.is_empty() {
            released.extend_from_slice(self.boundary.missing().as_bytes());
            self.boundary.pass(b"\n\n");
        }
        released.into()
    }
}

/// Lets the observer read an event, and takes secrets out of it if it is an error.
fn inspect(
    observer: &mut Observer,
    data: &[u8],
    hide_usage: bool,
    secrets: Option<&dyn Secrets>,
) -> Edit {
    let errors = observer.error_events();
    let edit = guarded(observer, |observer| observer.inspect(data, hide_usage));
    // With nobody to tell, any event may be an error.
    let may_be_error = observer.error_events() > errors || observer.observation_is_lost();
    match secrets {
        Some(secrets) if may_be_error => redact(edit, data, secrets),
        _ => edit,
    }
}

/// What `read` makes of an event; a panic in it costs the observation alone.
fn guarded(observer: &mut Observer, read: impl FnOnce(&mut Observer) -> Edit) -> Edit {
    if observer.observation_is_lost() {
        return Edit::Keep;
    }
    catch_unwind(AssertUnwindSafe(|| read(observer))).unwrap_or_else(|_| {
        observer.mark_lost();
        Edit::Keep
    })
}

/// Adds cuts that take secrets out of an error event.
fn redact(edit: Edit, data: &[u8], secrets: &dyn Secrets) -> Edit {
    if edit == Edit::Drop {
        return edit;
    }
    let mut cuts: Vec<Range<usize>> = edit.cuts().cloned().collect();
    secrets.for_each(&mut |secret| find_echoes(data, secret, &mut cuts));
    merge(&mut cuts);
    Edit::of(cuts.into_iter())
}

/// Holds a fresh tail, in no more memory than it needs.
fn keep(held: &mut Vec<u8>, tail: &[u8]) {
    if held.capacity() > KEPT_CAPACITY {
        *held = Vec::new();
    }
    held.clear();
    extend(held, tail);
}

/// Grows by doubling, but not beyond what can be held at all.
fn extend(held: &mut Vec<u8>, more: &[u8]) {
    let needed = held.len() + more.len();
    if needed > held.capacity() {
        let target = needed.max((2 * held.capacity()).min(MAX_EVENT + 16));
        held.reserve_exact(target - held.len());
    }
    held.extend_from_slice(more);
}

#[cfg(test)]
mod tests;
