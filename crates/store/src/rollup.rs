//! Keeps the sums per hour and per day that statistics are answered from.
//!
//! Each row belongs to a series: the rows that agree in everything that can be filtered or grouped by. An hour has one
//! roll-up for each series in it, and one for all of them. A batch adds its rows up in memory first, then merges each sum into its hour and its
//! day, in the transaction that writes the rows.

use std::borrow::Cow;

use hashbrown::HashMap;
use rusqlite::types::Value;
use rusqlite::{Connection, Error, OptionalExtension, Row, ToSql, Transaction, params_from_iter};

use crate::sums::{self, Measures, Sums};

/// What the rows of a series have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Series<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) provider: Option<Cow<'a, str>>,
    pub(crate) policy: Option<Cow<'a, str>>,
    pub(crate) tier: Option<Cow<'a, str>>,
    pub(crate) streaming: bool,
    /// `None` while in progress.
    pub(crate) success: Option<bool>,
}

impl Series<'static> {
    /// Reads what [`SERIES_COLUMNS`] selects, from column `first` on.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Result<Self, Error> {
        let name = |index| -> Result<_, Error> {
            Ok(row.get::<_, Option<String>>(first + index)?.map(Cow::Owned))
        };
        Ok(Self {
            model: Cow::Owned(row.get(first)?),
            provider: name(1)?,
            policy: name(2)?,
            tier: name(3)?,
            streaming: row.get(first + 4)?,
            success: row.get(first + 5)?,
        })
    }
}

impl Series<'_> {
    /// The values of [`SERIES_COLUMNS`].
    fn values(&self) -> [&dyn ToSql; 6] {
        [
            &self.model,
            &self.provider,
            &self.policy,
            &self.tier,
            &self.streaming,
            &self.success,
        ]
    }
}

/// The roll-ups that one transaction changes. What it knows holds within that transaction alone.
#[derive(Debug, Default)]
pub(crate) struct Rollups<'a> {
    series: HashMap<Series<'a>, i64>,
    /// By start of the hour, and series.
    hours: HashMap<(i64, i64), Sums>,
}

impl<'a> Rollups<'a> {
    /// The number of `series`, which gets one if it is new.
    pub(crate) fn number(
        &mut self,
        transaction: &Transaction<'_>,
        series: Series<'a>,
    ) -> Result<i64, Error> {
        if let Some(number) = self.series.get(&series) {
            return Ok(*number);
        }
        let number = match find(transaction, &series)? {
            Some(number) => number,
            None => add_or_fold(transaction, &series)?,
        };
        self.series.insert(series, number);
        Ok(number)
    }

    /// Adds an ended request that arrived at `timestamp_ms`.
    pub(crate) fn add(&mut self, series: i64, timestamp_ms: i64, measures: &Measures) {
        let hour = start_of(timestamp_ms, HOUR_MS);
        self.hours.entry((hour, series)).or_default().add(measures);
    }

    /// Writes everything that was added.
    pub(crate) fn save(self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let mut hours = self.hours;
        let mut days: HashMap<(i64, i64), Sums> = HashMap::new();
        let mut all: HashMap<(i64, i64), Sums> = HashMap::new();
        for ((hour, series), sums) in &hours {
            let day = start_of(*hour, DAY_MS);
            days.entry((day, *series)).or_default().merge(sums);
            days.entry((day, ALL_SERIES)).or_default().merge(sums);
            all.entry((*hour, ALL_SERIES)).or_default().merge(sums);
        }
        hours.extend(all);
        save_level(transaction, HOURS, hours)?;
        save_level(transaction, DAYS, days)
    }
}

/// Makes the roll-ups of a database that had none, from its rows.
pub(crate) fn build(transaction: &Transaction<'_>) -> Result<(), Error> {
    let sql = format!("SELECT timestamp, series, {MEASURES} FROM requests WHERE owner IS NULL");
    let mut rollups = Rollups::default();
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        rollups.add(row.get(1)?, row.get(0)?, &read_measures(row, 2)?);
    }
    rollups.save(transaction)
}

