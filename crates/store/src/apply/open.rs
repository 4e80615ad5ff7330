//! Rows in progress, as far as their end needs them.

use std::borrow::Cow;

use hashbrown::HashMap;
use rusqlite::{Connection, Row};

use crate::record::Opening;
use crate::rollup::Series;

/// A row in progress.
#[derive(Debug, Clone)]
pub(super) struct OpenRow {
    pub(super) id: i64,
    pub(super) timestamp_ms: i64,
    model: String,
    policy: Option<String>,
    streaming: bool,
}

/// Rows that the writer left in progress, by correlation id: what it knows need not be looked up.
///
/// Never more than some; the others, and those of before a restart, are found in the database.
#[derive(Debug, Default)]
pub(crate) struct OpenRows(HashMap<String, OpenRow>);

impl OpenRows {
    /// Keeps in mind rows that are committed.
    pub(super) fn remember(&mut self, opened: Vec<(String, OpenRow)>) {
        let room = MOST_REMEMBERED.saturating_sub(self.0.len());
        self.0.extend(opened.into_iter().take(room));
    }

    /// The row of a request, which is forgotten with that.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        correlation_id: &str,
    ) -> Result<Option<OpenRow>, rusqlite::Error> {
        match self.0.remove(correlation_id) {
            Some(row) => Ok(Some(row)),
            None => find(connection, correlation_id),
        }
    }

    /// The row of a request, which stays in progress.
    pub(super) fn find(
        &self,
        connection: &Connection,
        correlation_id: &str,
    ) -> Result<Option<OpenRow>, rusqlite::Error> {
        match self.0.get(correlation_id) {
            Some(row) => Ok(Some(row.clone())),
            None => find(connection, correlation_id),
        }
    }
}

impl OpenRow {
    /// The row of `opening`, which is in progress.
    pub(super) fn of(id: i64, opening: &Opening<&str>) -> Self {
        Self {
            id,
            timestamp_ms: opening.timestamp_ms,
            model: opening.model.to_owned(),
            policy: opening.policy.map(str::to_owned),
            streaming: opening.streaming,
        }
    }

    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            timestamp_ms: row.get(1)?,
            model: row.get(2)?,
            policy: row.get(3)?,
            streaming: row.get(4)?,
        })
    }

    /// The series that the row belongs to with these; `success` is `None` while it is in progress.
    pub(super) fn series<'a>(
        &self,
        provider: Option<&'a str>,
        tier: Option<&'a str>,
        success: Option<bool>,
    ) -> Series<'a> {
        Series {
            model: Cow::Owned(self.model.clone()),
            provider: provider.map(Cow::Borrowed),
            policy: self.policy.clone().map(Cow::Owned),
            tier: tier.map(Cow::Borrowed),
            streaming: self.streaming,
            success,
        }
    }
}

/// All rows that `owner` has in progress, each with the series it belongs to if it is never heard of again.
pub(super) fn find_all(
    connection: &Connection,
    owner: &str,
) -> Result<Vec<(OpenRow, Series<'static>)>, rusqlite::Error> {
    let sql =
        "SELECT id, timestamp, model, policy, streaming, provider, tier FROM requests INDEXED BY requests_open
         WHERE owner IS NOT NULL AND owner = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([owner], |row| {
        let open = OpenRow::read(row)?;
        let (provider, tier): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
        let interrupted = Series {
            provider: provider.map(Cow::Owned),
            tier: tier.map(Cow::Owned),
            ..open.series(None, None, Some(false))
        };
        Ok((open, interrupted))
    })?;
    rows.collect()
}

fn find(connection: &Connection, correlation_id: &str) -> Result<Option<OpenRow>, rusqlite::Error> {
    let sql = "SELECT id, timestamp, model, policy, streaming FROM requests
         WHERE correlation_id = ?1 AND owner IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([correlation_id])?;
    rows.next()?.map(OpenRow::read).transpose()
}

/// Some megabytes.
const MOST_REMEMBERED: usize = 10_000;
