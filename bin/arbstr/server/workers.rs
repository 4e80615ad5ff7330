//! The threads that serve clients: one for each core, each with a runtime of its own.
//!
//! A request stays on the thread that took its connection: its upstream connections are pooled there, and nothing is
//! woken across threads. What a runtime shared by all threads costs for handing work around is saved; in exchange
//! a connection cannot move, so new ones go where there are the fewest, a few at a time.
//!
//! ```text
//!  Serving ──► Closing: no new requests on connections ──► Over: what is left is cut off
//! ```

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::closing::Closing;
use super::http2::Http2;
use super::{LINGER, serve};
use crate::app::App;

/// All serving threads.
pub(super) struct Workers {
    handles: Vec<WorkerHandle>,
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

/// The way to one thread.
struct WorkerHandle {
    connections: mpsc::UnboundedSender<std::net::TcpStream>,
    load: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

/// What one thread works with.
struct Worker {
    app: Arc<App>,
    connections: mpsc::UnboundedReceiver<std::net::TcpStream>,
    load: Arc<AtomicUsize>,
    phase: watch::Receiver<Phase>,
    busy: mpsc::Sender<()>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no more of them.
    pub(super) fn start(app: &Arc<App>) -> io::Result<Self> {
        let (phase, told) = watch::channel(Phase::Serving);
        let (is_busy, busy) = mpsc::channel(1);
        let handles = (1..=count())
            .map(|index| {
                let (connections, taken) = mpsc::unbounded_channel();
                let load = Arc::new(AtomicUsize::new(0));
                let worker = Worker {
                    app: Arc::clone(app),
                    connections: taken,
                    load: Arc::clone(&load),
                    phase: told.clone(),
                    busy: is_busy.clone(),
                };
                Ok(WorkerHandle {
                    connections,
                    load,
                    thread: worker.start(index)?,
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            handles,
            phase,
            busy,
        })
    }

    /// Gives a new connection to the thread that has the fewest, give or take: the first few stay together, so that they share
    /// the upstream connections of their thread.
    pub(super) fn assign(&self, stream: TcpStream) {
        let load = |handle: &&WorkerHandle| handle.load.load(Ordering::Relaxed) / TOGETHER;
        let (Some(handle), Ok(stream)) = (self.handles.iter().min_by_key(load), stream.into_std())
        else {
            return;
        };
        handle.load.fetch_add(1, Ordering::Relaxed);
        // A thread that is gone has panicked, and the connection closes here.
        let _ = handle.connections.send(stream);
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
        let threads: Vec<_> = self
            .handles
            .into_iter()
            .map(|handle| handle.thread)
            .collect();
        let all =
            tokio::task::spawn_blocking(|| threads.into_iter().for_each(|it| drop(it.join())));
        // A thread's panic has been told of by the panic itself.
        if timeout(END_TIME, all).await.is_err() {
            tracing::warn!("a serving thread does not end; its records follow at the next start");
        }
    }
}

impl Worker {
    fn start(self, index: usize) -> io::Result<thread::JoinHandle<()>> {
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
        loop {
            tokio::select! {
                biased;
                Some(stream) = self.connections.recv() => {
                    serve(&self.app, &http2, &closing, &mut connections, stream);
                    self.count(&connections);
                }
                Some(_) = connections.join_next() => self.count(&connections),
                _ = self.phase.changed() => break,
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
        let load = connections.len() + self.connections.len();
        self.load.store(load, Ordering::Relaxed);
    }
}

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Connections that a thread gets before the next one gets any more.
const TOGETHER: usize = 8;
/// What the threads have for ending.
const END_TIME: Duration = Duration::from_secs(10);
