//! Lines on their way to stderr: taken in at once, written by a thread of its own.
//!
//! The first line after a silence is written at once; after each write the thread lets lines gather for a moment, so that
//! a busy proxy makes fifty writes a second and not one for each request. What stderr does not take waits in memory up
//! to a limit; past it lines are dropped, counted, and told of when stderr takes lines again.

use std::io::{self, ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The lines that wait.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: there are lines, or somebody waits for the end of them.
    filled: Condvar,
    /// For whoever waits for the end of them.
    emptied: Condvar,
}

#[derive(Debug)]
struct State {
    lines: Vec<u8>,
    dropped: u64,
    dropped_untold: u64,
    /// The writer waits for a first line.
    idle: bool,
    /// The writer has lines in hand.
    writing: bool,
    /// Somebody waits until all is written.
    hurry: bool,
}

impl Queue {
    /// An empty queue.
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: Vec::new(),
                dropped: 0,
                dropped_untold: 0,
                idle: false,
                writing: false,
                hurry: false,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    /// Takes a line in, its end included, or drops it when too much waits already.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > MOST_WAITING {
            state.dropped += 1;
            state.dropped_untold += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.filled.notify_all();
        }
    }

    /// Waits until everything taken in so far is written, at most for `time`; says whether it is.
    pub(super) fn flush(&self, time: Duration) -> bool {
        let mut state = self.lock();
        state.hurry = true;
        self.filled.notify_all();
        let all = |state: &mut State| {
            state.writing || !state.lines.is_empty() || state.dropped_untold > 0
        };
        let (mut state, _) = self
            .emptied
            .wait_timeout_while(state, time, all)
            .unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        state.lines.is_empty() && !state.writing
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Writes lines as they come, for ever; `tell` is called with how many were dropped before.
    pub(super) fn write_to(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let untold = self.take(&mut batch);
            let written = write_all(&mut out, &batch);
            if untold > 0 && written.is_ok() {
                tell(untold);
            }
            let mut state = self.lock();
            if written.is_err() {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
                state.dropped += lines;
            }
            state.writing = false;
            let done = state.lines.is_empty();
            drop(state);
            if done {
                self.emptied.notify_all();
            }
            batch.clear();
            batch.shrink_to(KEPT);
            self.gather();
        }
    }

    /// Waits for lines and takes them all, and how many were dropped since this was told last.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        while state.lines.is_empty() && state.dropped_untold == 0 {
            state.idle = true;
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.writing = true;
        std::mem::swap(&mut state.lines, batch);
        std::mem::take(&mut state.dropped_untold)
    }

    /// Lets lines gather, unless somebody waits for them.
    fn gather(&self) {
        let state = self.lock();
        let waited = self
            .filled
            .wait_timeout_while(state, GATHER, |state| !state.hurry);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stderr that somebody else made non-blocking is written to with patience.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(GATHER),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The longest a line waits for others, unless stderr is slow.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that may wait.
const MOST_WAITING: usize = 4 * 1024 * 1024;
/// What a buffer keeps of its size after a burst.
const KEPT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Tells of each write, and waits for leave before it returns.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Arc<Queue>, Receiver<Vec<u8>>, Sender<()>) {
        let (queue, (told, writes), (leave, left)) = (Arc::new(Queue::new()), channel(), channel());
        let writing = Arc::clone(&queue);
        let telling = Arc::clone(&queue);
        let tell = move |lost: u64| telling.push(format!("lost {lost}\n").as_bytes());
        thread::spawn(move || writing.write_to(Slow(told, left), tell));
        (queue, writes, leave)
    }

    fn next(writes: &Receiver<Vec<u8>>) -> String {
        let bytes = writes.recv_timeout(Duration::from_secs(5)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_first_line_leaves_at_once_and_the_next_ones_together() {
        let (queue, writes, leave) = start();
        queue.push(b"a\n");
        assert_eq!(next(&writes), "a\n");
        for line in ["b\n", "c\n", "d\n"] {
            queue.push(line.as_bytes());
        }
        leave.send(()).unwrap();
        assert_eq!(next(&writes), "b\nc\nd\n");
        leave.send(()).unwrap();
        assert!(queue.flush(Duration::from_secs(5)));
    }

    #[test]
    fn nobody_waits_for_a_stuck_writer_and_what_is_lost_is_told() {
        let (queue, writes, leave) = start();
        queue.push(b"first\n");
        next(&writes);
        let line = [b'x'; 1024];
        for _ in 0..MOST_WAITING / line.len() + 10 {
            queue.push(&line);
        }
        assert_eq!(queue.dropped(), 10);
        assert!(!queue.flush(Duration::from_millis(30)));
        leave.send(()).unwrap();
        assert_eq!(next(&writes).len(), MOST_WAITING);
        leave.send(()).unwrap();
        assert_eq!(next(&writes), "lost 10\n");
        leave.send(()).unwrap();
        assert!(queue.flush(Duration::from_secs(5)));
    }

    #[test]
    fn a_flush_of_nothing_is_done_at_once() {
        let (queue, _writes, _leave) = start();
        assert!(queue.flush(Duration::from_secs(5)));
        assert!(queue.flush(Duration::from_secs(5)));
    }

    #[test]
    fn a_closed_stderr_loses_lines_and_nothing_else() {
        let (queue, writes, leave) = start();
        drop((writes, leave));
        queue.push(b"a\nb\n");
        queue.flush(Duration::from_secs(5));
        assert_eq!(queue.dropped(), 2);
    }
}
