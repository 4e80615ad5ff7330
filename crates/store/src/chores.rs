//! What the writer does beside records: deletes rows that are old enough, saves what was learned.
//!
//! Rows go some hundred at a time, each time in a transaction of its own between two batches of records, so that
//! nothing waits for long. Their roll-ups stay, but for those of quarters of hours. The pages they leave are used again, so the file stops growing.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, Transaction, TransactionBehavior, params};

use crate::rollup::{DAYS, HOURS, start_of};

/// Which rows are old: those of more than `age_ms` by a clock that shows `now_ms`, since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) now_ms: i64,
    pub(crate) age_ms: i64,
}

/// How far the deletion of old rows has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// None is left.
    All,
    /// So many went, and there may be more.
    Some(usize),
    /// There are some, but only by a clock that may be wrong: none went.
    Refused,
}

/// Deletes some of the old rows.
///
/// An hour goes as a whole, so that statistics know that what is there of an hour is all of it. What is in progress
/// stays.
pub(crate) fn expire(connection: &mut Connection, expiry: Expiry) -> Result<Expired, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let by_clock = start_of(expiry.now_ms.saturating_sub(expiry.age_ms), HOURS.length_ms);
    if old_rows(&transaction, by_clock, 1)?.is_empty() {
        let left = forget_quarters(&transaction)?;
        transaction.commit()?;
        return Ok(left);
    }
    let before = borne_out(&transaction, expiry)?.min(by_clock);
    let old = old_rows(&transaction, before, AT_ONCE)?;
    let Some(&(.., newest)) = old.last() else {
        return Ok(Expired::Refused);
    };
    // No further than rows have gone, or a clock that was wrong once would make later statistics coarse.
    let before = start_of(newest, HOURS.length_ms) + HOURS.length_ms;
    transaction
        .prepare_cached(
            "INSERT INTO retention (id, expired_before) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET expired_before = max(expired_before, excluded.expired_before)",
        )?
        .execute([before])?;
    for (id, correlation_id, _) in &old {
        transaction
            .prepare_cached("DELETE FROM attempts_apart WHERE correlation_id = ?1")?
            .execute([correlation_id])?;
        transaction
            .prepare_cached("DELETE FROM requests WHERE id = ?1")?
            .execute([id])?;
    }
    transaction.commit()?;
    Ok(Expired::Some(old.len()))
}

/// The oldest of the ended rows before an hour: id, correlation id, timestamp.
fn old_rows(
    transaction: &Transaction<'_>,
    before: i64,
    most: u32,
) -> Result<Vec<(i64, String, i64)>, Error> {
    transaction
        .prepare_cached(
            "SELECT id, correlation_id, timestamp FROM requests INDEXED BY requests_by_time
             WHERE timestamp < ?1 AND owner IS NULL ORDER BY timestamp LIMIT ?2",
        )?
        .query_map(params![before, most], |row| row.try_into())?
        .collect()
}

/// Up to where other rows bear out that the time has come. It takes one that is not old itself. And where there was none
/// for a day before the newest, the process may have begun with a wrong clock: then the last row of an hour before counts
/// for it.
fn borne_out(transaction: &Transaction<'_>, expiry: Expiry) -> Result<i64, Error> {
    let last_until = |until: i64| -> Result<Option<i64>, Error> {
        transaction
            .prepare_cached("SELECT max(timestamp) FROM requests WHERE timestamp <= ?1")?
            .query_row([until], |row| row.get(0))
    };
    let newest = last_until(i64::MAX)?.unwrap_or(i64::MIN);
    if newest < expiry.now_ms.saturating_sub(expiry.age_ms) {
        return Ok(i64::MIN);
    }
    Ok(match last_until(newest - HOURS.length_ms)? {
        Some(earlier) if newest - earlier > DAYS.length_ms => {
            start_of(earlier.saturating_sub(expiry.age_ms), HOURS.length_ms)
        }
        _ => i64::MAX,
    })
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
        Expired::Some(0)
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
