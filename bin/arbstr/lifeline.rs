//! What tells the work in flight that the process is ending, and tells the process that the work has ended.
//!
//! Shutdown has two moments: the grace period, in which streams may finish, and the cut, at which whatever still runs
//! is broken off. Work that outlives its connection (a drained stream, an attempt whose client left) holds a
//! [`Thread`] so that the process waits for it.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

/// The process's end of the line.
#[derive(Debug)]
pub(crate) struct Lifeline {
    cut: watch::Sender<bool>,
    threads: watch::Sender<()>,
}

impl Lifeline {
    /// A process that is not ending.
    pub(crate) fn new() -> Self {
        Self {
            cut: watch::Sender::new(false),
            threads: watch::Sender::new(()),
        }
    }

    /// Takes hold of the line for work that the process should wait for.
    pub(crate) fn hold(&self) -> Thread {
        Thread {
            cut: self.cut.subscribe(),
            _alive: self.threads.subscribe(),
        }
    }

    /// Breaks off whatever still runs.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Whether the cut has come.
    pub(crate) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Resolves when nobody holds the line any more.
    pub(crate) async fn all_let_go(&self) {
        self.threads.closed().await;
    }
}

/// One piece of work's hold on the [`Lifeline`].
#[derive(Debug, Clone)]
pub(crate) struct Thread {
    cut: watch::Receiver<bool>,
    _alive: watch::Receiver<()>,
}

impl Thread {
    /// Whether the cut has come.
    pub(crate) fn is_cut(&self) -> bool {
        *self.cut.borrow()
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
