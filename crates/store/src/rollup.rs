//! Keeps the sums per quarter of an hour, per hour and per day that statistics are answered from.
//!
//! Each row belongs to a series: the rows that agree in everything that can be filtered or grouped by. Each of these times has
//! one roll-up for each series in it, and one for all of them. A batch adds its rows up in memory first, then merges each
//! sum into its quarter, hour and day, in the transaction that writes the rows. What it wrote is kept in memory, because
//! the next batch most often adds to the same sums.

mod kept;

use std::borrow::Cow;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::types::Value;
use rusqlite::{
    Connection, Error, OptionalExtension, Row, Statement, ToSql, Transaction, params_from_iter,
};

use self::kept::Key;
pub(crate) use self::kept::{Kept, Version};
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

/// One of the tables of roll-ups.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) table: &'static str,
    /// How much time each of its roll-ups covers.
    pub(crate) length_ms: i64,
}

/// The roll-ups that one transaction changes. What it knows holds within that transaction alone.
#[derive(Debug, Default)]
pub(crate) struct Rollups<'a> {
    series: HashMap<Series<'a>, i64>,
    quarters: Changes,
}

/// Sums by start of the time that they cover, and series.
type Changes = HashMap<(i64, i64), Sums>;

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
        let quarter = start_of(timestamp_ms, QUARTERS.length_ms);
        let sums = self.quarters.entry((quarter, series)).or_default();
        sums.add(measures);
    }

    /// Writes everything that was added.
    pub(crate) fn save(self, transaction: &Transaction<'_>, kept: &mut Kept) -> Result<(), Error> {
        let levels = &[QUARTERS, HOURS, DAYS];
        save_to(transaction, kept, self.quarters, levels)
    }
}

/// Makes the roll-ups of `levels`, finest first, from the rows of a database that had none.
pub(crate) fn build(transaction: &Transaction<'_>, levels: &[Level]) -> Result<(), Error> {
    let sql = format!("SELECT timestamp, series, {MEASURES} FROM requests WHERE owner IS NULL");
    let (mut rollups, mut kept) = (Rollups::default(), Kept::default());
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        rollups.add(row.get(1)?, row.get(0)?, &read_measures(row, 2)?);
        if rollups.quarters.len() >= MOST_IN_MEMORY {
            let quarters = std::mem::take(&mut rollups.quarters);
            save_to(transaction, &mut kept, quarters, levels)?;
        }
    }
    save_to(transaction, &mut kept, rollups.quarters, levels)
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

/// The start of the quarter, hour or day, which is `length_ms` long, that `timestamp_ms` lies in.
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

/// Merges sums of quarters into each of `levels`, finest first.
fn save_to(
    connection: &Connection,
    kept: &mut Kept,
    quarters: Changes,
    levels: &[Level],
) -> Result<(), Error> {
    let mut all = Changes::new();
    for ((quarter, _), sums) in &quarters {
        let of_all = all.entry((*quarter, ALL_SERIES)).or_default();
        of_all.merge(sums);
    }
    let mut changes = quarters;
    changes.extend(all);
    for level in levels {
        changes = coarsen(changes, level.length_ms);
        save_level(connection, kept, level, &changes)?;
    }
    Ok(())
}

/// What `changes` come to in times that are each `length_ms` long.
fn coarsen(changes: Changes, length_ms: i64) -> Changes {
    let mut coarser = Changes::with_capacity(changes.len());
    for ((start, series), sums) in changes {
        match coarser.entry((start_of(start, length_ms), series)) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(&sums),
            Entry::Vacant(entry) => {
                entry.insert(sums);
            }
        }
    }
    coarser
}

fn save_level(
    connection: &Connection,
    kept: &mut Kept,
    level: &Level,
    changes: &Changes,
) -> Result<(), Error> {
    let table = level.table;
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
    for ((start, series), change) in changes {
        let key = Key {
            length_ms: level.length_ms,
            start: *start,
            series: *series,
        };
        let mut sums = match kept.take(&key) {
            Some(sums) => sums,
            None => read_sums(&mut load, &key)?,
        };
        sums.merge(change);
        let names = [Value::Integer(*start), Value::Integer(*series)];
        save.execute(params_from_iter(names.into_iter().chain(sums.values())))?;
        kept.put(key, sums);
    }
    Ok(())
}

/// The sums of one roll-up; those of none if it is not there.
fn read_sums(load: &mut Statement<'_>, key: &Key) -> Result<Sums, Error> {
    let mut sums = Sums::default();
    if let Some(row) = load.query([key.start, key.series])?.next()? {
        sums.merge_row(row, 0)?;
    }
    Ok(sums)
}

/// Sums per quarter of an hour.
pub(crate) const QUARTERS: Level = Level {
    table: "rollup_quarters",
    length_ms: 900_000,
};
/// Sums per hour.
pub(crate) const HOURS: Level = Level {
    table: "rollup_hours",
    length_ms: 3_600_000,
};
/// Sums per day.
pub(crate) const DAYS: Level = Level {
    table: "rollup_days",
    length_ms: 86_400_000,
};
/// The number under which all series are added up together; no series has it.
pub(crate) const ALL_SERIES: i64 = 0;
/// As what model the requests of a series beyond [`MOST_SERIES`] count that nobody was served in.
const OTHER_MODELS: &str = "(other)";
/// No series is deleted, so that the last number is how many there are. Reading as many takes some 10 ms.
const MOST_SERIES: i64 = 10_000;
/// Roll-ups that are made at once of a database that had none; some tens of megabytes.
const MOST_IN_MEMORY: usize = 10_000;
/// The columns of `series`, apart from its id.
pub(crate) const SERIES_COLUMNS: &str = "model, provider, policy, tier, streaming, success";
/// The columns of `requests` that are added up.
pub(crate) const MEASURES: &str = "input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, \
     cost_nanosats, estimated_cost_nanosats, reference_cost_nanosats, sunk_cost_nanosats, cost_disagrees, \
     uncovered_units, implausible_usage, latency_ms, duration_ms, success, attempts";
