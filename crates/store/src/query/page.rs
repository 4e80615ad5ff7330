//! Pages of requests, stable while rows are added: a page begins after the last row of the one before.
//!
//! By time, each series has an index of its own rows in order, and a page is merged from those that pass the filter: a
//! filter that lets one row in a million pass costs no more than none. Other columns have no index; their page reads
//! all rows of the range, which is why there may be only so many.

use std::collections::{BinaryHeap, VecDeque};
use std::str::FromStr;

use rusqlite::{CachedStatement, Connection, Transaction, named_params, params};

use super::cursor::{self, Position};
use super::requests::read_by_id;
use super::stats::count_within;
use super::{Filter, QueryError, Selection};
use crate::record::RequestRow;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// Which rows.
    pub selection: Selection,
    /// In which order.
    pub sort: Sort,
    /// How many rows at most; at least 1 and at most 1000 whatever it says.
    pub limit: u32,
    /// [`Page::next`] of the page before; the first page without.
    pub cursor: Option<String>,
}

/// In which order rows come; equal ones in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub by: SortBy,
    /// Largest first. Rows without a value are last either way.
    pub descending: bool,
}

/// What rows can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// Arrival.
    Timestamp,
    /// Known cost.
    Cost,
    /// Time from arrival to end.
    Duration,
    /// Time to the first byte.
    Latency,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
}

/// Some rows, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<RequestRow>,
    /// The cursor of the next page; `None` after the last row.
    pub next: Option<String>,
}

/// A name that is none of [`SortBy::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown column to sort by; known are timestamp, cost_sats, duration_ms, latency_ms, input_tokens and output_tokens"
)]
pub struct UnknownSort;

impl Default for Sort {
    /// Newest first.
    fn default() -> Self {
        Self {
            by: SortBy::Timestamp,
            descending: true,
        }
    }
}

impl SortBy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Timestamp,
        Self::Cost,
        Self::Duration,
        Self::Latency,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    /// Its name in queries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Cost => "cost_sats",
            Self::Duration => "duration_ms",
            Self::Latency => "latency_ms",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Cost => "cost_nanosats",
            other => other.name(),
        }
    }
}

impl FromStr for SortBy {
    type Err = UnknownSort;

    fn from_str(name: &str) -> Result<Self, UnknownSort> {
        let mut all = Self::ALL.into_iter();
        all.find(|by| by.name() == name).ok_or(UnknownSort)
    }
}

/// Reads one page.
pub(crate) fn page(connection: &Connection, query: &PageQuery) -> Result<Page, QueryError> {
    let (selection, sort) = (&query.selection, query.sort);
    let cursor = query.cursor.as_deref();
    let after = cursor
        .map(|cursor| cursor::read(cursor, sort, &selection.filter))
        .transpose()?;
    let limit = query.limit.clamp(1, LONGEST_PAGE);
    let snapshot = connection.unchecked_transaction()?;
    // One more than asked shows whether there is a next page.
    let mut found = if sort.by == SortBy::Timestamp {
        in_time(&snapshot, selection, sort.descending, after, limit + 1)?
    } else {
        by_column(&snapshot, selection, sort, after, limit + 1)?
    };
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| more);
    let next = last.map(|last| cursor::write(*last, sort, &selection.filter));
    let rows = read_by_id(&snapshot, &found)?;
    Ok(Page { rows, next })
}

/// The first `count` rows after `after`, in order of arrival.
pub(super) fn in_time(
    connection: &Connection,
    selection: &Selection,
    descending: bool,
    after: Option<Position>,
    count: u32,
) -> Result<Vec<Position>, rusqlite::Error> {
    let start = Bounds::of(selection, descending, after);
    let (along, chunk) = if selection.filter.is_empty() {
        (vec![Along::Time], count)
    } else {
        let chosen = selection.filter.choose(connection)?.into_iter();
        let along = chosen.map(|(number, series)| match series.success {
            Some(_) => Along::Ended(number),
            None => Along::Open(number),
        });
        (along.collect(), count.min(CHUNK))
    };
    let mut reading = Reading::prepare(connection, descending, chunk)?;
    let mut walks = Vec::new();
    let mut heads = BinaryHeap::new();
    for along in along {
        let mut walk = Walk::new(along, start);
        if let Some(head) = walk.next(&mut reading)? {
            heads.push((head, walks.len()));
            walks.push(walk);
        }
    }
    let mut found = Vec::new();
    while let Some(((timestamp, id), place)) = heads.pop() {
        let (timestamp, id) = turned((timestamp, id), descending);
        found.push(Position {
            key: Some(timestamp),
            id,
        });
        if found.len() == count as usize {
            break;
        }
        if let Some(head) = walks[place].next(&mut reading)? {
            heads.push((head, place));
        }
    }
    Ok(found)
}

/// Largest first in a heap, whatever the direction.
fn turned((timestamp, id): (i64, i64), descending: bool) -> (i64, i64) {
    if descending {
        (timestamp, id)
    } else {
        (!timestamp, !id)
    }
}

/// What is left to walk through.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// First and last time, both included.
    since_ms: i64,
    until_ms: i64,
    /// At the time where the walk begins, only ids beyond this one.
    beyond: i64,
}

impl Bounds {
    fn of(selection: &Selection, descending: bool, after: Option<Position>) -> Self {
        let mut bounds = Self {
            since_ms: selection.since_ms,
            until_ms: selection.until_ms.saturating_sub(1),
            beyond: if descending { i64::MAX } else { i64::MIN },
        };
        if let Some(Position { key: Some(at), id }) = after {
            bounds.go_on((at, id), descending);
        }
        bounds
    }

