//! Single requests, with their plan and attempts.

use std::time::Duration;

use arbstr_price::Sats;
use rusqlite::{Connection, OptionalExtension, Row};

use super::QueryError;
use super::cursor::Position;
use crate::record::{Asked, Attempt, RequestDetail, RequestRow};

/// Finds one request by its id.
pub(crate) fn find(
    connection: &Connection,
    correlation_id: &str,
) -> Result<Option<RequestDetail>, QueryError> {
    // One snapshot, so that no attempt has ended between the two.
    let snapshot = connection.unchecked_transaction()?;
    let sql = format!("SELECT {COLUMNS}, plan, asked_ms FROM requests WHERE correlation_id = ?1");
    let mut statement = snapshot.prepare_cached(&sql)?;
    let found = statement
        .query_row([correlation_id], |row| {
            Ok((read_row(row)?, row.get(PLAN)?, row.get(PLAN + 1)?))
        })
        .optional()?;
    let Some((row, plan, asked_ms)): Option<(RequestRow, _, Option<i64>)> = found else {
        return Ok(None);
    };
    Ok(Some(RequestDetail {
        plan,
        attempts: read_attempts(&snapshot, correlation_id)?,
        asked: asked_ms.map(|started_ms| asked(&row, started_ms)),
        row,
    }))
}

/// The rows at these places, in this order.
pub(super) fn read_by_id(
    connection: &Connection,
    places: &[Position],
) -> Result<Vec<RequestRow>, rusqlite::Error> {
    let sql = format!("SELECT {COLUMNS} FROM requests WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    places
        .iter()
        .map(|place| statement.query_row([place.id], read_row))
        .collect()
}

fn read_attempts(
    connection: &Connection,
    correlation_id: &str,
) -> Result<Vec<Attempt>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "SELECT provider, model, outcome, status, started_ms, duration_ms, cost_nanosats
         FROM attempts WHERE correlation_id = ?1 AND duration_ms IS NOT NULL ORDER BY number",
    )?;
    let rows = statement.query_map([correlation_id], |row| {
        Ok(Attempt {
            provider: row.get(0)?,
            model: row.get(1)?,
            outcome: row.get(2)?,
            status: row.get(3)?,
            started_after: duration(row.get(4)?),
            duration: duration(row.get(5)?),
            sunk_cost: row.get::<_, Option<i64>>(6)?.map(sats),
        })
    })?;
    rows.collect()
}

/// The attempt that has no end, as the row of its request tells it.
fn asked(row: &RequestRow, started_ms: i64) -> Asked {
    Asked {
        provider: row.provider.clone().unwrap_or_default(),
        model: row.served_model.clone().unwrap_or_default(),
        tier: row.tier.clone().unwrap_or_default(),
        started_after: duration(started_ms),
    }
}

/// Reads what [`COLUMNS`] selects, or more. By number: finding a column by its name takes longer than reading it.
pub(super) fn read_row(row: &Row<'_>) -> Result<RequestRow, rusqlite::Error> {
    let tokens = |column: usize| -> Result<Option<u64>, rusqlite::Error> {
        Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs))
    };
    let amount = |column: usize| -> Result<Option<Sats>, rusqlite::Error> {
        Ok(row.get::<_, Option<i64>>(column)?.map(sats))
    };
    let millis = |column: usize| -> Result<Option<Duration>, rusqlite::Error> {
        Ok(row.get::<_, Option<i64>>(column)?.map(duration))
    };
    Ok(RequestRow {
        correlation_id: row.get(0)?,
        timestamp_ms: row.get(1)?,
        ended_ms: row.get(2)?,
        endpoint: row.get(3)?,
        model: row.get(4)?,
        served_model: row.get(5)?,
        provider: row.get(6)?,
        tier: row.get(7)?,
        policy: row.get(8)?,
        streaming: row.get(9)?,
        input_tokens: tokens(10)?,
        output_tokens: tokens(11)?,
        cached_input_tokens: tokens(12)?,
        reasoning_tokens: tokens(13)?,
        cost: amount(14)?,
        estimated_cost: amount(15)?,
        reference_cost: amount(16)?,
        provider_cost: amount(17)?,
        sunk_cost: amount(18)?,
        cost_disagrees: row.get(19)?,
        uncovered_units: row.get(20)?,
        implausible_usage: row.get(21)?,
        latency: millis(22)?,
        stream_duration: millis(23)?,
        duration: millis(24)?,
        finish_reason: row.get(25)?,
        attempts: row.get(26)?,
        success: row.get(27)?,
        error_status: row.get(28)?,
        error_message: row.get(29)?,
    })
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn sats(nanosats: i64) -> Sats {
    Sats::from_nanosats(nanosats.into())
}

/// Where a plan is that is selected after [`COLUMNS`].
const PLAN: usize = 30;
/// In the order in which they are read.
pub(super) const COLUMNS: &str = "correlation_id, timestamp, ended, endpoint, model, served_model, provider, tier, policy, \
     streaming, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_nanosats, \
     estimated_cost_nanosats, reference_cost_nanosats, provider_cost_nanosats, sunk_cost_nanosats, cost_disagrees, uncovered_units, implausible_usage, \
     latency_ms, stream_duration_ms, duration_ms, finish_reason, attempts, success, error_status, error_message";
