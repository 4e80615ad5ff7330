//! Pages of requests: complete, in order, stable while requests come, and with the same figures everywhere.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{get, make_requests, market, settle};
use crate::harness::Arbstr;

/// All rows of a query, page by page; `between` is called after each.
fn walk(arbstr: &Arbstr, query: &str, mut between: impl FnMut()) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(arbstr, &format!("/v1/requests?{query}{cursor}"));
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        assert!(rows.len() < 10_000, "no end");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
        between();
    }
}

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter()
        .map(|row| row["correlation_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn pages_stay_as_they_were_while_requests_come() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 18);
    settle(&arbstr, 18);
    let before = ids(&walk(&arbstr, "limit=1000", || {}));
    assert_eq!(before.len(), 18);
    let seen = ids(&walk(&arbstr, "limit=4", || make_requests(&arbstr, 2)));
    assert_eq!(
        seen, before,
        "newest first: what came later is on no later page"
    );
    let upwards = ids(&walk(&arbstr, "limit=5&sort=timestamp", || {}));
    let unique: BTreeSet<&String> = upwards.iter().collect();
    assert_eq!(unique.len(), upwards.len());
    assert!(before.iter().rev().eq(upwards[..18].iter()), "oldest first");
}

#[test]
fn every_column_of_the_whitelist_sorts_both_ways_with_the_unknown_last() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 18);
    settle(&arbstr, 18);
    for column in [
        "timestamp",
        "cost_sats",
        "duration_ms",
        "latency_ms",
        "input_tokens",
        "output_tokens",
    ] {
        for (sign, descending) in [("", false), ("-", true)] {
            let rows = walk(&arbstr, &format!("limit=4&sort={sign}{column}"), || {});
            assert_eq!(
                ids(&rows).iter().collect::<BTreeSet<_>>().len(),
                18,
                "{sign}{column}"
            );
            let values: Vec<Option<f64>> = rows.iter().map(|row| row[column].as_f64()).collect();
            let known: Vec<f64> = values.iter().flatten().copied().collect();
            assert!(
                values[..known.len()].iter().all(Option::is_some),
                "{sign}{column}: {values:?}"
            );
            let is_sorted = known.is_sorted_by(|a, b| if descending { a >= b } else { a <= b });
            assert!(is_sorted, "{sign}{column}: {known:?}");
        }
    }
}

#[test]
fn a_cursor_of_another_query_is_a_400() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 6);
    settle(&arbstr, 6);
    let page = get(&arbstr, "/v1/requests?limit=2");
    let cursor = page["next_cursor"].as_str().unwrap();
    let get_on = |query: &str| arbstr.get(&format!("/v1/requests?cursor={cursor}{query}"));
    assert_eq!(get_on("").json()["data"].as_array().unwrap().len(), 4);
    for query in ["&sort=timestamp", "&sort=-cost_sats", "&model=model-a", "x"] {
        let mut reply = get_on(query);
        let json = reply.json();
        assert_eq!(
            (reply.status, &json["error"]["param"]),
            (400, &"cursor".into()),
            "{query}: {json}"
        );
    }
}

#[test]
fn filters_choose_rows_and_a_page_without_any_is_empty() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 24);
    settle(&arbstr, 24);
    let all = walk(&arbstr, "limit=1000", || {});
    for (query, column, value) in [
        ("model=model-a", "model", Value::from("model-a")),
        ("model=model%2Da", "model", "model-a".into()),
        ("provider=beta", "provider", "beta".into()),
        ("success=true", "success", true.into()),
        ("success=false", "success", false.into()),
        ("streaming=true", "streaming", true.into()),
        ("streaming=false", "streaming", false.into()),
        ("model=nobody", "model", "nobody".into()),
    ] {
        let wanted: Vec<&Value> = all.iter().filter(|row| row[column] == value).collect();
        let found = walk(&arbstr, &format!("{query}&limit=3"), || {});
        assert!(found.iter().eq(wanted.iter().copied()), "{query}");
        let totals = get(&arbstr, &format!("/v1/stats?{query}"))["totals"]["requests"].clone();
        assert_eq!(totals, wanted.len(), "{query}");
    }
    let both = get(
        &arbstr,
        "/v1/requests?model=model-a&streaming=true&success=true",
    );
    assert!(
        both["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["model"] == "model-a" && row["streaming"] == true)
    );
    assert_eq!(
        get(&arbstr, "/v1/requests?model=nobody")["next_cursor"],
        Value::Null
    );
}

#[test]
fn a_row_says_the_same_in_the_list_by_its_id_and_in_the_database() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 6);
    settle(&arbstr, 6);
    let list = walk(&arbstr, "limit=10&sort=timestamp", || {});
    for (listed, row) in list.iter().zip(arbstr.rows()) {
        let id = listed["correlation_id"].as_str().unwrap();
        let detail = get(&arbstr, &format!("/v1/requests/{id}"));
        for (name, value) in listed.as_object().unwrap() {
            if name != "attempts" {
                assert_eq!(value, &detail[name], "{name}");
            }
            if let "time" | "cost_sats" | "reference_cost_sats" | "sunk_cost_sats" = name.as_str() {
                continue;
            }
            let stored = match row.value(name) {
                rusqlite::types::Value::Null => Value::Null,
                rusqlite::types::Value::Integer(number) if value.is_boolean() => {
                    (*number == 1).into()
                }
                rusqlite::types::Value::Integer(number) => (*number).into(),
                rusqlite::types::Value::Text(text) => text.as_str().into(),
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(value, &stored, "{name}");
        }
        let nanosats = row.int("cost_nanosats");
        let exact = nanosats.map(|nanos| {
            let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        });
        assert_eq!(
            listed["cost_sats"].as_f64().map(|cost| cost.to_string()),
            exact
        );
        assert_eq!(
            detail["attempts"].as_array().unwrap().len(),
            listed["attempts"]
        );
        let time = listed["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let found = get(
            &arbstr,
            &format!("/v1/requests?since={time}&sort=timestamp&limit=1"),
        );
        assert_eq!(found["data"][0]["timestamp"], listed["timestamp"], "{time}");
    }
}
