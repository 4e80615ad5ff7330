//! What many ended requests come to: exact sums, and how long they took.
//!
//! The same sums are made from rows and from roll-ups, so that the two can be mixed in one answer. Amounts and counts
//! are added up in 128 bits; a row of a roll-up holds each as an INTEGER, or as decimal TEXT once it needs more.

use rusqlite::types::{FromSqlError, Type, Value, ValueRef};
use rusqlite::{Error, Row};

use crate::histogram::Histogram;

/// What one ended request adds. Figures are as its row holds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measures {
    pub(crate) success: bool,
    /// Upstream attempts; `None` when that is not known.
    pub(crate) attempts: Option<i64>,
    /// Input, output, cached input, reasoning.
    pub(crate) tokens: [Option<i64>; 4],
    /// In nanosats, as are the next three.
    pub(crate) cost: Option<i64>,
    pub(crate) estimated_cost: Option<i64>,
    pub(crate) reference_cost: Option<i64>,
    /// Of failed attempts.
    pub(crate) sunk_cost: Option<i64>,
    /// Cost disagrees, uncovered units, implausible usage.
    pub(crate) flags: [bool; 3],
    pub(crate) latency_ms: Option<i64>,
    pub(crate) duration_ms: Option<i64>,
}

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) successes: u64,
    /// Those never sent to a provider, with nothing known or estimated of a cost.
    pub(crate) unsent: u64,
    /// In the order of [`Measures::tokens`].
    pub(crate) tokens: [i128; 4],
    pub(crate) cost: Amount,
    /// Of those whose cost is not known.
    pub(crate) estimated_cost: Amount,
    pub(crate) reference_cost: Amount,
    /// Reference cost less cost, where both are known.
    pub(crate) savings: Amount,
    pub(crate) sunk_cost: Amount,
    /// In the order of [`Measures::flags`].
    pub(crate) flags: [u64; 3],
    pub(crate) latency: Histogram,
    pub(crate) duration: Histogram,
}

/// A sum of nanosats, and of how many rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) nanosats: i128,
    pub(crate) rows: u64,
}

impl Sums {
    /// Adds one request.
    pub(crate) fn add(&mut self, one: &Measures) {
        self.requests += 1;
        self.successes += u64::from(one.success);
        let costless = one.cost.is_none() && one.estimated_cost.is_none();
        self.unsent += u64::from(costless && one.attempts == Some(0));
        for (sum, tokens) in self.tokens.iter_mut().zip(one.tokens) {
            *sum += i128::from(tokens.unwrap_or(0));
        }
        let estimate = one.estimated_cost.filter(|_| one.cost.is_none());
        self.cost.add(one.cost.map(i128::from));
        self.estimated_cost.add(estimate.map(i128::from));
        self.reference_cost.add(one.reference_cost.map(i128::from));
        self.sunk_cost.add(one.sunk_cost.map(i128::from));
        let both = one.reference_cost.zip(one.cost);
        self.savings
            .add(both.map(|(reference, cost)| i128::from(reference) - i128::from(cost)));
        for (count, flag) in self.flags.iter_mut().zip(one.flags) {
            *count += u64::from(flag);
        }
        if let Some(latency_ms) = one.latency_ms {
            self.latency.add(u64::try_from(latency_ms).unwrap_or(0));
        }
        if let Some(duration_ms) = one.duration_ms {
            self.duration.add(u64::try_from(duration_ms).unwrap_or(0));
        }
    }

