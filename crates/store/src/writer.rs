//! The one thread that writes to SQLite, in group commits.
//!
//! Each turn: see that there is a journal and a connection, take a batch, commit it, drop what is applied, do chores. A turn
//! that fails keeps its batch and is tried again with a growing pause; new records wait in the journal meanwhile.
//!
//! ```text
//!   records ──▶ journal ──▶ batch ──▶ one transaction ──▶ journal segment removed, or used again
//!      └─(journal refuses)▶ memory ─┘        └─(refused)▶ pause, same batch again
//! ```

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::apply::{self, Known, Position};
use crate::chores::{self, Expired};
use crate::intake::{Call, Intake, Load};
use crate::journal::{Spare, Tail};
use crate::owner::{Claim, FileError, Home, owner_name};
use crate::records::Records;
use crate::recover::{Complaints, Sweeper};
use crate::schema::{self, ConnectError};

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the database cannot be opened: {0}")]
    Connect(#[from] ConnectError),
    #[error("the database cannot be written: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("a file beside the database cannot be used: {0}")]
    Journal(#[from] FileError),
    #[error("the database {} was deleted or replaced under arbstr; put it back, or restart arbstr: until then records wait in the journal", .0.display())]
    Moved(PathBuf),
}

/// The writer and all that it alone may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    intake: Arc<Intake>,
    home: Home,
    started_ms: i64,
    claim: Option<Claim>,
    owner: String,
    first_segment: u64,
    next_segment: u64,
    /// Segments not yet wholly applied, oldest first; the last is the active one.
    tails: VecDeque<Tail>,
    /// What the next segment is made of.
    spare: Option<Spare>,
    connection: Option<Connection>,
    /// Device and inode of the file that it has open.
    file: Option<(u64, u64)>,
    known: Known,
    recovered: bool,
    /// How often the writer has rested since it last looked for dead processes, quiet rests counted for many.
    rests: u32,
    complaints: Complaints,
    /// Whether it was said that there is no journal.
    told_of_journal: bool,
    /// Whether the last batch was a large one.
    is_busy: bool,
    /// Whether there are more rows to delete.
    expiring: bool,
    /// Whether it was said that none is deleted because all would be.
    refused_to_expire: bool,
    /// Old rows that went since it was last told.
    deleted: usize,
    batch: Batch,
    pause: Duration,
}

/// Records on their way into one transaction.
#[derive(Debug, Default)]
struct Batch {
    records: Records,
    from_memory: Load,
    position: Option<Position>,
}

/// What a successful turn says about the journal.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Drained,
    More,
}

