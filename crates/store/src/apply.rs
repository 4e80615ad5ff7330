//! Turns a batch of records into rows, in one transaction.
//!
//! Applying is idempotent: an opening whose row exists and a completion whose row is completed change nothing. How
//! far the journal is applied is written in the same transaction. Only an open row has an owner, and only an open
//! row can be completed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use arbstr_price::Sats;
use rusqlite::{Connection, Statement, ToSql, Transaction, TransactionBehavior, params};

use crate::record::{Attempt, Completion, IN_PROGRESS, INTERRUPTED, Opening, Record};

/// Up to which byte of which segment an owner's journal is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) applied: u64,
}

/// Writes all of `records`, or nothing. Returns how many found no row to work on, which was also warned about.
pub(crate) fn apply(
    connection: &mut Connection,
    owner: &str,
    records: &[Record],
    position: Option<Position>,
) -> Result<u64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut batch = Batch {
        transaction: &transaction,
        owner,
        unmatched: 0,
    };
    batch.write(records)?;
    let unmatched = batch.unmatched;
    if let Some(position) = position {
        save_position(&transaction, owner, position)?;
    }
    transaction.commit()?;
    Ok(unmatched)
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
    let sql = "SELECT owner FROM requests WHERE owner IS NOT NULL UNION SELECT owner FROM ledger_progress";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Marks what `owner` left open as interrupted, and forgets the owner. Returns how many rows that were.
pub(crate) fn bury(connection: &mut Connection, owner: &str) -> Result<usize, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "UPDATE requests SET error_message = ?2, owner = NULL WHERE owner = ?1";
    let interrupted = transaction.execute(sql, params![owner, INTERRUPTED])?;
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

struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    owner: &'a str,
    unmatched: u64,
}

impl Batch<'_> {
    /// Openings are known before any completion is looked at: the two may reach the writer by different ways.
    fn write(&mut self, records: &[Record]) -> Result<(), rusqlite::Error> {
        let mut openings: HashMap<&str, &Opening> = HashMap::new();
        let mut order = Vec::new();
        for record in records {
            let Record::Opening(opening) = record else {
                continue;
            };
            match openings.entry(&opening.correlation_id) {
                Entry::Occupied(_) => self.note_unmatched(&opening.correlation_id, "opened twice"),
                Entry::Vacant(entry) => {
                    entry.insert(opening);
                    order.push(opening.correlation_id.as_str());
                }
            }
        }
        for record in records {
            let Record::Completion(completion) = record else {
                continue;
            };
            match openings.remove(completion.correlation_id.as_str()) {
                Some(opening) => self.write_whole(opening, completion)?,
                None => self.complete(completion)?,
            }
        }
        for id in order {
            if let Some(opening) = openings.remove(id) {
                self.open(opening)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, opening: &Opening) -> Result<(), rusqlite::Error> {
        let mut statement = self.transaction.prepare_cached(OPEN)?;
        bind_opening(&mut statement, 0, opening, opening.plan.as_deref())?;
        statement.raw_bind_parameter(8, IN_PROGRESS)?;
        statement.raw_bind_parameter(9, self.owner)?;
        if statement.raw_execute()? == 0 {
            self.note_unmatched(&opening.correlation_id, "opened twice");
        }
        Ok(())
    }

    fn write_whole(
        &mut self,
        opening: &Opening,
        completion: &Completion,
    ) -> Result<(), rusqlite::Error> {
        let mut statement = self.transaction.prepare_cached(WRITE_WHOLE)?;
        bind_completion(&mut statement, completion)?;
        let plan = completion.plan.as_deref().or(opening.plan.as_deref());
        bind_opening(&mut statement, COMPLETION_PARAMETERS, opening, plan)?;
        if statement.raw_execute()? == 0 {
            self.note_unmatched(&opening.correlation_id, "opened twice");
            return self.complete(completion);
        }
        self.write_attempts(completion)
    }

    fn complete(&mut self, completion: &Completion) -> Result<(), rusqlite::Error> {
        let mut statement = self.transaction.prepare_cached(COMPLETE)?;
        bind_completion(&mut statement, completion)?;
        statement.raw_bind_parameter(COMPLETION_PARAMETERS + 1, &completion.plan)?;
        if statement.raw_execute()? == 0 {
            self.note_unmatched(&completion.correlation_id, "completed without an open row");
            return Ok(());
        }
        self.write_attempts(completion)
    }

    fn write_attempts(&mut self, completion: &Completion) -> Result<(), rusqlite::Error> {
        let id = completion.correlation_id.as_str();
        for (index, attempt) in completion.attempts.iter().enumerate() {
            self.transaction.prepare_cached(ATTEMPT)?.execute(params![
                id,
                count(index as u64 + 1),
                attempt.provider,
                attempt.model,
                attempt.outcome,
                attempt.status,
                millis(attempt.started_after),
                millis(attempt.duration),
                attempt_cost(id, attempt),
            ])?;
        }
        Ok(())
    }

    fn note_unmatched(&mut self, correlation_id: &str, what: &str) {
        self.unmatched += 1;
        tracing::warn!(correlation_id, "request {what}; the record is ignored");
    }
}

fn bind_opening(
    statement: &mut Statement<'_>,
    before: usize,
    opening: &Opening,
    plan: Option<&str>,
) -> Result<(), rusqlite::Error> {
    let values: [&dyn ToSql; 7] = [
        &opening.correlation_id,
        &opening.timestamp_ms,
        &opening.endpoint,
        &opening.model,
        &opening.policy,
        &opening.streaming,
        &plan,
    ];
    bind(statement, before, &values)
}

fn bind_completion(
    statement: &mut Statement<'_>,
    completion: &Completion,
) -> Result<(), rusqlite::Error> {
    let id = completion.correlation_id.as_str();
    let amount = |sats: Option<Sats>| sats.and_then(|sats| nanosats(id, sats));
    let values: [&dyn ToSql; COMPLETION_PARAMETERS] = [
        &completion.correlation_id,
        &completion.ended_ms,
        &completion.served_model,
        &completion.provider,
        &completion.tier,
        &completion.input_tokens.map(count),
        &completion.output_tokens.map(count),
        &completion.cached_input_tokens.map(count),
        &completion.reasoning_tokens.map(count),
        &amount(completion.cost),
        &amount(completion.estimated_cost),
        &amount(completion.reference_cost),
        &amount(completion.provider_cost),
        &completion.cost_disagrees,
        &completion.uncovered_units,
        &completion.latency.map(millis),
        &completion.stream_duration.map(millis),
        &millis(completion.duration),
        &completion.finish_reason,
        &count(completion.attempts.len() as u64),
        &completion.success,
        &completion.error_status,
        &completion.error_message,
    ];
    bind(statement, 0, &values)
}

fn bind(
    statement: &mut Statement<'_>,
    before: usize,
    values: &[&dyn ToSql],
) -> Result<(), rusqlite::Error> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(before + index + 1, value)?;
    }
    Ok(())
}

