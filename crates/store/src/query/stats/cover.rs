//! How a range is covered: whole days and hours from roll-ups, the edges from rows.
//!
//! Of an hour or a day that lies in the range with a part only, the smaller part is read: what it lacks is added, what it has
//! beyond the range is taken off.

use rusqlite::Connection;

use super::GroupBy;
use crate::query::Selection;
use crate::rollup::{DAY_MS, DAYS, HOUR_MS, HOURS, start_of};

/// How a range is covered.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// Whole hours, to be read from roll-ups.
    hours: (i64, i64),
    /// What these hours lack of the range: to be added, row by row.
    pub(super) lacking: Vec<(i64, i64)>,
    /// What these hours have beyond the range: to be taken off, row by row.
    pub(super) beyond: Vec<(i64, i64)>,
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
            lacking: Vec::new(),
            beyond: Vec::new(),
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

    /// Sees to the first or last hour, which may lie in the range with a part only: the smaller part is read from rows.
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
            self.beyond.extend(outside);
        } else {
            self.lacking.push(inside);
            if hour == self.hours.0 {
                self.hours.0 = end;
            } else {
                self.hours.1 = hour;
            }
        }
        Ok(())
    }

    /// Which roll-ups the whole hours come from. Of the first and the last day, too, the smaller part is read hour by
    /// hour: to be added up, or to be taken off the day.
    pub(super) fn rollups(&self, group_by: Option<GroupBy>) -> Vec<Slice> {
        let (from, to) = self.hours;
        if group_by == Some(GroupBy::Hour) {
            return vec![Slice::new(HOURS, from, to)];
        }
        let (first, last) = (start_of(from, DAY_MS), start_of(to, DAY_MS));
        let mut slices = vec![Slice::new(DAYS, ceiling(from, DAY_MS), last)];
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
            return vec![Slice::new(HOURS, from, to)];
        }
        let beyond = |from, to| Slice {
            beyond: true,
            ..Slice::new(HOURS, from, to)
        };
        vec![
            Slice::new(DAYS, day, end),
            beyond(day, from),
            beyond(to, end),
        ]
    }
}

/// Some roll-ups of one table.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) table: &'static str,
    pub(super) since_ms: i64,
    pub(super) until_ms: i64,
    /// To be taken off, not added.
    pub(super) beyond: bool,
}

impl Slice {
    fn new(table: &'static str, since_ms: i64, until_ms: i64) -> Self {
        Self {
            table,
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
