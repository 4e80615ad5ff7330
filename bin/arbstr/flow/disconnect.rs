//! A client may leave while its request is still being served.
//!
//! The connection then drops the future that serves it. An attempt may be in flight by that time, and the provider may charge
//! for it, so the work is not simply lost: it moves to a task of its own, is told that its client has gone, and ends
//! the way the operator chose. On the usual path, where the client stays, nothing is spawned.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::Response;
use tokio::runtime::Handle;
use tokio_util::sync::ReusableBoxFuture;

use crate::api::ResponseBody;
use crate::api::error::ApiError;
use crate::config::OnClientDisconnect;
use crate::relay::DisconnectPolicy;
use crate::shutdown::Shutdown;

/// Tells the work of a request that its client has gone. Nobody is woken by that: the work is polled anew by the task that
/// it moves to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disconnect(Arc<AtomicBool>);

impl Disconnect {
    /// Whether the client has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Resolves when the client has gone.
    pub(crate) async fn is_announced(&self) {
        poll_fn(|_| {
            if self.is_gone() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Resolves when the client has gone and the attempt in flight should not be waited for any longer.
    pub(crate) async fn is_final(&self, on_disconnect: DisconnectPolicy) {
        self.is_announced().await;
        match on_disconnect.then {
            OnClientDisconnect::Abort => {}
            OnClientDisconnect::Drain => tokio::time::sleep(on_disconnect.drain_max).await,
        }
    }

    fn announce(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The work of one request. Dropped before it is done, because its client left, it goes on in a task of its own.
pub(super) struct DetachOnDrop<'a> {
    work: Option<Work>,
    disconnect: Disconnect,
    shutdown: &'a Shutdown,
}

/// A future on the heap. Its place serves one request after another: it is the largest piece of a small one.
type Work = ReusableBoxFuture<'static, Answered>;
type Answered = Result<Response<ResponseBody>, ApiError>;

impl<'a> DetachOnDrop<'a> {
    /// `work` for a client whose leaving is announced to `disconnect`; `shutdown` then waits for it.
    pub(super) fn new(
        work: impl Future<Output = Answered> + Send + 'static,
        disconnect: Disconnect,
        shutdown: &'a Shutdown,
    ) -> Self {
        let work = match PLACES.with_borrow_mut(Vec::pop) {
            Some(mut place) => {
                place.set(work);
                place
            }
            None => ReusableBoxFuture::new(work),
        };
        Self {
            work: Some(work),
            disconnect,
            shutdown,
        }
    }
}

impl Future for DetachOnDrop<'_> {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        // Taken out while it is polled, so that work which panics is not taken up again.
        let mut work = self
            .work
            .take()
            .expect("a future is not polled after it was ready");
        let ready = work.poll(cx);
        if ready.is_pending() {
            self.work = Some(work);
        } else {
            keep(work);
        }
        ready
    }
}

impl Drop for DetachOnDrop<'_> {
    fn drop(&mut self) {
        let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) else {
            return;
        };
        let token = self.shutdown.token();
        self.disconnect.announce();
        runtime.spawn(async move {
            drop(work.await);
            drop(token);
        });
    }
}

/// Keeps the place of work that is over.
fn keep(place: Work) {
    // A thread that ends keeps nothing.
    let _ = PLACES.try_with(|places| {
        let mut places = places.borrow_mut();
        if places.len() < MOST_PLACES {
            places.push(place);
        }
    });
}

thread_local! {
    static PLACES: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// Some 4 KiB each.
const MOST_PLACES: usize = 32;
