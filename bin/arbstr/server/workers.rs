//! The threads that serve clients: one for each core, each with a runtime of its own.
//!
//! A request stays on the thread that took its connection: its upstream connections are pooled there, and nothing is
//! woken across threads. What a runtime shared by all threads costs for handing work around is saved; in exchange
//! a connection cannot move, so the thread that has the fewest accepts the next few ([`Door`]).
//!
//! ```text
//!  Serving ──► Closing: no new connections, a last request on each ──► Over: what is left is cut off
//! ```

use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::closing::Closing;
use super::door::Door;
use super::http2::Http2;
use super::{LINGER, serve};
use crate::app::App;

/// All serving threads.
pub(super) struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    /// Closed once no thread has a connection left.
    busy: mpsc::Receiver<()>,
}

/// Which of the [`count`] serving threads this is, counted from 1; 0 for any other thread.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// How many threads serve: one for each core there was at the start. Limits that are set on a running process, such as
/// a container's, change no thread and so not this number either.
pub(crate) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Closing,
    Over,
}

/// What the others know of one thread.
#[derive(Default)]
struct Seat {
    connections: AtomicUsize,
    /// Told when it is this one that accepts.
    turn: Notify,
}

/// What one thread works with.
struct Worker {
    app: Arc<App>,
    door: Door,
    /// Those of all threads, and which of them is its own.
    seats: Arc<[Seat]>,
    own: usize,
    phase: watch::Receiver<Phase>,
    busy: mpsc::Sender<()>,
}

impl Workers {
    /// Starts the threads, which serve whoever comes to `socket`.
    ///
    /// # Errors
    /// When the system gives no more of them.
    pub(super) fn start(app: &Arc<App>, socket: TcpListener) -> io::Result<Self> {
        let (phase, told) = watch::channel(Phase::Serving);
        let (is_busy, busy) = mpsc::channel(1);
        let socket = Arc::new(socket);
        let seats: Arc<[Seat]> = (0..count()).map(|_| Seat::default()).collect();
        let threads = (0..count())
            .map(|own| {
                let worker = Worker {
                    app: Arc::clone(app),
                    door: Door::new(Arc::clone(&socket)),
                    seats: Arc::clone(&seats),
                    own,
                    phase: told.clone(),
                    busy: is_busy.clone(),
                };
                worker.start()
            })
            .collect::<io::Result<_>>()?;
        seats[0].turn.notify_one();
        Ok(Self {
            threads,
            phase,
            busy,
        })
    }

    /// Ends connections as soon as they have no request; resolves when none is left.
    pub(super) async fn close(&mut self) {
        self.phase.send_replace(Phase::Closing);
        // Nobody ever sends: the channel ends with its last sender.
        let _ = self.busy.recv().await;
    }

    /// Cuts off what is left and ends the threads; one that is stuck, in a write to a disk that hangs perhaps, ends with
    /// the process.
    pub(super) async fn end(self) {
        self.phase.send_replace(Phase::Over);
        let join = || self.threads.into_iter().for_each(|it| drop(it.join()));
        let all = tokio::task::spawn_blocking(join);
        // A thread's panic has been told of by the panic itself.
        if timeout(END_TIME, all).await.is_err() {
            tracing::warn!("a serving thread does not end; its records follow at the next start");
        }
    }
}

impl Worker {
    fn start(self) -> io::Result<thread::JoinHandle<()>> {
        let index = self.own + 1;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name(format!("serve-{index}"))
            .spawn(move || {
                INDEX.set(index);
                runtime.block_on(self.work());
                runtime.shutdown_background();
            })
    }

    async fn work(mut self) {
        let closing = Arc::new(Closing::default());
        let http2 = Arc::new(Http2::new());
        let mut connections = JoinSet::new();
        let mut accepts = false;
        loop {
            tokio::select! {
                biased;
                _ = self.phase.changed() => break,
                Some(_) = connections.join_next() => self.count(&connections),
                () = self.seats[self.own].turn.notified(), if !accepts => accepts = true,
                stream = self.door.next(), if accepts => {
                    serve(&self.app, &http2, &closing, &mut connections, stream);
                    self.count(&connections);
                    accepts = !self.gives_way();
                }
            }
        }
        for stream in self.door.close_behind() {
            serve(&self.app, &http2, &closing, &mut connections, stream);
        }
        closing.begin();
        if !connections.is_empty() {
            tokio::select! {
                () = sleep(ON_THE_WAY) => {}
                _ = self.phase.wait_for(|phase| *phase == Phase::Over) => {}
            }
        }
        closing.tell();
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            _ = self.phase.wait_for(|phase| *phase == Phase::Over) => {}
        }
        drop(self.busy);
        // An error means that [`Workers`] is gone, which ends this as well.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Over).await;
        // What is left are clients that take nothing; their streams end with their connections.
        connections.shutdown().await;
        // Streams that are read on for their usage run here too.
        let _ = timeout(LINGER, self.app.shutdown.all_released()).await;
    }

    fn count<T>(&self, connections: &JoinSet<T>) {
        let own = &self.seats[self.own].connections;
        own.store(connections.len(), Ordering::Relaxed);
    }

    /// Lets the thread accept that has the fewest connections, if it has some fewer than this one. The first few stay together, so
    /// that they share the upstream connections of their thread.
    fn gives_way(&mut self) -> bool {
        let count = |seat: &Seat| seat.connections.load(Ordering::Relaxed);
        let own = count(&self.seats[self.own]);
        let fewest = self.seats.iter().min_by_key(|seat| count(seat));
        let Some(next) = fewest.filter(|seat| count(seat) + TOGETHER <= own) else {
            return false;
        };
        self.door.leave();
        next.turn.notify_one();
        true
    }
}

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Connections that a thread has more than another before that one gets any.
const TOGETHER: usize = 8;
/// For a request that its client sent before it could know of the end: a connection that is closed under it is an error to the
/// client, which may not ask again.
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// What the threads have for ending.
const END_TIME: Duration = Duration::from_secs(10);
