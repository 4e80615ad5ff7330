//! Turns a batch of records into rows, in one transaction.
//!
//! Applying is idempotent: an opening whose row exists and a completion whose row is completed change nothing. How
//! far the journal is applied is written in the same transaction, and so are the roll-ups. Only an open row has an owner, and only an open
//! row can be completed.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use arbstr_price::Sats;
use hashbrown::HashMap;
use rusqlite::{
    CachedStatement, Connection, Statement, ToSql, Transaction, TransactionBehavior, params,
};

use crate::journal::frame;
use crate::record::{Completion, IN_PROGRESS, INTERRUPTED, Opening};
use crate::rollup::{Rollups, Series};
use crate::sums::Measures;

/// Up to which byte of which segment an owner's journal is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) applied: u64,
}

/// Writes the records in all of `frames`, or nothing. Returns how many found no row to work on, which was also warned
/// about.
pub(crate) fn apply<'a>(
    connection: &mut Connection,
    owner: &str,
    frames: impl Iterator<Item = &'a [u8]> + Clone,
    position: Option<Position>,
) -> Result<u64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut batch = Batch::new(&transaction, owner)?;
    batch.write(frames)?;
    let unmatched = batch.finish()?;
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
    let left = find_open(&transaction, OPEN_OF_OWNER, owner)?;
    let mut rollups = Rollups::default();
    for open in &left {
        let series = rollups.number(&transaction, open.series(None, None, false))?;
        transaction
            .prepare_cached(INTERRUPT)?
            .execute(params![open.id, series, INTERRUPTED])?;
        rollups.add(series, open.timestamp_ms, &Measures::default());
    }
    rollups.save(&transaction)?;
    transaction.execute("DELETE FROM ledger_progress WHERE owner = ?1", [owner])?;
    transaction.commit()?;
    Ok(left.len())
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

/// A row that is in progress, as far as its end needs it.
#[derive(Debug)]
struct OpenRow {
    id: i64,
    timestamp_ms: i64,
    model: String,
    policy: Option<String>,
    streaming: bool,
}

impl OpenRow {
    /// The series that the row belongs to once it has ended.
    fn series<'a>(
        &self,
        provider: Option<&'a str>,
        tier: Option<&'a str>,
        success: bool,
    ) -> Series<'a> {
        Series {
            model: Cow::Owned(self.model.clone()),
            provider: provider.map(Cow::Borrowed),
            policy: self.policy.clone().map(Cow::Owned),
            tier: tier.map(Cow::Borrowed),
            streaming: self.streaming,
            success: Some(success),
        }
    }
}

