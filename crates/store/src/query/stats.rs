//! Totals over a range, and the same by group.
//!
//! Whole days, hours and quarters of hours are answered from roll-ups. Of the quarter at either end of the range, the rows of
//! its smaller part are read: to be added up, or to be taken off the whole quarter. So it is with the quarters of the first and
//! the last hour, and the hours of the first and the last day. Where the rows of an hour are deleted, it counts as a whole,
//! and the answer says what it covers. `cover` cuts the range up.

mod cover;

use std::str::FromStr;

use arbstr_price::Sats;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::{Connection, Row, Transaction, params};

use self::cover::{Parts, Piece, Slice};
use super::selection::Chosen;
use super::{QueryError, Selection};
use crate::histogram::Percentiles;
use crate::rollup::{ALL_SERIES, DAYS, HOURS, MEASURES, Series, read_measures, start_of};
use crate::sums::{self, Amount, Sums};

/// What to add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsQuery {
    /// Which rows.
    pub selection: Selection,
    /// How to part them, beside their totals.
    pub group_by: Option<GroupBy>,
}

/// What rows of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupBy {
    /// The model as asked.
    Model,
    /// The provider that answered, or was tried last.
    Provider,
    /// The policy that was applied.
    Policy,
    /// The provider's tier.
    Tier,
    /// The day of arrival, UTC.
    Day,
    /// The hour of arrival, UTC.
    Hour,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Start of what is covered: as asked, or the start of that hour where its rows are deleted.
    pub since_ms: i64,
    /// End of what is covered: as asked, or the end of that hour where its rows are deleted.
    pub until_ms: i64,
    /// All selected rows.
    pub totals: Totals,
    /// The same by group: times in order, names with most requests first. None without rows.
    pub groups: Vec<Group>,
}

/// Some of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// What they come to.
    pub totals: Totals,
}

/// What the rows of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupKey {
    /// The name of a model, provider, policy or tier; `None` when there was none.
    Name(Option<String>),
    /// Start of the day or hour, in milliseconds since the epoch, UTC.
    Time(i64),
}

/// What rows come to. Sums are exact; none pretends to know what a row does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// All rows, those in progress too.
    pub requests: u64,
    /// Rows in progress.
    pub in_progress: u64,
    /// Rows whose client got the whole answer.
    pub successes: u64,
    /// Input tokens where known, cached ones included.
    pub input_tokens: u128,
    /// Output tokens where known, reasoning ones included.
    pub output_tokens: u128,
    /// Input tokens from the provider's cache, where known.
    pub cached_input_tokens: u128,
    /// Output tokens spent on reasoning, where known.
    pub reasoning_tokens: u128,
    /// Rows whose cost is known.
    pub cost: Sum,
    /// Rows whose cost is not known but estimated.
    pub estimated_cost: Sum,
    /// Ended rows with neither that were never sent to a provider: there was nothing to pay.
    pub unsent: u64,
    /// All other ended rows with neither.
    pub unknown_cost: u64,
    /// Rows whose cost at the dearest candidate is known.
    pub reference_cost: Sum,
    /// Reference cost less cost, over rows where both are known.
    pub savings: Sum,
    /// What failed attempts cost all the same, over rows where that is known; not in `cost`.
    pub sunk_cost: Sum,
    /// Rows whose provider reported another cost.
    pub cost_disagrees: u64,
    /// Rows with units that no rate covers.
    pub uncovered_units: u64,
    /// Rows whose counts do not fit what was sent.
    pub implausible_usage: u64,
    /// Time to the first byte of the winning attempt; `None` without a row that has one.
    pub latency: Option<Percentiles>,
    /// Time from arrival to end; `None` without an ended row.
    pub duration: Option<Percentiles>,
}

/// An exact sum, and of how many rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// The sum.
    pub amount: Sats,
    /// How many rows are in it.
    pub rows: u64,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Model,
        Self::Provider,
        Self::Policy,
        Self::Tier,
        Self::Day,
        Self::Hour,
    ];

    /// Its name in queries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Policy => "policy",
            Self::Tier => "tier",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }

    fn key(self, start_ms: i64, series: &Series<'_>) -> GroupKey {
        let owned = |name: Option<&str>| GroupKey::Name(name.map(str::to_owned));
        match self {
            Self::Model => owned(Some(&series.model)),
            Self::Provider => owned(series.provider.as_deref()),
            Self::Policy => owned(series.policy.as_deref()),
            Self::Tier => owned(series.tier.as_deref()),
            Self::Day => GroupKey::Time(start_of(start_ms, DAY_MS)),
            Self::Hour => GroupKey::Time(start_of(start_ms, HOUR_MS)),
        }
    }
}

