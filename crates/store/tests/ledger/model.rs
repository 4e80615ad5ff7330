//! The simplest ledger there is: all rows in a list, every question answered by looking at each.

use std::collections::BTreeMap;
use std::time::Duration;

use arbstr_price::Sats;
use arbstr_store::{
    Asked, Completion, Filter, GroupBy, GroupKey, Opening, Percentiles, RequestRow, Selection, Sum,
    Totals,
};
use proptest::option;
use proptest::prelude::*;

use crate::samples::{any_amount, any_attempt, expected};

/// A request of the model: opened, and perhaps completed.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) opening: Opening,
    pub(crate) completion: Option<Completion>,
}

impl Case {
    /// The row that it should have.
    pub(crate) fn row(&self) -> RequestRow {
        expected(&self.opening, self.completion.as_ref()).row
    }
}

/// The rows that `selection` selects.
pub(crate) fn select(cases: &[Case], selection: &Selection) -> Vec<RequestRow> {
    let range = selection.since_ms..selection.until_ms;
    let rows = cases.iter().map(Case::row);
    rows.filter(|row| range.contains(&row.timestamp_ms) && passes(&selection.filter, row))
        .collect()
}

fn passes(filter: &Filter, row: &RequestRow) -> bool {
    filter
        .model
        .as_ref()
        .is_none_or(|model| *model == row.model)
        && (filter.provider.is_none() || filter.provider == row.provider)
        && filter
            .streaming
            .is_none_or(|streaming| streaming == row.streaming)
        && filter
            .success
            .is_none_or(|success| !row.is_in_progress() && success == row.success)
}

pub(crate) fn group(rows: &[RequestRow], by: GroupBy) -> BTreeMap<GroupKey, Vec<RequestRow>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let name = |name: &Option<String>| GroupKey::Name(name.clone());
        let start = |length| GroupKey::Time(row.timestamp_ms.div_euclid(length) * length);
        let key = match by {
            GroupBy::Model => GroupKey::Name(Some(row.model.clone())),
            GroupBy::Provider => name(&row.provider),
            GroupBy::Policy => name(&row.policy),
            GroupBy::Tier => name(&row.tier),
            GroupBy::Day => start(86_400_000),
            GroupBy::Hour => start(3_600_000),
        };
        groups.entry(key).or_default().push(row.clone());
    }
    groups
}

/// The totals of `rows`, percentiles exact.
pub(crate) fn totals(rows: &[RequestRow]) -> Totals {
    let count = |is: &dyn Fn(&RequestRow) -> bool| rows.iter().filter(|row| is(row)).count() as u64;
    let tokens =
        |of: &dyn Fn(&RequestRow) -> Option<u64>| rows.iter().filter_map(of).map(u128::from).sum();
    let sum = |of: &dyn Fn(&RequestRow) -> Option<i128>| {
        let known: Vec<i128> = rows.iter().filter_map(of).collect();
        Sum {
            amount: Sats::from_nanosats(known.iter().sum()),
            rows: known.len() as u64,
        }
    };
    let nanosats = |amount: Option<Sats>| amount.map(Sats::nanosats);
    Totals {
        requests: rows.len() as u64,
        in_progress: count(&|row| row.is_in_progress()),
        successes: count(&|row| row.success),
        input_tokens: tokens(&|row| row.input_tokens),
        output_tokens: tokens(&|row| row.output_tokens),
        cached_input_tokens: tokens(&|row| row.cached_input_tokens),
        reasoning_tokens: tokens(&|row| row.reasoning_tokens),
        cost: sum(&|row| nanosats(row.cost)),
        estimated_cost: sum(&|row| nanosats(row.estimated_cost.filter(|_| row.cost.is_none()))),
        unsent: count(&|row| costless(row) && row.attempts == Some(0)),
        unknown_cost: count(&|row| costless(row) && row.attempts != Some(0)),
        reference_cost: sum(&|row| nanosats(row.reference_cost)),
        savings: sum(&|row| Some(nanosats(row.reference_cost)? - nanosats(row.cost)?)),
        sunk_cost: sum(&|row| nanosats(row.sunk_cost)),
        cost_disagrees: count(&|row| row.cost_disagrees),
        uncovered_units: count(&|row| row.uncovered_units),
        implausible_usage: count(&|row| row.implausible_usage),
        latency: percentiles(rows.iter().filter_map(|row| row.latency).collect()),
        duration: percentiles(rows.iter().filter_map(|row| row.duration).collect()),
    }
}

