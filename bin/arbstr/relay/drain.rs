//! Streams that nobody reads any more: read on for their usage, or closed.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Audience, DisconnectPolicy, PumpStep, StreamPump};
use crate::config::OnClientDisconnect;
use crate::upstream;

/// Takes over the stream of a client that left.
pub(crate) fn take_over(pump: Box<StreamPump>, on_disconnect: DisconnectPolicy) {
    tracing::debug!(then = ?on_disconnect.then, "client left its stream");
    match (on_disconnect.then, Handle::try_current()) {
        (OnClientDisconnect::Drain, Ok(runtime)) if !pump.is_cut() => {
            runtime.spawn(read_on(*pump, on_disconnect.drain_max));
        }
        _ => pump.abandon(),
    }
}

/// Lets the connection of a finished answer go back to its pool, if the provider ends it promptly. The record is complete
/// by then, so that a shutdown does not wait for this.
pub(crate) fn give_back(mut upstream: upstream::Body, cx: &mut Context<'_>) {
    match upstream.poll_chunk(cx) {
        Poll::Ready(None | Some(Err(_))) => {}
        Poll::Ready(Some(Ok(_))) | Poll::Pending => {
            tokio::spawn(async move {
                let mut left = GIVE_BACK_BYTES;
                let rest = async {
                    while let Some(Ok(bytes)) = upstream.chunk().await {
                        left = left.saturating_sub(bytes.len());
                        if left == 0 {
                            return;
                        }
                    }
                };
                // Past the time the connection is closed instead, which costs the provider no more than a reconnect.
                let _ = timeout(GIVE_BACK_TIME, rest).await;
            });
        }
    }
}

async fn read_on(mut pump: StreamPump, drain_max: Duration) {
    pump.changed_task();
    let mut left = DRAIN_BYTES;
    let reading = async {
        while left > 0 {
            match std::future::poll_fn(|cx| pump.poll_step(cx, Audience::Gone)).await {
                PumpStep::Released(bytes) => left = left.saturating_sub(bytes.len()),
                PumpStep::Ending => {
                    pump.end(Audience::Gone);
                    return true;
                }
                PumpStep::Ended(_) => return true,
            }
            // A provider that always has more must not keep the time limit from being looked at.
            tokio::task::consume_budget().await;
        }
        false
    };
    if timeout(drain_max, reading).await != Ok(true) {
        pump.abandon();
    }
}

/// No answer is this long; what still sends is not going to report its usage.
const DRAIN_BYTES: usize = 64 * 1024 * 1024;
const GIVE_BACK_BYTES: usize = 64 * 1024;
const GIVE_BACK_TIME: Duration = Duration::from_secs(1);
