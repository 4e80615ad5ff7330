//! One batch of records within its transaction.

use std::borrow::Cow;

use hashbrown::HashMap;
use rusqlite::{CachedStatement, Transaction, params};

use super::Known;
use super::columns::{
    Binder, COMPLETE, Insertion, OPEN, Prepared, TOGETHER, WHOLE, count, measure, millis, nanosats,
    sole_attempt,
};
use super::open::OpenRow;
use crate::journal::frame;
use crate::record::{Attempt, Completion, IN_PROGRESS, NextAttempt, Opening};
use crate::rollup::{Rollups, Series};
use crate::sums::Measures;

/// Writes records. What it is given lives as long as `'a`, its transaction as long as `'t`.
pub(super) struct Batch<'t, 'a> {
    transaction: &'t Transaction<'t>,
    open: Insert<'t, 'a>,
    whole: Insert<'t, 'a>,
    complete: Prepared<'t, 'a>,
    ask: CachedStatement<'t>,
    attempt: CachedStatement<'t>,
    rollups: Rollups<'a>,
    owner: &'a str,
    known: &'t mut Known,
    outcome: Outcome,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many records found no row to work on.
    pub(super) unmatched: u64,
    /// Rows left in progress, by correlation id.
    pub(super) opened: Vec<(String, OpenRow)>,
}

/// The openings of a batch whose completions have not come, by correlation id. They are read when it is known what
/// becomes of them.
#[derive(Debug, Default)]
struct Openings<'a> {
    /// With how many came before.
    frames: HashMap<&'a str, (usize, &'a [u8])>,
    added: usize,
}

/// A request whose opening and completion come in one batch.
struct Whole<'a> {
    opening: Opening<&'a str>,
    completion: Completion<&'a str>,
    measures: Measures,
    series: i64,
}

/// Adds rows, one or some by a statement.
struct Insert<'t, 'a> {
    one: Prepared<'t, 'a>,
    together: Prepared<'t, 'a>,
}

