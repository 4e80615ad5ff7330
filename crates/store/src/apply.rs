//! Turns a batch of records into rows, in one transaction.
//!
//! Applying is idempotent: an opening whose row exists and a completion whose row is completed change nothing. How
//! far the journal is applied is written in the same transaction, and so are the roll-ups. Only an open row has an owner, and only an open
//! row can be completed.

mod batch;
mod columns;
mod open;
mod sift;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use self::batch::Batch;
use self::open::OpenRows;
pub(crate) use self::sift::apply_sifted;
use crate::record::INTERRUPTED;
use crate::rollup::{Kept, Rollups, Version};
use crate::sums::Measures;

/// Up to which byte of which segment an owner's journal is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) applied: u64,
}

/// What is known of a database from having written it, and need not be read again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    open_rows: OpenRows,
    sums: Kept,
}

/// Writes the records in all of `frames`, or nothing. Returns how many found no row to work on, which was also warned
/// about.
fn apply<'a>(
    connection: &mut Connection,
    owner: &'a str,
    known: &mut Known,
    frames: impl Iterator<Item = &'a [u8]>,
    position: Option<Position>,
) -> Result<u64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    known.sums.begin(&transaction)?;
    let mut batch = Batch::new(&transaction, owner, known)?;
    batch.write(frames)?;
    let outcome = batch.finish()?;
    if let Some(position) = position {
        save_position(&transaction, owner, position)?;
    }
    let version = Version::of(&transaction)?;
    transaction.commit()?;
    known.open_rows.remember(outcome.opened);
    known.sums.settle(version);
    Ok(outcome.unmatched)
}

/// Reads how far `owner`'s journal is applied.
pub(crate) fn load_position(
    connection: &Connection,
    owner: &str,
) -> Result<Option<Position>, rusqlite::Error> {
    let sql = "SELECT segment, applied FROM ledger_progress WHERE owner = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([owner])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(Position {
        segment: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        applied: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
    }))
}

/// The owners that have open rows or unfinished journals.
pub(crate) fn owners(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let sql = "SELECT owner FROM requests INDEXED BY requests_open WHERE owner IS NOT NULL
         UNION SELECT owner FROM ledger_progress";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Marks what `owner` left open as interrupted, and forgets the owner. Returns how many rows that were.
pub(crate) fn bury(connection: &mut Connection, owner: &str) -> Result<usize, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let left = open::find_all(&transaction, owner)?;
    let mut rollups = Rollups::default();
    let interrupted = left.len();
    for (open, series) in left {
        let series = rollups.number(&transaction, series)?;
        transaction
            .prepare_cached(INTERRUPT)?
            .execute(params![open.id, series, INTERRUPTED])?;
        rollups.add(series, open.timestamp_ms, &Measures::default());
    }
    rollups.save(&transaction, &mut Kept::default())?;
    transaction.execute("DELETE FROM ledger_progress WHERE owner = ?1", [owner])?;
    transaction.commit()?;
    Ok(interrupted)
}

fn save_position(
    transaction: &Transaction<'_>,
    owner: &str,
    position: Position,
) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO ledger_progress (owner, segment, applied) VALUES (?1, ?2, ?3)
         ON CONFLICT (owner) DO UPDATE SET segment = excluded.segment, applied = excluded.applied";
    transaction.prepare_cached(sql)?.execute(params![
        owner,
        position.segment.cast_signed(),
        position.applied.cast_signed()
    ])?;
    Ok(())
}

const INTERRUPT: &str =
    "UPDATE requests SET series = ?2, error_message = ?3, owner = NULL WHERE id = ?1";
