//! Who accepts: one serving thread at a time, which then serves whom it let in.
//!
//! A connection that another thread accepted would have to wake its own. So the right to accept goes from thread to thread
//! instead, to the one that has the fewest connections, whenever its holder has some more. All of them waiting at the
//! socket would wake all for each connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;

use crate::clock;

/// The listening socket as one thread sees it.
pub(super) struct Door {
    socket: Arc<std::net::TcpListener>,
    /// There while this thread accepts.
    open: Option<TcpListener>,
    /// Not to be tried before.
    resting_until: Option<tokio::time::Instant>,
    told_at: Option<Instant>,
}

impl Door {
    pub(super) const fn new(socket: Arc<std::net::TcpListener>) -> Self {
        Self {
            socket,
            open: None,
            resting_until: None,
            told_at: None,
        }
    }

    /// Who comes next. May be dropped and called again at any time; nobody is lost.
    pub(super) async fn next(&mut self) -> TcpStream {
        loop {
            if let Some(until) = self.resting_until {
                sleep_until(until).await;
                self.resting_until = None;
            }
            match self.accept().await {
                Ok(stream) => return stream,
                Err(error) => self.rest(&error),
            }
        }
    }

    /// Leaves accepting to another thread.
    pub(super) fn leave(&mut self) {
        self.open = None;
    }

    /// Closes it, and lets those in that wait outside already: to them arbstr is there, and their requests may have come.
    pub(super) fn close_behind(self) -> Vec<TcpStream> {
        let waiting = self.socket.incoming().take(super::BACKLOG as usize);
        let waiting = waiting.map_while(Result::ok).map(|stream| {
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        });
        waiting.filter_map(Result::ok).collect()
    }

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let open = match &mut self.open {
            Some(open) => open,
            closed @ None => closed.insert(TcpListener::from_std(self.socket.try_clone()?)?),
        };
        Ok(open.accept().await?.0)
    }

    /// Running out of file descriptors must not spin: the next try waits until some may have been closed. It is told now
    /// and then while it lasts.
    fn rest(&mut self, error: &io::Error) {
        let transient = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        );
        if transient {
            return;
        }
        let now = clock::now();
        self.resting_until = Some((now + REST).into());
        if self
            .told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY)
        {
            self.told_at = Some(now);
            tracing::error!(%error, "cannot accept clients; check the limit on open files (ulimit -Hn)");
        }
    }
}

/// How often it is said that clients cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_millis(100);
