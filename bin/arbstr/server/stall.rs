//! Clients that take nothing.
//!
//! While a client does not read, nobody polls the body that feeds it, so no timer of the body could fire. The connection
//! itself is woken here instead: a write that waits arms a timer, and the timer fails the write.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Watches the writes of one connection.
pub(super) struct StallGuard {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    /// A client may take nothing for `limit`; zero: for ever.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// What a write comes to, of which something `was_taken` or not: an error once nothing was for too long.
    pub(super) fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        was_taken: bool,
    ) -> Poll<io::Result<T>> {
        if was_taken || written.is_ready() {
            self.timer = None;
        }
        if written.is_ready() || self.limit.is_zero() {
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client reads nothing",
        )))
    }
}
