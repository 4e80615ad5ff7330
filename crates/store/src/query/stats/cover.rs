//! How a range is covered: whole days, hours and quarters of hours from roll-ups, the edges from rows.
//!
//! Of a day, hour or quarter that lies in the range with a part only, the smaller part is read: what it lacks is added, what
//! it has beyond the range is taken off. So no more rows are read than those of seven minutes and a half at either end.

use rusqlite::Connection;

use super::GroupBy;
use crate::query::Selection;
use crate::rollup::{DAYS, HOURS, Level, QUARTERS, start_of};

/// How a range is covered.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// Whole hours, to be read from roll-ups.
    hours: (i64, i64),
    /// What these hours lack of the range, or have beyond it, as far as it is whole quarters.
    quarters: Vec<Slice>,
    /// The rest of it: to be read row by row.
    pub(super) rows: Vec<Piece>,
}

/// From when until when rows are to be read.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// To be taken off, not added.
    pub(super) beyond: bool,
}

impl Parts {
    /// Cuts up the range of `selection`.
    pub(super) fn of(
        connection: &Connection,
        selection: &Selection,
    ) -> Result<Self, rusqlite::Error> {
        let (since, until) = (
            selection.since_ms,
            selection.until_ms.max(selection.since_ms),
        );
        let mut parts = Self {
            since_ms: since,
            until_ms: until,
            hours: (start_of(since, HOUR_MS), ceiling(until, HOUR_MS)),
            quarters: Vec::new(),
            rows: Vec::new(),
        };
        if since == until {
            parts.hours = (0, 0);
            return Ok(parts);
        }
        let expired_before = read_expired_before(connection)?;
        let (first, last) = (parts.hours.0, start_of(until, HOUR_MS));
        parts.fit_hour(connection, first, expired_before)?;
        // An hour that both ends lie in is dealt with already.
        if first < last && last < until {
            parts.fit_hour(connection, last, expired_before)?;
        }
        Ok(parts)
    }

    /// Sees to the first or last hour, which may lie in the range with a part only: the smaller part is read finely.
    fn fit_hour(
        &mut self,
        connection: &Connection,
        hour: i64,
        expired_before: i64,
    ) -> Result<(), rusqlite::Error> {
        let end = hour.saturating_add(HOUR_MS);
        let inside = (self.since_ms.max(hour), self.until_ms.min(end));
        let mut outside = Vec::new();
        for (from, to) in [(hour, inside.0), (inside.1, end)] {
            if hour >= expired_before && holds_rows(connection, from, to)? {
                outside.push((from, to));
            }
        }
        let length = |ranges: &[(i64, i64)]| ranges.iter().map(|(from, to)| to - from).sum::<i64>();
        if hour < expired_before {
            self.since_ms = self.since_ms.min(hour);
            self.until_ms = self.until_ms.max(end);
        } else if length(&outside) <= length(&[inside]) {
            for (from, to) in outside {
                self.read_finely(from, to, true);
            }
        } else {
            self.read_finely(inside.0, inside.1, false);
            if hour == self.hours.0 {
                self.hours.0 = end;
            } else {
                self.hours.1 = hour;
            }
        }
        Ok(())
    }

    /// Covers a part of an hour by quarters, and its ends by rows.
    fn read_finely(&mut self, from: i64, to: i64, beyond: bool) {
        let (first, last) = (ceiling(from, QUARTER_MS), start_of(to, QUARTER_MS));
        if first > last {
            self.fit_quarter(last, (from, to), beyond);
            return;
        }
        self.quarters.push(Slice {
            beyond,
            ..Slice::new(&QUARTERS, first, last)
        });
        self.fit_quarter(first.saturating_sub(QUARTER_MS), (from, first), beyond);
        self.fit_quarter(last, (last, to), beyond);
    }

    /// Covers a part of a quarter by its own rows, or by all of it but the other rows.
    fn fit_quarter(&mut self, quarter: i64, (from, to): (i64, i64), beyond: bool) {
        let end = quarter.saturating_add(QUARTER_MS);
        let mut read = |since_ms: i64, until_ms: i64, beyond| {
            if since_ms < until_ms {
                self.rows.push(Piece {
                    since_ms,
                    until_ms,
                    beyond,
                });
            }
        };
        if to.saturating_sub(from) <= QUARTER_MS / 2 {
            read(from, to, beyond);
            return;
        }
        read(quarter, from, !beyond);
        read(to, end, !beyond);
        self.quarters.push(Slice {
            beyond,
            ..Slice::new(&QUARTERS, quarter, end)
        });
    }

    /// Which roll-ups whole quarters and hours come from. Of the first and the last day, too, the smaller part is read hour by
    /// hour: to be added up, or to be taken off the day.
    pub(super) fn rollups(&self, group_by: Option<GroupBy>) -> Vec<Slice> {
        let (from, to) = self.hours;
        let mut slices = self.quarters.clone();
        if group_by == Some(GroupBy::Hour) {
            slices.push(Slice::new(&HOURS, from, to));
            return slices;
        }
        let (first, last) = (start_of(from, DAY_MS), start_of(to, DAY_MS));
        slices.push(Slice::new(&DAYS, ceiling(from, DAY_MS), last));
        if first < from {
            slices.extend(self.of_day(first));
        }
        if last < to && (first == from || first < last) {
            slices.extend(self.of_day(last));
        }
        slices
    }

    fn of_day(&self, day: i64) -> Vec<Slice> {
        let end = day.saturating_add(DAY_MS);
        let (from, to) = (self.hours.0.max(day), self.hours.1.min(end));
        if to - from <= DAY_MS / 2 {
            return vec![Slice::new(&HOURS, from, to)];
        }
        let beyond = |from, to| Slice {
            beyond: true,
            ..Slice::new(&HOURS, from, to)
        };
        vec![
            Slice::new(&DAYS, day, end),
            beyond(day, from),
            beyond(to, end),
        ]
    }
}

/// Some roll-ups of one table.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) table: &'static str,
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// To be taken off, not added.
    pub(super) beyond: bool,
}

impl Slice {
    fn new(level: &Level, since_ms: i64, until_ms: i64) -> Self {
        Self {
            table: level.table,
            since_ms,
            until_ms,
            beyond: false,
        }
    }
}

/// Rows that arrived before are deleted, or about to be.
fn read_expired_before(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let sql = "SELECT coalesce(max(expired_before), ?1) FROM retention";
    connection
        .prepare_cached(sql)?
        .query_row([i64::MIN], |row| row.get(0))
}

/// Whether there is any ended row in the range.
fn holds_rows(
    connection: &Connection,
    since_ms: i64,
    until_ms: i64,
) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM requests INDEXED BY requests_by_time
         WHERE timestamp >= ?1 AND timestamp < ?2 AND owner IS NULL)";
    connection
        .prepare_cached(sql)?
        .query_row([since_ms, until_ms], |row| row.get(0))
}

/// The first start of an hour or day, `length_ms` long, that is not before `timestamp_ms`.
fn ceiling(timestamp_ms: i64, length_ms: i64) -> i64 {
    let start = start_of(timestamp_ms, length_ms);
    if start < timestamp_ms {
        start.saturating_add(length_ms)
    } else {
        start
    }
}

const QUARTER_MS: i64 = QUARTERS.length_ms;
const HOUR_MS: i64 = HOURS.length_ms;
const DAY_MS: i64 = DAYS.length_ms;
