//! The handle that the rest of arbstr holds.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::chores::Expiry;
use crate::intake::{Intake, Load};
use crate::owner::Home;
use crate::query::QueryError;
use crate::reader::Reader;
use crate::record::{Completion, NextAttempt, Opening, RequestDetail};
use crate::records::Records;
use crate::schema::{self, ConnectError};
use crate::status::{Status, Unwritten};
use crate::writer::{Trouble, Writer};

/// The ledger. Cheap to clone; all clones are the same ledger.
///
/// Dropping the last clone without [`Store::close`] is like a crash: nothing that reached the journal is lost, but the
/// next start has to apply it.
#[derive(Debug, Clone)]
pub struct Store {
    ledger: Arc<Ledger>,
}

/// Where the ledger is and how it behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file. Its folder is made if it is missing.
    pub path: PathBuf,
    /// How many records memory may hold while neither the journal nor the database takes them.
    pub queue_bound: usize,
    /// How many bytes these records may have together.
    pub queue_bytes: usize,
    /// When this process started, in milliseconds since the epoch; part of its name in the ledger.
    pub started_ms: i64,
}

/// Why there is no ledger at all. A file that merely cannot be opened now is no reason: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer arbstr has changed the database.
    #[error("database {} was written by a newer arbstr (schema version {found}, this one knows {known}); use that version, or another file", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file is a database of something else.
    #[error("database {} belongs to another program: it has tables that are not arbstr's", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The operating system gave no thread.
    #[error("no thread for the ledger's writer")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
struct Ledger {
    intake: Arc<Intake>,
    reader: Reader,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Options {
    /// The usual behaviour for the database at `path`.
    pub fn new(path: impl Into<PathBuf>, started_ms: i64) -> Self {
        Self {
            path: path.into(),
            queue_bound: 100_000,
            queue_bytes: 256 << 20,
            started_ms,
        }
    }
}

impl Store {
    /// Opens or makes the database, applies what dead processes left in their journals and starts the writer.
    ///
    /// Blocks for that, at most some seconds. A database that cannot be opened or written now is no error: requests
    /// are journaled, the writer keeps trying, and [`Store::status`] says so.
    ///
    /// # Errors
    ///
    /// A database that must not be touched, because it is newer than this program or not arbstr's.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let home = Home::new(&options.path);
        let intake = Arc::new(Intake::new(Load {
            records: options.queue_bound as u64,
            bytes: options.queue_bytes as u64,
        }));
        let connection = match schema::connect(home.database()) {
            Ok(connection) => Some(connection),
            Err(error) if error.is_final() => return Err(refusal(&error, &home)),
            Err(error) => {
                intake.note_trouble(&Trouble::from(error));
                None
            }
        };
        let ready = connection.is_some();
        let reader = Reader::new(home.database().to_owned());
        let writer = Writer::new(Arc::clone(&intake), home, options.started_ms, connection);
        let writer = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        if ready {
            intake.wait_recovered(RECOVERY);
        }
        let writer = Mutex::new(Some(writer));
        let ledger = Arc::new(Ledger {
            intake,
            reader,
            writer,
        });
        Ok(Self { ledger })
    }

    /// Puts a request on record, before its first upstream byte. Never waits for the database.
    pub fn open_request(&self, opening: &Opening<impl AsRef<str>>) {
        let mut records = Records::default();
        records.open_request(opening);
        self.append(&mut records);
    }

    /// Says that another attempt of a request begins. Never waits for the database.
    pub fn begin_attempt(&self, next: &NextAttempt<impl AsRef<str>>) {
        let mut records = Records::default();
        records.begin_attempt(next);
        self.append(&mut records);
    }

    /// Completes a request, once. Never waits for the database.
    pub fn complete(&self, completion: &Completion<impl AsRef<str>>) {
        let mut records = Records::default();
        records.complete(completion);
        self.append(&mut records);
    }

    /// Hands in all of `records` at once, by one `write(2)`, and leaves it empty. Never waits for the database.
    ///
    /// They are on record from then on, not before. Of a request, the opening comes first.
    pub fn append(&self, records: &mut Records) {
        self.ledger.intake.append(records);
        records.clear();
    }

    /// Has rows deleted that are more than `age_ms` old by the clock `now_ms` (since the epoch), hour by hour and little
    /// by little; statistics keep them. A clock that no rows bear out is not believed, since it may be wrong: that takes a
    /// newer row, and another an hour apart where there was none for a day. Never waits. To be called again as time goes
    /// on.
    pub fn expire(&self, now_ms: i64, age_ms: i64) {
        self.ledger.intake.expire(Expiry { now_ms, age_ms });
    }

    /// Has `bytes` saved under `name`, in place of what was saved before. Never waits; not journaled, so that a crash
    /// before the next commit keeps the former ones.
    pub fn save_state(&self, name: &str, bytes: Vec<u8>) {
        self.ledger.intake.push_state(name, bytes);
    }

    /// Blocks until everything handed in before is in SQLite, or `within` has passed. Says what is not.
    #[must_use]
    pub fn flush(&self, within: Duration) -> Unwritten {
        if self.ledger.intake.flush(within) {
            return Unwritten::default();
        }
        self.unwritten()
    }

    /// Flushes, then ends the writer and removes the journal. Blocks little longer than `within`.
    ///
    /// What could not be written stays in the journal for the next start. Nothing should be handed in afterwards.
    #[must_use]
    pub fn close(&self, within: Duration) -> Unwritten {
        let unwritten = self.flush(within);
        self.ledger.reader.rest();
        self.ledger.intake.stop();
        let mut writer = self.ledger.writer();
        if let Some(writer) = writer.take() {
            // A panic of the writer was reported by its thread.
            drop(writer.join());
        }
        unwritten
    }

    /// How far SQLite is behind at `now_ms` (milliseconds since the epoch). Cheap; reads no file.
    #[must_use]
    pub fn status(&self, now_ms: i64) -> Status {
        let mut status = self.ledger.intake.status(now_ms);
        let writer = self.ledger.writer();
        if writer.as_ref().is_none_or(JoinHandle::is_finished) {
            status.database_ready = false;
            status.last_error = Some("the ledger's writer has ended".to_owned());
        }
        status
    }

    /// One request with its plan and attempts. Blocks for the database; a completion is seen within some 100 ms.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn request(&self, correlation_id: &str) -> Result<Option<RequestDetail>, QueryError> {
        self.ledger.reader.request(correlation_id)
    }

    /// For all other questions.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.ledger.reader
    }

    fn unwritten(&self) -> Unwritten {
        Unwritten {
            records: self.ledger.intake.depth(),
            memory_only: self.ledger.intake.memory_only(),
        }
    }
}

impl Ledger {
    fn writer(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.intake.stop();
    }
}

fn refusal(error: &ConnectError, home: &Home) -> OpenError {
    let path = home.database().to_owned();
    match *error {
        ConnectError::Newer { found, known } => OpenError::NewerSchema { path, found, known },
        _ => OpenError::Foreign { path },
    }
}

/// How long the start waits for journals of dead processes to be applied; the writer goes on with it anyway.
const RECOVERY: Duration = Duration::from_secs(5);