impl FromStr for GroupBy {
    type Err = UnknownGroup;

    fn from_str(name: &str) -> Result<Self, UnknownGroup> {
        let mut all = Self::ALL.into_iter();
        all.find(|group| group.name() == name).ok_or(UnknownGroup)
    }
}

/// A name that is none of [`GroupBy::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown group; known are model, provider, policy, tier, day and hour")]
pub struct UnknownGroup;

/// Adds up what `query` selects.
pub(crate) fn stats(connection: &Connection, query: &StatsQuery) -> Result<Stats, QueryError> {
    // One snapshot, so that no row is in a roll-up already and in progress still.
    let snapshot = connection.unchecked_transaction()?;
    Ok(add_up(&snapshot, &query.selection, query.group_by)?)
}

/// How many rows `selection` has; of whole hours where rows are deleted.
pub(crate) fn count(connection: &Connection, selection: &Selection) -> Result<u64, QueryError> {
    let snapshot = connection.unchecked_transaction()?;
    Ok(count_within(&snapshot, selection)?)
}

/// The same within a snapshot.
pub(super) fn count_within(
    snapshot: &Transaction<'_>,
    selection: &Selection,
) -> Result<u64, rusqlite::Error> {
    Ok(add_up(snapshot, selection, None)?.totals.requests)
}

fn add_up(
    snapshot: &Transaction<'_>,
    selection: &Selection,
    group_by: Option<GroupBy>,
) -> Result<Stats, rusqlite::Error> {
    let parts = Parts::of(snapshot, selection)?;
    let mut adding = Adding {
        chosen: selection.filter.choose(snapshot)?,
        group_by,
        groups: Vec::new(),
        by_key: HashMap::new(),
        by_series: HashMap::new(),
    };
    for piece in &parts.rows {
        adding.rows(snapshot, piece)?;
    }
    for slice in parts.rollups(group_by) {
        if adding.needs_series(selection) {
            adding.rollups(snapshot, &slice)?;
        } else {
            adding.rollups_of_all(snapshot, &slice)?;
        }
    }
    adding.open_rows(snapshot, parts.since_ms, parts.until_ms)?;
    let (totals, groups) = adding.finish();
    Ok(Stats {
        since_ms: parts.since_ms,
        until_ms: parts.until_ms,
        totals,
        groups,
    })
}

/// What one group has so far.
#[derive(Debug, Default)]
struct Tally {
    in_progress: u64,
    sums: Sums,
    /// What is in `sums` and does not belong there.
    beyond: Sums,
}

struct Adding {
    chosen: Chosen,
    group_by: Option<GroupBy>,
    groups: Vec<(GroupKey, Tally)>,
    by_key: HashMap<GroupKey, usize>,
    /// Where a series goes, for groups that are no times.
    by_series: HashMap<i64, usize>,
}

impl Adding {
    /// Whether the sums of all series together are not enough.
    fn needs_series(&self, selection: &Selection) -> bool {
        !selection.filter.is_empty()
            || !matches!(self.group_by, None | Some(GroupBy::Day | GroupBy::Hour))
    }

