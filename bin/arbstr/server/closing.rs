//! Tells the connections of one thread to take no more requests.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether connections end with the request they have.
#[derive(Debug, Default)]
pub(super) struct Closing {
    is_told: AtomicBool,
    told: Notify,
}

impl Closing {
    /// Tells them.
    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether they are told.
    pub(super) fn is_told(&self) -> bool {
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
