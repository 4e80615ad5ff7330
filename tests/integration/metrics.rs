//! `GET /metrics`: what Prometheus scrapes is well-formed, bounded, and the same as what is on record.

mod exposition;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use self::exposition::Exposition;
use crate::harness::{
    Answer, Arbstr, DONE, Gate, Provider, ProviderConfig, Row, Setup, ask, ask_stream, chunk,
    completion, wait_until,
};

/// What is only there while there is a limit, a list, a collector, or something to count.
const AT_TIMES: [&str; 7] = [
    "arbstr_sunk_cost_sats_total",
    "arbstr_discovered_models",
    "arbstr_discovery_age_seconds",
    "arbstr_discovery_failing_seconds",
    "arbstr_provider_concurrency_limit",
    "arbstr_traces_exported_total",
    "arbstr_traces_dropped_total",
];

#[track_caller]
fn scrape(arbstr: &Arbstr) -> Exposition {
    let mut reply = arbstr.get("/metrics");
    let text = reply.finish();
    assert_eq!(reply.status, 200, "{text}");
    assert_eq!(
        reply.needs("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    Exposition::read(&text)
}

fn query(arbstr: &Arbstr, sql: &str) -> Vec<Row> {
    Row::read(&arbstr.database(), sql, &[])
}

const BILLED_FAULT: &str = r#"{"error":{"message":"half done","type":"x"},"usage":{"prompt_tokens":1000,"completion_tokens":500}}"#;

/// A provider that fails its first requests in every way that has an answer, and then serves.
fn moody() -> Provider {
    Provider::answering([
        Answer::json(500, BILLED_FAULT),
        Answer::fault(429, "slow_down"),
        Answer::json(200, "{}"),
        Answer::json(200, &completion(10, 5)),
    ])
}

/// Asks for everything that can come out of a request, and waits until all of it is on record.
fn ask_for_everything(arbstr: &Arbstr) {
    for _ in 0..5 {
        arbstr.chat(&ask("model-a")).finish();
    }
    for _ in 0..3 {
        arbstr.chat(&ask_stream("model-a")).finish();
    }
    arbstr.chat(&ask_stream("broken")).finish();
    arbstr.chat(&ask("unwilling")).finish();
    arbstr.chat(&ask("mistaken")).finish();
    arbstr.chat(&ask("nobody-sells-this")).finish();
    arbstr
        .call("POST", "/v1/chat/completions", &[], b"not JSON")
        .finish();
    assert!(wait_until(Duration::from_secs(5), || {
        let rows = arbstr.rows();
        rows.len() == 12 && rows.iter().all(Row::is_settled)
    }));
}

fn busy_setup() -> (Arbstr, Vec<Provider>) {
    let providers = vec![
        moody(),
        Provider::healthy(1000, 500),
        Provider::always(Answer::sse().until_close().send(chunk("a"))),
        Provider::always(Answer::fault(503, "busy")),
        Provider::always(Answer::fault(400, "bad")),
    ];
    let arbstr = Setup::new()
        .set("circuit", "failures = 100")
        .set("retry", "max_attempts = 2")
        .provider(ProviderConfig::new("alpha", &providers[0]).rates("0.1", "0.2"))
        .provider(ProviderConfig::new("beta", &providers[1]).line("base_fee = 3"))
        .provider(ProviderConfig::new("gamma", &providers[2]).models(&["broken"]))
        .provider(ProviderConfig::new("delta", &providers[3]).models(&["unwilling"]))
        .provider(
            ProviderConfig::new("epsilon", &providers[4])
                .models(&["mistaken"])
                .no_rates(),
        )
        .start();
    (arbstr, providers)
}

#[test]
fn counts_requests_as_they_are_on_record() {
    let (arbstr, _providers) = busy_setup();
    ask_for_everything(&arbstr);
    let seen = scrape(&arbstr);
    let groups = query(
        &arbstr,
        "SELECT model, COALESCE(provider, '') AS provider, COUNT(*) AS requests, SUM(success) AS successes, SUM(input_tokens) AS input, SUM(output_tokens) AS output FROM requests GROUP BY 1, 2",
    );
    assert!(groups.len() >= 5, "{groups:?}");
    let mut total = 0.0;
    for row in &groups {
        let model = row.text("model").unwrap();
        let model = if model.starts_with("nobody") {
            "other"
        } else {
            &model
        };
        let provider = row.text("provider").unwrap();
        let labels = [("model", model), ("provider", provider.as_str())];
        let count = |column: &str| row.int(column).unwrap_or(0) as f64;
        assert_eq!(
            seen.sum("arbstr_requests_total", &labels),
            count("requests"),
            "{row:?}"
        );
        let good = [labels[0], labels[1], ("outcome", "success")];
        assert_eq!(
            seen.sum("arbstr_requests_total", &good),
            count("successes"),
            "{row:?}"
        );
        for kind in ["input", "output"] {
            let tokens = [labels[0], labels[1], ("kind", kind)];
            assert_eq!(
                seen.sum("arbstr_tokens_total", &tokens),
                count(kind),
                "{row:?}"
            );
        }
        total += count("requests");
    }
    assert_eq!(seen.sum("arbstr_requests_total", &[]), total);
    let outcomes = [
        ("refused", 1.0),
        ("stream_incomplete", 1.0),
        ("rejected", 1.0),
        ("upstream_error", 1.0),
        ("all_providers_failed", 0.0),
    ];
    for (outcome, expected) in outcomes {
        assert_eq!(
            seen.sum("arbstr_requests_total", &[("outcome", outcome)]),
            expected,
            "{outcome}"
        );
    }
    assert_eq!(
        seen.one(
            "arbstr_stream_interruptions_total",
            &[("provider", "gamma")]
        ),
        1.0
    );
    assert_eq!(
        seen.one("arbstr_http_responses_total", &[("code", "400")]),
        2.0
    );
}

#[test]
fn adds_money_and_attempts_up_as_they_are_on_record() {
    let (arbstr, _providers) = busy_setup();
    ask_for_everything(&arbstr);
    let seen = scrape(&arbstr);
    let sums = query(
        &arbstr,
        "SELECT provider, SUM(cost) AS cost, SUM(reference_cost) AS reference, SUM(cost IS NULL AND estimate IS NULL) AS unknown, SUM(cost IS NULL AND estimate IS NOT NULL) AS estimated FROM (SELECT provider, cost_nanosats AS cost, reference_cost_nanosats AS reference_cost, estimated_cost_nanosats AS estimate FROM requests WHERE latency_ms IS NOT NULL) GROUP BY 1",
    );
    assert!(sums.len() >= 3, "{sums:?}");
    for row in &sums {
        let provider = row.text("provider").unwrap();
        let labels = [("provider", provider.as_str())];
        let sats = |column: &str| row.int(column).unwrap_or(0) as f64 / 1e9;
        assert_eq!(
            seen.sum("arbstr_cost_sats_total", &labels),
            sats("cost"),
            "{row:?}"
        );
        assert_eq!(
            seen.sum("arbstr_reference_cost_sats_total", &labels),
            sats("reference"),
            "{row:?}"
        );
        for column in ["unknown", "estimated"] {
            assert_eq!(
                seen.sum(&format!("arbstr_cost_{column}_total"), &labels),
                row.int(column).unwrap() as f64,
                "{column} {row:?}"
            );
        }
    }
    let attempts = query(
        &arbstr,
        "SELECT provider, outcome, COUNT(*) AS attempts FROM attempts GROUP BY 1, 2",
    );
    let mut told = BTreeMap::new();
    for row in &attempts {
        let outcome = row.text("outcome").unwrap();
        let status = outcome.strip_prefix("status=").unwrap_or("").to_owned();
        *told
            .entry((row.text("provider").unwrap(), status))
            .or_insert(0.0) += row.int("attempts").unwrap() as f64;
    }
    for ((provider, status), count) in told.iter().filter(|((_, status), _)| !status.is_empty()) {
        let labels = [("provider", provider.as_str()), ("status", status.as_str())];
        let good_or_status = seen
            .series("arbstr_attempts_total", &labels)
            .filter(|(labels, _)| ["good", "status"].contains(&labels["outcome"].as_str()));
        assert_eq!(
            good_or_status.map(|(_, value)| value).sum::<f64>(),
            *count,
            "{provider} {status}"
        );
    }
    assert_eq!(
        seen.sum("arbstr_attempts_total", &[]),
        told.values().sum::<f64>()
    );
    let retries = query(
        &arbstr,
        "SELECT SUM(attempts - 1) AS retries FROM requests WHERE attempts > 0",
    );
    assert_eq!(
        seen.one("arbstr_retries_total", &[]),
        retries[0].int("retries").unwrap() as f64
    );
}

#[test]
fn what_failed_attempts_cost_is_counted_apart() {
    let (arbstr, _providers) = busy_setup();
    ask_for_everything(&arbstr);
    let seen = scrape(&arbstr);
    let sums = query(
        &arbstr,
        "SELECT provider, SUM(cost_nanosats) AS sunk FROM attempts WHERE cost_nanosats IS NOT NULL GROUP BY 1",
    );
    assert!(!sums.is_empty());
    for row in &sums {
        let provider = row.text("provider").unwrap();
        let sats = row.int("sunk").unwrap() as f64 / 1e9;
        let labels = [("provider", provider.as_str())];
        assert_eq!(seen.one("arbstr_sunk_cost_sats_total", &labels), sats);
    }
}

/// As the manual says: requests there, answers here.
#[test]
fn a_cost_is_unknown_of_an_answer_here_and_of_any_request_in_the_totals() {
    let bare = r#"{"id":"a","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"b"},"finish_reason":"stop"}]}"#;
    let providers = [
        Provider::always(Answer::json(200, bare)),
        Provider::always(Answer::fault(500, "x")),
    ];
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("mute", &providers[0]).no_rates())
        .provider(ProviderConfig::new("broken", &providers[1]).models(&["model-b"]))
        .start();
    for model in ["model-a", "model-b", "nobody-has-it"] {
        arbstr.chat(&ask(model)).drain();
    }
    let totals = || arbstr.get("/v1/stats").json()["totals"].clone();
    let settled = || totals()["requests"] == 3 && totals()["in_progress"] == 0;
    assert!(wait_until(Duration::from_secs(5), settled), "{}", totals());
    assert_eq!(
        (&totals()["cost_unknown"], &totals()["unsent"]),
        (&2.into(), &1.into())
    );
    let seen = scrape(&arbstr);
    assert_eq!(seen.sum("arbstr_cost_unknown_total", &[]), 1.0);
    assert_eq!(
        seen.sum("arbstr_cost_unknown_total", &[("provider", "mute")]),
        1.0
    );
}

#[test]
fn a_list_that_is_read_shows_its_size_and_age() {
    let provider = Provider::by(|seen, _| {
        if seen.head.starts_with("GET ") {
            Answer::json(
                200,
                r#"{"object":"list","data":[{"id":"m-1","object":"model"},{"id":"m-2","object":"model"}]}"#,
            )
        } else {
            Answer::json(200, &completion(1, 1))
        }
    });
    let config = ProviderConfig::new("alpha", &provider).line("auto_discover = true");
    let arbstr = Setup::new().provider(config).start();
    let labels = [("provider", "alpha")];
    let read = || scrape(&arbstr).sum("arbstr_discovered_models", &labels) == 2.0;
    assert!(wait_until(Duration::from_secs(5), read), "{}", arbstr.log());
    arbstr.chat(&ask("m-2")).finish();
    let seen = scrape(&arbstr);
    assert!(seen.one("arbstr_discovery_age_seconds", &labels) < 10.0);
    assert_eq!(seen.one("arbstr_discovery_failing_seconds", &labels), 0.0);
    let discovered = [("model", "m-2"), ("outcome", "success")];
    assert_eq!(
        seen.one("arbstr_requests_total", &discovered),
        1.0,
        "a discovered model has a name"
    );
}

#[test]
fn measures_in_seconds_what_the_rows_have_in_milliseconds() {
    let provider = Provider::always(Answer::json(200, &completion(1, 1)).after_pause(120));
    let arbstr = Setup::of(&provider).start();
    let id = arbstr.chat(&ask("model-a")).id();
    let row = arbstr.row(&id);
    let seen = scrape(&arbstr);
    let near = |name: &str, column: &str| {
        let seconds = seen.one(
            &format!("{name}_sum"),
            &[("model", "model-a"), ("provider", "alpha")],
        );
        let recorded = row.int(column).unwrap() as f64 / 1000.0;
        assert!(
            (seconds - recorded).abs() < 0.0011,
            "{name}: {seconds} {recorded}"
        );
    };
    near("arbstr_request_duration_seconds", "duration_ms");
    near("arbstr_time_to_first_byte_seconds", "latency_ms");
    let overhead = seen.one("arbstr_overhead_seconds_sum", &[]);
    assert!(
        overhead > 0.0 && overhead < 0.1,
        "the provider's 120 ms are not arbstr's: {overhead}"
    );
}

#[test]
fn models_that_clients_make_up_share_one_series() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    arbstr.chat(&ask("made-up-0")).finish();
    scrape(&arbstr);
    let before = scrape(&arbstr).len();
    for number in 1..60 {
        arbstr.chat(&ask(&format!("made-up-{number}"))).finish();
    }
    let seen = scrape(&arbstr);
    assert_eq!(seen.len(), before);
    assert_eq!(
        seen.one(
            "arbstr_requests_total",
            &[("model", "other"), ("outcome", "refused")]
        ),
        60.0
    );
}

