//! The database's shape: embedded migrations and how a connection for writing is set up.
//!
//! Migrations are the numbered files of `migrations/`; their count is the schema's version, kept in `user_version`.
//! A file from a newer arbstr, or one that is not arbstr's at all, is refused rather than changed.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction};
use rusqlite_migration::{M, Migrations};

use crate::rollup::{self, DAYS, HOURS, QUARTERS};

/// Why a database could not be opened for writing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("its schema is of version {found}, this arbstr knows {known}")]
    Newer { found: i64, known: i64 },
    #[error("its schema is of version {found}, this arbstr reads {known}")]
    Older { found: i64, known: i64 },
    #[error("it has tables that are not arbstr's")]
    Foreign,
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("{0}")]
    Migration(#[from] rusqlite_migration::Error),
}

impl ConnectError {
    /// Whether trying again later cannot help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Foreign)
    }
}

/// Opens the database for the one writer, created and brought to the present schema as needed.
pub(crate) fn connect(path: &Path) -> Result<Connection, ConnectError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    let outdated = match check(&connection) {
        Ok(()) => false,
        Err(ConnectError::Older { .. }) => true,
        Err(error) => return Err(error),
    };
    // Of a new file; halves the number of pages that a row costs.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // All pages that one batch touches, so that none is written twice.
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    if outdated {
        migrate(&mut connection)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Whether the database is of the present schema.
pub(crate) fn check(connection: &Connection) -> Result<(), ConnectError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(MIGRATION_SQL.len()).unwrap_or(i64::MAX);
    if found == 0 && holds_foreign_tables(connection)? {
        return Err(ConnectError::Foreign);
    }
    match found.cmp(&known) {
        Ordering::Greater => Err(ConnectError::Newer { found, known }),
        Ordering::Less => Err(ConnectError::Older { found, known }),
        Ordering::Equal => Ok(()),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), ConnectError> {
    let [
        requests,
        rollups,
        attempts,
        quarters,
        open_index,
        asked,
        candidates,
    ] = MIGRATION_SQL;
    let steps = vec![
        M::up(requests),
        M::up_with_hook(rollups, |transaction: &Transaction<'_>| {
            Ok(rollup::build(transaction, &[HOURS, DAYS])?)
        }),
        M::up(attempts),
        M::up_with_hook(quarters, |transaction: &Transaction<'_>| {
            Ok(rollup::build(transaction, &[QUARTERS])?)
        }),
        M::up(open_index),
        M::up(asked),
        M::up(candidates),
    ];
    Migrations::new(steps).to_latest(connection)?;
    Ok(())
}

fn holds_foreign_tables(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!')";
    connection.query_row(sql, [], |row| row.get(0))
}

/// How long a statement waits for another process before the writer's own backoff takes over.
const BUSY: Duration = Duration::from_millis(250);

const MIGRATION_SQL: [&str; 7] = [
    include_str!("../../../migrations/0001_requests.sql"),
    include_str!("../../../migrations/0002_rollups.sql"),
    include_str!("../../../migrations/0003_attempts.sql"),
    include_str!("../../../migrations/0004_quarters.sql"),
    include_str!("../../../migrations/0005_open_index.sql"),
    include_str!("../../../migrations/0006_asked.sql"),
    include_str!("../../../migrations/0007_candidates.sql"),
];
