//! What the journals beside a database have that is not in it yet, for those who read the one and write neither.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::Connection;

use crate::apply;
use crate::journal::{Tail, read_owner};
use crate::owner::{FileError, Home};
use crate::query::QueryError;
use crate::records::Records;

/// How far a database is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Records in journals that are not in the database: openings, attempts and completions.
    pub records: u64,
    /// When the oldest of them was handed in, or its request came, in milliseconds since the epoch, UTC.
    pub oldest_ms: Option<i64>,
}

/// Reads the journals of all processes, dead ones too. One that cannot be read counts as empty.
pub(crate) fn measure(connection: &Connection, home: &Home) -> Result<Behind, QueryError> {
    let survey = home.survey().unwrap_or_default();
    let mut behind = Behind::default();
    for slot in &survey.slots {
        for number in survey.segments(*slot) {
            let path = home.segment(*slot, number);
            behind.add_segment(connection, &path, number)?;
        }
    }
    Ok(behind)
}

impl Behind {
    fn add_segment(
        &mut self,
        connection: &Connection,
        path: &Path,
        number: u64,
    ) -> Result<(), QueryError> {
        let Some(owner) = readable(read_owner(path, number)) else {
            return Ok(());
        };
        let position = match &owner {
            Some(owner) => apply::load_position(connection, owner)?,
            None => None,
        };
        let applied = match position {
            Some(done) if done.segment > number => return Ok(()),
            Some(done) if done.segment == number => done.applied,
            _ => 0,
        };
        readable(self.add_rest(path, number, applied));
        Ok(())
    }

    /// Adds what a segment has behind its first `applied` bytes.
    fn add_rest(&mut self, path: &Path, number: u64, applied: u64) -> Result<(), FileError> {
        let mut tail = Tail::open(path, number)?;
        tail.skip_to(applied)?;
        loop {
            let mut records = Records::default();
            let at_end = tail.read(AT_ONCE, &mut records)?;
            self.records += records.len() as u64;
            self.oldest_ms = self.oldest_ms.into_iter().chain(records.oldest_ms()).min();
            if at_end {
                return Ok(());
            }
        }
    }
}

/// What was read. A segment that is gone is applied; one that is not for this user is told by whoever should read it.
fn readable<T>(read: Result<T, FileError>) -> Option<T> {
    match read {
        Err(FileError { path, error }) if error.kind() != ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "this journal cannot be read");
            None
        }
        read => read.ok(),
    }
}

const AT_ONCE: usize = 4096;
