//! Which process owns which journal: one locked slot file per running instance on a database.
//!
//! Instance N holds the operating system's lock on `<db>.owner-N` for as long as it lives, and writes the segments
//! `<db>.ledger-N-…`. A slot whose lock can be taken belongs to nobody alive, whatever process ids were reused since.
//! Slot files are never removed, so there is no moment at which two processes could lock two files of one name.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The database file and the names beside it.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    database: PathBuf,
}

/// What instances have left beside the database.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) slots: BTreeSet<u32>,
    /// Each with its slot and number.
    segments: BTreeSet<(u32, u64)>,
}

/// A slot that this process holds; the lock goes with the value.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) slot: u32,
    _lock: File,
}

/// A file or folder beside the database that does not let itself be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(crate) struct FileError {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl FileError {
    /// Says of an error that it is about `path`.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self { path, error }
    }
}

impl Home {
    /// Makes the folder if it is missing, and resolves links so that two spellings of a path mean one file.
    pub(crate) fn new(path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut database = absolute.clone();
        if let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) {
            // A folder that cannot be made shows itself when the database is opened.
            drop(std::fs::create_dir_all(folder));
            if let Ok(folder) = folder.canonicalize() {
                database = folder.join(name);
            }
        }
        let database = database.canonicalize().unwrap_or(database);
        Self { database }
    }

    /// The database file.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Makes the folder again, should it have been impossible at the start.
    pub(crate) fn make_folder(&self) -> Result<(), FileError> {
        let folder = self.folder();
        std::fs::create_dir_all(folder).map_err(FileError::at(folder))
    }

    /// Takes the first slot that nobody holds. One whose file is there and cannot be opened is passed over.
    pub(crate) fn claim_any(&self) -> Result<Claim, FileError> {
        for slot in 0..MAX_SLOTS {
            let file = match self.open_slot(slot) {
                Err(error) if error.path.symlink_metadata().is_ok() => continue,
                // It could not be made, so no other can.
                opened => opened?,
            };
            if let Some(claim) = self.lock(slot, file)? {
                return Ok(claim);
            }
        }
        let error = io::Error::other("neither this slot nor one before it can be had");
        Err(FileError::at(&self.slot(MAX_SLOTS - 1))(error))
    }

    /// Takes slot `slot`, or `None` when a live process has it.
    pub(crate) fn claim(&self, slot: u32) -> Result<Option<Claim>, FileError> {
        self.lock(slot, self.open_slot(slot)?)
    }

    /// Looks which slots and segments have files here.
    pub(crate) fn survey(&self) -> Result<Survey, FileError> {
        self.list().map_err(FileError::at(self.folder()))
    }

    /// The file of segment `number` of `slot`.
    pub(crate) fn segment(&self, slot: u32, number: u64) -> PathBuf {
        self.beside(&format!("{LEDGER}{slot}-{number}"))
    }

    /// The file that the next segment of `slot` is to be made of. No segment is called like that.
    pub(crate) fn spare(&self, slot: u32) -> PathBuf {
        self.beside(&format!("{LEDGER}{slot}-spare"))
    }

    fn list(&self) -> io::Result<Survey> {
        let mut survey = Survey::default();
        let Some(stem) = self.database.file_name().and_then(|name| name.to_str()) else {
            return Err(io::Error::other("the database's name is not UTF-8"));
        };
        for entry in std::fs::read_dir(self.folder())? {
            let name = entry?.file_name();
            let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(stem)) else {
                continue;
            };
            if let Some(slot) = suffix.strip_prefix(OWNER).and_then(|n| n.parse().ok()) {
                survey.slots.insert(slot);
            } else if let Some(segment) = suffix.strip_prefix(LEDGER).and_then(parse_segment) {
                survey.slots.insert(segment.0);
                survey.segments.insert(segment);
            }
        }
        Ok(survey)
    }

    /// Another user's file will do if it can be read: a lock needs no more.
    fn open_slot(&self, slot: u32) -> Result<File, FileError> {
        let path = self.slot(slot);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .or_else(|error| File::open(&path).map_err(|_| error))
            .map_err(FileError::at(&path))
    }

    fn lock(&self, slot: u32, file: File) -> Result<Option<Claim>, FileError> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Claim { slot, _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::at(&self.slot(slot))(error)),
        }
    }

    /// The folder that all of them are in.
    fn folder(&self) -> &Path {
        self.database.parent().unwrap_or(&self.database)
    }

    fn slot(&self, slot: u32) -> PathBuf {
        self.beside(&format!("{OWNER}{slot}"))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(suffix);
        path.into()
    }
}

impl Survey {
    /// The numbers of the segments of `slot`, in order.
    pub(crate) fn segments(&self, slot: u32) -> impl DoubleEndedIterator<Item = u64> {
        let range = self.segments.range((slot, 0)..=(slot, u64::MAX));
        range.map(|(_, number)| *number)
    }
}

/// The name under which an instance's open rows are kept; begins with its slot.
pub(crate) fn owner_name(slot: Option<u32>, started_ms: i64) -> String {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let nth = OPENED.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let slot = slot.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
    format!("{slot}.{started_ms}.{process}.{nth}")
}

/// The name for whoever wrote a segment that does not say it any more.
pub(crate) fn nameless(slot: u32, segment: u64) -> String {
    format!("{slot}.unknown.{segment}")
}

/// The slot in an owner's name.
pub(crate) fn slot_of(owner: &str) -> Option<u32> {
    owner.split('.').next()?.parse().ok()
}

fn parse_segment(text: &str) -> Option<(u32, u64)> {
    let (slot, number) = text.split_once('-')?;
    Some((slot.parse().ok()?, number.parse().ok()?))
}

const OWNER: &str = ".owner-";
const LEDGER: &str = ".ledger-";
const MAX_SLOTS: u32 = 1024;