#[test]
fn odd_names_in_the_config_stay_one_label() {
    let provider = Provider::healthy(1, 1);
    let odd = "we\\\\ird \\\"model\\\" ü";
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).models(&["we\\ird \"model\" ü"]))
        .start();
    arbstr.chat(&ask(odd)).finish();
    let seen = scrape(&arbstr);
    assert_eq!(
        seen.one(
            "arbstr_requests_total",
            &[("model", "we\\ird \"model\" ü"), ("outcome", "success")]
        ),
        1.0
    );
}

#[test]
fn an_outage_shows_in_the_circuits() {
    let (down, up) = (Provider::refusing(), Provider::healthy(1, 1));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &down).rates("1", "1"))
        .provider(ProviderConfig::new("beta", &up))
        .start();
    let calm = scrape(&arbstr);
    assert_eq!(
        calm.one("arbstr_provider_circuit_state", &[("provider", "alpha")]),
        0.0
    );
    for _ in 0..4 {
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    }
    let seen = scrape(&arbstr);
    assert_eq!(
        seen.one("arbstr_provider_circuit_state", &[("provider", "alpha")]),
        2.0
    );
    assert_eq!(
        seen.one("arbstr_provider_circuit_state", &[("provider", "beta")]),
        0.0
    );
    assert_eq!(
        seen.one(
            "arbstr_circuit_state",
            &[("provider", "beta"), ("model", "model-a")]
        ),
        0.0
    );
    assert_eq!(
        seen.one("arbstr_circuit_opens_total", &[("provider", "alpha")]),
        1.0
    );
    assert_eq!(
        seen.one(
            "arbstr_attempts_total",
            &[("provider", "alpha"), ("outcome", "connect")]
        ),
        3.0
    );
    assert_eq!(seen.one("arbstr_store_database_ready", &[]), 1.0);
}