/// Reads what [`MEASURES`] selects, from column `first` on.
pub(crate) fn read_measures(row: &Row<'_>, first: usize) -> Result<Measures, Error> {
    let at = |index: usize| first + index;
    Ok(Measures {
        tokens: [
            row.get(at(0))?,
            row.get(at(1))?,
            row.get(at(2))?,
            row.get(at(3))?,
        ],
        cost: row.get(at(4))?,
        estimated_cost: row.get(at(5))?,
        reference_cost: row.get(at(6))?,
        sunk_cost: row.get(at(7))?,
        flags: [row.get(at(8))?, row.get(at(9))?, row.get(at(10))?],
        latency_ms: row.get(at(11))?,
        duration_ms: row.get(at(12))?,
        success: row.get(at(13))?,
        attempts: row.get(at(14))?,
    })
}

/// The start of the hour or day, which is `length_ms` long, that `timestamp_ms` lies in.
pub(crate) fn start_of(timestamp_ms: i64, length_ms: i64) -> i64 {
    timestamp_ms.saturating_sub(timestamp_ms.rem_euclid(length_ms))
}

fn find(connection: &Connection, series: &Series<'_>) -> Result<Option<i64>, Error> {
    let sql =
        "SELECT id FROM series WHERE model = ?1 AND provider IS ?2 AND policy IS ?3 AND tier IS ?4
         AND streaming = ?5 AND success IS ?6";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(series.values(), |row| row.get(0));
    found.optional()
}

/// Gives a new series a number. Where there are very many, one that nobody was served in gets that of [`OTHER_MODELS`]:
/// a client may make up as many names as it likes.
fn add_or_fold(connection: &Connection, series: &Series<'_>) -> Result<i64, Error> {
    let count: i64 = connection
        .prepare_cached("SELECT coalesce(max(id), 0) FROM series")?
        .query_row([], |row| row.get(0))?;
    if count < MOST_SERIES || series.success == Some(true) {
        return add(connection, series);
    }
    let other = Series {
        model: Cow::Borrowed(OTHER_MODELS),
        policy: None,
        ..series.clone()
    };
    find(connection, &other)?.map_or_else(|| add(connection, &other), Ok)
}

fn add(connection: &Connection, series: &Series<'_>) -> Result<i64, Error> {
    let sql = "INSERT INTO series (model, provider, policy, tier, streaming, success)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(series.values())?;
    Ok(connection.last_insert_rowid())
}

fn save_level(
    connection: &Connection,
    table: &str,
    changed: HashMap<(i64, i64), Sums>,
) -> Result<(), Error> {
    let places = vec!["?"; 2 + sums::COLUMNS.split(',').count()].join(", ");
    let load = format!(
        "SELECT {} FROM {table} WHERE start = ?1 AND series = ?2",
        sums::COLUMNS
    );
    let save = format!(
        "INSERT OR REPLACE INTO {table} (start, series, {}) VALUES ({places})",
        sums::COLUMNS
    );
    let mut load = connection.prepare_cached(&load)?;
    let mut save = connection.prepare_cached(&save)?;
    for ((start, series), mut sums) in changed {
        if let Some(row) = load.query([start, series])?.next()? {
            sums.merge_row(row, 0)?;
        }
        let mut values = vec![Value::Integer(start), Value::Integer(series)];
        values.extend(sums.values());
        save.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// The table of sums per hour.
pub(crate) const HOURS: &str = "rollup_hours";
/// The table of sums per day.
pub(crate) const DAYS: &str = "rollup_days";
/// The number under which all series are added up together; no series has it.
pub(crate) const ALL_SERIES: i64 = 0;
/// As what model the requests of a series beyond [`MOST_SERIES`] count that nobody was served in.
const OTHER_MODELS: &str = "(other)";
/// No series is deleted, so that the last number is how many there are. Reading as many takes some 10 ms.
const MOST_SERIES: i64 = 10_000;
/// An hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// A day.
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// The columns of `series`, apart from its id.
pub(crate) const SERIES_COLUMNS: &str = "model, provider, policy, tier, streaming, success";
/// The columns of `requests` that are added up.
pub(crate) const MEASURES: &str = "input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, \
     cost_nanosats, estimated_cost_nanosats, reference_cost_nanosats, sunk_cost_nanosats, cost_disagrees, \
     uncovered_units, implausible_usage, latency_ms, duration_ms, success, attempts";
