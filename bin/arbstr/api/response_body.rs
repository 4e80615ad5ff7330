//! The one body type of every answer: ready bytes, or a stream being relayed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::relay::{self, Piece};

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Relayed(Box<relay::Body>),
}

impl ResponseBody {
    /// A body that is ready.
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(
            Some(body.into()).filter(|body| !body.is_empty()),
        ))
    }

    /// A stream that is relayed as it comes.
    pub(crate) fn relayed(body: relay::Body) -> Self {
        Self(Kind::Relayed(Box::new(body)))
    }
}

impl ResponseBody {
    /// What comes next.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        match &mut self.0 {
            Kind::Whole(body) => Poll::Ready(body.take().map_or(Piece::Over, Piece::Data)),
            Kind::Relayed(body) => body.poll_piece(cx),
        }
    }

    /// The last bytes, after [`Piece::Ending`].
    pub(crate) fn end(&mut self) -> Bytes {
        match &mut self.0 {
            Kind::Whole(_) => Bytes::new(),
            Kind::Relayed(body) => body.end(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Relayed(body) => body
                .poll_released(cx)
                .map(|released| released.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Relayed(_) => SizeHint::default(),
        }
    }
}
