//! Every parameter of the query API: what is understood, and that everything else is a 400 which names it.

use super::{get, make_requests, market, settle};
use crate::harness::{Arbstr, wait_until};

/// Query, the parameter that the error names, words of its message.
const BAD: &[(&str, &str, &[&str])] = &[
    ("nonsense=1", "nonsense", &["unknown", "since", "model"]),
    ("modle=x", "modle", &["did you mean model"]),
    ("Model=x", "Model", &["did you mean model"]),
    ("model", "model", &["without a value"]),
    ("model=", "model", &["without a value"]),
    ("model=a&model=a", "model", &["second time"]),
    ("model=a&mod%65l=b", "model", &["second time"]),
    ("model=%ff", "model", &["UTF-8"]),
    ("%ff=1", "%ff", &["UTF-8"]),
    ("=x", "", &["unknown"]),
    (
        "since=yesterday",
        "since",
        &["yesterday", "2026-01-31T12:00:00Z", "milliseconds", "24h"],
    ),
    ("since=2026-02-30", "since", &["2026-02-30"]),
    ("since=-1", "since", &["-1"]),
    ("since=1e12", "since", &["1e12"]),
    ("since=99999999999999999999", "since", &["99999"]),
    ("until=2026-01-01T25:00", "until", &["25:00"]),
    (
        "since=2026-01-02&until=2026-01-01",
        "until",
        &["2026-01-01T00:00:00.000Z", "after since"],
    ),
    (
        "since=2026-01-01&until=2026-01-01",
        "until",
        &["after since"],
    ),
    ("range=1y", "range", &["1y", "24h", "7d"]),
    ("range=0h", "range", &["0h"]),
    ("range=last_", "range", &["last_"]),
    ("range=24h&since=0", "range", &["since or until"]),
    ("range=24h&until=1", "range", &["since or until"]),
    ("success=1", "success", &["true or false"]),
    ("success=True", "success", &["true or false"]),
    ("streaming=yes", "streaming", &["true or false"]),
    ("provider=a&provider=b", "provider", &["second time"]),
];

const BAD_LIST: &[(&str, &str, &[&str])] = &[
    ("limit=0", "limit", &["1 to 1000"]),
    ("limit=1001", "limit", &["1001", "1 to 1000"]),
    ("limit=-1", "limit", &["1 to 1000"]),
    ("limit=%2B5", "limit", &["1 to 1000"]),
    ("limit=5.0", "limit", &["1 to 1000"]),
    ("limit=99999999999999999999", "limit", &["1 to 1000"]),
    (
        "sort=cost",
        "sort",
        &["timestamp", "cost_sats", "largest first"],
    ),
    ("sort=--timestamp", "sort", &["--timestamp"]),
    ("sort=correlation_id", "sort", &["timestamp"]),
    (
        "sort=timestamp%3BDROP%20TABLE%20requests",
        "sort",
        &["timestamp"],
    ),
    ("cursor=abc", "cursor", &["cursor"]),
    ("group_by=model", "group_by", &["unknown"]),
];

const BAD_STATS: &[(&str, &str, &[&str])] = &[
    (
        "group_by=colour",
        "group_by",
        &[
            "colour", "model", "provider", "policy", "tier", "day", "hour",
        ],
    ),
    (
        "group_by=model,provider",
        "group_by",
        &["model, provider, policy, tier, day or hour"],
    ),
    ("limit=5", "limit", &["unknown"]),
    ("sort=timestamp", "sort", &["unknown"]),
    ("cursor=abc", "cursor", &["unknown"]),
];

/// What is wrong with the answer to a bad query, if anything.
fn fault(arbstr: &Arbstr, path: &str, bad: (&str, &str, &[&str])) -> Option<String> {
    let (query, parameter, words) = bad;
    let mut reply = arbstr.get(&format!("{path}?{query}"));
    let json = reply.json();
    let error = &json["error"];
    let message = error["message"].as_str().unwrap_or_default();
    let is_good = reply.status == 400
        && error["type"] == "invalid_request_error"
        && error["param"] == parameter
        && message.starts_with(parameter)
        && words.iter().all(|word| message.contains(word));
    (!is_good).then(|| format!("{path}?{query}: {} {json}", reply.status))
}

