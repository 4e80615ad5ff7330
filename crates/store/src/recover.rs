//! Deals with what dead processes left: journals to apply, rows to mark as interrupted.
//!
//! A slot whose lock can be taken is a dead process's. The lock is held while its leavings are dealt with, so that
//! two starting processes never work on the same ones. The order is apply, remove the journal, then mark: a crash in
//! between only means that the next process begins with what is still there.

use std::path::Path;

use rusqlite::Connection;

use crate::apply::{self, OpenRows, Position};
use crate::journal::{Tail, frame};
use crate::owner::{Home, slot_of};
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
}

impl Sweeper<'_> {
    /// Deals with all dead processes.
    pub(crate) fn sweep(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let mut slots = self.home.survey()?.slots;
        slots.extend(
            apply::owners(connection)?
                .iter()
                .filter_map(|name| slot_of(name)),
        );
        for slot in slots {
            if self.slot == Some(slot) {
                self.clear(connection, slot)?;
            } else if let Some(_claim) = self.home.claim(slot)? {
                self.clear(connection, slot)?;
            }
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
            std::fs::remove_file(self.home.segment(slot, *number))?;
        }
        for owner in apply::owners(connection)? {
            if slot_of(&owner) == Some(slot) && owner != self.owner {
                let interrupted = apply::bury(connection, &owner)?;
                tracing::info!(
                    owner,
                    interrupted,
                    "closed the books of a process that is gone"
                );
            }
        }
        Ok(())
    }
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
