//! Idle connections to one provider, kept for its next requests.
//!
//! One task watches all idle connections of a pool, for as long as there are any: a provider that closes one frees its
//! socket here too, and none is kept beyond its time. Taking and giving a connection wakes nobody.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::sleep;

use super::connection::Connection;
use crate::clock;

/// The idle connections of one provider.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Idle>>);

#[derive(Default)]
struct Idle {
    /// The one that was used last stands last and is taken first, so that those not needed grow old.
    connections: Vec<(Connection, Instant)>,
    is_watched: bool,
}

impl Pool {
    /// Keeps a connection whose answer is complete.
    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.connections.len() >= MOST {
            idle.connections.remove(0);
        }
        idle.connections.push((connection, clock::now()));
        if idle.is_watched {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            idle.connections.clear();
            return;
        };
        idle.is_watched = true;
        runtime.spawn(watch(Arc::downgrade(&self.0)));
    }

    /// Takes a connection that is still open, if there is one.
    pub(super) async fn take(&self) -> Option<Connection> {
        let taking = std::future::poll_fn(|cx| Poll::Ready(self.take_quiet(cx)));
        // A task that has done much in its turn would be told that nothing can be read, and find every connection quiet.
        unconstrained(taking).await
    }

    fn take_quiet(&self, cx: &mut Context<'_>) -> Option<Connection> {
        loop {
            let popped = {
                let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                idle.connections.pop()
            };
            let (mut connection, _) = popped?;
            if connection.is_quiet(cx) {
                return Some(connection);
            }
        }
    }
}

/// Closes what the other side closed and what grew old, until nothing is left or the pool is gone.
async fn watch(pool: Weak<Mutex<Idle>>) {
    let mut look = Box::pin(sleep(LOOK));
    std::future::poll_fn(|cx| {
        // Polled for the waker alone, when a connection and not the timer woke this task.
        while look.as_mut().poll(cx).is_ready() {
            look.set(sleep(LOOK));
        }
        let Some(pool) = pool.upgrade() else {
            return Poll::Ready(());
        };
        let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        idle.connections.retain_mut(|(connection, since)| {
            now.saturating_duration_since(*since) < KEPT && connection.is_quiet(cx)
        });
        idle.is_watched = !idle.connections.is_empty();
        if idle.is_watched {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// Idle connections that are kept.
const MOST: usize = 128;
const KEPT: Duration = Duration::from_secs(90);
/// How often new ones are looked at, and old ones counted out.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hyper_rustls::MaybeHttpsStream;
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test]
    async fn a_closed_connection_is_never_taken_however_busy_the_task_was() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        drop(listener.accept().await.unwrap());
        stream.readable().await.unwrap();
        let pool = Pool::default();
        let stream = MaybeHttpsStream::Http(TokioIo::new(stream));
        pool.put(Connection::new(stream));
        while has_budget_remaining() {
            consume_budget().await;
        }
        assert!(pool.take().await.is_none());
    }
}
