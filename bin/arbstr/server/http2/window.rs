//! Streams that an HTTP/2 client has stopped taking.
//!
//! The [`Guard`](super::guard::Guard) sees the socket. With HTTP/2 a client may read the socket and never open the window of one
//! stream: hyper then stops polling that stream's body, so no timer in it would fire, and nothing is pending on the
//! socket. A task looks at the body from outside instead, and ends the task that serves the stream: h2 resets it, and lets
//! go of what it still held.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::api::ResponseBody;
use crate::clock;

/// Runs each stream of a connection in a task of its own, which whoever is within can have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamTasks;

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let given_up = Arc::new(Notify::new());
        tokio::spawn(GIVEN_UP.scope(Arc::clone(&given_up), async move {
            tokio::select! {
                _ = stream => {}
                () = given_up.notified() => {}
            }
        }));
    }
}

tokio::task_local! {
    /// Ends the stream that this is asked for in.
    static GIVEN_UP: Arc<Notify>;
}

/// A body whose stream is ended once its client has taken nothing for too long.
///
/// hyper asks beyond a piece only once the first byte of it can be sent. So that not much is handed over that cannot, pieces
/// are small, and the last one is a byte: when that can be sent, all can.
pub(super) struct WatchedBody {
    body: ResponseBody,
    /// Of what the body gave.
    left: Bytes,
    handed: Arc<Handed>,
    /// Goes with the body: one that slept on would still stand there when thousands of answers are long read.
    watcher: Option<AbortHandle>,
}

/// When a piece was handed out that nobody has asked beyond since.
type Handed = Mutex<Option<Instant>>;

/// Watches the body of `response`, unless it is at its end or `limit` is zero: for ever.
pub(super) fn watch(response: Response<ResponseBody>, limit: Duration) -> Response<WatchedBody> {
    response.map(|body| {
        let handed = Arc::new(Handed::default());
        let given_up = GIVEN_UP.try_with(Arc::clone).ok();
        let given_up = given_up.filter(|_| !limit.is_zero() && !body.is_end_stream());
        let watcher = given_up.map(|given_up| {
            tokio::spawn(give_up(Arc::clone(&handed), limit, given_up)).abort_handle()
        });
        WatchedBody {
            body,
            left: Bytes::new(),
            handed,
            watcher,
        }
    })
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

async fn give_up(handed: Arc<Handed>, limit: Duration, given_up: Arc<Notify>) {
    let mut wait = limit;
    loop {
        sleep(wait).await;
        let waited = lock(&handed)
            .map(|handed| clock::now().saturating_duration_since(handed))
            .unwrap_or_default();
        if waited >= limit {
            tracing::debug!("an HTTP/2 client takes nothing of a stream");
            given_up.notify_one();
            return;
        }
        wait = limit - waited;
    }
}

fn lock(handed: &Handed) -> std::sync::MutexGuard<'_, Option<Instant>> {
    handed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        *lock(&self.handed) = None;
        if self.left.is_empty() {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            self.left = frame.into_data().unwrap_or_default();
        }
        let length = match self.left.len() {
            length if length > PIECE => PIECE,
            length if length > 1 && self.body.is_end_stream() => length - 1,
            length => length,
        };
        let piece = self.left.split_to(length);
        *lock(&self.handed) = Some(clock::now());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As much as a frame usually holds (RFC 9113, section 4.2).
const PIECE: usize = 16 * 1024;
