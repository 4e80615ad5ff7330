//! How long a stream may be silent, and how long it may last.
//!
//! The timer is not re-armed at every chunk: it is left to fire at its old time and then moved to where the last
//! chunk put it, so that a busy stream costs the timer wheel nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::clock;

/// The limits of one stream, running.
#[derive(Debug)]
pub(crate) struct StreamTimeouts {
    idle: Duration,
    until: Option<Instant>,
    renewed: Instant,
    timer: Pin<Box<Sleep>>,
}

/// Which limit a stream passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing came for too long.
    Idle,
    /// The whole request took too long.
    Total,
}

impl Expired {
    /// For the client and the log.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Idle => "the provider sent nothing for longer than the idle timeout",
            Self::Total => "the request took longer than the total timeout",
        }
    }
}

impl StreamTimeouts {
    /// At most `idle` between two reads, and none after `until`.
    pub(crate) fn new(idle: Duration, until: Option<Instant>, now: Instant) -> Self {
        let due = due(idle, until, now);
        Self {
            idle,
            until,
            renewed: now,
            timer: Box::pin(tokio::time::sleep_until(due.into())),
        }
    }

    /// Something came.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.renewed = now;
    }

    /// Ready once a limit is passed.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = due(self.idle, self.until, self.renewed);
            let now = clock::now();
            if now >= due {
                let total = self.until.is_some_and(|until| now >= until);
                return Poll::Ready(if total { Expired::Total } else { Expired::Idle });
            }
            self.timer.as_mut().reset(due.into());
        }
    }
}

fn due(idle: Duration, until: Option<Instant>, renewed: Instant) -> Instant {
    let idle_due = renewed + idle;
    until.map_or(idle_due, |until| until.min(idle_due))
}
