//! Who reads: this crate, its bounds from below and above, and its peers.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use arbstr_sse::{Event, Item, Limits, Parser};
use futures_core::Stream;
use memchr::memchr2;

use super::{Corpus, Seen};

/// One way to read a corpus.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) read: fn(&Corpus) -> Seen,
    /// Whether it knows events at all, and so must count them right.
    pub(crate) counts: bool,
}

/// All readers, in the order of the table.
pub(crate) fn readers() -> Vec<Reader> {
    let reader = |name, read, counts| Reader { name, read, counts };
    vec![
        reader("memcpy", copy_bytes, false),
        reader("memchr", scan_lines, false),
        reader("floor", floor, true),
        reader("arbstr bytes", borrow_bytes, true),
        reader("arbstr str", decode_text, true),
        reader("arbstr String", own_text, true),
        #[cfg(feature = "stream")]
        reader("EventStream", event_stream, true),
        reader("sse-stream", sse_stream, true),
        reader("sse-core", sse_core, true),
        reader("eventsource", eventsource_stream, true),
    ]
}

/// The bytes moved once: what any parser that copies pays.
fn copy_bytes(corpus: &Corpus) -> Seen {
    let mut copy = [0; 16 * 1024];
    for read in corpus.reads() {
        for part in read.chunks(copy.len()) {
            copy[..part.len()].copy_from_slice(part);
            std::hint::black_box(&copy);
        }
    }
    Seen::default()
}

/// LFs found with memchr, nothing else.
fn scan_lines(corpus: &Corpus) -> Seen {
    let lines = corpus.reads().map(|read| {
        memchr::memchr_iter(b'\n', read)
            .map(std::hint::black_box)
            .count()
    });
    Seen {
        events: lines.sum(),
        data_bytes: 0,
    }
}

/// What every parser must do: lines cut at CR and LF, told apart by their first byte, a cut line carried over to the
/// next read. No fields but data, no joined lines, no allocation after the first carry.
fn floor(corpus: &Corpus) -> Seen {
    let mut floor = Floor::default();
    for read in corpus.reads() {
        floor.push(read);
    }
    floor.seen
}

#[derive(Default)]
struct Floor {
    seen: Seen,
    carry: Vec<u8>,
    lines: usize,
    after_cr: bool,
}

impl Floor {
    #[inline]
    fn push(&mut self, mut rest: &[u8]) {
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            if rest[0] == b'\n' {
                rest = &rest[1..];
            }
        }
        if !self.carry.is_empty() {
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.carry.extend_from_slice(rest);
                return;
            };
            self.carry.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.carry);
            self.dispatch(&line);
            self.carry = line;
            self.carry.clear();
            rest = self.pass(rest, end);
        }
        while let Some(&first) = rest.first() {
            if matches!(first, b'\n' | b'\r') {
                self.dispatch(b"");
                rest = self.pass(rest, 0);
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.carry.extend_from_slice(rest);
                return;
            };
            self.dispatch(&rest[..end]);
            rest = self.pass(rest, end);
        }
    }

    #[inline]
    fn pass<'a>(&mut self, rest: &'a [u8], end: usize) -> &'a [u8] {
        if rest[end] == b'\n' {
            return &rest[end + 1..];
        }
        match rest.get(end + 1) {
            Some(b'\n') => &rest[end + 2..],
            next => {
                self.after_cr = next.is_none();
                &rest[end + 1..]
            }
        }
    }

    #[inline]
    fn dispatch(&mut self, line: &[u8]) {
        match line.first() {
            None if self.lines > 0 => {
                self.seen.events += 1;
                self.seen.data_bytes += self.lines - 1;
                self.lines = 0;
            }
            Some(b'd') => {
                self.lines += 1;
                self.seen.data_bytes += line.len() - "data: ".len();
            }
            _ => {}
        }
    }
}

fn borrow_bytes(corpus: &Corpus) -> Seen {
    parse(corpus, |event| std::hint::black_box(event.data()).len())
}

fn decode_text(corpus: &Corpus) -> Seen {
    parse(corpus, |event| std::hint::black_box(event.data_str()).len())
}

/// As the peers do: each event has a string of its own.
fn own_text(corpus: &Corpus) -> Seen {
    parse(corpus, |event| {
        std::hint::black_box(event.data_str().into_owned()).len()
    })
}

/// Reads a corpus with a parser, which lends each event to `data`.
#[inline(always)]
fn parse(corpus: &Corpus, data: impl Fn(Event<'_>) -> usize) -> Seen {
    let mut parser = Parser::new(Limits::default());
    let mut seen = Seen::default();
    for mut read in corpus.reads() {
        while let Some(item) = parser.next(&mut read) {
            if let Item::Event(event) = item {
                seen.events += 1;
                seen.data_bytes += data(event);
            }
        }
    }
    seen
}

#[cfg(feature = "stream")]
fn event_stream(corpus: &Corpus) -> Seen {
    let stream = arbstr_sse::adapt::EventStream::new(Reads(corpus.reads()), Limits::default());
    count(stream, |event| std::hint::black_box(event.data).len())
}

fn sse_core(corpus: &Corpus) -> Seen {
    let mut decoder = sse_core::SseDecoder::new();
    let mut seen = Seen::default();
    for mut read in corpus.reads() {
        while let Some(item) = decoder.next(&mut read) {
            if let Ok(sse_core::SseEvent::Message(event)) = item {
                seen.events += 1;
                seen.data_bytes += std::hint::black_box(event.data).len();
            }
        }
    }
    seen
}

fn sse_stream(corpus: &Corpus) -> Seen {
    let stream = sse_stream::SseByteStream::new(Reads(corpus.reads()));
    count(stream, |event| {
        event
            .data
            .map_or(0, |data| std::hint::black_box(data).len())
    })
}

fn eventsource_stream(corpus: &Corpus) -> Seen {
    let stream = eventsource_stream::EventStream::new(Reads(corpus.reads()));
    count(stream, |event| std::hint::black_box(event.data).len())
}

/// Reads a stream to its end, which never has to wait.
fn count<T, E: std::fmt::Debug>(
    stream: impl Stream<Item = Result<T, E>>,
    data: impl Fn(T) -> usize,
) -> Seen {
    let mut stream = pin!(stream);
    let mut context = Context::from_waker(Waker::noop());
    let mut seen = Seen::default();
    while let Poll::Ready(Some(event)) = stream.as_mut().poll_next(&mut context) {
        seen.events += 1;
        seen.data_bytes += data(event.expect("the corpora are valid"));
    }
    seen
}

struct Reads<I>(I);

impl<'a, I: Iterator<Item = &'a [u8]> + Unpin> Stream for Reads<I> {
    type Item = Result<&'a [u8], Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}
