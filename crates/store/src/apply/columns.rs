//! Which columns a record fills, and how its values are bound to them.

use std::sync::LazyLock;
use std::time::Duration;

use arbstr_price::Sats;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Error, ToSql, Transaction};

use crate::record::{Asked, Attempt, Completion, Opening};
use crate::sums::Measures;

/// A statement that is run over and over, and what is bound to it. That is not bound again where it stays: in most
/// columns a row holds what the one before it in its place did.
pub(super) struct Prepared<'t, 'a> {
    statement: CachedStatement<'t>,
    bound: Vec<Cell<'a>>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    Number(i64),
    Text(&'a str),
}

/// Binds values one after another.
pub(super) struct Binder<'p, 't, 'a> {
    prepared: &'p mut Prepared<'t, 'a>,
    next: usize,
}

impl<'t, 'a> Prepared<'t, 'a> {
    pub(super) fn new(transaction: &'t Transaction<'t>, sql: &str) -> Result<Self, Error> {
        let mut statement = transaction.prepare_cached(sql)?;
        statement.clear_bindings();
        Ok(Self {
            bound: vec![Cell::Null; statement.parameter_count()],
            statement,
        })
    }

    /// Begins to bind all values.
    pub(super) fn bind(&mut self) -> Binder<'_, 't, 'a> {
        Binder {
            prepared: self,
            next: 0,
        }
    }

    /// Runs with what is bound. Returns how many rows changed.
    pub(super) fn execute(&mut self) -> Result<usize, Error> {
        self.statement.raw_execute()
    }
}

impl<'a> Binder<'_, '_, 'a> {
    pub(super) fn bind(&mut self, value: impl Into<Cell<'a>>) -> Result<(), Error> {
        let (value, Prepared { statement, bound }) = (value.into(), &mut *self.prepared);
        let there = &mut bound[self.next];
        self.next += 1;
        if *there != value {
            statement.raw_bind_parameter(self.next, value)?;
            *there = value;
        }
        Ok(())
    }

    /// The values of [`OPENING_COLUMNS`].
    pub(super) fn opening(
        &mut self,
        opening: &Opening<&'a str>,
        plan: Option<&'a str>,
    ) -> Result<(), Error> {
        self.bind(opening.correlation_id)?;
        self.bind(opening.timestamp_ms)?;
        self.bind(opening.endpoint)?;
        self.bind(opening.model)?;
        self.bind(opening.policy)?;
        self.bind(opening.streaming)?;
        self.bind(plan)
    }

    /// The values of [`ASKED_COLUMNS`] for the first attempt, if it begins.
    pub(super) fn asked(&mut self, asked: Option<&Asked<&'a str>>) -> Result<(), Error> {
        self.bind(asked.map(|asked| asked.model))?;
        self.bind(asked.map(|asked| asked.provider))?;
        self.bind(asked.map(|asked| asked.tier))?;
        self.bind(asked.map(|_| 1_i64))?;
        self.bind(asked.map(|asked| millis(asked.started_after)))
    }

