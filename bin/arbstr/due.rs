//! Waiting for no longer than a moment. Where nothing is waited for, that moment is not even asked for.
//!
//! For small futures: this holds what is moved into it twice. What is large, and always waited for, takes tokio's `timeout_at`.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use tokio::task::coop::unconstrained;
use tokio::time::sleep_until;

/// What `future` gives, or `None` if it gives nothing before the moment that `due` tells. One that is ready at once costs
/// neither a timer nor, where `due` reads the clock, a look at it.
pub(crate) async fn before<F: Future>(
    due: impl FnOnce() -> Instant,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Some(output);
    }
    // A future that has always something to do would leave the task no budget to see that the time is up.
    let mut passed = pin!(unconstrained(sleep_until(due().into())));
    let mut is_polled = true;
    poll_fn(|cx| {
        // It has just been polled when this begins.
        if !std::mem::take(&mut is_polled)
            && let Poll::Ready(output) = future.as_mut().poll(cx)
        {
            return Poll::Ready(Some(output));
        }
        passed.as_mut().poll(cx).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::task::coop::consume_budget;
    use tokio::time::timeout;

    use super::before;
    use crate::clock;

    #[tokio::test]
    async fn what_is_ready_is_not_waited_for() {
        let due = || unreachable!("nobody asks");
        assert_eq!(before(due, async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn what_comes_in_time_is_taken_and_what_is_late_is_not() {
        let (send, receive) = oneshot::channel();
        let sending = async {
            tokio::task::yield_now().await;
            send.send(8)
        };
        let due = || clock::now() + Duration::from_secs(60);
        let (received, sent) = tokio::join!(before(due, receive), sending);
        assert_eq!((received, sent), (Some(Ok(8)), Ok(())));
        let (_send, never) = oneshot::channel::<()>();
        let due = || clock::now() + Duration::from_millis(5);
        assert_eq!(before(due, never).await, None);
    }

    #[tokio::test]
    async fn the_busiest_future_is_ended_in_time() {
        let busy = async {
            loop {
                consume_budget().await;
            }
        };
        let due = || clock::now() + Duration::from_millis(5);
        let ended = timeout(Duration::from_secs(20), before(due, busy)).await;
        assert_eq!(ended, Ok(None::<()>));
    }
}
