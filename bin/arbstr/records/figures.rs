//! Totals as JSON. What is not known is counted beside every sum, so that no total pretends.

use arbstr_store::{Group, GroupKey, Percentiles, Stats, StatsQuery, Totals};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{exact, timestamp};
use crate::clock::whole_ms;

/// `GET /v1/stats`
#[derive(Debug, Serialize)]
pub(crate) struct StatsJson {
    /// The first moment covered; `null` when there is no bound.
    since: Option<String>,
    /// The first moment not covered any more.
    until: String,
    totals: TotalsJson,
    groups: Vec<GroupJson>,
}

#[derive(Debug, Serialize)]
struct GroupJson {
    key: Option<String>,
    #[serde(flatten)]
    totals: TotalsJson,
}

#[derive(Debug, Serialize)]
struct TotalsJson {
    requests: u64,
    succeeded: u64,
    failed: u64,
    in_progress: u64,
    success_rate: Option<f64>,
    input_tokens: u128,
    output_tokens: u128,
    cached_input_tokens: u128,
    reasoning_tokens: u128,
    cost_sats: Option<Box<RawValue>>,
    cost_known: u64,
    cost_unknown: u64,
    unsent: u64,
    estimated_cost_sats: Option<Box<RawValue>>,
    cost_estimated: u64,
    reference_cost_sats: Option<Box<RawValue>>,
    savings_sats: Option<Box<RawValue>>,
    savings_known: u64,
    sunk_cost_sats: Option<Box<RawValue>>,
    cost_sunk: u64,
    cost_disagrees: u64,
    uncovered_units: u64,
    implausible_usage: u64,
    latency_ms: Option<PercentilesJson>,
    duration_ms: Option<PercentilesJson>,
}

#[derive(Debug, Serialize)]
struct PercentilesJson {
    p50: u64,
    p95: u64,
    p99: u64,
}

impl StatsJson {
    /// The answer to `query`, asked at `now_ms`.
    pub(crate) fn of(stats: &Stats, query: &StatsQuery, now_ms: i64) -> Self {
        let (since, until) = range(stats, query, now_ms);
        Self {
            since: since.map(timestamp::iso),
            until: timestamp::iso(until),
            totals: TotalsJson::of(&stats.totals),
            groups: stats.groups.iter().map(GroupJson::of).collect(),
        }
    }
}

impl GroupJson {
    fn of(group: &Group) -> Self {
        Self {
            key: key(&group.key),
            totals: TotalsJson::of(&group.totals),
        }
    }
}

impl TotalsJson {
    fn of(totals: &Totals) -> Self {
        let percentiles = |found: &Option<Percentiles>| found.as_ref().map(PercentilesJson::of);
        Self {
            requests: totals.requests,
            succeeded: totals.successes,
            failed: failures(totals),
            in_progress: totals.in_progress,
            success_rate: success_rate(totals),
            input_tokens: totals.input_tokens,
            output_tokens: totals.output_tokens,
            cached_input_tokens: totals.cached_input_tokens,
            reasoning_tokens: totals.reasoning_tokens,
            cost_sats: exact(Some(totals.cost.amount)),
            cost_known: totals.cost.rows,
            cost_unknown: totals.unknown_cost,
            unsent: totals.unsent,
            estimated_cost_sats: exact(Some(totals.estimated_cost.amount)),
            cost_estimated: totals.estimated_cost.rows,
            reference_cost_sats: exact(Some(totals.reference_cost.amount)),
            savings_sats: exact(Some(totals.savings.amount)),
            savings_known: totals.savings.rows,
            sunk_cost_sats: exact(Some(totals.sunk_cost.amount)),
            cost_sunk: totals.sunk_cost.rows,
            cost_disagrees: totals.cost_disagrees,
            uncovered_units: totals.uncovered_units,
            implausible_usage: totals.implausible_usage,
            latency_ms: percentiles(&totals.latency),
            duration_ms: percentiles(&totals.duration),
        }
    }
}

impl PercentilesJson {
    fn of(percentiles: &Percentiles) -> Self {
        Self {
            p50: whole_ms(percentiles.p50),
            p95: whole_ms(percentiles.p95),
            p99: whole_ms(percentiles.p99),
        }
    }
}

/// What the figures cover: from the beginning when nobody asked for a start, until now when nobody asked for an end.
pub(crate) fn range(stats: &Stats, query: &StatsQuery, now_ms: i64) -> (Option<i64>, i64) {
    let asked = &query.selection;
    let since = (asked.since_ms != i64::MIN).then_some(stats.since_ms);
    let until = match asked.until_ms {
        i64::MAX => now_ms,
        _ => stats.until_ms,
    };
    (since, until)
}

/// What the rows of a group have in common; `None` where they have no provider, policy or tier.
fn key(key: &GroupKey) -> Option<String> {
    match key {
        GroupKey::Name(name) => name.clone(),
        GroupKey::Time(start_ms) => Some(timestamp::iso(*start_ms)),
    }
}

/// Requests that have ended without a whole answer.
pub(crate) fn failures(totals: &Totals) -> u64 {
    let ended = totals.requests.saturating_sub(totals.in_progress);
    ended.saturating_sub(totals.successes)
}

/// The share of requests that succeeded among those that have ended; `None` when none has.
pub(crate) fn success_rate(totals: &Totals) -> Option<f64> {
    let ended = totals.successes + failures(totals);
    (ended > 0).then(|| totals.successes as f64 / ended as f64)
}
