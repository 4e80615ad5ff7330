//! Where records come in: the journal, the room in memory for when it fails, and what is known about both.
//!
//! Shared by all requests and the writer. A record goes to the journal; if that refuses, to memory; if that is full
//! too, it is dropped and counted. No request ever waits for the writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::chores::Expiry;
use crate::journal::{Journal, Refusal, frame};
use crate::records::Records;
use crate::status::Status;

/// The meeting place of requests and writer.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) journal: Journal,
    /// Frames that the journal did not take.
    memory: Mutex<VecDeque<Box<[u8]>>>,
    room: Load,
    tally: Tally,
    bell: Bell,
    progress: Mutex<Progress>,
    progressed: Condvar,
}

/// What memory holds, or may hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct Tally {
    handed: AtomicU64,
    applied: AtomicU64,
    memory_only: AtomicU64,
    /// How long those are that only memory holds.
    memory_bytes: AtomicU64,
    dropped: AtomicU64,
    /// Those of them for which there was no room.
    without_room: AtomicU64,
    unmatched: AtomicU64,
    /// Openings less completions.
    open: AtomicI64,
    /// Time of the oldest record that the writer holds, or else of the first that it has not read, or [`NEVER`].
    oldest_ms: AtomicI64,
}

/// Wakes the writer, at no cost while it is awake.
#[derive(Debug, Default)]
struct Bell {
    asleep: AtomicBool,
    writer: OnceLock<Thread>,
}

/// What the writer has reached, and what it is asked to do.
#[derive(Debug, Default)]
struct Progress {
    flush_asked: u64,
    flushed: u64,
    recovered: bool,
    /// How often something was put into the next two.
    chores_asked: u64,
    /// Named blobs to be saved.
    states: BTreeMap<String, Vec<u8>>,
    /// Rows that are to be deleted.
    expiry: Option<Expiry>,
    stopping: bool,
    stopped: bool,
    database_ready: bool,
    last_error: Option<String>,
}

/// What the writer should know before it looks for work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    handed: u64,
    flush_asked: u64,
    chores_asked: u64,
    pub(crate) stopping: bool,
}

impl Intake {
    /// With so much `room` for when the journal fails.
    pub(crate) fn new(room: Load) -> Self {
        let tally = Tally::default();
        tally.oldest_ms.store(NEVER, Ordering::Relaxed);
        Self {
            journal: Journal::default(),
            memory: Mutex::default(),
            room,
            tally,
            bell: Bell::default(),
            progress: Mutex::default(),
            progressed: Condvar::new(),
        }
    }

    /// Takes in `records`.
    pub(crate) fn append(&self, records: &Records) {
        if records.refused() > 0 {
            let dropped = records.refused();
            tracing::error!(
                dropped,
                "records are longer than the journal takes, and lost"
            );
            self.note_dropped(dropped);
        }
        if records.is_empty() {
            return;
        }
        let count = |is: fn(&[u8]) -> bool| records.frames().filter(|frame| is(frame)).count();
        let openings = i64::try_from(count(frame::is_opening)).unwrap_or(0);
        let completions = i64::try_from(count(frame::is_completion)).unwrap_or(0);
        self.tally.open.fetch_add(openings, Ordering::Relaxed);
        self.note_waiting(records);
        let mut handed = records.len() as u64;
        if let Err(refusal) = self.journal.append(records.bytes()) {
            handed -= self.remember(records, &refusal);
        }
        self.tally.open.fetch_sub(completions, Ordering::Relaxed);
        self.tally.handed.fetch_add(handed, Ordering::SeqCst);
        self.bell.ring();
    }