fn find_open(
    connection: &Connection,
    sql: &str,
    value: &str,
) -> Result<Vec<OpenRow>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([value], |row| {
        Ok(OpenRow {
            id: row.get(0)?,
            timestamp_ms: row.get(1)?,
            model: row.get(2)?,
            policy: row.get(3)?,
            streaming: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// One batch of records within its transaction.
struct Batch<'t, 'a> {
    transaction: &'t Transaction<'t>,
    statements: Statements<'t>,
    rollups: Rollups<'a>,
    owner: &'t str,
    unmatched: u64,
}

/// Prepared once for a batch.
struct Statements<'t> {
    open: CachedStatement<'t>,
    write_whole: CachedStatement<'t>,
    complete: CachedStatement<'t>,
    attempt: CachedStatement<'t>,
}

impl<'t, 'a> Batch<'t, 'a> {
    fn new(transaction: &'t Transaction<'t>, owner: &'t str) -> Result<Self, rusqlite::Error> {
        let statements = Statements {
            open: transaction.prepare_cached(&OPEN)?,
            write_whole: transaction.prepare_cached(&WRITE_WHOLE)?,
            complete: transaction.prepare_cached(&COMPLETE)?,
            attempt: transaction.prepare_cached(ATTEMPT)?,
        };
        Ok(Self {
            transaction,
            statements,
            rollups: Rollups::default(),
            owner,
            unmatched: 0,
        })
    }

    /// Openings are known before any completion is looked at: the two may reach the writer by different ways.
    fn write(
        &mut self,
        frames: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), rusqlite::Error> {
        let (openings, others): (Vec<_>, Vec<_>) =
            frames.partition(|frame| frame::is_opening(frame));
        let mut open = HashMap::with_capacity(openings.len());
        let mut order = Vec::with_capacity(openings.len());
        for frame in openings {
            let Some(opening) = frame::decode_opening(frame) else {
                self.note_unreadable();
                continue;
            };
            let id = opening.correlation_id;
            if open.try_insert(id, opening).is_ok() {
                order.push(id);
            } else {
                self.note_unmatched(id, "opened twice");
            }
        }
        for frame in others {
            if frame::is_owner(frame) {
                continue;
            }
            let Some(completion) = frame::decode_completion(frame) else {
                self.note_unreadable();
                continue;
            };
            match open.remove(completion.correlation_id) {
                Some(opening) => self.write_whole(&opening, &completion)?,
                None => self.complete(&completion)?,
            }
        }
        for id in order {
            if let Some(opening) = open.remove(id) {
                self.open(&opening)?;
            }
        }
        Ok(())
    }

    /// Writes the sums of what was written. Returns how many records found no row.
    fn finish(self) -> Result<u64, rusqlite::Error> {
        self.rollups.save(self.transaction)?;
        Ok(self.unmatched)
    }

    fn open(&mut self, opening: &Opening<&'a str>) -> Result<(), rusqlite::Error> {
        let series = self
            .rollups
            .number(self.transaction, open_series(opening))?;
        let statement = &mut self.statements.open;
        let mut next = Binder::of(statement);
        next.opening(opening, opening.plan)?;
        next.bind(series)?;
        next.bind(IN_PROGRESS)?;
        next.bind(self.owner)?;
        if statement.raw_execute()? == 0 {
            self.note_unmatched(opening.correlation_id, "opened twice");
        }
        Ok(())
    }

    fn write_whole(
        &mut self,
        opening: &Opening<&'a str>,
        completion: &Completion<&'a str>,
    ) -> Result<(), rusqlite::Error> {
        let measures = measure(completion);
        let series = Series {
            provider: completion.provider.map(Cow::Borrowed),
            tier: completion.tier.map(Cow::Borrowed),
            success: Some(completion.success),
            ..open_series(opening)
        };
        let series = self.rollups.number(self.transaction, series)?;
        let plan = completion.plan.or(opening.plan);
        let statement = &mut self.statements.write_whole;
        let mut next = Binder::of(statement);
        next.opening(opening, plan)?;
        next.bind(series)?;
        next.completion(completion, &measures)?;
        if statement.raw_execute()? == 0 {
            self.note_unmatched(opening.correlation_id, "opened twice");
            return self.complete(completion);
        }
        self.rollups.add(series, opening.timestamp_ms, &measures);
        self.write_attempts(completion)
    }

    fn complete(&mut self, completion: &Completion<&'a str>) -> Result<(), rusqlite::Error> {
        let id = completion.correlation_id;
        let Some(open) = find_open(self.transaction, OPEN_BY_ID, id)?.pop() else {
            self.note_unmatched(id, "completed without an open row");
            return Ok(());
        };
        let measures = measure(completion);
        let (provider, tier) = (completion.provider, completion.tier);
        let series = open.series(provider, tier, completion.success);
        let series = self.rollups.number(self.transaction, series)?;
        let statement = &mut self.statements.complete;
        let mut next = Binder::of(statement);
        next.bind(open.id)?;
        next.bind(completion.plan)?;
        next.bind(series)?;
        next.completion(completion, &measures)?;
        statement.raw_execute()?;
        self.rollups.add(series, open.timestamp_ms, &measures);
        self.write_attempts(completion)
    }

    fn write_attempts(&mut self, completion: &Completion<&str>) -> Result<(), rusqlite::Error> {
        let id = completion.correlation_id;
        for (index, attempt) in completion.attempts.iter().enumerate() {
            self.statements.attempt.execute(params![
                id,
                count(index as u64 + 1),
                attempt.provider,
                attempt.model,
                attempt.outcome,
                attempt.status,
                millis(attempt.started_after),
                millis(attempt.duration),
                nanosats(id, attempt.sunk_cost),
            ])?;
        }
        Ok(())
    }

    fn note_unreadable(&self) {
        tracing::warn!("a record of another version; it is ignored");
    }

    fn note_unmatched(&mut self, correlation_id: &str, what: &str) {
        self.unmatched += 1;
        tracing::warn!(correlation_id, "request {what}; the record is ignored");
    }
}

/// Binds values one after another.
struct Binder<'a, 's> {
    statement: &'a mut Statement<'s>,
    bound: usize,
}

impl<'a, 's> Binder<'a, 's> {
    fn of(statement: &'a mut Statement<'s>) -> Self {
        Self {
            statement,
            bound: 0,
        }
    }

    fn bind(&mut self, value: impl ToSql) -> Result<(), rusqlite::Error> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }

    /// The values of [`OPENING_COLUMNS`].
    fn opening(
        &mut self,
        opening: &Opening<&str>,
        plan: Option<&str>,
    ) -> Result<(), rusqlite::Error> {
        self.bind(opening.correlation_id)?;
        self.bind(opening.timestamp_ms)?;
        self.bind(opening.endpoint)?;
        self.bind(opening.model)?;
        self.bind(opening.policy)?;
        self.bind(opening.streaming)?;
        self.bind(plan)
    }

    /// The values of [`COMPLETION_COLUMNS`].
    fn completion(
        &mut self,
        completion: &Completion<&str>,
        measures: &Measures,
    ) -> Result<(), rusqlite::Error> {
        self.bind(completion.ended_ms)?;
        self.bind(completion.served_model)?;
        self.bind(completion.provider)?;
        self.bind(completion.tier)?;
        for tokens in measures.tokens {
            self.bind(tokens)?;
        }
        self.bind(measures.cost)?;
        self.bind(measures.estimated_cost)?;
        self.bind(measures.reference_cost)?;
        let id = &completion.correlation_id;
        self.bind(nanosats(id, completion.provider_cost))?;
        self.bind(measures.sunk_cost)?;
        for flag in measures.flags {
            self.bind(flag)?;
        }
        self.bind(measures.latency_ms)?;
        self.bind(completion.stream_duration.map(millis))?;
        self.bind(measures.duration_ms)?;
        self.bind(completion.finish_reason)?;
        self.bind(measures.attempts)?;
        self.bind(completion.success)?;
        self.bind(completion.error_status)?;
        self.bind(completion.error_message)
    }
}

fn open_series<'a>(opening: &Opening<&'a str>) -> Series<'a> {
    Series {
        model: Cow::Borrowed(opening.model),
        provider: None,
        policy: opening.policy.map(Cow::Borrowed),
        tier: None,
        streaming: opening.streaming,
        success: None,
    }
}

