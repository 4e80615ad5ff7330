//! arbstr's database as it stands when arbstr has ended.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags};

/// All rows.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// By arbstr's name of the request.
    pub(crate) rows: HashMap<String, Row>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) provider: Option<String>,
    pub(crate) is_completed: bool,
    pub(crate) is_success: bool,
    pub(crate) error_message: Option<String>,
    /// Nanosats.
    pub(crate) cost: Option<i64>,
    pub(crate) attempts_counted: Option<i64>,
    /// Provider and outcome of each, in order.
    pub(crate) attempts: Vec<(String, String)>,
}

impl Ledger {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut rows = HashMap::new();
        let mut statement = connection.prepare(REQUESTS)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let id: String = row.get(0)?;
            let row = Row {
                provider: row.get(1)?,
                is_completed: row.get(2)?,
                is_success: row.get(3)?,
                error_message: row.get(4)?,
                cost: row.get(5)?,
                attempts_counted: row.get(6)?,
                attempts: Vec::new(),
            };
            rows.insert(id, row);
        }
        let mut statement = connection.prepare(ATTEMPTS)?;
        let mut found = statement.query([])?;
        while let Some(attempt) = found.next()? {
            let id: String = attempt.get(0)?;
            if let Some(row) = rows.get_mut(&id) {
                row.attempts.push((attempt.get(1)?, attempt.get(2)?));
            }
        }
        Ok(Self { rows })
    }
}

impl Row {
    /// The attempts as the header `x-arbstr-attempts` tells them.
    pub(crate) fn story(&self) -> String {
        let lines = self
            .attempts
            .iter()
            .map(|(provider, outcome)| format!("{provider};{outcome}"));
        lines.collect::<Vec<_>>().join(", ")
    }
}

const REQUESTS: &str = "SELECT correlation_id, provider,
    ended IS NOT NULL AND owner IS NULL AND error_message IS NOT 'in_progress',
    success, error_message, cost_nanosats, attempts FROM requests";
const ATTEMPTS: &str =
    "SELECT correlation_id, provider, outcome FROM attempts ORDER BY correlation_id, number";
