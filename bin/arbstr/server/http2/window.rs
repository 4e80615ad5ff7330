//! Streams that an HTTP/2 client has stopped taking.
//!
//! The [`Guard`](super::guard::Guard) sees the socket. With HTTP/2 a client may read the socket and never open the window of one
//! stream: hyper then stops polling that stream's body, so no timer in it would fire, and nothing is pending on the
//! socket. A task looks at the body from outside instead, and takes it away.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::api::ResponseBody;
use crate::clock;

/// A body that is dropped once its client has taken nothing for too long.
pub(super) struct WatchedBody {
    window: Arc<Mutex<Window>>,
    /// Goes with the body: one that slept on would still stand there when thousands of answers are long read.
    watcher: Option<AbortHandle>,
}

struct Window {
    /// Gone once its client was given up.
    body: Option<ResponseBody>,
    /// When a piece was handed out that nobody has asked beyond since.
    handed: Option<Instant>,
}

/// Watches the body of `response`, unless it is at its end or `limit` is zero: for ever.
pub(super) fn watch(response: Response<ResponseBody>, limit: Duration) -> Response<WatchedBody> {
    response.map(|body| {
        let is_watched = !limit.is_zero() && !body.is_end_stream();
        let window = Arc::new(Mutex::new(Window {
            body: Some(body),
            handed: None,
        }));
        let watcher = is_watched
            .then(|| tokio::spawn(give_up(Arc::downgrade(&window), limit)).abort_handle());
        WatchedBody { window, watcher }
    })
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

async fn give_up(window: Weak<Mutex<Window>>, limit: Duration) {
    let mut wait = limit;
    loop {
        sleep(wait).await;
        let Some(window) = window.upgrade() else {
            return;
        };
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = window
            .handed
            .map(|handed| clock::now().saturating_duration_since(handed))
            .unwrap_or_default();
        if waited >= limit {
            tracing::debug!("an HTTP/2 client takes nothing of a stream");
            window.body = None;
            return;
        }
        wait = limit - waited;
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.handed = None;
        let Some(body) = &mut window.body else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(_)) = polled {
            window.handed = Some(clock::now());
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
    }

    fn is_end_stream(&self) -> bool {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window
            .body
            .as_ref()
            .map(Body::size_hint)
            .unwrap_or_default()
    }
}