    /// Continues after a row, unless the range begins later anyway.
    fn go_on(&mut self, (at, id): (i64, i64), descending: bool) {
        if descending && at <= self.until_ms {
            (self.until_ms, self.beyond) = (at, id);
        } else if !descending && at >= self.since_ms {
            (self.since_ms, self.beyond) = (at, id);
        }
    }
}

/// Rows that stand in order of arrival in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Along {
    /// All.
    Time,
    /// Those of the series of this number, which have ended.
    Ended(i64),
    /// Those of the series of this number, which are in progress.
    Open(i64),
}

/// How all walks of a page read, one after another.
struct Reading<'c> {
    all: CachedStatement<'c>,
    ended: CachedStatement<'c>,
    open: CachedStatement<'c>,
    descending: bool,
    /// Rows at a time.
    chunk: u32,
}

impl<'c> Reading<'c> {
    fn prepare(
        connection: &'c Connection,
        descending: bool,
        chunk: u32,
    ) -> Result<Self, rusqlite::Error> {
        let (beyond, order) = if descending {
            ("(timestamp < ?3 OR id < ?4)", "DESC")
        } else {
            ("(timestamp > ?2 OR id > ?4)", "ASC")
        };
        let read = |index: &str, condition: &str| {
            connection.prepare_cached(&format!(
                "SELECT timestamp, id FROM requests INDEXED BY {index}
                 WHERE {condition} AND timestamp >= ?2 AND timestamp <= ?3 AND {beyond}
                 ORDER BY timestamp {order}, id {order} LIMIT ?5"
            ))
        };
        Ok(Self {
            all: read("requests_by_time", "?1 IS NULL")?,
            ended: read("requests_by_series", "owner IS NULL AND series = ?1")?,
            open: read("requests_open", "owner IS NOT NULL AND series = ?1")?,
            descending,
            chunk,
        })
    }

    fn read(
        &mut self,
        along: Along,
        bounds: Bounds,
    ) -> Result<VecDeque<(i64, i64)>, rusqlite::Error> {
        let (statement, series) = match along {
            Along::Time => (&mut self.all, None),
            Along::Ended(series) => (&mut self.ended, Some(series)),
            Along::Open(series) => (&mut self.open, Some(series)),
        };
        let Bounds {
            since_ms,
            until_ms,
            beyond,
        } = bounds;
        let values = params![series, since_ms, until_ms, beyond, self.chunk];
        let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }
}

/// Goes through rows in order of arrival; some at a time.
struct Walk {
    along: Along,
    bounds: Bounds,
    ahead: VecDeque<(i64, i64)>,
    ended: bool,
}

impl Walk {
    fn new(along: Along, bounds: Bounds) -> Self {
        Self {
            along,
            bounds,
            ahead: VecDeque::new(),
            ended: false,
        }
    }

    /// The next row's time and id, [`turned`].
    fn next(&mut self, reading: &mut Reading<'_>) -> Result<Option<(i64, i64)>, rusqlite::Error> {
        if self.ahead.is_empty() && !self.ended {
            self.ahead = reading.read(self.along, self.bounds)?;
            self.ended = self.ahead.len() < reading.chunk as usize;
            if let Some(last) = self.ahead.back() {
                self.bounds.go_on(*last, reading.descending);
            }
        }
        let next = self.ahead.pop_front();
        Ok(next.map(|row| turned(row, reading.descending)))
    }
}

/// The first `count` rows after `after`, in the order of a column without an index.
fn by_column(
    snapshot: &Transaction<'_>,
    selection: &Selection,
    sort: Sort,
    after: Option<Position>,
    wanted: u32,
) -> Result<Vec<Position>, QueryError> {
    let range = Selection {
        filter: Filter::default(),
        ..selection.clone()
    };
    let rows = count_within(snapshot, &range)?;
    if rows > MOST_SORTED {
        return Err(QueryError::TooMuch {
            rows,
            most: MOST_SORTED,
        });
    }
    let column = sort.by.column();
    let (than, order) = if sort.descending {
        ("<", "DESC")
    } else {
        (">", "ASC")
    };
    let beyond = match after {
        None => "?8 IS NULL AND ?9 IS NULL".to_owned(),
        Some(Position { key: None, .. }) => {
            format!("?8 IS NULL AND {column} IS NULL AND id {than} ?9")
        }
        Some(_) => {
            format!("({column} IS NULL OR {column} {than} ?8 OR ({column} = ?8 AND id {than} ?9))")
        }
    };
    let sql = format!(
        "SELECT {column}, id FROM requests
         WHERE timestamp >= ?1 AND timestamp < ?2
           AND (?3 IS NULL OR model = ?3) AND (?4 IS NULL OR provider = ?4)
           AND (?5 IS NULL OR (success = ?5 AND owner IS NULL)) AND (?6 IS NULL OR streaming = ?6)
           AND {beyond}
         ORDER BY {column} IS NULL, {column} {order}, id {order} LIMIT ?7"
    );
    let filter = &selection.filter;
    let mut statement = snapshot.prepare_cached(&sql)?;
    let values = named_params! {
        "?1": selection.since_ms, "?2": selection.until_ms,
        "?3": filter.model, "?4": filter.provider, "?5": filter.success, "?6": filter.streaming,
        "?7": wanted,
        "?8": after.and_then(|after| after.key), "?9": after.map(|after| after.id),
    };
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Position {
            key: row.get(0)?,
            id: row.get(1)?,
        })
    };
    let found = statement.query_map(values, read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

const LONGEST_PAGE: u32 = 1000;
/// What a walk through one series reads ahead.
const CHUNK: u32 = 16;
/// Rows of a range that can be sorted by a column without an index; about two seconds' work.
const MOST_SORTED: u64 = 2_000_000;