    /// Adds all that `other` has added up.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.successes += other.successes;
        self.unsent += other.unsent;
        for (sum, more) in self.tokens.iter_mut().zip(other.tokens) {
            *sum += more;
        }
        for (sum, more) in self.amounts_mut().into_iter().zip(other.amounts()) {
            sum.nanosats += more.nanosats;
            sum.rows += more.rows;
        }
        for (count, more) in self.flags.iter_mut().zip(other.flags) {
            *count += more;
        }
        self.latency.merge(&other.latency);
        self.duration.merge(&other.duration);
    }

    /// Undoes the merging of `other`.
    pub(crate) fn take_off(&mut self, other: &Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.successes = self.successes.saturating_sub(other.successes);
        self.unsent = self.unsent.saturating_sub(other.unsent);
        for (sum, less) in self.tokens.iter_mut().zip(other.tokens) {
            *sum -= less;
        }
        for (sum, less) in self.amounts_mut().into_iter().zip(other.amounts()) {
            sum.nanosats -= less.nanosats;
            sum.rows = sum.rows.saturating_sub(less.rows);
        }
        for (count, less) in self.flags.iter_mut().zip(other.flags) {
            *count = count.saturating_sub(less);
        }
        self.latency.take_off(&other.latency);
        self.duration.take_off(&other.duration);
    }

    /// Adds the roll-up in `row`, whose [`COLUMNS`] begin at `first`.
    pub(crate) fn merge_row(&mut self, row: &Row<'_>, first: usize) -> Result<(), Error> {
        let mut at = first;
        let mut next = || {
            at += 1;
            (at - 1, row.get_ref_unwrap(at - 1))
        };
        self.requests += whole(next())?;
        self.successes += whole(next())?;
        self.unsent += whole(next())?;
        for sum in &mut self.tokens {
            *sum += wide(next())?;
        }
        for sum in self.amounts_mut() {
            sum.nanosats += wide(next())?;
            sum.rows += whole(next())?;
        }
        for count in &mut self.flags {
            *count += whole(next())?;
        }
        merge_histogram(&mut self.latency, next())?;
        merge_histogram(&mut self.duration, next())
    }

    /// The values of [`COLUMNS`].
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        let count = |count: u64| narrow(count.into());
        let amounts = self.amounts().into_iter();
        let histograms = [&self.latency, &self.duration].map(|one| Value::Blob(one.encode()));
        [self.requests, self.successes, self.unsent]
            .map(count)
            .into_iter()
            .chain(self.tokens.map(narrow))
            .chain(amounts.flat_map(move |sum| [narrow(sum.nanosats), count(sum.rows)]))
            .chain(self.flags.map(count))
            .chain(histograms)
    }

    fn amounts(&self) -> [Amount; 5] {
        [
            self.cost,
            self.estimated_cost,
            self.reference_cost,
            self.savings,
            self.sunk_cost,
        ]
    }

    fn amounts_mut(&mut self) -> [&mut Amount; 5] {
        [
            &mut self.cost,
            &mut self.estimated_cost,
            &mut self.reference_cost,
            &mut self.savings,
            &mut self.sunk_cost,
        ]
    }
}

impl Amount {
    fn add(&mut self, nanosats: Option<i128>) {
        if let Some(nanosats) = nanosats {
            self.nanosats += nanosats;
            self.rows += 1;
        }
    }
}

type Cell<'a> = (usize, ValueRef<'a>);

/// A sum as the database holds it.
fn narrow(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| Value::Text(sum.to_string()), Value::Integer)
}

fn wide((index, value): Cell<'_>) -> Result<i128, Error> {
    match value {
        ValueRef::Integer(sum) => Ok(sum.into()),
        ValueRef::Text(_) => value
            .as_str()?
            .parse()
            .map_err(|error| unreadable(index, value.data_type(), error)),
        _ => Err(unreadable(
            index,
            value.data_type(),
            FromSqlError::InvalidType,
        )),
    }
}

fn whole((index, value): Cell<'_>) -> Result<u64, Error> {
    let count = value.as_i64()?;
    u64::try_from(count).map_err(|error| unreadable(index, Type::Integer, error))
}

fn merge_histogram(histogram: &mut Histogram, (index, value): Cell<'_>) -> Result<(), Error> {
    histogram
        .merge_encoded(value.as_blob()?)
        .map_err(|error| unreadable(index, Type::Blob, error))
}

fn unreadable(
    index: usize,
    found: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::FromSqlConversionFailure(index, found, Box::new(error))
}

/// The columns of a roll-up that hold sums.
pub(crate) const COLUMNS: &str = "requests, successes, unsent, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, \
     cost_nanosats, cost_rows, estimated_cost_nanosats, estimated_cost_rows, reference_cost_nanosats, \
     reference_cost_rows, savings_nanosats, savings_rows, sunk_cost_nanosats, sunk_cost_rows, cost_disagrees, \
     uncovered_units, implausible_usage, latency, duration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_beyond_64_bits_stay_exact() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let table = format!("CREATE TABLE sums ({COLUMNS})");
        connection.execute_batch(&table).unwrap();
        let mut sums = Sums::default();
        for cost in [i64::MAX, i64::MAX, -3] {
            sums.add(&Measures {
                tokens: [Some(i64::MAX), None, Some(0), Some(7)],
                cost: Some(cost),
                reference_cost: Some(i64::MIN),
                duration_ms: Some(i64::MAX),
                ..Measures::default()
            });
        }
        let places = vec!["?"; COLUMNS.split(',').count()].join(", ");
        connection
            .execute(
                &format!("INSERT INTO sums VALUES ({places})"),
                rusqlite::params_from_iter(sums.values()),
            )
            .unwrap();
        let mut read = Sums::default();
        connection
            .query_row("SELECT * FROM sums", [], |row| read.merge_row(row, 0))
            .unwrap();
        assert_eq!(read, sums);
        assert_eq!(read.cost.nanosats, 2 * i128::from(i64::MAX) - 3);
        assert_eq!(read.savings.rows, 3);
    }
}
