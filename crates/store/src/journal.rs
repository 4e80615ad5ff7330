//! The append-only journal beside the database: what must outlive `kill -9` before SQLite has it.
//!
//! The journal is the queue. The request path adds a record with one `write(2)` and never syncs: the page cache
//! outlives the process. The writer thread reads the same bytes back and applies them. A segment that is full is
//! sealed; once everything in it is in SQLite, its file is made a [`Spare`] or removed.
//!
//! Invariants: appenders hold the lock shared, so that whoever holds it alone knows that no write is under way; a
//! record is in the journal whole or [`Journal::append`] says it is not. All write through one open file, whose
//! position is the end of what is written: the operating system lets one write end before the next begins. Behind it
//! there is nothing, or zeros as far as the file was used before.

pub(crate) mod frame;
mod spare;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::journal::frame::Found;
pub(crate) use crate::journal::spare::Spare;
use crate::owner::FileError;
use crate::records::Records;

/// The appending end, shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    active: RwLock<Option<Active>>,
}

#[derive(Debug)]
struct Active {
    number: u64,
    sink: Arc<dyn Sink>,
    /// Bytes of the writes that have returned, all of which lie before any other.
    written: Arc<AtomicU64>,
    /// Whether it did not take something, as on a full disk.
    has_refused: AtomicBool,
}

/// Where frames are appended; a file, or something that fails on purpose.
pub(crate) trait Sink: Send + Sync + std::fmt::Debug {
    /// One `write(2)`.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Sink for File {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        file.write(bytes)
    }
}

/// Why not all bytes are in the journal, and how many are.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) taken: usize,
    pub(crate) error: io::Error,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { taken: 0, error }
    }
}

impl Journal {
    /// Adds whole frames by one write. A frame that is not taken to its end is torn, and as good as not there.
    pub(crate) fn append(&self, frames: &[u8]) -> Result<(), Refusal> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let active = active
            .as_ref()
            .ok_or_else(|| io::Error::from(ErrorKind::NotConnected))?;
        let appended = active.append(frames);
        if appended.is_err() {
            active.has_refused.store(true, Ordering::Relaxed);
        }
        appended
    }

    /// Starts a new segment, to which all later frames go, in the file of `spare` if there is one. The former segment, if
    /// any, is then sealed.
    pub(crate) fn start_segment(
        &self,
        path: &Path,
        number: u64,
        owner: &str,
        spare: Option<Spare>,
    ) -> Result<Tail, FileError> {
        let file = match spare.map(|spare| spare.rename(path)) {
            Some(Ok(file)) => file,
            // There is none, or it is gone.
            _ => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(FileError::at(path))?,
        };
        let mut tail = Tail::open(path, number)?;
        let header = frame::encode_owner(owner);
        let taken = file.append(&header).map_err(FileError::at(path))?;
        if taken != header.len() {
            return Err(FileError::at(path)(ErrorKind::WriteZero.into()));
        }
        let written = Arc::new(AtomicU64::new(taken as u64));
        tail.written = Some(Arc::clone(&written));
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        *active = Some(Active {
            number,
            sink: Arc::new(file),
            written,
            has_refused: AtomicBool::new(false),
        });
        Ok(tail)
    }

    /// Whether a segment is open for appending.
    pub(crate) fn is_ready(&self) -> bool {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.is_some()
    }

    /// How much was appended to the active segment.
    pub(crate) fn active_length(&self) -> u64 {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active
            .as_ref()
            .map_or(0, |active| active.written.load(Ordering::Acquire))
    }

    /// Whether the active segment has refused frames.
    pub(crate) fn has_refused(&self) -> bool {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active
            .as_ref()
            .is_some_and(|active| active.has_refused.load(Ordering::Relaxed))
    }

    /// Whether frames still go to segment `number`.
    pub(crate) fn is_active(&self, number: u64) -> bool {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active
            .as_ref()
            .is_some_and(|active| active.number == number)
    }

    /// Runs `look` while nobody appends.
    pub(crate) fn while_quiet<T>(&self, look: impl FnOnce() -> T) -> T {
        let _quiet = self.active.write().unwrap_or_else(PoisonError::into_inner);
        look()
    }

    /// Ends appending for good if `finished` agrees while nobody appends.
    pub(crate) fn retire(&self, finished: impl FnOnce() -> bool) -> bool {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let retire = finished();
        if retire {
            *active = None;
        }
        retire
    }

    /// Has all later frames go to what `sink` makes of the one there is.
    #[cfg(test)]
    pub(crate) fn divert(&self, sink: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Sink>) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = &mut *active {
            active.sink = sink(Arc::clone(&active.sink));
        }
    }
}

