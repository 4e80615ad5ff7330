//! Totals: what the rows say, no more and no less.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{get, make_requests, market, settle};
use crate::harness::{Answer, Gate, Provider, Row, Setup, ask, wait_until};

/// What `/v1/stats` should say of rows, percentiles left aside.
fn recomputed(rows: &[&Row]) -> Value {
    let sum = |column: &str| rows.iter().filter_map(|row| row.int(column)).sum::<i64>();
    let count = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
    let in_progress = |row: &Row| !row.is_settled();
    let cost = |row: &Row| row.int("cost_nanosats");
    let estimate = |row: &Row| {
        row.int("estimated_cost_nanosats")
            .filter(|_| cost(row).is_none())
    };
    let saved = |row: &Row| Some(row.int("reference_cost_nanosats")? - cost(row)?);
    let unsent = |row: &Row| {
        let nothing = cost(row).is_none() && estimate(row).is_none();
        !in_progress(row) && nothing && row.int("attempts").unwrap_or(0) == 0
    };
    let ended = count(&|row| !in_progress(row));
    let succeeded = count(&|row| row.int("success") == Some(1));
    json!({
        "requests": rows.len(),
        "succeeded": succeeded,
        "failed": ended - succeeded,
        "in_progress": rows.len() - ended,
        "success_rate": (ended > 0).then(|| succeeded as f64 / ended as f64),
        "input_tokens": sum("input_tokens"),
        "output_tokens": sum("output_tokens"),
        "cached_input_tokens": sum("cached_input_tokens"),
        "reasoning_tokens": sum("reasoning_tokens"),
        "cost_sats": sats(rows.iter().filter_map(|row| cost(row)).sum()),
        "cost_known": count(&|row| cost(row).is_some()),
        "cost_estimated": count(&|row| estimate(row).is_some()),
        "unsent": count(&unsent),
        "cost_unknown": count(&|row| !in_progress(row) && !unsent(row) && cost(row).is_none() && estimate(row).is_none()),
        "estimated_cost_sats": sats(rows.iter().filter_map(|row| estimate(row)).sum()),
        "reference_cost_sats": sats(sum("reference_cost_nanosats")),
        "savings_sats": sats(rows.iter().filter_map(|row| saved(row)).sum()),
        "savings_known": count(&|row| saved(row).is_some()),
        "sunk_cost_sats": sats(sum("sunk_cost_nanosats")),
        "cost_sunk": count(&|row| row.int("sunk_cost_nanosats").is_some()),
        "cost_disagrees": sum("cost_disagrees"),
        "uncovered_units": sum("uncovered_units"),
        "implausible_usage": sum("implausible_usage"),
    })
}

/// The JSON number of an amount that a float holds exactly enough.
fn sats(nanosats: i64) -> Value {
    let text = format!(
        "{}{}.{:09}",
        if nanosats < 0 { "-" } else { "" },
        nanosats.abs() / 1_000_000_000,
        nanosats.abs() % 1_000_000_000
    );
    serde_json::from_str(text.trim_end_matches('0').trim_end_matches('.')).unwrap()
}

/// Everything that was recomputed is in `totals`.
#[track_caller]
fn assert_totals(totals: &Value, rows: &[&Row], of: &str) {
    for (name, value) in recomputed(rows).as_object().unwrap() {
        assert_eq!(&totals[name], value, "{name} of {of}");
    }
    for column in ["latency_ms", "duration_ms"] {
        let mut known: Vec<i64> = rows.iter().filter_map(|row| row.int(column)).collect();
        known.sort_unstable();
        for (name, percent) in [("p50", 50), ("p95", 95), ("p99", 99)] {
            let found = totals[column][name].as_i64();
            let Some(last) = known.len().checked_sub(1) else {
                assert_eq!(found, None, "{column} {name} of {of}");
                continue;
            };
            let exact = known[(known.len() * percent)
                .div_ceil(100)
                .saturating_sub(1)
                .min(last)];
            let off = (found.unwrap() - exact).abs();
            assert!(
                off as f64 <= exact as f64 * 0.05 + 1.0,
                "{column} {name} of {of}: {found:?}, exactly {exact}"
            );
        }
    }
}

