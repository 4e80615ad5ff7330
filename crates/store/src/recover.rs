//! Deals with what dead processes left: journals to apply, rows to mark as interrupted.
//!
//! A slot whose lock can be taken is a dead process's. The lock is held while its leavings are dealt with, so that
//! two starting processes never work on the same ones. The order is apply, remove the journal, then mark: a crash in
//! between only means that the next process begins with what is still there. A slot with a file that does not let
//! itself be used is told and left as it is, until it does: no other has to wait for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::apply::{self, OpenRows, Position};
use crate::journal::{Tail, frame};
use crate::owner::{FileError, Home, slot_of};
use crate::records::Records;
use crate::writer::Trouble;

/// Who is sweeping: its own slot and journal are not a dead process's.
#[derive(Debug)]
pub(crate) struct Sweeper<'a> {
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
        for number in &left {
            replay(connection, &self.home.segment(slot, *number), *number)?;
        }
        for number in &left {
            let path = self.home.segment(slot, *number);
            std::fs::remove_file(&path).map_err(FileError::at(&path))?;
        }
        for owner in apply::owners(connection)? {
            if slot_of(&owner) == Some(slot) {
                self.bury(connection, &owner)?;
            }
        }
        Ok(())
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
                    "this file of another process cannot be used, so what that process may have left of its requests is not taken in; let the user that arbstr runs as read and write it, then it is tried again"
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

/// Applies what is left of one segment.
fn replay(connection: &mut Connection, path: &Path, number: u64) -> Result<(), Trouble> {
    let mut tail = Tail::open(path, number)?;
    let mut records = Records::default();
    tail.read(1, &mut records)?;
    let owner = records.frames().next().and_then(frame::decode_owner);
    let Some(owner) = owner.map(str::to_owned) else {
        tracing::warn!(path = %path.display(), "this journal does not say whose it is; ignored");
        return Ok(());
    };
    records.clear();
    match apply::load_position(connection, &owner)? {
        Some(done) if done.segment > number => return Ok(()),
        Some(done) if done.segment == number => tail.skip_to(done.applied)?,
        _ => {}
    }
    let mut open_rows = OpenRows::default();
    loop {
        let at_end = tail.read(BATCH, &mut records)?;
        if at_end {
            tail.read_rest(&mut records)?;
        }
        let (segment, applied) = tail.position();
        let position = Position { segment, applied };
        let frames = records.frames();
        apply::apply(connection, &owner, &mut open_rows, frames, Some(position))?;
        records.clear();
        if at_end {
            break;
        }
    }
    let skipped = tail.take_skipped();
    if skipped > 0 {
        tracing::warn!(path = %path.display(), skipped, "bytes of this journal are no whole record; skipped");
    }
    Ok(())
}

const BATCH: usize = 4096;
/// In milliseconds; no request takes as long.
const DAY_MS: i64 = 24 * 3_600_000;
