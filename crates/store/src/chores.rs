//! What the writer does beside records: deletes rows that are old enough, saves what was learned.
//!
//! Rows go some hundred at a time, each time in a transaction of its own between two batches of records, so that
//! nothing waits for long. Their roll-ups stay, but for those of quarters of hours. The pages they leave are used again, so the file stops growing.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, Transaction, TransactionBehavior, params};

use crate::rollup::{HOURS, start_of};

/// How far the deletion of old rows has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// None is left.
    All,
    /// There may be more.
    Some,
    /// Every row there is would go, so none went.
    Refused,
}

/// Deletes some of the rows that arrived before `timestamp_ms`, or before the hour it lies in.
///
/// An hour goes as a whole, so that statistics know that what is there of an hour is all of it. What is in progress
/// stays. As long as no row is newer, nothing goes: more likely the clock is wrong than that nobody asked anything for so
/// long. If it is true, the next request shows it.
pub(crate) fn expire(connection: &mut Connection, timestamp_ms: i64) -> Result<Expired, Error> {
    let before = start_of(timestamp_ms, HOURS.length_ms);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old: Vec<(i64, String)> = transaction
        .prepare_cached(
            "SELECT id, correlation_id FROM requests INDEXED BY requests_by_time
             WHERE timestamp < ?1 AND owner IS NULL ORDER BY timestamp LIMIT ?2",
        )?
        .query_map(params![before, AT_ONCE], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    if old.is_empty() {
        let left = forget_quarters(&transaction)?;
        transaction.commit()?;
        return Ok(left);
    }
    let newest: i64 =
        transaction.query_row("SELECT max(timestamp) FROM requests", [], |row| row.get(0))?;
    if newest < before {
        return Ok(Expired::Refused);
    }
    transaction
        .prepare_cached(
            "INSERT INTO retention (id, expired_before) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET expired_before = max(expired_before, excluded.expired_before)",
        )?
        .execute([before])?;
    for (id, correlation_id) in &old {
        transaction
            .prepare_cached("DELETE FROM attempts_apart WHERE correlation_id = ?1")?
            .execute([correlation_id])?;
        transaction
            .prepare_cached("DELETE FROM requests WHERE id = ?1")?
            .execute([id])?;
    }
    transaction.commit()?;
    Ok(Expired::Some)
}

/// Deletes some of the sums of quarters whose hour has no rows any more: such an hour is not taken apart.
fn forget_quarters(transaction: &Transaction<'_>) -> Result<Expired, Error> {
    let deleted = transaction
        .prepare_cached(
            "DELETE FROM rollup_quarters WHERE (start, series) IN
                 (SELECT start, series FROM rollup_quarters
                  WHERE start < (SELECT expired_before FROM retention) ORDER BY start LIMIT ?1)",
        )?
        .execute([AT_ONCE])?;
    Ok(if deleted < AT_ONCE as usize {
        Expired::All
    } else {
        Expired::Some
    })
}

/// Saves each of `states` under its name.
pub(crate) fn save(
    connection: &mut Connection,
    states: &BTreeMap<String, Vec<u8>>,
) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (name, bytes) in states {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO saved_state (name, bytes) VALUES (?1, ?2)")?
            .execute(params![name, bytes])?;
    }
    transaction.commit()
}

/// Rows deleted in one transaction; some milliseconds' work.
const AT_ONCE: u32 = 500;