#[test]
fn totals_and_groups_are_what_the_rows_say() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    assert_totals(&get(&arbstr, "/v1/stats")["totals"], &[], "nothing");
    assert_eq!(
        get(&arbstr, "/v1/stats?group_by=model")["groups"],
        json!([])
    );
    make_requests(&arbstr, 36);
    settle(&arbstr, 36);
    let rows = arbstr.rows();
    let all: Vec<&Row> = rows.iter().collect();
    let stats = get(&arbstr, "/v1/stats");
    assert_totals(&stats["totals"], &all, "all");
    assert_eq!(
        (&stats["since"], &stats["groups"]),
        (&Value::Null, &json!([]))
    );
    assert!(
        stats["totals"]["cost_unknown"]
            .as_u64()
            .is_some_and(|unknown| unknown > 0),
        "{stats}"
    );
    for column in ["model", "provider", "policy", "tier"] {
        let stats = get(&arbstr, &format!("/v1/stats?group_by={column}"));
        assert_totals(&stats["totals"], &all, column);
        let mut by_key: BTreeMap<Option<String>, Vec<&Row>> = BTreeMap::new();
        for row in &rows {
            by_key.entry(row.text(column)).or_default().push(row);
        }
        let groups = stats["groups"].as_array().unwrap();
        assert_eq!(groups.len(), by_key.len(), "{groups:?}");
        for group in groups {
            let key = group["key"].as_str().map(str::to_owned);
            assert_totals(group, &by_key[&key], &format!("{column} {key:?}"));
        }
    }
}

#[test]
fn days_and_hours_begin_in_utc_and_add_up() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 6);
    settle(&arbstr, 6);
    for (unit, length_ms) in [("day", 86_400_000), ("hour", 3_600_000)] {
        let groups = get(&arbstr, &format!("/v1/stats?group_by={unit}"))["groups"].clone();
        let mut counted = 0;
        for group in groups.as_array().unwrap() {
            let start = group["key"].as_str().unwrap();
            counted += group["requests"].as_u64().unwrap();
            let rows = arbstr.rows();
            let time = rows[0].int("timestamp").unwrap();
            let list = get(
                &arbstr,
                &format!("/v1/requests?since={start}&sort=timestamp"),
            );
            assert!(!list["data"].as_array().unwrap().is_empty(), "{start}");
            let first = time - time % length_ms;
            let since = get(
                &arbstr,
                &format!("/v1/stats?since={first}&until={}", first + 1),
            );
            assert!(
                groups
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|group| group["key"] == since["since"]),
                "{since} {groups}"
            );
        }
        assert_eq!(counted, 6, "{groups}");
    }
}

#[test]
fn a_request_in_progress_is_neither_success_nor_failure() {
    let gate = Gate::new();
    let provider =
        Provider::always(Answer::json(200, &crate::harness::completion(1, 1)).after(&gate));
    let arbstr = Setup::of(&provider).start();
    let mut client = arbstr.client();
    client.request_chat(&ask("model-a"));
    let opened = || get(&arbstr, "/v1/stats")["totals"]["in_progress"] == 1;
    assert!(wait_until(Duration::from_secs(2), opened));
    let totals = get(&arbstr, "/v1/stats")["totals"].clone();
    assert_eq!(
        (
            &totals["requests"],
            &totals["failed"],
            &totals["success_rate"]
        ),
        (&1.into(), &0.into(), &Value::Null)
    );
    for success in ["true", "false"] {
        let list = get(&arbstr, &format!("/v1/requests?success={success}"));
        assert_eq!(list["data"], json!([]), "{success}");
    }
    gate.open();
    client.reply("POST").finish();
    settle(&arbstr, 1);
    assert_eq!(get(&arbstr, "/v1/stats")["totals"]["success_rate"], 1.0);
}
