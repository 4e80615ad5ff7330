//! What tells the work in flight that the process is ending, and tells the process that the work has ended.
//!
//! Shutdown has two moments: the grace period, in which streams may finish, and the cut, at which whatever still runs
//! is broken off. Work that outlives its connection (a drained stream, an attempt whose client left) holds a
//! [`ShutdownToken`] so that the process waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::server::workers;

/// The end of the process, as those who bring it about see it.
#[derive(Debug)]
pub(crate) struct Shutdown(Arc<State>);

#[derive(Debug)]
struct State {
    is_cut: AtomicBool,
    /// One for each serving thread and one for all others, so that requests do not queue to wait.
    cut: Box<[Notify]>,
    held: AtomicUsize,
    released: Notify,
}

impl Shutdown {
    /// A process that is not ending.
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            is_cut: AtomicBool::new(false),
            cut: (0..=workers::count()).map(|_| Notify::new()).collect(),
            held: AtomicUsize::new(0),
            released: Notify::new(),
        }))
    }

    /// A token for work that the process should wait for.
    pub(crate) fn token(&self) -> ShutdownToken {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        ShutdownToken(Arc::clone(&self.0))
    }

    /// The same for work that does not leave who asks.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Hold(&self.0)
    }

    /// Breaks off whatever still runs.
    pub(crate) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        for waiting in &self.0.cut {
            waiting.notify_waiters();
        }
    }

    /// Whether the cut has come.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_cut()
    }

    /// Resolves when the cut comes; for work whose token somebody else holds.
    pub(crate) async fn until_cut(&self) {
        self.0.until_cut().await;
    }

    /// Resolves when nobody holds a token any more.
    pub(crate) async fn all_released(&self) {
        loop {
            let told = self.0.released.notified();
            if self.0.held.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }
}

impl State {
    fn release(&self) {
        if self.held.fetch_sub(1, Ordering::Release) == 1 {
            self.released.notify_waiters();
        }
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    async fn until_cut(&self) {
        let told = self.cut[workers::index()].notified();
        if !self.is_cut() {
            told.await;
        }
    }
}

/// Held by a piece of work that the process waits for, and tells it when it is broken off.
#[derive(Debug)]
pub(crate) struct ShutdownToken(Arc<State>);

/// A [`ShutdownToken`] that is only lent.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a State);

impl ShutdownToken {
    /// Whether the cut has come. Cheap enough for every chunk of every stream.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_cut()
    }

    /// Resolves when the cut comes; for what is polled by hand.
    pub(crate) fn into_cut(self) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(async move { self.0.until_cut().await })
    }
}

impl Clone for ShutdownToken {
    fn clone(&self) -> Self {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for ShutdownToken {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}