fn attempt_cost(correlation_id: &str, attempt: &Attempt) -> Option<i64> {
    attempt
        .sunk_cost
        .and_then(|sats| nanosats(correlation_id, sats))
}

/// An amount that a column can hold; one that it cannot is unknown rather than wrong.
fn nanosats(correlation_id: &str, amount: Sats) -> Option<i64> {
    let held = i64::try_from(amount.nanosats()).ok();
    if held.is_none() {
        tracing::warn!(correlation_id, %amount, "amount too large for the ledger; kept as unknown");
    }
    held
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const COMPLETION_PARAMETERS: usize = 23;

const OPEN: &str = "
INSERT INTO requests
    (correlation_id, timestamp, endpoint, model, policy, streaming, plan, error_message, owner)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (correlation_id) DO NOTHING";

const WRITE_WHOLE: &str = "
INSERT INTO requests
    (ended, served_model, provider, tier, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens,
     cost_nanosats, estimated_cost_nanosats, reference_cost_nanosats, provider_cost_nanosats, cost_disagrees,
     uncovered_units, latency_ms, stream_duration_ms, duration_ms, finish_reason, attempts, success, error_status,
     error_message, correlation_id, timestamp, endpoint, model, policy, streaming, plan)
VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
     ?24, ?25, ?26, ?27, ?28, ?29, ?30)
ON CONFLICT (correlation_id) DO NOTHING";

const COMPLETE: &str = "
UPDATE requests SET
    ended = ?2, served_model = ?3, provider = ?4, tier = ?5, input_tokens = ?6, output_tokens = ?7,
    cached_input_tokens = ?8, reasoning_tokens = ?9, cost_nanosats = ?10, estimated_cost_nanosats = ?11,
    reference_cost_nanosats = ?12, provider_cost_nanosats = ?13, cost_disagrees = ?14, uncovered_units = ?15,
    latency_ms = ?16, stream_duration_ms = ?17, duration_ms = ?18, finish_reason = ?19, attempts = ?20,
    success = ?21, error_status = ?22, error_message = ?23, plan = coalesce(?24, plan), owner = NULL
WHERE correlation_id = ?1 AND owner IS NOT NULL";

const ATTEMPT: &str = "
INSERT OR REPLACE INTO attempts
    (correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
