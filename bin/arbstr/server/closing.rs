//! Tells the connections of one thread to take no more requests.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether connections end with the request they have, and whether those that have none end too.
#[derive(Debug, Default)]
pub(super) struct Closing {
    has_begun: AtomicBool,
    is_told: AtomicBool,
    told: Notify,
}

impl Closing {
    /// From now on each answer is the last of its connection.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Tells those that wait for a request to wait no longer.
    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }

    /// Resolves when they are.
    pub(super) async fn told(&self) {
        let told = self.told.notified();
        if !self.is_told() {
            told.await;
        }
    }
}