impl Writer {
    /// A writer that has claimed its slot and opened its journal and database as far as they let it.
    pub(crate) fn new(
        intake: Arc<Intake>,
        home: Home,
        started_ms: i64,
        connection: Option<Connection>,
    ) -> Self {
        let file = identity(home.database());
        let mut writer = Self {
            intake,
            home,
            started_ms,
            claim: None,
            owner: owner_name(None, started_ms),
            first_segment: 0,
            next_segment: 0,
            tails: VecDeque::new(),
            spare: None,
            file,
            connection,
            known: Known::default(),
            recovered: false,
            rests: 0,
            complaints: Complaints::default(),
            told_of_journal: false,
            is_busy: false,
            expiring: false,
            refused_to_expire: false,
            deleted: 0,
            batch: Batch::default(),
            pause: FIRST_PAUSE,
        };
        writer.keep_journal();
        writer
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        self.intake.attend();
        loop {
            let call = self.intake.call();
            match self.turn() {
                Ok(turn) => {
                    self.pause = FIRST_PAUSE;
                    self.intake.note_ready();
                    if turn == Turn::Drained {
                        self.intake.note_drained(call);
                    }
                    if call.stopping {
                        break;
                    }
                    if turn == Turn::Drained && !self.expiring {
                        self.rest(call);
                    }
                }
                Err(trouble) => {
                    self.give_way(&trouble);
                    if call.stopping {
                        break;
                    }
                    thread::park_timeout(self.pause);
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        self.retire();
        if let Some(spare) = self.spare.take() {
            spare.remove();
        }
        self.intake.note_stopped();
    }

    fn turn(&mut self) -> Result<Turn, Trouble> {
        self.keep_journal();
        self.connect()?;
        self.check_file()?;
        self.recover()?;
        let turn = if self.batch.records.is_empty() {
            self.collect()?
        } else {
            Turn::More
        };
        self.commit()?;
        self.drop_applied_segments();
        self.do_chores()?;
        Ok(turn)
    }

    /// Sleeps until there is work, and then a little longer, so that more of it comes together.
    fn rest(&mut self, call: Call) {
        let at_most = if self.intake.journal.is_ready() {
            IDLE
        } else {
            LONGEST_PAUSE
        };
        let idle = !self.intake.sleep(call, at_most);
        if !idle {
            let time = if self.is_busy { BUSY_LINGER } else { LINGER };
            self.intake.linger(call, time);
        }
        self.rests += if self.is_busy { 1 } else { QUIET_REST };
        if idle || self.rests >= RESTS {
            // See whether another instance on this file has died meanwhile.
            self.recovered = false;
            self.rests = 0;
        }
    }

    fn give_way(&mut self, trouble: &Trouble) {
        self.intake.note_trouble(trouble);
        let keep = match trouble {
            Trouble::Database(error) => is_passing(error),
            Trouble::Connect(_) | Trouble::Journal(_) | Trouble::Moved(_) => true,
        };
        if !keep {
            self.connection = None;
        }
    }

    /// Sees that there is an active segment with room. Without one, records go to memory, and it is tried again.
    fn keep_journal(&mut self) {
        let journal = &self.intake.journal;
        // On a full disk the spare still has its room.
        let spare_has_room = journal.has_refused() && self.spare.is_some();
        let has_room = journal.active_length() < SEGMENT_LENGTH && !spare_has_room;
        if journal.is_ready() && has_room {
            return;
        }
        let Err(FileError { path, error }) = self.start_segment() else {
            self.told_of_journal = false;
            return;
        };
        if !std::mem::replace(&mut self.told_of_journal, true) {
            tracing::warn!(
                path = %path.display(),
                %error,
                "the ledger has no journal, so a crash loses the records of the last moments; let the user that arbstr runs as write here, then it is tried again"
            );
        }
    }

    fn start_segment(&mut self) -> Result<(), FileError> {
        if self.claim.is_none() {
            self.home.make_folder()?;
            let claim = self.home.claim_any()?;
            let last = self.home.survey()?.segments(claim.slot).next_back();
            self.first_segment = last.map_or(1, |number| number + 1);
            self.next_segment = self.first_segment;
            // That of the slot's last owner, if it is there.
            drop(std::fs::remove_file(self.home.spare(claim.slot)));
            self.owner = owner_name(Some(claim.slot), self.started_ms);
            self.claim = Some(claim);
        }
        let Some(claim) = &self.claim else {
            return Ok(());
        };
        let number = self.next_segment;
        self.next_segment += 1;
        let path = self.home.segment(claim.slot, number);
        let (journal, spare) = (&self.intake.journal, self.spare.take());
        let started = journal.start_segment(&path, number, &self.owner, spare);
        if started.is_err() {
            // Whatever is there holds no record yet.
            drop(std::fs::remove_file(&path));
        }
        self.tails.push_back(started?);
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Trouble> {
        if self.connection.is_none() {
            self.home.make_folder()?;
            self.connection = Some(schema::connect(self.home.database())?);
            self.file = identity(self.home.database());
            // It may be another file.
            self.known = Known::default();
        }
        Ok(())
    }

    /// Sees that what is written can still be found: SQLite would go on writing to a file that nobody can open any more.
    fn check_file(&self) -> Result<(), Trouble> {
        let path = self.home.database();
        match identity(path) {
            found @ Some(_) if found == self.file => Ok(()),
            _ => Err(Trouble::Moved(path.to_owned())),
        }
    }

    fn recover(&mut self) -> Result<(), Trouble> {
        let Some(connection) = self.connection.as_mut().filter(|_| !self.recovered) else {
            return Ok(());
        };
        let mut sweeper = Sweeper {
            intake: &self.intake,
            home: &self.home,
            owner: &self.owner,
            slot: self.claim.as_ref().map(|claim| claim.slot),
            first_segment: self.first_segment,
            complaints: &mut self.complaints,
        };
        sweeper.sweep(connection)?;
        self.recovered = true;
        self.intake.note_recovered();
        Ok(())
    }

    /// Takes the next records. See [`Intake::take_memory`] for the order of the steps.
    fn collect(&mut self) -> Result<Turn, Trouble> {
        let settled = self.intake.memory_length();
        let at_end = self.read_journal()?;
        let settled = if at_end { settled } else { 0 };
        let records = &mut self.batch.records;
        self.batch.from_memory = self.intake.take_memory(settled, records);
        self.intake.note_held(records.oldest_ms());
        Ok(if at_end { Turn::Drained } else { Turn::More })
    }

    /// Reads segments in order until the batch is full. True when there is nothing more for now.
    fn read_journal(&mut self) -> Result<bool, FileError> {
        let records = &mut self.batch.records;
        for tail in &mut self.tails {
            let (number, before) = tail.position();
            let at_end = tail.read(BATCH, records)?;
            if at_end && !self.intake.journal.is_active(number) {
                tail.read_rest(records)?;
            } else if at_end && tail.holds_unfinished() {
                self.intake
                    .journal
                    .while_quiet(|| tail.read_rest(records))?;
            }
            let (segment, applied) = tail.position();
            if applied > before {
                self.batch.position = Some(Position { segment, applied });
            }
            if !at_end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        if self.batch.records.is_empty() && self.batch.position.is_none() {
            return Ok(());
        }
        let (batch, owner, known) = (&self.batch, &self.owner, &mut self.known);
        // A turn connects before it commits.
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let (records, position) = (&batch.records, batch.position);
        let sifted = apply::apply_sifted(connection, owner, known, records, position)?;
        let applied = records.len() as u64;
        self.is_busy = applied >= BUSY;
        self.intake
            .note_applied(applied, self.batch.from_memory, sifted.unmatched);
        self.intake.note_dropped(sifted.refused);
        self.batch.records.clear();
        self.batch.from_memory = Load::default();
        self.batch.position = None;
        Ok(())
    }

    fn do_chores(&mut self) -> Result<(), Trouble> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let states = self.intake.states();
        if !states.is_empty() {
            chores::save(connection, &states)?;
            self.intake.note_saved(&states);
        }
        self.expiring = false;
        let Some(expiry) = self.intake.expires() else {
            return Ok(());
        };
        match chores::expire(connection, expiry)? {
            Expired::Some(rows) => {
                self.expiring = true;
                self.deleted += rows;
            }
            Expired::All => {
                self.intake.note_expired(expiry);
                let rows = std::mem::take(&mut self.deleted);
                if rows > 0 {
                    tracing::info!(rows, "deleted records older than they are kept");
                }
            }
            Expired::Refused => {
                self.intake.note_expired(expiry);
                if !std::mem::replace(&mut self.refused_to_expire, true) {
                    tracing::warn!(
                        "no record is old by a clock that other records bear out; none is deleted for now, because the clock may be wrong"
                    );
                }
            }
        }
        Ok(())
    }

    /// Lets sealed segments go; the batch that ended them is committed.
    fn drop_applied_segments(&mut self) {
        while self.tails.len() > 1 {
            let Some(tail) = self.tails.front() else {
                return;
            };
            let (number, _) = tail.position();
            if !tail.is_spent() || self.intake.journal.is_active(number) {
                return;
            }
            self.use_again_or_remove();
        }
    }

    /// Makes the oldest segment the spare, if there is none.
    fn use_again_or_remove(&mut self) {
        let Some(tail) = self.tails.pop_front() else {
            return;
        };
        let (_, length) = tail.position();
        if let Some(claim) = &self.claim
            && self.spare.is_none()
            && length <= LONGEST_SPARE
        {
            self.spare = Spare::of(&tail, self.home.spare(claim.slot)).ok();
            if self.spare.is_some() {
                return;
            }
        }
        drop(std::fs::remove_file(tail.path()));
    }

    /// Leaves nothing behind if every request is completed and applied; else the next process finds the journal.
    fn retire(&mut self) {
        let (intake, tails) = (&self.intake, &mut self.tails);
        let retired = self.batch.records.is_empty()
            && tails.len() == 1
            && intake.journal.retire(|| {
                let spent = tails.front_mut().is_some_and(|tail| {
                    let mut rest = Records::default();
                    tail.read(1, &mut rest).is_ok() && rest.is_empty() && !tail.holds_unfinished()
                });
                spent && intake.is_balanced() && intake.depth() == 0
            });
        let Some(tail) = self.tails.pop_front().filter(|_| retired) else {
            return;
        };
        drop(std::fs::remove_file(tail.path()));
        if let Some(connection) = &mut self.connection {
            drop(apply::bury(connection, &self.owner));
        }
    }
}

/// Device and inode of a file, if it is there.
fn identity(file: &Path) -> Option<(u64, u64)> {
    let found = file.metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether the same connection may work again later.
fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
    )
}

/// Records in one transaction, at most.
const BATCH: usize = 8192;
/// A segment this long is sealed.
const SEGMENT_LENGTH: u64 = 8 << 20;
/// The file of a longer one is removed.
const LONGEST_SPARE: u64 = 2 * SEGMENT_LENGTH;
/// From the first record to the commit, so that others can join it.
const LINGER: Duration = Duration::from_millis(50);
/// The same while records keep coming: a commit writes some pages however few its records are.
const BUSY_LINGER: Duration = Duration::from_millis(200);
/// Records in one transaction that call for that.
const BUSY: u64 = 64;
const IDLE: Duration = Duration::from_secs(30);
/// Under load, between a quarter of a minute and a whole one.
const RESTS: u32 = 300;
/// A rest that ends with a request now and then may have been long.
const QUIET_REST: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
