//! A stream of byte chunks as a stream of owned events.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use crate::{Event, Item, Limits, Overflow, Parser};

/// Reads events from a stream of chunks, as a response body is.
///
/// Ends with its source; what was unterminated then is discarded, as the standard says. An error does not end it: the
/// source decides whether more comes, as more of the same stream, and after an [`Overflow`] the next event follows. A
/// new connection is another stream: hand it to [`resume`](Self::resume). The source is [`Unpin`]: box and pin one that
/// is not.
///
/// ```
/// # use std::convert::Infallible;
/// # use futures_util::{StreamExt, stream};
/// use arbstr_sse::{Limits, adapt::EventStream};
///
/// # let body = stream::iter([Ok::<_, Infallible>("data: hel"), Ok("lo\n\n")]);
/// # let waker = std::task::Waker::noop();
/// # let mut context = std::task::Context::from_waker(waker);
/// # let poll = std::pin::pin!(async move {
/// let mut events = EventStream::new(body, Limits::default());
/// while let Some(event) = events.next().await {
///     println!("{}", event?.data);
/// }
/// # Ok::<(), arbstr_sse::adapt::StreamError<Infallible>>(())
/// # }).poll(&mut context);
/// # use std::future::Future;
/// # assert!(matches!(poll, std::task::Poll::Ready(Ok(()))));
/// ```
#[derive(Debug)]
pub struct EventStream<S, B> {
    source: S,
    parser: Parser,
    /// The chunk being read, and how much of it was.
    chunk: Option<(B, usize)>,
    ended: bool,
}

impl<S, B> EventStream<S, B> {
    /// Reads `source` from its first byte.
    #[must_use]
    pub const fn new(source: S, limits: Limits) -> Self {
        Self {
            source,
            parser: Parser::new(limits),
            chunk: None,
            ended: false,
        }
    }

    /// Goes on with a new connection, from its first byte. What is left of the old one is discarded, as the standard
    /// says, but its last event id and retry time stay in force. Spans count from 0 again.
    ///
    /// Ask for it with the [`parser`](Self::parser)'s last event id as `Last-Event-ID`, after its retry time.
    pub fn resume(&mut self, source: S) {
        self.source = source;
        self.chunk = None;
        self.ended = false;
        self.parser.finish();
    }

    /// The parser, for its last event id and retry time when the stream is to be [resumed](Self::resume).
    #[must_use]
    pub const fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Gives the source back. Bytes of a chunk already taken from it are lost.
    #[must_use]
    pub fn into_source(self) -> S {
        self.source
    }
}

impl<S, B: AsRef<[u8]>> EventStream<S, B> {
    /// The next item of the chunk at hand.
    fn read<E>(&mut self) -> Option<Result<OwnedEvent, StreamError<E>>> {
        let (chunk, used) = self.chunk.as_mut()?;
        let mut input = &chunk.as_ref()[*used..];
        let before = input.len();
        let item = match self.parser.next(&mut input)? {
            Item::Event(event) => Ok(event.into()),
            Item::Overflow(overflow) => Err(StreamError::Overflow(overflow)),
        };
        *used += before - input.len();
        Some(item)
    }
}

impl<S, B, E> Stream for EventStream<S, B>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]> + Unpin,
{
    type Item = Result<OwnedEvent, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.read() {
                return Poll::Ready(Some(item));
            }
            this.chunk = None;
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.source).poll_next(context)) {
                Some(Ok(chunk)) => this.chunk = Some((chunk, 0)),
                Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::Source(error)))),
                None => this.ended = true,
            }
        }
    }
}

impl<S, B, E> FusedStream for EventStream<S, B>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]> + Unpin,
{
    fn is_terminated(&self) -> bool {
        self.ended && self.chunk.is_none()
    }
}

/// An event that owns its text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedEvent {
    /// See [`Event::event_type_str`].
    pub event_type: Cow<'static, str>,
    /// See [`Event::data_str`].
    pub data: String,
    /// See [`Event::id_str`].
    pub id: String,
    /// See [`Event::retry`].
    pub retry: Option<Duration>,
    /// See [`Event::span`].
    pub span: Range<u64>,
}

impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        Self {
            event_type: match event.event_type_str() {
                Cow::Borrowed("message") => Cow::Borrowed("message"),
                other => Cow::Owned(other.into_owned()),
            },
            data: event.data_str().into_owned(),
            id: event.id_str().into_owned(),
            retry: event.retry(),
            span: event.span(),
        }
    }
}

/// Why there is no event. It is an [`Error`](core::error::Error) where the source's is one, which a
/// `Box<dyn Error>` is not: name that by a type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError<E> {
    /// The source's own error.
    Source(E),
    /// One event was longer than the limit and is left out.
    Overflow(Overflow),
}

impl<E> fmt::Display for StreamError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(_) => f.write_str("the source of the event stream failed"),
            Self::Overflow(overflow) => {
                let span = overflow.span();
                write!(
                    f,
                    "event of {} bytes is over the limit",
                    span.end - span.start
                )
            }
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for StreamError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Overflow(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::task::Waker;
    use futures_util::stream;
    use std::string::ToString;
    use std::vec;

    fn read_all(
        chunks: Vec<Result<&'static str, &'static str>>,
    ) -> Vec<Result<String, StreamError<&'static str>>> {
        let limits = Limits { max_event: 16 };
        let mut events = EventStream::new(stream::iter(chunks), limits);
        let mut context = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        while let Poll::Ready(Some(event)) = Pin::new(&mut events).poll_next(&mut context) {
            seen.push(event.map(|event| event.data));
        }
        assert!(events.is_terminated());
        seen
    }

    #[test]
    fn yields_events_across_and_within_chunks() {
        let seen = read_all(vec![
            Ok("data: a\n\ndata"),
            Ok(""),
            Ok(": b\n"),
            Ok("\ndata: c\n\ndata: cut"),
        ]);
        assert_eq!(seen, [Ok("a".into()), Ok("b".into()), Ok("c".into())]);
    }

    #[test]
    fn goes_on_after_errors() {
        let seen = read_all(vec![
            Ok("data: 1\n"),
            Err("slow"),
            Ok("\ndata: much too long for it\n\ndata: 2\n\n"),
        ]);
        assert_eq!(seen.len(), 4);
        assert_eq!(seen[0], Err(StreamError::Source("slow")));
        assert_eq!(seen[1], Ok("1".into()));
        let overflow = seen[2].clone().expect_err("it is too long");
        assert_eq!(overflow.to_string(), "event of 28 bytes is over the limit");
        assert_eq!(seen[3], Ok("2".into()));
    }

    #[test]
    fn resumes_with_the_id_and_without_the_rest_of_what_broke() {
        let first = vec![Ok("id: 7\nretry: 50\ndata: 1\n\nid: 8\nda"), Err("reset")];
        let second = vec![Ok("\u{feff}\n\ndata: 2\n\n")];
        let mut events = EventStream::new(stream::iter(first), Limits::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut next = |events: &mut EventStream<_, _>| {
            let Poll::Ready(item) = Pin::new(events).poll_next(&mut context) else {
                panic!("an iterator is always ready");
            };
            item.map(|item| item.map(|event: OwnedEvent| (event.data, event.id, event.span)))
        };
        let one = ("1".to_string(), "7".to_string(), 0..25);
        assert_eq!(next(&mut events), Some(Ok(one)));
        assert_eq!(next(&mut events), Some(Err(StreamError::Source("reset"))));
        assert_eq!(events.parser().last_event_id(), b"7");
        assert_eq!(events.parser().retry(), Some(Duration::from_millis(50)));
        events.resume(stream::iter(second));
        let two = ("2".to_string(), "7".to_string(), 5..14);
        assert_eq!(next(&mut events), Some(Ok(two)));
        assert_eq!(next(&mut events), None);
    }

    #[test]
    fn owns_every_field() {
        let chunk = "event: e\nid: 1\nretry: 5\ndata: x\ndata: y\n\n";
        let source = stream::iter([Ok::<_, ()>(chunk)]);
        let mut events = EventStream::new(source, Limits::default());
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(event))) = Pin::new(&mut events).poll_next(&mut context) else {
            panic!("an event is there");
        };
        let expected = OwnedEvent {
            event_type: "e".into(),
            data: "x\ny".into(),
            id: "1".into(),
            retry: Some(Duration::from_millis(5)),
            span: 0..chunk.len() as u64,
        };
        assert_eq!(event, expected);
        assert_eq!(events.parser().last_event_id(), b"1");
    }
}