/// The figures of `completion` as columns hold them.
fn measure(completion: &Completion<&str>) -> Measures {
    let id = completion.correlation_id;
    Measures {
        success: completion.success,
        attempts: Some(count(completion.attempts.len() as u64)),
        tokens: [
            completion.input_tokens.map(count),
            completion.output_tokens.map(count),
            completion.cached_input_tokens.map(count),
            completion.reasoning_tokens.map(count),
        ],
        cost: nanosats(id, completion.cost),
        estimated_cost: nanosats(id, completion.estimated_cost),
        reference_cost: nanosats(id, completion.reference_cost),
        sunk_cost: nanosats(id, completion.sunk_cost()),
        flags: [
            completion.cost_disagrees,
            completion.uncovered_units,
            completion.implausible_usage,
        ],
        latency_ms: completion.latency.map(millis),
        duration_ms: Some(millis(completion.duration)),
    }
}

/// An amount that a column can hold; one that it cannot is unknown rather than wrong.
fn nanosats(correlation_id: &str, amount: Option<Sats>) -> Option<i64> {
    let amount = amount?;
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

/// What an opening fills, in the order in which it is bound.
const OPENING_COLUMNS: [&str; 7] = [
    "correlation_id",
    "timestamp",
    "endpoint",
    "model",
    "policy",
    "streaming",
    "plan",
];

/// What a completion fills, in the order in which it is bound.
const COMPLETION_COLUMNS: [&str; 24] = [
    "ended",
    "served_model",
    "provider",
    "tier",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost_nanosats",
    "estimated_cost_nanosats",
    "reference_cost_nanosats",
    "provider_cost_nanosats",
    "sunk_cost_nanosats",
    "cost_disagrees",
    "uncovered_units",
    "implausible_usage",
    "latency_ms",
    "stream_duration_ms",
    "duration_ms",
    "finish_reason",
    "attempts",
    "success",
    "error_status",
    "error_message",
];

static OPEN: LazyLock<String> =
    LazyLock::new(|| insert(&[&OPENING_COLUMNS, &["series", "error_message", "owner"]]));

static WRITE_WHOLE: LazyLock<String> =
    LazyLock::new(|| insert(&[&OPENING_COLUMNS, &["series"], &COMPLETION_COLUMNS]));

static COMPLETE: LazyLock<String> = LazyLock::new(|| {
    let set = |(index, column)| format!("{column} = ?{}", index + 4);
    let columns: Vec<_> = COMPLETION_COLUMNS.iter().enumerate().map(set).collect();
    format!(
        "UPDATE requests SET plan = coalesce(?2, plan), series = ?3, {}, owner = NULL WHERE id = ?1",
        columns.join(", ")
    )
});

/// An insertion that leaves a row alone which is there already.
fn insert(columns: &[&[&str]]) -> String {
    let columns = columns.concat();
    format!(
        "INSERT INTO requests ({}) VALUES ({}) ON CONFLICT (correlation_id) DO NOTHING",
        columns.join(", "),
        vec!["?"; columns.len()].join(", ")
    )
}

const OPEN_OF_OWNER: &str =
    "SELECT id, timestamp, model, policy, streaming FROM requests WHERE owner = ?1";

const OPEN_BY_ID: &str = "SELECT id, timestamp, model, policy, streaming FROM requests
     WHERE correlation_id = ?1 AND owner IS NOT NULL";

const INTERRUPT: &str =
    "UPDATE requests SET series = ?2, error_message = ?3, owner = NULL WHERE id = ?1";

const ATTEMPT: &str = "
INSERT OR REPLACE INTO attempts
    (correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
