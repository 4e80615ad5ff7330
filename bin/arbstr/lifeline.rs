//! What tells the work in flight that the process is ending, and tells the process that the work has ended.
//!
//! Shutdown has two moments: the grace period, in which streams may finish, and the cut, at which whatever still runs
//! is broken off. Work that outlives its connection (a drained stream, an attempt whose client left) holds a
//! [`Thread`] so that the process waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The process's end of the line.
#[derive(Debug)]
pub(crate) struct Lifeline {
    is_cut: Arc<AtomicBool>,
    cut: watch::Sender<bool>,
    threads: watch::Sender<()>,
}

impl Lifeline {
    /// A process that is not ending.
    pub(crate) fn new() -> Self {
        Self {
            is_cut: Arc::default(),
            cut: watch::Sender::new(false),
            threads: watch::Sender::new(()),
        }
    }

    /// Takes hold of the line for work that the process should wait for.
    pub(crate) fn hold(&self) -> Thread {
        Thread {
            is_cut: Arc::clone(&self.is_cut),
            cut: self.cut.subscribe(),
            _alive: self.threads.subscribe(),
        }
    }

    /// Breaks off whatever still runs.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.send_replace(true);
    }

    /// Resolves when nobody holds the line any more.
    pub(crate) async fn all_let_go(&self) {
        self.threads.closed().await;
    }
}

/// One piece of work's hold on the [`Lifeline`].
#[derive(Debug, Clone)]
pub(crate) struct Thread {
    is_cut: Arc<AtomicBool>,
    cut: watch::Receiver<bool>,
    _alive: watch::Receiver<()>,
}

impl Thread {
    /// Whether the cut has come. Cheap enough for every chunk of every stream.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Resolves when the cut comes.
    pub(crate) fn cut(&self) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let mut cut = self.cut.clone();
        Box::pin(async move {
            // An error means that the process dropped its end, which it does only after everything else.
            let _ = cut.wait_for(|cut| *cut).await;
        })
    }
}