impl<'t, 'a> Batch<'t, 'a> {
    pub(super) fn new(
        transaction: &'t Transaction<'t>,
        owner: &'a str,
        known: &'t mut Known,
    ) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            transaction,
            open: Insert::prepare(transaction, &OPEN)?,
            whole: Insert::prepare(transaction, &WHOLE)?,
            complete: Prepared::new(transaction, &COMPLETE)?,
            ask: transaction.prepare_cached(ASK)?,
            attempt: transaction.prepare_cached(ATTEMPT)?,
            rollups: Rollups::default(),
            owner,
            known,
            outcome: Outcome::default(),
        })
    }

    /// A completion whose opening has not come yet waits until all have: the two may reach the writer by different ways. Who
    /// is asked next is of interest only where no completion has come that says it.
    pub(super) fn write(
        &mut self,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), rusqlite::Error> {
        let mut openings = Openings::default();
        let mut wholes = Vec::with_capacity(TOGETHER);
        let (mut later, mut next_attempts) = (Vec::new(), Vec::new());
        for frame in frames {
            if frame::is_opening(frame) {
                self.take_opening(&mut openings, frame);
            } else if frame::is_next_attempt(frame) {
                next_attempts.push(frame);
            } else if openings.has_that_of(frame) {
                self.take_completion(&mut openings, &mut wholes, frame)?;
            } else if !frame::is_owner(frame) {
                later.push(frame);
            }
        }
        for frame in later {
            self.take_completion(&mut openings, &mut wholes, frame)?;
        }
        self.write_whole(&wholes)?;
        self.write_open(&openings.left())?;
        for frame in next_attempts {
            self.take_next_attempt(frame)?;
        }
        Ok(())
    }

    /// Writes the sums of what was written.
    pub(super) fn finish(self) -> Result<Outcome, rusqlite::Error> {
        self.rollups.save(self.transaction, &mut self.known.sums)?;
        Ok(self.outcome)
    }

    fn take_opening(&mut self, openings: &mut Openings<'a>, frame: &'a [u8]) {
        if let Some(id) = readable(frame::correlation_id(frame))
            && !openings.add(id, frame)
        {
            self.note_unmatched(id, "opened twice");
        }
    }

    fn take_completion(
        &mut self,
        openings: &mut Openings<'a>,
        wholes: &mut Vec<Whole<'a>>,
        frame: &'a [u8],
    ) -> Result<(), rusqlite::Error> {
        let Some(completion) = readable(frame::decode_completion(frame)) else {
            return Ok(());
        };
        let Some(opening) = openings.remove(completion.correlation_id) else {
            return self.complete(&completion);
        };
        wholes.push(self.whole(opening, completion)?);
        if wholes.len() == TOGETHER {
            self.write_whole(wholes)?;
            wholes.clear();
        }
        Ok(())
    }

    fn whole(
        &mut self,
        opening: Opening<&'a str>,
        completion: Completion<&'a str>,
    ) -> Result<Whole<'a>, rusqlite::Error> {
        let series = Series {
            provider: completion.provider.map(Cow::Borrowed),
            tier: completion.tier.map(Cow::Borrowed),
            success: Some(completion.success),
            ..open_series(&opening)
        };
        Ok(Whole {
            series: self.rollups.number(self.transaction, series)?,
            measures: measure(&completion),
            opening,
            completion,
        })
    }

    fn write_whole(&mut self, wholes: &[Whole<'a>]) -> Result<(), rusqlite::Error> {
        let ids = self.whole.run(self.transaction, wholes, |next, row| {
            next.opening(&row.opening, row.completion.plan.or(row.opening.plan))?;
            next.bind(row.series)?;
            next.completion(&row.completion, &row.measures)
        })?;
        for (row, id) in wholes.iter().zip(ids) {
            if id.is_none() {
                self.note_unmatched(row.opening.correlation_id, "opened twice");
                self.complete(&row.completion)?;
                continue;
            }
            let arrived_ms = row.opening.timestamp_ms;
            self.rollups.add(row.series, arrived_ms, &row.measures);
            self.write_attempts(&row.completion)?;
        }
        Ok(())
    }

    fn write_open(&mut self, openings: &[&'a [u8]]) -> Result<(), rusqlite::Error> {
        for frames in openings.chunks(TOGETHER) {
            let mut rows = Vec::with_capacity(TOGETHER);
            for frame in frames {
                if let Some(opening) = readable(frame::decode_opening(frame)) {
                    let series = open_series(&opening);
                    let series = self.rollups.number(self.transaction, series)?;
                    rows.push((opening, series));
                }
            }
            self.write_open_rows(&rows)?;
        }
        Ok(())
    }

    fn write_open_rows(&mut self, rows: &[(Opening<&'a str>, i64)]) -> Result<(), rusqlite::Error> {
        let ids = self
            .open
            .run(self.transaction, rows, |next, (opening, series)| {
                next.opening(opening, opening.plan)?;
                next.bind(*series)?;
                next.bind(IN_PROGRESS)?;
                next.bind(self.owner)?;
                next.asked(opening.asked.as_ref())
            })?;
        for ((opening, _), id) in rows.iter().zip(ids) {
            let name = opening.correlation_id;
            match id {
                Some(id) => {
                    let row = OpenRow::of(id, opening);
                    self.outcome.opened.push((name.to_owned(), row));
                }
                None => self.note_unmatched(name, "opened twice"),
            }
        }
        Ok(())
    }

    fn complete(&mut self, completion: &Completion<&'a str>) -> Result<(), rusqlite::Error> {
        let id = completion.correlation_id;
        let Some(open) = self.known.open_rows.take(self.transaction, id)? else {
            self.note_unmatched(id, "completed without an open row");
            return Ok(());
        };
        let measures = measure(completion);
        let series = open.series(
            completion.provider,
            completion.tier,
            Some(completion.success),
        );
        let series = self.rollups.number(self.transaction, series)?;
        let mut next = self.complete.bind();
        next.bind(open.id)?;
        next.bind(series)?;
        next.bind(completion.plan)?;
        next.completion(completion, &measures)?;
        next.bind(id)?;
        if self.complete.execute()? == 0 {
            self.note_unmatched(id, "completed without an open row");
            return Ok(());
        }
        self.rollups.add(series, open.timestamp_ms, &measures);
        self.write_attempts(completion)
    }

    /// A request that is over has said all of it.
    fn take_next_attempt(&mut self, frame: &'a [u8]) -> Result<(), rusqlite::Error> {
        let Some(next) = readable(frame::decode_next_attempt(frame)) else {
            return Ok(());
        };
        let id = next.correlation_id;
        let Some(open) = self.known.open_rows.find(self.transaction, id)? else {
            return Ok(());
        };
        let NextAttempt { asked, number, .. } = &next;
        let series = open.series(Some(asked.provider), Some(asked.tier), None);
        let series = self.rollups.number(self.transaction, series)?;
        let changed = self.ask.execute(params![
            open.id,
            id,
            series,
            asked.provider,
            asked.model,
            asked.tier,
            number,
            millis(asked.started_after),
        ])?;
        match &next.failed {
            Some(failed) if changed > 0 => {
                self.write_attempt(id, u64::from(*number).saturating_sub(1), failed)
            }
            _ => Ok(()),
        }
    }

    fn write_attempts(&mut self, completion: &Completion<&str>) -> Result<(), rusqlite::Error> {
        if sole_attempt(completion).is_some() {
            return Ok(());
        }
        let id = completion.correlation_id;
        for (index, attempt) in completion.attempts.iter().enumerate() {
            self.write_attempt(id, index as u64 + 1, attempt)?;
        }
        Ok(())
    }

    fn write_attempt(
        &mut self,
        correlation_id: &str,
        number: u64,
        attempt: &Attempt<&str>,
    ) -> Result<(), rusqlite::Error> {
        self.attempt.execute(params![
            correlation_id,
            count(number),
            attempt.provider,
            attempt.model,
            attempt.outcome,
            attempt.status,
            millis(attempt.started_after),
            millis(attempt.duration),
            nanosats(correlation_id, attempt.sunk_cost),
        ])?;
        Ok(())
    }

    fn note_unmatched(&mut self, correlation_id: &str, what: &str) {
        self.outcome.unmatched += 1;
        tracing::warn!(correlation_id, "request {what}; the record is ignored");
    }
}

impl<'a> Openings<'a> {
    /// False, and nothing added, if the request has one already.
    fn add(&mut self, correlation_id: &'a str, frame: &'a [u8]) -> bool {
        self.added += 1;
        let numbered = (self.added, frame);
        self.frames.try_insert(correlation_id, numbered).is_ok()
    }

    /// Whether there is one of the request that the record in `frame` is about.
    fn has_that_of(&self, frame: &[u8]) -> bool {
        frame::correlation_id(frame).is_some_and(|id| self.frames.contains_key(id))
    }

    /// That of a request whose completion is there; `None` if there is none, or none that this version can read.
    fn remove(&mut self, correlation_id: &str) -> Option<Opening<&'a str>> {
        let (_, frame) = self.frames.remove(correlation_id)?;
        readable(frame::decode_opening_alone(frame))
    }

    /// The frames of all, in the order in which they came.
    fn left(self) -> Vec<&'a [u8]> {
        let mut frames: Vec<_> = self.frames.into_values().collect();
        frames.sort_unstable_by_key(|(nth, _)| *nth);
        frames.into_iter().map(|(_, frame)| frame).collect()
    }
}

impl<'t, 'a> Insert<'t, 'a> {
    fn prepare(transaction: &'t Transaction<'t>, sql: &Insertion) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            one: Prepared::new(transaction, &sql.one)?,
            together: Prepared::new(transaction, &sql.together)?,
        })
    }

    /// Adds at most [`TOGETHER`] rows, of which `bind` binds each. Returns their ids; `None` where one is there already.
    fn run<R>(
        &mut self,
        transaction: &Transaction<'_>,
        rows: &[R],
        bind: impl Fn(&mut Binder<'_, 't, 'a>, &R) -> Result<(), rusqlite::Error>,
    ) -> Result<Vec<Option<i64>>, rusqlite::Error> {
        if rows.len() == TOGETHER {
            let mut next = self.together.bind();
            rows.iter().try_for_each(|row| bind(&mut next, row))?;
            let added = self.together.execute()?;
            let last = transaction.last_insert_rowid();
            let before = last - i64::try_from(added).unwrap_or(0);
            if added == rows.len() {
                return Ok((before + 1..=last).map(Some).collect());
            }
            // Some are there already. One by one they show which.
            transaction.execute(
                "DELETE FROM requests WHERE id > ?1 AND id <= ?2",
                [before, last],
            )?;
        }
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            bind(&mut self.one.bind(), row)?;
            let added = self.one.execute()? > 0;
            ids.push(added.then(|| transaction.last_insert_rowid()));
        }
        Ok(ids)
    }
}

fn open_series<'a>(opening: &Opening<&'a str>) -> Series<'a> {
    let asked = opening.asked.as_ref();
    Series {
        model: Cow::Borrowed(opening.model),
        provider: asked.map(|asked| Cow::Borrowed(asked.provider)),
        policy: opening.policy.map(Cow::Borrowed),
        tier: asked.map(|asked| Cow::Borrowed(asked.tier)),
        streaming: opening.streaming,
        success: None,
    }
}

/// What could be read of a record; says so if it could not.
fn readable<T>(decoded: Option<T>) -> Option<T> {
    if decoded.is_none() {
        tracing::warn!("a record of another version; it is ignored");
    }
    decoded
}

/// Says of a row in progress who is asked: id, correlation id, series, and the columns that an opening fills with that. An
/// attempt does not take the place of a later one.
const ASK: &str = "
UPDATE requests SET series = ?3, provider = ?4, served_model = ?5, tier = ?6, attempts = ?7, asked_ms = ?8
WHERE id = ?1 AND owner IS NOT NULL AND correlation_id = ?2 AND coalesce(attempts, 0) < ?7";

const ATTEMPT: &str = "
INSERT OR REPLACE INTO attempts_apart
    (correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