    /// Adds what all series together come to, going from each start to the next without reading what lies between.
    fn rollups_of_all(
        &mut self,
        connection: &Connection,
        slice: &Slice,
    ) -> Result<(), rusqlite::Error> {
        let sql = format!(
            "SELECT start, {} FROM {}
             WHERE start >= ?1 AND start < ?2 AND series = {ALL_SERIES} ORDER BY start LIMIT 1",
            sums::COLUMNS,
            slice.table
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut since_ms = slice.since_ms;
        while let Some(row) = statement.query([since_ms, slice.until_ms])?.next()? {
            let start_ms: i64 = row.get(0)?;
            let key = match self.group_by {
                Some(GroupBy::Day) => GroupKey::Time(start_of(start_ms, DAY_MS)),
                Some(_) => GroupKey::Time(start_of(start_ms, HOUR_MS)),
                None => GroupKey::Name(None),
            };
            let place = self.place(key);
            self.groups[place].1.side(slice.beyond).merge_row(row, 1)?;
            since_ms = start_ms.saturating_add(1);
        }
        Ok(())
    }

    fn rollups(&mut self, connection: &Connection, slice: &Slice) -> Result<(), rusqlite::Error> {
        let sql = format!(
            "SELECT start, series, {} FROM {} WHERE start >= ?1 AND start < ?2",
            sums::COLUMNS,
            slice.table
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([slice.since_ms, slice.until_ms])?;
        while let Some(row) = rows.next()? {
            if let Some(tally) = self.tally(row.get(0)?, row.get(1)?) {
                tally.side(slice.beyond).merge_row(row, 2)?;
            }
        }
        Ok(())
    }

    fn rows(&mut self, connection: &Connection, piece: &Piece) -> Result<(), rusqlite::Error> {
        let sql = format!(
            "SELECT timestamp, series, {MEASURES} FROM requests INDEXED BY requests_by_time
             WHERE timestamp >= ?1 AND timestamp < ?2 AND owner IS NULL"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([piece.since_ms, piece.until_ms])?;
        while let Some(row) = rows.next()? {
            if let Some(tally) = self.tally(row.get(0)?, row.get(1)?) {
                tally.side(piece.beyond).add(&read_measures(row, 2)?);
            }
        }
        Ok(())
    }

    fn open_rows(
        &mut self,
        connection: &Connection,
        since_ms: i64,
        until_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let sql = "SELECT timestamp, series FROM requests INDEXED BY requests_open
             WHERE owner IS NOT NULL AND timestamp >= ?1 AND timestamp < ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        for row in statement.query_map(params![since_ms, until_ms], read)? {
            let (timestamp_ms, series) = row?;
            if let Some(tally) = self.tally(timestamp_ms, series) {
                tally.in_progress += 1;
            }
        }
        Ok(())
    }

    /// Where to add what arrived then and is of that series, unless the filter is against it.
    fn tally(&mut self, start_ms: i64, series: i64) -> Option<&mut Tally> {
        if let Some(place) = self.by_series.get(&series) {
            return Some(&mut self.groups[*place].1);
        }
        let chosen = self.chosen.get(&series)?;
        let key = self
            .group_by
            .map_or(GroupKey::Name(None), |by| by.key(start_ms, chosen));
        let place = self.place(key);
        if !matches!(self.group_by, Some(GroupBy::Day | GroupBy::Hour)) {
            self.by_series.insert(series, place);
        }
        Some(&mut self.groups[place].1)
    }

    fn place(&mut self, key: GroupKey) -> usize {
        match self.by_key.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                self.groups.push((entry.key().clone(), Tally::default()));
                *entry.insert(self.groups.len() - 1)
            }
        }
    }

    fn finish(mut self) -> (Totals, Vec<Group>) {
        let mut all = Tally::default();
        for (_, tally) in &mut self.groups {
            tally.sums.take_off(&tally.beyond);
            all.in_progress += tally.in_progress;
            all.sums.merge(&tally.sums);
        }
        let mut groups = Vec::new();
        if self.group_by.is_some() {
            groups.extend(self.groups.into_iter().map(|(key, tally)| Group {
                key,
                totals: tally.totals(),
            }));
            groups.retain(|group| group.totals.requests > 0);
            groups.sort_by(|a, b| match (&a.key, &b.key) {
                (GroupKey::Time(a), GroupKey::Time(b)) => a.cmp(b),
                _ => (b.totals.requests, &a.key).cmp(&(a.totals.requests, &b.key)),
            });
        }
        (all.totals(), groups)
    }
}

impl Tally {
    fn side(&mut self, beyond: bool) -> &mut Sums {
        if beyond {
            &mut self.beyond
        } else {
            &mut self.sums
        }
    }

    fn totals(&self) -> Totals {
        let sums = &self.sums;
        let [input, output, cached_input, reasoning] = sums
            .tokens
            .map(|tokens| u128::try_from(tokens).unwrap_or(0));
        let [cost_disagrees, uncovered_units, implausible_usage] = sums.flags;
        Totals {
            requests: sums.requests + self.in_progress,
            in_progress: self.in_progress,
            successes: sums.successes,
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached_input,
            reasoning_tokens: reasoning,
            cost: sums.cost.into(),
            estimated_cost: sums.estimated_cost.into(),
            unsent: sums.unsent,
            unknown_cost: sums
                .requests
                .saturating_sub(sums.cost.rows + sums.estimated_cost.rows + sums.unsent),
            reference_cost: sums.reference_cost.into(),
            savings: sums.savings.into(),
            sunk_cost: sums.sunk_cost.into(),
            cost_disagrees,
            uncovered_units,
            implausible_usage,
            latency: sums.latency.percentiles(),
            duration: sums.duration.percentiles(),
        }
    }
}

impl From<Amount> for Sum {
    fn from(amount: Amount) -> Self {
        Self {
            amount: Sats::from_nanosats(amount.nanosats),
            rows: amount.rows,
        }
    }
}

const HOUR_MS: i64 = HOURS.length_ms;
const DAY_MS: i64 = DAYS.length_ms;