#[test]
fn what_is_in_flight_shows_while_it_is() {
    let gate = Gate::new();
    let provider = Provider::always(Answer::sse().send(chunk("a")).wait_for(&gate).send(DONE));
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until("content");
    let during = scrape(&arbstr);
    for name in [
        "arbstr_requests_in_flight",
        "arbstr_streams_in_flight",
        "arbstr_provider_in_flight",
    ] {
        assert_eq!(during.one(name, &[]), 1.0, "{name}");
    }
    assert!(during.one("arbstr_client_connections", &[]) >= 1.0);
    gate.open();
    reply.finish();
    reply.leave();
    let quiet = || {
        let after = scrape(&arbstr);
        let of = |name: &str| after.one(name, &[]);
        // The scrape's own connection is open.
        of("arbstr_requests_in_flight") == 0.0
            && of("arbstr_streams_in_flight") == 0.0
            && of("arbstr_provider_in_flight") == 0.0
            && of("arbstr_client_connections") == 1.0
    };
    assert!(wait_until(Duration::from_secs(3), quiet));
}

#[test]
fn a_reload_keeps_what_stays_and_drops_what_goes() {
    let (one, two) = (Provider::healthy(1, 1), Provider::healthy(1, 1));
    let both = Setup::new()
        .provider(ProviderConfig::new("alpha", &one).models(&["model-a"]))
        .provider(ProviderConfig::new("beta", &two).models(&["model-b"]));
    let arbstr = both.start();
    arbstr.chat(&ask("model-a")).finish();
    arbstr.chat(&ask("model-b")).finish();
    assert_eq!(
        scrape(&arbstr).one("arbstr_cost_sats_total", &[("provider", "beta")]),
        0.003
    );
    let fewer = Setup::new().provider(ProviderConfig::new("alpha", &one).models(&["model-a"]));
    fs::write(
        arbstr.folder().join("arbstr.toml"),
        fewer.text(arbstr.folder()),
    )
    .unwrap();
    arbstr.signal("HUP");
    let mut seen = scrape(&arbstr);
    assert!(wait_until(Duration::from_secs(5), || {
        seen = scrape(&arbstr);
        seen.series("arbstr_provider_circuit_state", &[("provider", "beta")])
            .count()
            == 0
    }));
    let names: Vec<String> = seen.kinds.keys().cloned().collect();
    for name in names {
        assert_eq!(
            seen.series(&name, &[("provider", "beta")]).count(),
            0,
            "{name}"
        );
    }
    assert_eq!(seen.one("arbstr_config_last_reload_successful", &[]), 1.0);
    fs::write(arbstr.folder().join("arbstr.toml"), "[servr]").unwrap();
    arbstr.signal("HUP");
    assert!(wait_until(Duration::from_secs(5), || {
        scrape(&arbstr).one("arbstr_config_last_reload_successful", &[]) == 0.0
    }));
    arbstr.chat(&ask("model-a")).finish();
    assert_eq!(
        scrape(&arbstr).one(
            "arbstr_requests_total",
            &[("provider", "alpha"), ("outcome", "success")]
        ),
        2.0
    );
    assert_eq!(
        scrape(&arbstr).one("arbstr_cost_sats_total", &[("provider", "alpha")]),
        0.006
    );
}

