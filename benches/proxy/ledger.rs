//! What arbstr must have written: exactly one completed row per request, with the exact cost.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::{Connection, OpenFlags};

/// A reader of arbstr's database that knows how many requests there were.
#[derive(Debug)]
pub(crate) struct Ledger {
    connection: Connection,
    /// Rows that were there before, without attempts.
    filled: i64,
    /// Rows checked so far, and the last one's id.
    checked: i64,
    last_id: i64,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let (filled, last_id) = connection.query_row(FILLED, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        Ok(Self {
            connection,
            filled,
            checked: 0,
            last_id,
        })
    }

    /// Waits until the next `count` requests are on record, and holds each row against the script.
    pub(crate) fn settle(&mut self, count: u64) -> Result<()> {
        let count = i64::try_from(count)?;
        let asked = Instant::now();
        loop {
            let new = self.read_new()?;
            let late = asked.elapsed() > TIMEOUT;
            ensure!(
                new.rows <= count && (new.right == count || !late),
                "{count} requests, but {} rows, {} of them completed with the right cost; the others: {}",
                new.rows,
                new.right,
                self.explain()
            );
            if new.right == count {
                self.checked += count;
                self.last_id = new.last_id;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// After the proxy's end: no row has come since, and each request had one attempt.
    pub(crate) fn close(self) -> Result<()> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            self.connection
                .query_row(&sql, [], |row| row.get::<_, i64>(0))
        };
        let (rows, attempts) = (count("requests")? - self.filled, count("attempts")?);
        ensure!(
            rows == self.checked && attempts == rows,
            "{} requests, {rows} rows, {attempts} attempts",
            self.checked
        );
        Ok(())
    }

    fn read_new(&self) -> Result<New> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(New {
                rows: row.get(0)?,
                right: row.get(1)?,
                last_id: row.get(2)?,
            })
        };
        let mut statement = self.connection.prepare_cached(NEW)?;
        Ok(statement.query_row((self.last_id, COST_NANOSATS), read)?)
    }

    fn explain(&self) -> String {
        let read = |row: &rusqlite::Row<'_>| {
            let fields = (0..4).map(|at| row.get::<_, rusqlite::types::Value>(at));
            Ok(format!("{:?}", fields.collect::<Result<Vec<_>, _>>()))
        };
        let found = self
            .connection
            .query_row(WRONG, (self.last_id, COST_NANOSATS), read);
        found.unwrap_or_else(|error| error.to_string())
    }
}

/// Puts `rows` ended requests into the database of an arbstr that is not running, and on the disk: what the system still had
/// to write would disturb what is measured next.
pub(crate) fn fill(path: &Path, rows: usize) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = OFF;")?;
    connection.execute(SERIES, [])?;
    connection.execute(FILL, (i64::try_from(rows)?, COST_NANOSATS))?;
    drop(connection);
    Ok(File::open(path)?.sync_all()?)
}

/// Rows after the last one checked.
struct New {
    rows: i64,
    right: i64,
    last_id: i64,
}

/// 150 fresh and 50 cached input tokens, 100 output tokens, at the rates of [`crate::subject`], and the base fee.
const COST_NANOSATS: i64 = 150 * 10_000_000 + 50 * 5_000_000 + 100 * 30_000_000 + 1_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(10);
const NEW: &str = "SELECT count(*),
    count(DISTINCT CASE WHEN success = 1 AND ended IS NOT NULL AND cost_nanosats = ?2 THEN correlation_id END),
    coalesce(max(id), ?1) FROM requests WHERE id > ?1";
const FILLED: &str = "SELECT count(*), coalesce(max(id), 0) FROM requests";
const SERIES: &str =
    "INSERT INTO series (model, provider, streaming, success) VALUES ('json', 'bench-1', 0, 1)";
const FILL: &str = "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1)
    INSERT INTO requests (correlation_id, timestamp, ended, endpoint, model, provider, streaming, input_tokens,
        output_tokens, cost_nanosats, latency_ms, duration_ms, attempts, success, series)
    SELECT printf('00000000-0000-7000-8000-%012d', n), 1700000000000 + n, 1700000000900 + n, 'chat.completions', 'json',
        'bench-1', 0, 200, 100, ?2, 300, 900, 1, 1, (SELECT max(id) FROM series) FROM counted";
const WRONG: &str = "SELECT success, error_message, cost_nanosats, output_tokens FROM requests
    WHERE id > ?1 AND NOT (success = 1 AND ended IS NOT NULL AND cost_nanosats IS ?2) LIMIT 1";
