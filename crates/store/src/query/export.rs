//! Rows of any range, one after another, and rows as they come.
//!
//! Neither holds a snapshot of the database between reads: a reader that does keeps the write-ahead log from being
//! emptied, so that it grows for as long as somebody reads.

use std::collections::{BTreeSet, VecDeque};

use rusqlite::Connection;

use super::cursor::Position;
use super::page::in_time;
use super::requests::{COLUMNS, read_by_id, read_row};
use super::{Filter, QueryError, Selection};
use crate::reader::Reader;
use crate::record::RequestRow;

/// Rows in order of arrival, read some hundred at a time. Rows that arrive meanwhile may be among them.
#[derive(Debug)]
pub struct Export {
    reader: Reader,
    selection: Selection,
    after: Option<Position>,
    ahead: VecDeque<RequestRow>,
    ended: bool,
}

impl Export {
    pub(crate) fn new(reader: Reader, selection: Selection) -> Self {
        Self {
            reader,
            selection,
            after: None,
            ahead: VecDeque::new(),
            ended: false,
        }
    }

    fn read_on(&mut self) -> Result<(), QueryError> {
        let connection = self.reader.lend()?;
        let snapshot = connection.unchecked_transaction()?;
        let found = in_time(&snapshot, &self.selection, false, self.after, AT_ONCE)?;
        self.ahead.extend(read_by_id(&snapshot, &found)?);
        self.ended = found.len() < AT_ONCE as usize;
        self.after = found.last().copied().or(self.after);
        Ok(())
    }
}

impl Iterator for Export {
    type Item = Result<RequestRow, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ahead.is_empty() && !self.ended {
            if let Err(error) = self.read_on() {
                self.ended = true;
                return Some(Err(error));
            }
        }
        self.ahead.pop_front().map(Ok)
    }
}

/// Rows as they end, each once, whenever they began.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    filter: Filter,
    /// Rows up to this one are known.
    seen: i64,
    /// Those of them that were in progress.
    open: BTreeSet<i64>,
}

impl Follow {
    pub(crate) fn new(reader: Reader, filter: Filter) -> Result<Self, QueryError> {
        let connection = reader.lend()?;
        let snapshot = connection.unchecked_transaction()?;
        let (seen, open) = (last_id(&snapshot)?, open_ids(&snapshot)?);
        drop(snapshot);
        drop(connection);
        Ok(Self {
            reader,
            filter,
            seen,
            open,
        })
    }

    /// What has ended since the last call, or since the beginning; empty when nothing has.
    ///
    /// # Errors
    ///
    /// The database cannot be read now; nothing is lost by asking again.
    pub fn poll(&mut self) -> Result<Vec<RequestRow>, QueryError> {
        let connection = self.reader.lend()?;
        let snapshot = connection.unchecked_transaction()?;
        let last = last_id(&snapshot)?;
        let open = open_ids(&snapshot)?;
        // Every row may have been deleted, and numbers given again.
        let seen = self.seen.min(last);
        let mut ended: Vec<i64> = self.open.difference(&open).copied().collect();
        ended.extend(ids_after(&snapshot, seen)?.filter(|id| !open.contains(id)));
        let sql = format!("SELECT {COLUMNS} FROM requests WHERE id = ?1");
        let mut statement = snapshot.prepare_cached(&sql)?;
        let mut rows = Vec::new();
        for id in ended {
            if let Some(row) = statement.query([id])?.next()? {
                rows.push(read_row(row)?);
            }
        }
        rows.retain(|row| self.filter.passes_row(row));
        rows.sort_by_key(|row| row.ended_ms.unwrap_or(row.timestamp_ms));
        (self.seen, self.open) = (last, open);
        Ok(rows)
    }
}

fn last_id(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT coalesce(max(id), 0) FROM requests";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

fn open_ids(connection: &Connection) -> Result<BTreeSet<i64>, rusqlite::Error> {
    let sql = "SELECT id FROM requests INDEXED BY requests_open WHERE owner IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn ids_after(
    connection: &Connection,
    seen: i64,
) -> Result<impl Iterator<Item = i64> + use<>, rusqlite::Error> {
    let sql = "SELECT id FROM requests WHERE id > ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let ids: Vec<i64> = statement
        .query_map([seen], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(ids.into_iter())
}

const AT_ONCE: u32 = 500;
