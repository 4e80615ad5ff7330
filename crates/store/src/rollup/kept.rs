//! The sums that the writer wrote last, so that it need not read them again.
//!
//! What is kept is what the database holds, as long as nobody else writes: another process on the same file, or this
//! one by another way, such as retention. Both show in SQLite's own counters, which are looked at in every transaction.
//!
//! ```text
//!   begin ─▶ (take ─▶ put)* ─▶ version ─▶ commit ─▶ settle
//!                 └── a transaction that fails settles nothing: what it took is read again
//! ```

use hashbrown::HashMap;
use rusqlite::{Error, Transaction};

use crate::sums::Sums;

/// Which roll-up: that of a series in the time from `start`, which is `length_ms` long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) length_ms: i64,
    pub(super) start: i64,
    pub(super) series: i64,
}

/// What was written by a connection, and is as it was. Empty at first.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    sums: HashMap<Key, Sums>,
    /// By the present transaction, which may yet fail.
    written: Vec<(Key, Sums)>,
    /// Of the database that has `sums`.
    version: Option<Version>,
}

/// Differs from what it was once anybody has changed a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Changes with each commit of another connection.
    others: i64,
    /// How many rows this one has changed.
    own: u64,
}

impl Version {
    /// That of the database as `transaction` sees it, its own changes included.
    pub(crate) fn of(transaction: &Transaction<'_>) -> Result<Self, Error> {
        let mut others = transaction.prepare_cached("PRAGMA data_version")?;
        Ok(Self {
            others: others.query_row([], |row| row.get(0))?,
            own: transaction.total_changes(),
        })
    }
}

impl Kept {
    /// A transaction begins. Forgets what may be otherwise by now.
    pub(crate) fn begin(&mut self, transaction: &Transaction<'_>) -> Result<(), Error> {
        self.written.clear();
        if self.version != Some(Version::of(transaction)?) {
            self.sums.clear();
        }
        Ok(())
    }

    /// The transaction that ended at `version` is committed.
    pub(crate) fn settle(&mut self, version: Version) {
        if self.sums.len() + self.written.len() > MOST_KEPT {
            self.sums.clear();
        }
        self.sums.extend(self.written.drain(..).take(MOST_KEPT));
        self.version = Some(version);
    }

    /// What the database holds, if that is known; the caller is about to change it.
    pub(super) fn take(&mut self, key: &Key) -> Option<Sums> {
        self.sums.remove(key)
    }

    /// What the caller has changed it to.
    pub(super) fn put(&mut self, key: Key, sums: Sums) {
        self.written.push((key, sums));
    }
}

/// Some megabytes. A hundred series need three hundred, and four hundred more in the next hour.
const MOST_KEPT: usize = 1000;
