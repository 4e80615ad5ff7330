//! An HTTP body that passes untouched while its events are seen.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{Item, Limits, Parser};

/// Sees what a body's bytes say.
///
/// A closure over [`Item`] is one that does not care about the end.
pub trait Observe {
    /// Called for each item, before the frame that completed it is passed on.
    fn on_item(&mut self, item: Item<'_>);

    /// Called once, when the body has ended by itself, with what was unterminated. Not called for a body that fails or
    /// is dropped.
    fn on_end(&mut self, tail: Option<Item<'_>>) {
        let _ = tail;
    }
}

impl<F: FnMut(Item<'_>)> Observe for F {
    fn on_item(&mut self, item: Item<'_>) {
        self(item);
    }
}

/// A body whose frames pass as they are, data, trailers and errors alike, and are shown to an [`Observe`].
///
/// Nothing is held back or copied: an event spanning frames is seen when its last one passes. The body's data are
/// [`Bytes`], and it is [`Unpin`]: box and pin one that is not.
///
/// ```
/// use arbstr_sse::{Item, Limits, adapt::Observed};
/// use http_body_util::Full;
///
/// let body = Full::new(bytes::Bytes::from("data: a\n\n"));
/// // A closure must say that it takes an item of any lifetime.
/// let observed = Observed::new(body, Limits::default(), |item: Item<'_>| println!("{:?}", item.span()));
/// # let _ = observed;
/// ```
#[derive(Debug)]
pub struct Observed<B, O> {
    body: B,
    parser: Parser,
    observer: O,
    ended: bool,
}

impl<B: Body, O: Observe> Observed<B, O> {
    /// Shows `body` to `observer` from its first byte; one that is empty, and so over, at once.
    #[must_use]
    pub fn new(body: B, limits: Limits, observer: O) -> Self {
        let is_over = body.is_end_stream();
        let mut observed = Self {
            body,
            parser: Parser::new(limits),
            observer,
            ended: false,
        };
        // A server never polls such a body.
        if is_over {
            observed.end();
        }
        observed
    }
}

impl<B, O> Observed<B, O> {
    /// What observes.
    #[must_use]
    pub const fn observer(&self) -> &O {
        &self.observer
    }

    /// Gives back the body, where it stands, and what observed it.
    #[must_use]
    pub fn into_parts(self) -> (B, O) {
        (self.body, self.observer)
    }
}

impl<B, O: Observe> Observed<B, O> {
    fn see(&mut self, frame: &Frame<Bytes>) {
        let mut input: &[u8] = frame.data_ref().map_or(&[], |data| data);
        while let Some(item) = self.parser.next(&mut input) {
            self.observer.on_item(item);
        }
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.observer.on_end(self.parser.finish());
        }
    }
}

impl<B, O> Body for Observed<B, O>
where
    B: Body<Data = Bytes> + Unpin,
    O: Observe + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                this.see(frame);
                // Whoever reads the body may stop here, and never ask for the `None` that would follow.
                if this.body.is_end_stream() {
                    this.end();
                }
            }
            // Whatever is polled for behind it is not the end that was meant.
            Some(Err(_)) => this.ended = true,
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::task::Waker;
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};

    #[derive(Debug, Default)]
    struct Log(Vec<String>);

    impl Observe for Log {
        fn on_item(&mut self, item: Item<'_>) {
            self.0.push(text(Some(item)));
        }

        fn on_end(&mut self, tail: Option<Item<'_>>) {
            self.0.push(std::format!("end: {}", text(tail)));
        }
    }

    fn text(item: Option<Item<'_>>) -> String {
        match item {
            Some(Item::Event(event)) => event.data_str().into_owned(),
            Some(Item::Overflow(_)) => "overflow".into(),
            None => "nothing".into(),
        }
    }

    type Passed<E> = Result<Frame<Bytes>, E>;

    /// The frames that pass, and what is then seen.
    fn pass<B>(body: B) -> (Vec<Passed<B::Error>>, Vec<String>)
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut body = Observed::new(body, Limits { max_event: 16 }, Log::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut frames = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            frames.push(frame);
        }
        (frames, body.into_parts().1.0)
    }

    fn data(bytes: &'static str) -> Passed<&'static str> {
        Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
    }

    #[test]
    fn frames_pass_untouched_and_events_are_seen() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let chunks = [
            "data: a\n\nda",
            "ta: b\n\n: note\n",
            "",
            "data: far too long a line\n\n",
            "data: c",
        ];
        let mut sent: Vec<_> = chunks.into_iter().map(data).collect();
        sent.push(Ok(Frame::trailers(trailers.clone())));
        let (frames, seen) = pass(StreamBody::new(stream::iter(sent)));
        assert_eq!(seen, ["a", "b", "overflow", "end: c"]);
        assert_eq!(frames.len(), chunks.len() + 1);
        for (frame, chunk) in frames.iter().zip(chunks) {
            let passed = frame.as_ref().unwrap().data_ref().unwrap();
            assert_eq!(passed.as_ptr(), chunk.as_ptr(), "passed, not copied");
            assert_eq!(passed.len(), chunk.len());
        }
        let last = frames.last().unwrap().as_ref().unwrap();
        assert_eq!(last.trailers_ref(), Some(&trailers));
    }

    #[test]
    fn a_failing_body_passes_its_error_and_has_no_end() {
        let sent = [data("data: a\n\ndata: cut"), Err("reset")];
        let (frames, seen) = pass(StreamBody::new(stream::iter(sent)));
        assert_eq!(frames[1].as_ref().err(), Some(&"reset"));
        assert_eq!(seen, ["a"]);
    }

    #[test]
    fn the_end_is_seen_even_if_nobody_asks_for_it() {
        let mut body = Observed::new(
            Full::new(Bytes::from_static(b"data: a\n")),
            Limits::default(),
            Log::default(),
        );
        assert_eq!(body.size_hint().exact(), Some(8));
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut body).poll_frame(&mut context);
        assert!(body.is_end_stream());
        assert_eq!(body.observer().0, ["end: a"]);
        let _ = Pin::new(&mut body).poll_frame(&mut context);
        assert_eq!(body.observer().0, ["end: a"], "once");
    }

    #[test]
    fn the_end_of_an_empty_body_is_seen_unpolled() {
        let body = Full::new(Bytes::new());
        let mut body = Observed::new(body, Limits::default(), Log::default());
        assert!(
            body.is_end_stream(),
            "a server asks that, and polls no more"
        );
        assert_eq!(body.observer().0, ["end: nothing"]);
        let mut context = Context::from_waker(Waker::noop());
        let frame = Pin::new(&mut body).poll_frame(&mut context);
        assert!(matches!(frame, Poll::Ready(None)));
        assert_eq!(body.observer().0, ["end: nothing"], "once");
    }

    #[test]
    fn a_closure_observes() {
        let mut count = 0;
        let mut body = Observed::new(
            Full::new(Bytes::from_static(b"data: a\n\ndata: b\n\n")),
            Limits::default(),
            |_: Item<'_>| count += 1,
        );
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut body).poll_frame(&mut context);
        drop(body);
        assert_eq!(count, 2);
    }
}
