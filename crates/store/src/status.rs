//! How the ledger is doing, for whoever watches it.

use std::time::Duration;

/// What is not in SQLite yet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Records handed in and not yet in SQLite.
    pub depth: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// Those of them that only memory holds, so that a crash would lose them.
    pub memory_only: u64,
    /// Records lost since the start: there was no room for them, they were too long, or the database refused them for
    /// good. The log says which.
    pub dropped: u64,
    /// Records that found no row to work on since the start: completed twice, or never opened.
    pub unmatched: u64,
    /// Whether the database could be written when it was last tried.
    pub database_ready: bool,
    /// Whether the journal is open.
    pub journal_ready: bool,
    /// What the database said when it last refused; `None` once it works again.
    pub last_error: Option<String>,
}

impl Status {
    /// Whether an operator should look: the store is behind, unsafe or has lost something.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.database_ready
            || !self.journal_ready
            || self.last_error.is_some()
            || self.memory_only > 0
            || self.dropped > 0
            || self.lag > TOLERATED_LAG
    }

    /// Whether a record may be missing from SQLite for longer than the moment that each takes to get there.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.depth > 0 && self.lag > USUAL_LAG
    }
}

/// What had not reached SQLite when a flush ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Records that are not in SQLite. Those in the journal are applied at the next start.
    pub records: u64,
    /// Those of them that only memory holds: lost if the process ends now.
    pub memory_only: u64,
}

impl Unwritten {
    /// Whether everything is in SQLite.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }
}

const TOLERATED_LAG: Duration = Duration::from_secs(5);
const USUAL_LAG: Duration = Duration::from_secs(1);