fn costless(row: &RequestRow) -> bool {
    !row.is_in_progress() && row.cost.is_none() && row.estimated_cost.is_none()
}

fn percentiles(mut values: Vec<Duration>) -> Option<Percentiles> {
    values.sort_unstable();
    let nearest = |percent: usize| {
        values
            .get((values.len() * percent).div_ceil(100).max(1) - 1)
            .copied()
    };
    Some(Percentiles {
        p50: nearest(50)?,
        p95: nearest(95)?,
        p99: nearest(99)?,
    })
}

/// Requests of some days, of few names, so that they share groups; some with figures that no honest provider reports.
pub(crate) fn any_cases(most: usize) -> impl Strategy<Value = Vec<Case>> {
    proptest::collection::vec(any_case(), 0..most).prop_map(|mut cases| {
        for (nth, case) in cases.iter_mut().enumerate() {
            case.opening.correlation_id = format!("request-{nth}");
            if let Some(completion) = &mut case.completion {
                completion.correlation_id = format!("request-{nth}");
            }
        }
        cases
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    let opening = (
        any_time(),
        any_name(),
        option::of(any_name()),
        any::<bool>(),
        option::of(any_name()),
    );
    let opening = opening.prop_map(|(timestamp_ms, model, policy, streaming, asked)| Opening {
        timestamp_ms,
        endpoint: "chat.completions".to_owned(),
        model,
        policy,
        streaming,
        asked: asked.map(|provider| Asked {
            provider,
            ..Asked::default()
        }),
        ..Opening::default()
    });
    (opening, option::weighted(0.9, any_end())).prop_map(|(opening, completion)| Case {
        opening,
        completion,
    })
}

fn any_end() -> impl Strategy<Value = Completion> {
    let names = (option::of(any_name()), option::of(any_name()));
    let tokens = proptest::array::uniform4(option::of(any_count()));
    let amounts = proptest::array::uniform3(option::of(any_amount()));
    let flags = proptest::array::uniform4(any::<bool>());
    let times = (option::of(any_span()), any_span());
    let attempts = proptest::collection::vec(any_attempt(), 0..3);
    (names, tokens, amounts, flags, times, attempts).prop_map(
        |(names, tokens, amounts, flags, times, attempts)| Completion {
            ended_ms: 1,
            provider: names.0,
            tier: names.1,
            input_tokens: tokens[0],
            output_tokens: tokens[1],
            cached_input_tokens: tokens[2],
            reasoning_tokens: tokens[3],
            cost: amounts[0],
            estimated_cost: amounts[1],
            reference_cost: amounts[2],
            cost_disagrees: flags[0],
            uncovered_units: flags[1],
            implausible_usage: flags[2],
            success: flags[3],
            latency: times.0,
            duration: times.1,
            attempts,
            ..Completion::default()
        },
    )
}

/// Within some days, often at the very start of an hour.
pub(crate) fn any_time() -> impl Strategy<Value = i64> {
    let hour = 3_600_000;
    prop_oneof![
        4 => -2 * hour..100 * hour,
        1 => (-2..100_i64).prop_map(move |nth| nth * hour),
        1 => (-2..100_i64).prop_map(move |nth| nth * hour - 1),
    ]
}

pub(crate) fn any_name() -> impl Strategy<Value = String> {
    "[abc]?"
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..100_000_u64, 1 => 0..=i64::MAX as u64]
}

fn any_span() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => 0..20_000_u64, 1 => 0..1_u64 << 40].prop_map(Duration::from_millis)
}