#[test]
fn a_bad_parameter_is_a_400_that_names_it_and_says_what_is_allowed() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    let mut faults = Vec::new();
    for bad in BAD.iter().chain(BAD_LIST) {
        faults.extend(fault(&arbstr, "/v1/requests", *bad));
    }
    for bad in BAD.iter().chain(BAD_STATS) {
        faults.extend(fault(&arbstr, "/v1/stats", *bad));
    }
    let id = "/v1/requests/019a0000-0000-7000-8000-000000000000";
    for name in ["limit", "since", "x"] {
        let query = format!("{name}=1");
        faults.extend(fault(&arbstr, id, (&query, name, &["no parameter"])));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn times_are_understood_however_they_are_written() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 6);
    settle(&arbstr, 6);
    let count =
        |query: &str| get(&arbstr, &format!("/v1/stats?{query}"))["totals"]["requests"].clone();
    for query in [
        "range=1h",
        "range=last_1h",
        "range=24h",
        "range=last_24h",
        "range=7d",
        "range=last_7d",
        "range=30d",
        "range=last_30d",
        "range=5m",
        "range=1w",
        "since=0",
        "since=1577836800000",
        "since=2020-01-01",
        "since=2020-01-01T00:00",
        "since=2020-01-01T00:00:00",
        "since=2020-01-01T00:00:00.123",
        "since=2020-01-01T00:00:00Z",
        "since=2020-01-01T00:00:00.123456789Z",
        "since=2020-01-01T02:00:00%2B02:00",
        "since=2020-01-01T02:00:00+02:00",
        "since=2020-01-01%2000:00:00",
        "since=24h",
        "since=last_24h",
        "until=2200-01-01",
        "since=2020-01-01&until=2200-01-01T00:00:00-11:30",
        "&&since=0&",
    ] {
        assert_eq!(count(query), 6, "{query}");
        let list = get(&arbstr, &format!("/v1/requests?{query}"));
        assert_eq!(list["data"].as_array().unwrap().len(), 6, "{query}");
    }
    for query in [
        "until=2020-01-01",
        "until=1577836800000",
        "until=1h",
        "since=2200-01-01",
    ] {
        assert_eq!(count(query), 0, "{query}");
    }
}

#[test]
fn a_range_begins_with_its_start_and_ends_before_its_end() {
    let (_providers, setup) = market();
    let arbstr = setup.start();
    make_requests(&arbstr, 3);
    settle(&arbstr, 3);
    let list = get(&arbstr, "/v1/requests?sort=timestamp");
    let times: Vec<i64> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["timestamp"].as_i64().unwrap())
        .collect();
    for (since, until) in [
        (times[0], times[2]),
        (times[1], times[2] + 1),
        (times[0], times[0] + 1),
    ] {
        let expected = times
            .iter()
            .filter(|time| (since..until).contains(time))
            .count();
        for path in ["stats", "requests"] {
            let answer = get(&arbstr, &format!("/v1/{path}?since={since}&until={until}"));
            let count = answer["totals"]["requests"]
                .as_u64()
                .or_else(|| answer["data"].as_array().map(|data| data.len() as u64));
            assert_eq!(
                count,
                Some(expected as u64),
                "{path} {since} {until}: {answer}"
            );
        }
    }
    let stats = get(
        &arbstr,
        &format!("/v1/stats?since={}&until={}", times[0], times[2]),
    );
    let first = &list["data"][0]["time"];
    assert_eq!(
        (&stats["since"], &stats["until"]),
        (first, &list["data"][2]["time"])
    );
}

#[test]
fn a_database_that_is_gone_is_a_503_and_not_a_wrong_answer() {
    let (_providers, setup) = market();
    let arbstr = setup
        .database(std::path::Path::new("/proc/no-such-folder/arbstr.db"))
        .start();
    for path in ["/v1/stats", "/v1/requests", "/v1/requests/x"] {
        let mut reply = arbstr.get(path);
        let json = reply.json();
        assert_eq!(
            (reply.status, &json["error"]["code"]),
            (503, &"records_unavailable".into()),
            "{json}"
        );
    }
    assert!(wait_until(std::time::Duration::from_secs(1), || arbstr
        .log()
        .contains("records cannot be read")));
}
