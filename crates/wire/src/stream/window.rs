//! The bytes of a stream at hand, and the translation of edits into cuts of them.
//!
//! An edit is told in offsets of an event's data; the stream is cut in offsets of the stream. Between the two lie field
//! names, line ends and chunk borders.

use std::borrow::Cow;
use std::ops::Range;

use arbstr_sse::Event;

use super::observer::Edit;

/// Bytes of an event that tell what it is: a few fields or a comment, and the beginning of its data.
const HEAD: u64 = 4096;

/// The bytes at hand: what was held back, then the new chunk, beginning at an offset of the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) held: &'a [u8],
    pub(super) chunk: &'a [u8],
    /// Where in the stream the first of them stands.
    pub(super) start: u64,
}

impl<'a> Window<'a> {
    pub(super) const fn chunk_start(&self) -> u64 {
        self.start + self.held.len() as u64
    }

    pub(super) const fn end(&self) -> u64 {
        self.chunk_start() + self.chunk.len() as u64
    }

    /// The two pieces of a range, as far as it is at hand.
    fn pieces(&self, range: &Range<u64>) -> [&'a [u8]; 2] {
        let piece = |bytes: &'a [u8], start: u64| {
            let from = offset(range.start, start).min(bytes.len());
            &bytes[from..offset(range.end, start).clamp(from, bytes.len())]
        };
        [
            piece(self.held, self.start),
            piece(self.chunk, self.chunk_start()),
        ]
    }

    fn bytes(&self, range: &Range<u64>) -> Cow<'a, [u8]> {
        match self.pieces(range) {
            [held, []] => Cow::Borrowed(held),
            [[], chunk] => Cow::Borrowed(chunk),
            pieces => Cow::Owned(pieces.concat()),
        }
    }

    /// The first bytes at hand of what begins at an offset, enough to tell what it is.
    pub(super) fn head(&self, from: u64) -> Cow<'a, [u8]> {
        self.bytes(&(from..self.end().min(from + HEAD)))
    }

    /// Everything before `to` but the cuts, which are in order.
    pub(super) fn gather(&self, to: u64, cuts: &[Range<u64>]) -> Vec<u8> {
        let mut gathered = Vec::with_capacity(offset(to, self.start));
        let mut from = self.start;
        for cut in cuts.iter().filter(|cut| cut.start < to) {
            self.pieces(&(from..cut.start))
                .iter()
                .for_each(|piece| gathered.extend_from_slice(piece));
            from = cut.end;
        }
        self.pieces(&(from..to))
            .iter()
            .for_each(|piece| gathered.extend_from_slice(piece));
        gathered
    }
}

/// How far `at` lies behind `start`; 0 when before it.
pub(super) fn offset(at: u64, start: u64) -> usize {
    usize::try_from(at.saturating_sub(start)).expect("a window lies in memory")
}

/// Translates an edit of an event's data into cuts of the stream. An event that has partly gone out is left alone.
pub(super) fn add_cuts(
    edit: &Edit,
    event: &Event<'_>,
    window: &Window<'_>,
    cuts: &mut Vec<Range<u64>>,
) {
    let span = event.span();
    if span.start < window.start {
        return;
    }
    match (edit, event.data_span()) {
        (Edit::Keep, _) => {}
        (Edit::Drop, _) => cuts.push(span),
        (Edit::Cut(..), Some(data)) => {
            let shift = |offset: usize| data.start + offset as u64;
            cuts.extend(edit.cuts().map(|cut| shift(cut.start)..shift(cut.end)));
        }
        (Edit::Cut(..), None) => cut_lines(edit, &window.bytes(&span), span.start, cuts),
    }
}

/// The same where the data is spread over several lines: what of each range lies in each line.
fn cut_lines(edit: &Edit, event: &[u8], event_start: u64, cuts: &mut Vec<Range<u64>>) {
    let mut line_start = 0;
    for content in data_contents(event) {
        let line = line_start..line_start + content.len();
        for range in edit.cuts() {
            let (from, to) = (range.start.max(line.start), range.end.min(line.end));
            if from < to {
                let shift = |at: usize| event_start + (content.start + at - line.start) as u64;
                cuts.push(shift(from)..shift(to));
            }
        }
        line_start = line.end + 1;
    }
}

/// Where in an event's bytes the content of each `data` line lies.
fn data_contents(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < event.len() {
            let start = at;
            let end =
                memchr::memchr2(b'\r', b'\n', &event[at..]).map_or(event.len(), |found| at + found);
            at = end + 1;
            let line = &event[start..end];
            if line == b"data" {
                return Some(end..end);
            }
            if let Some(content) = line.strip_prefix(b"data:") {
                let content = content.strip_prefix(b" ").unwrap_or(content);
                return Some(end - content.len()..end);
            }
        }
        None
    })
}
