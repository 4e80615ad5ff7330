//! Statistics are what anybody would work out from the rows.

use std::time::Duration;

use arbstr_store::{
    Completion, Filter, GroupBy, GroupKey, Opening, Percentiles, Selection, Stats, StatsQuery,
    Store, Totals,
};
use proptest::option;
use proptest::prelude::*;

use crate::model::{Case, any_cases, any_name, any_time, group, select, totals};
use crate::samples::{completion, opening};
use crate::scratch::{PATIENCE, Scratch};

const HOUR: i64 = 3_600_000;

fn ask(store: &Store, selection: &Selection, group_by: Option<GroupBy>) -> Stats {
    let query = StatsQuery {
        selection: selection.clone(),
        group_by,
    };
    store.reader().stats(&query).unwrap()
}

/// Hands in all of `cases`, in several batches.
pub(crate) fn serve(store: &Store, cases: &[Case]) {
    for (nth, case) in cases.iter().enumerate() {
        store.open_request(&case.opening);
        if nth % 5 == 1 {
            assert!(store.flush(PATIENCE).is_empty());
        }
        if let Some(completion) = &case.completion {
            store.complete(completion);
        }
        if nth % 7 == 3 {
            assert!(store.flush(PATIENCE).is_empty());
        }
    }
    assert!(store.flush(PATIENCE).is_empty());
}

fn assert_same(found: &Totals, expected: &Totals) {
    assert_near(found.latency, expected.latency);
    assert_near(found.duration, expected.duration);
    let found = Totals {
        latency: expected.latency,
        duration: expected.duration,
        ..found.clone()
    };
    assert_eq!(found, *expected);
}

