//! A client may leave while its request is still being served.
//!
//! hyper then drops the future that serves it. An attempt may be in flight by that time, and the provider may charge
//! for it, so the work is not simply lost: it moves to a task of its own, is told that its client has gone, and ends
//! the way the operator chose. On the usual path, where the client stays, nothing is spawned.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::config::OnClientDisconnect;
use crate::lifeline::Thread;
use crate::relay::Leaving;

/// Tells the work of a request that its client has gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departure(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    gone: AtomicBool,
    told: Notify,
}

impl Departure {
    /// Whether the client has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Acquire)
    }

    /// Resolves when the client has gone.
    pub(crate) async fn is_announced(&self) {
        let told = self.0.told.notified();
        if !self.is_gone() {
            told.await;
        }
    }

    /// Resolves when the client has gone and the attempt in flight should not be waited for any longer.
    pub(crate) async fn is_final(&self, leaving: Leaving) {
        self.is_announced().await;
        match leaving.then {
            OnClientDisconnect::Abort => {}
            OnClientDisconnect::Drain => tokio::time::sleep(leaving.drain_max).await,
        }
    }

    fn announce(&self) {
        self.0.gone.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }
}

/// The work of one request, which survives its client.
pub(crate) struct Attended<F: Future + Send + 'static>
where
    F::Output: Send,
{
    work: Option<Pin<Box<F>>>,
    departure: Departure,
    thread: Option<Thread>,
}

impl<F: Future + Send + 'static> Attended<F>
where
    F::Output: Send,
{
    /// `work` for a client whose leaving is told to `departure`; `thread` keeps the process waiting for it.
    pub(crate) fn new(work: F, departure: Departure, thread: Thread) -> Self {
        Self {
            work: Some(Box::pin(work)),
            departure,
            thread: Some(thread),
        }
    }
}

impl<F: Future + Send + 'static> Future for Attended<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled, so that work which panics is not taken up again.
        let mut work = self
            .work
            .take()
            .expect("a future is not polled after it was ready");
        let ready = work.as_mut().poll(cx);
        if ready.is_pending() {
            self.work = Some(work);
        }
        ready
    }
}

impl<F: Future + Send + 'static> Drop for Attended<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) else {
            return;
        };
        let thread = self.thread.take();
        self.departure.announce();
        runtime.spawn(async move {
            work.await;
            drop(thread);
        });
    }
}