    /// The values of [`COMPLETION_COLUMNS`].
    pub(super) fn completion(
        &mut self,
        completion: &Completion<&'a str>,
        measures: &Measures,
    ) -> Result<(), Error> {
        self.bind(completion.ended_ms)?;
        self.bind(completion.served_model)?;
        self.bind(completion.provider)?;
        self.bind(completion.tier)?;
        for tokens in measures.tokens {
            self.bind(tokens)?;
        }
        self.bind(measures.cost)?;
        self.bind(measures.estimated_cost)?;
        self.bind(measures.reference_cost)?;
        let id = completion.correlation_id;
        self.bind(nanosats(id, completion.provider_cost))?;
        self.bind(measures.sunk_cost)?;
        for flag in measures.flags {
            self.bind(flag)?;
        }
        self.bind(measures.latency_ms)?;
        self.bind(completion.stream_duration.map(millis))?;
        self.bind(measures.duration_ms)?;
        self.bind(completion.finish_reason)?;
        self.bind(measures.attempts)?;
        self.bind(completion.success)?;
        self.bind(completion.error_status)?;
        self.bind(completion.error_message)?;
        let sole = sole_attempt(completion);
        self.bind(sole.map(|attempt| millis(attempt.started_after)))?;
        self.bind(sole.map(|attempt| millis(attempt.duration)))
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Cell<'_> {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Number(flag.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The only attempt of `completion`, if the row of its request tells all about it but its times.
pub(super) fn sole_attempt<'c, 'a>(
    completion: &'c Completion<&'a str>,
) -> Option<&'c Attempt<&'a str>> {
    let [attempt] = completion.attempts.as_slice() else {
        return None;
    };
    let told = completion.provider == Some(attempt.provider)
        && completion.served_model == Some(attempt.model)
        && (attempt.outcome, attempt.status) == ("status=200", Some(200))
        && attempt.sunk_cost.is_none();
    told.then_some(attempt)
}

/// The figures of `completion` as columns hold them.
pub(super) fn measure(completion: &Completion<&str>) -> Measures {
    let id = completion.correlation_id;
    Measures {
        success: completion.success,
        attempts: Some(count(completion.attempts.len() as u64)),
        tokens: [
            completion.input_tokens.map(count),
            completion.output_tokens.map(count),
            completion.cached_input_tokens.map(count),
            completion.reasoning_tokens.map(count),
        ],
        cost: nanosats(id, completion.cost),
        estimated_cost: nanosats(id, completion.estimated_cost),
        reference_cost: nanosats(id, completion.reference_cost),
        sunk_cost: nanosats(id, completion.sunk_cost()),
        flags: [
            completion.cost_disagrees,
            completion.uncovered_units,
            completion.implausible_usage,
        ],
        latency_ms: completion.latency.map(millis),
        duration_ms: Some(millis(completion.duration)),
    }
}

/// An amount that a column can hold; one that it cannot is unknown rather than wrong.
pub(super) fn nanosats(correlation_id: &str, amount: Option<Sats>) -> Option<i64> {
    let amount = amount?;
    let held = i64::try_from(amount.nanosats()).ok();
    if held.is_none() {
        tracing::warn!(correlation_id, %amount, "amount too large for the ledger; kept as unknown");
    }
    held
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What an opening fills, in the order in which it is bound.
const OPENING_COLUMNS: [&str; 7] = [
    "correlation_id",
    "timestamp",
    "endpoint",
    "model",
    "policy",
    "streaming",
    "plan",
];

/// What a completion fills, in the order in which it is bound.
const COMPLETION_COLUMNS: [&str; 26] = [
    "ended",
    "served_model",
    "provider",
    "tier",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost_nanosats",
    "estimated_cost_nanosats",
    "reference_cost_nanosats",
    "provider_cost_nanosats",
    "sunk_cost_nanosats",
    "cost_disagrees",
    "uncovered_units",
    "implausible_usage",
    "latency_ms",
    "stream_duration_ms",
    "duration_ms",
    "finish_reason",
    "attempts",
    "success",
    "error_status",
    "error_message",
    "sole_attempt_started_ms",
    "sole_attempt_duration_ms",
];

/// What is known of an attempt that begins, in the order in which it is bound.
const ASKED_COLUMNS: [&str; 5] = ["served_model", "provider", "tier", "attempts", "asked_ms"];

/// Adds rows in progress: opening, series, message, owner, who is asked.
pub(super) static OPEN: LazyLock<Insertion> = LazyLock::new(|| {
    let in_progress = ["series", "error_message", "owner"];
    Insertion::of(&[&OPENING_COLUMNS, &in_progress, &ASKED_COLUMNS])
});

/// Adds rows of ended requests: opening, series, completion.
pub(super) static WHOLE: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::of(&[&OPENING_COLUMNS, &["series"], &COMPLETION_COLUMNS]));

/// Ends a row in progress: id, series, plan if there is a new one, completion, correlation id. The last is for a row that
/// somebody else has deleted: another may have its id by now.
pub(super) static COMPLETE: LazyLock<String> = LazyLock::new(|| {
    let set = |(index, column)| format!("{column} = ?{}", index + 4);
    let columns: Vec<_> = COMPLETION_COLUMNS.iter().enumerate().map(set).collect();
    format!(
        "UPDATE requests SET series = ?2, plan = coalesce(?3, plan), {}, owner = NULL, asked_ms = NULL
         WHERE id = ?1 AND owner IS NOT NULL AND correlation_id = ?{}",
        columns.join(", "),
        columns.len() + 4
    )
});

/// Adds one row or [`TOGETHER`], and leaves alone those that are there already.
pub(super) struct Insertion {
    pub(super) one: String,
    pub(super) together: String,
}

impl Insertion {
    fn of(columns: &[&[&str]]) -> Self {
        let columns = columns.concat();
        let row = format!("({})", vec!["?"; columns.len()].join(", "));
        let insert = |rows: usize| {
            format!(
                "INSERT OR IGNORE INTO requests ({}) VALUES {}",
                columns.join(", "),
                vec![row.as_str(); rows].join(", ")
            )
        };
        Self {
            one: insert(1),
            together: insert(TOGETHER),
        }
    }
}

/// Rows by one statement: eight cost five sixths of what they cost one by one, and twice as many no less.
pub(super) const TOGETHER: usize = 8;