    /// Blocks until everything handed in before is applied, or `within` has passed. Not for a database that does not work
    /// while there is nothing for it.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let mut progress = self.progress();
        progress.flush_asked += 1;
        let asked = progress.flush_asked;
        self.bell.wake();
        let is_idle = |progress: &Progress| {
            let broken = progress.last_error.is_some();
            broken && progress.states.is_empty() && self.depth() == 0
        };
        let unfinished = |progress: &mut Progress| {
            progress.flushed < asked && !progress.stopped && !is_idle(progress)
        };
        let (progress, _) = self
            .progressed
            .wait_timeout_while(progress, within, unfinished)
            .unwrap_or_else(PoisonError::into_inner);
        progress.flushed >= asked
    }

    /// Blocks until the writer has dealt with what dead processes left, or `within` has passed.
    pub(crate) fn wait_recovered(&self, within: Duration) {
        let pending = |progress: &mut Progress| {
            !progress.recovered && progress.last_error.is_none() && !progress.stopped
        };
        drop(
            self.progressed
                .wait_timeout_while(self.progress(), within, pending),
        );
    }

    /// Asks the writer to save `bytes` under `name`.
    pub(crate) fn push_state(&self, name: &str, bytes: Vec<u8>) {
        let mut progress = self.progress();
        progress.states.insert(name.to_owned(), bytes);
        progress.chores_asked += 1;
        drop(progress);
        self.bell.wake();
    }

    /// Asks the writer to delete old rows.
    pub(crate) fn expire(&self, expiry: Expiry) {
        let mut progress = self.progress();
        progress.expiry = Some(expiry);
        progress.chores_asked += 1;
        drop(progress);
        self.bell.wake();
    }

    /// Asks the writer to end after its present turn.
    pub(crate) fn stop(&self) {
        self.progress().stopping = true;
        self.bell.wake();
    }

    /// How far SQLite is behind, at `now_ms`.
    pub(crate) fn status(&self, now_ms: i64) -> Status {
        let oldest_ms = self.tally.oldest_ms.load(Ordering::Relaxed);
        let depth = self.depth();
        let waiting = depth > 0 && oldest_ms != NEVER;
        let lag_ms = if waiting {
            now_ms.saturating_sub(oldest_ms)
        } else {
            0
        };
        let progress = self.progress();
        Status {
            depth,
            lag: Duration::from_millis(u64::try_from(lag_ms).unwrap_or(0)),
            memory_only: self.memory_only(),
            dropped: self.tally.dropped.load(Ordering::Relaxed),
            unmatched: self.tally.unmatched.load(Ordering::Relaxed),
            database_ready: progress.database_ready,
            journal_ready: self.journal.is_ready(),
            last_error: progress.last_error.clone(),
        }
    }

    /// Records that are not in SQLite yet.
    pub(crate) fn depth(&self) -> u64 {
        let applied = self.tally.applied.load(Ordering::Relaxed);
        self.tally
            .handed
            .load(Ordering::Relaxed)
            .saturating_sub(applied)
    }

    /// Those of them that are in no file either.
    pub(crate) fn memory_only(&self) -> u64 {
        self.tally.memory_only.load(Ordering::Relaxed)
    }

    /// Lets what is not yet read count as the oldest, while nothing older is held. To be called before the writer can
    /// see `records`, so that it is never said of them once they are applied.
    fn note_waiting(&self, records: &Records) {
        let oldest_ms = &self.tally.oldest_ms;
        if oldest_ms.load(Ordering::Relaxed) == NEVER
            && let Some(at_ms) = records.frames().find_map(frame::at_ms)
        {
            oldest_ms.fetch_min(at_ms, Ordering::Relaxed);
        }
    }

    /// Keeps in memory what the journal did not take. Returns how many of them were dropped for want of room.
    fn remember(&self, records: &Records, refusal: &Refusal) -> u64 {
        let (mut end, mut dropped) = (0, 0);
        for frame in records.frames() {
            end += frame.len();
            if end <= refusal.taken {
                continue;
            }
            let load = Load {
                records: 1,
                bytes: frame.len() as u64,
            };
            let before = self.tally.add_memory(load);
            if before.records >= self.room.records || before.bytes + load.bytes > self.room.bytes {
                self.tally.free_memory(load);
                self.note_no_room(refusal);
                dropped += 1;
                continue;
            }
            if before.records == 0 {
                let error = &refusal.error;
                tracing::warn!(%error, "the ledger's journal refuses records; they are held in memory");
            }
            self.memory().push_back(frame.into());
        }
        dropped
    }

    /// One more record is lost for want of room. Says so now and then.
    fn note_no_room(&self, refusal: &Refusal) {
        self.note_dropped(1);
        let before = self.tally.without_room.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(1000) {
            tracing::error!(
                dropped = before + 1,
                error = %refusal.error,
                "the ledger has no room left and drops records: the journal refuses them, and memory is full; see that arbstr can write beside its database, and that there is room on the disk"
            );
        }
    }

    fn memory(&self) -> MutexGuard<'_, VecDeque<Box<[u8]>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side.
impl Intake {
    /// Makes the calling thread the one that the bell wakes.
    pub(crate) fn attend(&self) {
        // A second writer on one intake does not exist.
        drop(self.bell.writer.set(thread::current()));
    }

    /// What is asked of the writer now. To be read before looking for work.
    pub(crate) fn call(&self) -> Call {
        let progress = self.progress();
        Call {
            handed: self.tally.handed.load(Ordering::SeqCst),
            flush_asked: progress.flush_asked,
            chores_asked: progress.chores_asked,
            stopping: progress.stopping,
        }
    }

    /// Sleeps until something new is handed in or asked since `call`, at most for `at_most`. True if so.
    pub(crate) fn sleep(&self, call: Call, at_most: Duration) -> bool {
        // Takes a waking that came while nobody slept: it would end this sleep, as if all the time had passed.
        thread::park_timeout(Duration::ZERO);
        self.bell.asleep.store(true, Ordering::SeqCst);
        if !self.is_news(call) {
            thread::park_timeout(at_most);
        }
        self.bell.asleep.store(false, Ordering::SeqCst);
        self.is_news(call)
    }

    /// Gives others `time` to hand in something too, unless somebody waits for what is there since `call`.
    pub(crate) fn linger(&self, call: Call, time: Duration) {
        let progress = self.progress();
        let awaited = progress.flush_asked != call.flush_asked || progress.stopping;
        drop(progress);
        if !awaited {
            // Whoever comes to wait for it wakes the writer, a record does not.
            thread::park_timeout(time);
        }
    }