impl Active {
    fn append(&self, frames: &[u8]) -> Result<(), Refusal> {
        let taken = loop {
            match self.sink.append(frames) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.written.fetch_add(taken as u64, Ordering::Release);
        if taken < frames.len() {
            let error = ErrorKind::WriteZero.into();
            return Err(Refusal { taken, error });
        }
        Ok(())
    }
}

/// The reading end of one segment.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    number: u64,
    file: File,
    /// Bytes read and not yet taken apart.
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file: everything before it was handed out.
    offset: u64,
    /// How far appenders have come; `None` if nobody appends any more, and the file is read to its end.
    written: Option<Arc<AtomicU64>>,
    skipped: u64,
}

impl Tail {
    /// Opens a segment that nobody appends to, for reading from its start.
    pub(crate) fn open(path: &Path, number: u64) -> Result<Self, FileError> {
        Ok(Self {
            path: path.to_owned(),
            number,
            file: File::open(path).map_err(FileError::at(path))?,
            buffer: Vec::new(),
            offset: 0,
            written: None,
            skipped: 0,
        })
    }

    /// Reads on until `limit` records are in `out` or the file ends for now. True at the end.
    pub(crate) fn read(&mut self, limit: usize, out: &mut Records) -> Result<bool, FileError> {
        loop {
            self.take_frames(limit, out, false);
            if out.len() >= limit {
                return Ok(false);
            }
            if self.fill()? == 0 {
                return Ok(true);
            }
        }
    }

    /// Like [`Tail::read`] at the end of a file that nobody appends to: an unfinished frame is torn, and skipped.
    pub(crate) fn read_rest(&mut self, out: &mut Records) -> Result<(), FileError> {
        while self.fill()? > 0 {}
        self.take_frames(usize::MAX, out, true);
        Ok(())
    }

    /// Continues at byte `offset`, wherever reading stood.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), FileError> {
        let start = SeekFrom::Start(offset);
        self.file.seek(start).map_err(FileError::at(&self.path))?;
        self.buffer.clear();
        self.offset = offset;
        Ok(())
    }

    /// Whether everything that was appended is handed out.
    pub(crate) fn is_spent(&self) -> bool {
        self.offset == self.written()
    }

    /// Whether bytes were read that are no whole frame yet.
    pub(crate) fn holds_unfinished(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Segment number and the offset up to which records were handed out.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.number, self.offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that belonged to no whole record, counted once; without zeros, which may be where nothing was written.
    pub(crate) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Up to where there is something to read.
    fn written(&self) -> u64 {
        let written = self.written.as_ref();
        written.map_or(u64::MAX, |written| written.load(Ordering::Acquire))
    }

    fn fill(&mut self) -> Result<u64, FileError> {
        let at = self.offset + self.buffer.len() as u64;
        let there = self.written().saturating_sub(at);
        let mut chunk = (&self.file).take(there.min(CHUNK));
        let read = chunk.read_to_end(&mut self.buffer);
        Ok(read.map_err(FileError::at(&self.path))? as u64)
    }

    fn take_frames(&mut self, limit: usize, out: &mut Records, torn_tail: bool) {
        let mut at = 0;
        while at < self.buffer.len() && out.len() < limit {
            let skip = match frame::find(&self.buffer[at..]) {
                Found::Whole(length) => {
                    out.push(&self.buffer[at..at + length]);
                    at += length;
                    continue;
                }
                Found::Incomplete if !torn_tail => break,
                Found::Incomplete => 1,
                Found::Garbage(length) => length,
            };
            let skipped = &self.buffer[at..at + skip];
            self.skipped += skipped.iter().filter(|byte| **byte != 0).count() as u64;
            at += skip;
        }
        at = at.min(self.buffer.len());
        self.buffer.drain(..at);
        self.offset += at as u64;
    }
}

/// Whose a segment is, as its first frame says. That may be damaged.
pub(crate) fn read_owner(path: &Path, number: u64) -> Result<Option<String>, FileError> {
    let mut records = Records::default();
    Tail::open(path, number)?.read(1, &mut records)?;
    let first = records.frames().next();
    Ok(first.and_then(frame::decode_owner).map(str::to_owned))
}

/// How much is read at once.
const CHUNK: u64 = 256 << 10;

#[cfg(test)]
mod tests;
