//! Deals with what dead processes left: journals to apply, rows to mark as interrupted.
//!
//! A slot whose lock can be taken is a dead process's. The lock is held while its leavings are dealt with, so that
//! two starting processes never work on the same ones. The order is apply, remove the journal, then mark: a crash in
//! between only means that the next process begins with what is still there. A slot with a file that does not let
//! itself be used is told and left as it is, until it does: no other has to wait for it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::apply::{self, Known, Position};
use crate::intake::Intake;
use crate::journal::{Tail, frame, read_owner};
use crate::owner::{FileError, Home, nameless, slot_of};
use crate::records::Records;
use crate::writer::Trouble;

/// Who is sweeping: its own slot and journal are not a dead process's.
#[derive(Debug)]
pub(crate) struct Sweeper<'a> {
    /// Told of records that are lost.
    pub(crate) intake: &'a Intake,
    pub(crate) home: &'a Home,
    pub(crate) owner: &'a str,
    pub(crate) slot: Option<u32>,
    /// Segments of the own slot from this number on are the sweeper's own.
    pub(crate) first_segment: u64,
    pub(crate) complaints: &'a mut Complaints,
}

/// The files that were complained of, each of them once.
#[derive(Debug, Default)]
pub(crate) struct Complaints(BTreeSet<PathBuf>);

impl Sweeper<'_> {
    /// Deals with all dead processes.
    pub(crate) fn sweep(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let survey = self.home.survey();
        let mut slots = self.complaints.or_default(survey).slots;
        slots.extend(
            apply::owners(connection)?
                .iter()
                .filter_map(|name| slot_of(name)),
        );
        for slot in slots {
            match self.settle(connection, slot) {
                Err(Trouble::Journal(error)) => self.complaints.or_default(Err(error)),
                settled => settled?,
            }
        }
        self.bury_slotless(connection)
    }

    fn settle(&self, connection: &mut Connection, slot: u32) -> Result<(), Trouble> {
        if self.slot == Some(slot) {
            self.clear(connection, slot)?;
        } else if let Some(_claim) = self.home.claim(slot)? {
            self.clear(connection, slot)?;
        }
        Ok(())
    }

    fn clear(&self, connection: &mut Connection, slot: u32) -> Result<(), Trouble> {
        // Read again: the slot's last owner may have written until the lock was taken.
        let survey = self.home.survey()?;
        let own = |number: u64| self.slot == Some(slot) && number >= self.first_segment;
        let left: Vec<u64> = survey
            .segments(slot)
            .filter(|number| !own(*number))
            .collect();
        let mut replayed = Vec::with_capacity(left.len());
        for number in left {
            let path = self.home.segment(slot, number);
            let outcome = self.replay(connection, &path, slot, number)?;
            replayed.push((path, outcome));
        }
        for (path, outcome) in replayed {
            match outcome {
                Replayed::Applied => std::fs::remove_file(&path),
                Replayed::Unreadable => set_aside(&path),
            }
            .map_err(FileError::at(&path))?;
        }
        if self.slot != Some(slot) {
            drop(std::fs::remove_file(self.home.spare(slot)));
        }
        for owner in apply::owners(connection)? {
            if slot_of(&owner) == Some(slot) {
                self.bury(connection, &owner)?;
            }
        }
        Ok(())
    }

    /// Applies what is left of one segment.
    fn replay(
        &self,
        connection: &mut Connection,
        path: &Path,
        slot: u32,
        number: u64,
    ) -> Result<Replayed, Trouble> {
        let mut tail = Tail::open(path, number)?;
        let owner = read_owner(path, number)?;
        if let Some(owner) = &owner {
            match apply::load_position(connection, owner)? {
                Some(done) if done.segment > number => return Ok(Replayed::Applied),
                Some(done) if done.segment == number => tail.skip_to(done.applied)?,
                _ => {}
            }
        }
        let found = match &owner {
            Some(owner) => self.apply_rest(connection, &mut tail, owner, true)?,
            // Under its own name it may have been applied further, which does no harm.
            None => self.apply_rest(connection, &mut tail, &nameless(slot, number), false)?,
        };
        let skipped = tail.take_skipped();
        if skipped == 0 {
            return Ok(Replayed::Applied);
        }
        if owner.is_none() && found == 0 {
            return Ok(Replayed::Unreadable);
        }
        tracing::warn!(path = %path.display(), skipped, "some bytes of this journal are no whole record and are skipped; all else in it is applied");
        Ok(Replayed::Applied)
    }

    /// Applies all records from where `tail` stands, and keeps how far if `positioned`. Returns how many there were.
    fn apply_rest(
        &self,
        connection: &mut Connection,
        tail: &mut Tail,
        owner: &str,
        positioned: bool,
    ) -> Result<usize, Trouble> {
        let mut known = Known::default();
        let mut records = Records::default();
        let mut found = 0;
        loop {
            let at_end = tail.read(BATCH, &mut records)?;
            if at_end {
                tail.read_rest(&mut records)?;
            }
            if !records.frames().all(frame::is_known) {
                let error =
                    io::Error::other("a newer arbstr left it, which has to be started again");
                return Err(FileError::at(tail.path())(error).into());
            }
            found += records.len();
            let (segment, applied) = tail.position();
            let position = positioned.then_some(Position { segment, applied });
            let sifted = apply::apply_sifted(connection, owner, &mut known, &records, position)?;
            self.intake.note_dropped(sifted.refused);
            self.intake.note_unmatched(sifted.unmatched);
            records.clear();
            if at_end {
                return Ok(found);
            }
        }
    }

    /// Nobody can tell whether a process without a slot lives. Long after it opened a row, it does not work on it.
    fn bury_slotless(&self, connection: &mut Connection) -> Result<(), Trouble> {
        for owner in apply::owners(connection)? {
            if slot_of(&owner).is_none() && is_long_over(connection, &owner)? {
                self.bury(connection, &owner)?;
            }
        }
        Ok(())
    }

    fn bury(&self, connection: &mut Connection, owner: &str) -> Result<(), Trouble> {
        if owner != self.owner {
            let interrupted = apply::bury(connection, owner)?;
            tracing::info!(
                owner,
                interrupted,
                "closed the books of a process that is gone"
            );
        }
        Ok(())
    }
}