    /// How many records memory holds.
    pub(crate) fn memory_length(&self) -> usize {
        if self.memory_only() == 0 {
            0
        } else {
            self.memory().len()
        }
    }

    /// Takes from memory all openings, and the others among the first `settled` records.
    ///
    /// The caller has read the journal to its end since it learned that there were `settled` records, or passes 0:
    /// so nothing is taken whose opening is still unread.
    pub(crate) fn take_memory(&self, settled: usize, out: &mut Records) -> Load {
        if self.memory_only() == 0 {
            return Load::default();
        }
        let (records, bytes) = (out.len(), out.bytes().len());
        let mut memory = self.memory();
        let all = std::mem::take(&mut *memory);
        for (index, frame) in all.into_iter().enumerate() {
            if index < settled || frame::is_opening(&frame) {
                out.push(&frame);
            } else {
                memory.push_back(frame);
            }
        }
        Load {
            records: (out.len() - records) as u64,
            bytes: (out.bytes().len() - bytes) as u64,
        }
    }

    /// What is to be saved.
    pub(crate) fn states(&self) -> BTreeMap<String, Vec<u8>> {
        self.progress().states.clone()
    }

    /// `saved` is in the database; what was handed in since is not.
    pub(crate) fn note_saved(&self, saved: &BTreeMap<String, Vec<u8>>) {
        let mut progress = self.progress();
        progress
            .states
            .retain(|name, bytes| saved.get(name) != Some(bytes));
    }

    /// Which rows are to be deleted.
    pub(crate) fn expires(&self) -> Option<Expiry> {
        self.progress().expiry
    }

    /// None of them is left.
    pub(crate) fn note_expired(&self, expiry: Expiry) {
        let mut progress = self.progress();
        if progress.expiry == Some(expiry) {
            progress.expiry = None;
        }
    }

    /// The writer holds records, the oldest from `oldest_ms`.
    pub(crate) fn note_held(&self, oldest_ms: Option<i64>) {
        let oldest_ms = oldest_ms.unwrap_or(NEVER);
        self.tally.oldest_ms.store(oldest_ms, Ordering::Relaxed);
    }

    /// Records found no row to work on, which was told.
    pub(crate) fn note_unmatched(&self, records: u64) {
        self.tally.unmatched.fetch_add(records, Ordering::Relaxed);
    }

    /// `records` are in SQLite, `from_memory` of them came by memory.
    pub(crate) fn note_applied(&self, records: u64, from_memory: Load, unmatched: u64) {
        self.tally.applied.fetch_add(records, Ordering::Relaxed);
        self.tally.free_memory(from_memory);
        self.note_unmatched(unmatched);
        self.tally.oldest_ms.store(NEVER, Ordering::Relaxed);
    }

    /// Records were lost, which was told.
    pub(crate) fn note_dropped(&self, records: u64) {
        self.tally.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Everything that `call` knew of is applied.
    pub(crate) fn note_drained(&self, call: Call) {
        let mut progress = self.progress();
        if progress.flushed < call.flush_asked {
            progress.flushed = call.flush_asked;
            self.progressed.notify_all();
        }
    }

    /// What dead processes left is dealt with.
    pub(crate) fn note_recovered(&self) {
        self.progress().recovered = true;
        self.progressed.notify_all();
    }

    /// The database works.
    pub(crate) fn note_ready(&self) {
        let mut progress = self.progress();
        if progress.last_error.take().is_some() || !progress.database_ready {
            tracing::info!("the ledger's database is open");
        }
        progress.database_ready = true;
    }

    /// The database does not work, because of `error`.
    pub(crate) fn note_trouble(&self, error: &dyn std::fmt::Display) {
        let mut progress = self.progress();
        if progress.last_error.is_none() {
            tracing::error!(%error, "the ledger's database cannot be written; records are kept and it is tried again");
        }
        progress.database_ready = false;
        progress.last_error = Some(error.to_string());
        self.progressed.notify_all();
    }

    /// The writer is gone.
    pub(crate) fn note_stopped(&self) {
        self.progress().stopped = true;
        self.progressed.notify_all();
    }

    /// Whether every opening that was handed in has its completion.
    pub(crate) fn is_balanced(&self) -> bool {
        self.tally.open.load(Ordering::Relaxed) == 0
    }

    fn is_news(&self, call: Call) -> bool {
        let progress = self.progress();
        self.tally.handed.load(Ordering::SeqCst) != call.handed
            || progress.flush_asked != call.flush_asked
            || progress.chores_asked != call.chores_asked
            || progress.stopping != call.stopping
    }
}

impl Tally {
    /// Counts what memory is to hold. Returns what it held before.
    fn add_memory(&self, load: Load) -> Load {
        Load {
            records: self.memory_only.fetch_add(load.records, Ordering::Relaxed),
            bytes: self.memory_bytes.fetch_add(load.bytes, Ordering::Relaxed),
        }
    }

    fn free_memory(&self, load: Load) {
        self.memory_only.fetch_sub(load.records, Ordering::Relaxed);
        self.memory_bytes.fetch_sub(load.bytes, Ordering::Relaxed);
    }
}

impl Bell {
    fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

const NEVER: i64 = i64::MAX;