fn assert_near(found: Option<Percentiles>, expected: Option<Percentiles>) {
    let (Some(found), Some(expected)) = (found, expected) else {
        assert_eq!(found, expected);
        return;
    };
    for (found, expected) in [
        (found.p50, expected.p50),
        (found.p95, expected.p95),
        (found.p99, expected.p99),
    ] {
        let error = found.abs_diff(expected);
        assert!(error <= expected / 20, "{found:?} for {expected:?}");
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let names = (
        option::weighted(0.3, any_name()),
        option::weighted(0.3, any_name()),
    );
    let flags = (
        option::weighted(0.3, any::<bool>()),
        option::weighted(0.3, any::<bool>()),
    );
    (names, flags).prop_map(|(names, flags)| Filter {
        model: names.0,
        provider: names.1,
        success: flags.0,
        streaming: flags.1,
    })
}

pub(crate) fn any_selection() -> impl Strategy<Value = Selection> {
    let range = prop_oneof![
        2 => (any_time(), any_time()).prop_map(|(a, b)| (a.min(b), a.max(b))),
        1 => Just((i64::MIN, i64::MAX)),
        1 => any_time().prop_map(|since_ms| (since_ms, i64::MAX)),
        1 => (any_time(), 0..HOUR).prop_map(|(since_ms, length)| (since_ms, since_ms + length)),
    ];
    (range, any_filter()).prop_map(|((since_ms, until_ms), filter)| Selection {
        since_ms,
        until_ms,
        filter,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn stats_are_a_recomputation_from_the_rows(
        cases in any_cases(40),
        selections in proptest::collection::vec(any_selection(), 1..8),
    ) {
        check(&cases, &selections);
    }

    /// The same with all of it within some hours, so that the ends of a range have rows on either side.
    #[test]
    fn ends_of_a_range_part_the_rows_of_an_hour(
        mut cases in any_cases(40),
        ranges in proptest::collection::vec((any_moment(), any_moment()), 1..6),
    ) {
        for case in &mut cases {
            case.opening.timestamp_ms = case.opening.timestamp_ms.rem_euclid(3 * HOUR);
        }
        let selections: Vec<_> = ranges
            .into_iter()
            .map(|(a, b)| Selection {
                since_ms: a.min(b),
                until_ms: a.max(b),
                filter: Filter::default(),
            })
            .collect();
        check(&cases, &selections);
    }
}

/// Within some hours, often where a quarter of one or a half of that begins or ends.
fn any_moment() -> impl Strategy<Value = i64> {
    let step = HOUR / 8;
    prop_oneof![
        3 => 0..3 * HOUR,
        2 => (0..=24_i64, -1..=1_i64).prop_map(move |(nth, off)| nth * step + off),
    ]
}

/// Holds what the store answers about `cases` against what they come to.
fn check(cases: &[Case], selections: &[Selection]) {
    let scratch = Scratch::new();
    let store = scratch.open();
    serve(&store, cases);
    for selection in selections {
        let rows = select(cases, selection);
        assert_eq!(store.reader().count(selection).unwrap(), rows.len() as u64);
        for by in GroupBy::ALL {
            let found = ask(&store, selection, Some(by));
            assert_same(&found.totals, &totals(&rows));
            let asked = (selection.since_ms, selection.until_ms);
            assert_eq!((found.since_ms, found.until_ms), asked);
            let expected = group(&rows, by);
            assert_eq!(found.groups.len(), expected.len());
            for group in &found.groups {
                assert_same(&group.totals, &totals(&expected[&group.key]));
            }
        }
    }
    assert!(store.close(PATIENCE).is_empty());
}

#[test]
fn groups_come_in_a_settled_order() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for (nth, provider) in ["beta", "alpha", "beta", "gamma"].iter().enumerate() {
        let id = nth.to_string();
        let mut opening = opening(&id);
        opening.timestamp_ms = 50 * HOUR - HOUR * i64::try_from(nth).unwrap();
        store.open_request(&opening);
        store.complete(&Completion {
            provider: Some((*provider).to_owned()),
            ..completion(&id)
        });
    }
    assert!(store.flush(PATIENCE).is_empty());
    let keys = |by| {
        let groups = ask(&store, &Selection::all(), Some(by)).groups;
        groups
            .into_iter()
            .map(|group| group.key)
            .collect::<Vec<_>>()
    };
    let name = |name: &str| GroupKey::Name(Some(name.to_owned()));
    assert_eq!(
        keys(GroupBy::Provider),
        [name("beta"), name("alpha"), name("gamma")]
    );
    let hours = [47, 48, 49, 50].map(|nth| GroupKey::Time(nth * HOUR));
    assert_eq!(keys(GroupBy::Hour), hours);
    let days = [24, 48].map(|nth| GroupKey::Time(nth * HOUR));
    assert_eq!(keys(GroupBy::Day), days);
    assert_eq!(keys(GroupBy::Tier), [GroupKey::Name(None)]);
}

#[test]
fn interrupted_requests_count_as_ended_without_a_cost() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.open_request(&opening("left"));
    assert!(store.flush(PATIENCE).is_empty());
    let now = ask(&store, &Selection::all(), None).totals;
    assert_eq!((now.requests, now.in_progress, now.unknown_cost), (1, 1, 0));
    assert!(store.close(PATIENCE).is_empty());
    let store = scratch.open();
    let now = ask(&store, &Selection::all(), None).totals;
    assert_eq!((now.requests, now.in_progress, now.unknown_cost), (1, 0, 1));
    assert_eq!((now.successes, now.duration), (0, None));
}

#[test]
fn beyond_ten_thousand_series_only_answered_requests_get_a_new_one() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert!(store.flush(PATIENCE).is_empty());
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
         INSERT INTO series (model, streaming, success) SELECT 'made-up-' || i, 0, 0 FROM n";
    scratch.peek().execute_batch(many).unwrap();
    for (nth, success) in [false, false, true, false].into_iter().enumerate() {
        let id = nth.to_string();
        store.open_request(&Opening {
            model: format!("model-{nth}"),
            ..opening(&id)
        });
        store.complete(&Completion {
            success,
            provider: success.then(|| "alpha".to_owned()),
            ..completion(&id)
        });
        assert!(store.flush(PATIENCE).is_empty());
    }
    let groups = ask(&store, &Selection::all(), Some(GroupBy::Model)).groups;
    let counted: Vec<_> = groups
        .iter()
        .map(|group| (&group.key, group.totals.requests))
        .collect();
    let name = |name: &str| GroupKey::Name(Some(name.to_owned()));
    assert_eq!(
        counted,
        [
            (&name("(other)"), 2),
            (&name("model-0"), 1),
            (&name("model-2"), 1)
        ]
    );
    let kept = "SELECT count(*) FROM requests WHERE model = 'model-3'";
    assert_eq!(scratch.number(kept), 1);
    assert_eq!(scratch.number("SELECT count(*) FROM series"), 10_002);
}

#[test]
fn names_of_groups_are_read_back() {
    for by in GroupBy::ALL {
        assert_eq!(by.name().parse::<GroupBy>().unwrap(), by);
    }
    assert!("Model".parse::<GroupBy>().is_err());
}

#[test]
fn percentiles_of_many_are_within_five_per_cent() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut spans = Vec::new();
    for nth in 0..5000_u64 {
        let id = nth.to_string();
        let span = Duration::from_millis(3 + nth * nth / 100);
        spans.push(span);
        store.open_request(&opening(&id));
        store.complete(&Completion {
            latency: Some(span),
            ..completion(&id)
        });
    }
    assert!(store.flush(PATIENCE).is_empty());
    let found = ask(&store, &Selection::all(), None).totals.latency.unwrap();
    let expected = Percentiles {
        p50: spans[2499],
        p95: spans[4749],
        p99: spans[4949],
    };
    assert_near(Some(found), Some(expected));
}