impl Complaints {
    /// What there is, or nothing where a file stands in the way, which is told.
    fn or_default<T: Default>(&mut self, found: Result<T, FileError>) -> T {
        found.unwrap_or_else(|FileError { path, error }| {
            if !self.0.contains(&path) {
                tracing::warn!(
                    path = %path.display(),
                    %error,
                    "this file of another process cannot be used, so what that process may have left of its requests is not taken in; see that arbstr, and the user it runs as, can read and write it, then it is tried again"
                );
                self.0.insert(path);
            }
            T::default()
        })
    }
}

/// Whether all that `owner` has in progress was opened a day before the newest request on record.
fn is_long_over(connection: &Connection, owner: &str) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT coalesce(max(timestamp) <= (SELECT max(timestamp) FROM requests) - ?2, FALSE)
         FROM requests WHERE owner = ?1";
    connection.query_row(sql, (owner, DAY_MS), |row| row.get(0))
}

/// What came of a segment.
#[derive(Debug, Clone, Copy)]
enum Replayed {
    Applied,
    /// There is something in it, but no record.
    Unreadable,
}

/// Gives a segment a name under which it is not looked for.
fn set_aside(path: &Path) -> io::Result<()> {
    let mut aside = PathBuf::new();
    for nth in 1_u32.. {
        aside = path.with_added_extension(format!("damaged-{nth}"));
        if aside.symlink_metadata().is_err() {
            break;
        }
    }
    std::fs::rename(path, &aside)?;
    tracing::warn!(
        path = %aside.display(),
        "no record can be read in this journal of a process that is gone; it is kept under this name, and may be deleted"
    );
    Ok(())
}

const BATCH: usize = 4096;
/// In milliseconds; no request takes as long.
const DAY_MS: i64 = 24 * 3_600_000;
