//! The columns of a record: the one place that turns a row into JSON or into cells.

use std::borrow::Cow;

use arbstr_price::Sats;
use arbstr_store::{Asked, Attempt, RequestDetail, RequestRow};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{exact, plan, timestamp};
use crate::clock::whole_ms;

/// One column: its name in JSON and in exports, and its value in a row.
#[derive(Debug)]
pub(crate) struct Column {
    /// As in the database, except for `time`, which is `timestamp` for people.
    pub(crate) name: &'static str,
    value: fn(&RequestRow) -> Value<'_>,
}

/// What stands in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Not known, or not applicable.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A count.
    Count(u64),
    /// An exact amount.
    Amount(Sats),
    /// Words.
    Text(Cow<'a, str>),
}

/// A row as a JSON object of all columns.
#[derive(Debug)]
pub(crate) struct Record<'a>(pub(crate) &'a RequestRow);

/// A row as a JSON object, with its plan and its attempts in place of their number.
#[derive(Debug)]
pub(crate) struct Detail<'a>(pub(crate) &'a RequestDetail);

impl Column {
    /// The column's value in `row`.
    pub(crate) fn of<'a>(&self, row: &'a RequestRow) -> Value<'a> {
        (self.value)(row)
    }
}

/// All columns, in the order of exports.
pub(crate) static COLUMNS: [Column; 30] = [
    column("correlation_id", |row| text(&row.correlation_id)),
    column("timestamp", |row| Value::Number(row.timestamp_ms)),
    column("time", |row| {
        Value::Text(timestamp::iso(row.timestamp_ms).into())
    }),
    column("endpoint", |row| text(&row.endpoint)),
    column("model", |row| text(&row.model)),
    column("served_model", |row| word(row.served_model.as_deref())),
    column("provider", |row| word(row.provider.as_deref())),
    column("tier", |row| word(row.tier.as_deref())),
    column("policy", |row| word(row.policy.as_deref())),
    column("streaming", |row| Value::Flag(row.streaming)),
    column("input_tokens", |row| count(row.input_tokens)),
    column("output_tokens", |row| count(row.output_tokens)),
    column("cached_input_tokens", |row| count(row.cached_input_tokens)),
    column("reasoning_tokens", |row| count(row.reasoning_tokens)),
    column("cost_sats", |row| amount(row.cost)),
    column("estimated_cost_sats", |row| amount(row.estimated_cost)),
    column("reference_cost_sats", |row| amount(row.reference_cost)),
    column("provider_cost_sats", |row| amount(row.provider_cost)),
    column("sunk_cost_sats", |row| amount(row.sunk_cost)),
    column("cost_disagrees", |row| Value::Flag(row.cost_disagrees)),
    column("uncovered_units", |row| Value::Flag(row.uncovered_units)),
    column("implausible_usage", |row| {
        Value::Flag(row.implausible_usage)
    }),
    column("latency_ms", |row| count(row.latency.map(whole_ms))),
    column("stream_duration_ms", |row| {
        count(row.stream_duration.map(whole_ms))
    }),
    column("duration_ms", |row| count(row.duration.map(whole_ms))),
    column("finish_reason", |row| word(row.finish_reason.as_deref())),
    column(ATTEMPTS, |row| count(row.attempts)),
    column("success", |row| Value::Flag(row.success)),
    column("error_status", |row| count(row.error_status)),
    column("error_message", |row| word(row.error_message.as_deref())),
];

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COLUMNS.len()))?;
        for column in &COLUMNS {
            map.serialize_entry(column.name, &column.of(self.0))?;
        }
        map.end()
    }
}

impl Serialize for Detail<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(detail) = self;
        let mut map = serializer.serialize_map(None)?;
        for column in COLUMNS.iter().filter(|column| column.name != ATTEMPTS) {
            map.serialize_entry(column.name, &column.of(&detail.row))?;
        }
        map.serialize_entry("plan", &detail.plan.as_deref().map(plan::Shown))?;
        let ended = detail.attempts.iter().map(AttemptJson::of);
        let last = detail.asked.iter();
        let last = last.map(|asked| AttemptJson::without_end(asked, &detail.row));
        let attempts: Vec<AttemptJson<'_>> = ended.chain(last).collect();
        map.serialize_entry(ATTEMPTS, &attempts)?;
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Amount(amount) => exact(Some(amount)).serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

#[derive(Serialize)]
struct AttemptJson<'a> {
    provider: &'a str,
    model: &'a str,
    outcome: &'a str,
    status: Option<u16>,
    started_ms: u64,
    duration_ms: Option<u64>,
    cost_sats: Option<Box<RawValue>>,
}

impl<'a> AttemptJson<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            provider: &attempt.provider,
            model: &attempt.model,
            outcome: &attempt.outcome,
            status: attempt.status,
            started_ms: whole_ms(attempt.started_after),
            duration_ms: Some(whole_ms(attempt.duration)),
            cost_sats: exact(attempt.sunk_cost),
        }
    }

    /// The attempt that is under way, or was when the process died; `row` says which.
    fn without_end(asked: &'a Asked, row: &'a RequestRow) -> Self {
        Self {
            provider: &asked.provider,
            model: &asked.model,
            outcome: row.error_message.as_deref().unwrap_or_default(),
            status: None,
            started_ms: whole_ms(asked.started_after),
            duration_ms: None,
            cost_sats: None,
        }
    }
}

const fn column(name: &'static str, value: fn(&RequestRow) -> Value<'_>) -> Column {
    Column { name, value }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

fn word(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, self::text)
}

fn count<'a>(count: Option<impl Into<u64>>) -> Value<'a> {
    count.map_or(Value::Null, |count| Value::Count(count.into()))
}

fn amount<'a>(amount: Option<Sats>) -> Value<'a> {
    amount.map_or(Value::Null, Value::Amount)
}

/// A number in a list, the attempts themselves in a record of its own.
const ATTEMPTS: &str = "attempts";