#[test]
fn asks_for_the_token_as_the_api_does() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider)
        .set("server", "auth_token = \"s3cret\"")
        .start();
    assert_eq!(arbstr.get("/metrics").status, 401);
    let bearer = [("authorization", "Bearer s3cret")];
    assert_eq!(arbstr.call("GET", "/metrics", &bearer, b"").status, 200);
    assert_eq!(arbstr.call("HEAD", "/metrics", &bearer, b"").status, 200);
    assert_eq!(arbstr.call("POST", "/metrics", &bearer, b"").status, 405);
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let (arbstr, _providers) = busy_setup();
    ask_for_everything(&arbstr);
    let seen = scrape(&arbstr);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/grafana/arbstr.json");
    let board: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut asked = 0;
    for expression in expressions(&board) {
        for name in names(&expression) {
            let parts = ["_bucket", "_sum", "_count"];
            let base = parts
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(&name);
            assert!(
                AT_TIMES.contains(&name.as_str()) || seen.kinds.contains_key(base),
                "{name} in {expression}"
            );
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
}

#[test]
fn the_manual_lists_every_metric_and_no_other() {
    let (arbstr, _providers) = busy_setup();
    ask_for_everything(&arbstr);
    let seen = scrape(&arbstr);
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let manual = fs::read_to_string(manual).unwrap();
    let rows = manual.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<String> = rows
        .flat_map(|row| names(row.split('|').nth(1).unwrap()))
        .collect();
    let there = seen
        .kinds
        .keys()
        .cloned()
        .chain(AT_TIMES.map(str::to_owned))
        .collect();
    assert_eq!(listed, there, "left the manual, right what is exported");
}

/// Every query of a dashboard, those of its variables included.
fn expressions(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match value {
                serde_json::Value::String(text)
                    if ["expr", "query", "definition"].contains(&key.as_str()) =>
                {
                    vec![text.clone()]
                }
                other => expressions(other),
            })
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// The metrics that a query names.
fn names(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("arbstr_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}
