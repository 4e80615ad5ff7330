//! A message on its way into a socket.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

/// What of a message is still to be written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    head: Vec<u8>,
    body: Bytes,
    sent: usize,
}

/// What messages are written to.
pub(crate) trait WriteParts {
    /// Takes some of the first bytes of `parts`, and tells how many.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Ready once all that was taken is out.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Unwritten {
    /// A message of which nothing is written.
    pub(crate) fn new(head: Vec<u8>, body: Bytes) -> Self {
        Self {
            head,
            body,
            sent: 0,
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_sent(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    /// How many bytes were written of what is not whole.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// What leads the body, to be added to while there is no body.
    pub(crate) fn head_mut(&mut self) -> &mut Vec<u8> {
        &mut self.head
    }

    /// Ready once all is written, and from then on.
    pub(crate) fn poll_send(
        &mut self,
        stream: &mut impl WriteParts,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_sent() {
            let head = &self.head[self.sent.min(self.head.len())..];
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            if head.is_empty() && body.is_empty() {
                ready!(stream.poll_flush(cx))?;
                // A stream that waits need not hold what was written, a prompt perhaps.
                *self = Self::default();
                break;
            }
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            match ready!(stream.poll_write(cx, &parts))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        Poll::Ready(Ok(()))
    }
}
