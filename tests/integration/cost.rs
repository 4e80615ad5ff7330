//! What a request cost: exact, at once in a header or event, for ever in the row; unknown is never 0.

use std::time::Duration;

use crate::harness::{
    Answer, Provider, ProviderConfig, Row, Setup, ask, ask_stream, completion, wait_until,
};

/// Rates and usage as text, then the cost in nanosats and as a decimal of sats.
struct Case {
    rates: (&'static str, &'static str),
    lines: &'static [&'static str],
    usage: &'static str,
    nanosats: Option<i64>,
    sats: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        rates: ("10000", "30000"),
        lines: &[],
        usage: r#"{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}"#,
        nanosats: Some(25_000_000_000),
        sats: Some("25"),
    },
    // One token at the smallest rate is one nanosat: nothing is lost, nothing is rounded.
    Case {
        rates: ("0.001", "0"),
        lines: &[],
        usage: r#"{"prompt_tokens":1,"completion_tokens":0}"#,
        nanosats: Some(1),
        sats: Some("0.000000001"),
    },
    Case {
        rates: ("0.1", "0.2"),
        lines: &["base_fee = 1"],
        usage: r#"{"prompt_tokens":3,"completion_tokens":1}"#,
        nanosats: Some(1_000_000_500),
        sats: Some("1.0000005"),
    },
    // Cached tokens are part of the prompt and have their own price.
    Case {
        rates: ("10000", "30000"),
        lines: &["cached_input_rate = 5000", "base_fee = 2"],
        usage: r#"{"prompt_tokens":1000,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":400}}"#,
        nanosats: Some(10_300_000_000),
        sats: Some("10.3"),
    },
    // Without a price of their own they cost what input costs.
    Case {
        rates: ("10000", "30000"),
        lines: &[],
        usage: r#"{"prompt_tokens":1000,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":400}}"#,
        nanosats: Some(10_300_000_000),
        sats: Some("10.3"),
    },
    // Reasoning tokens are part of the completion, never added to it.
    Case {
        rates: ("0", "1000"),
        lines: &[],
        usage: r#"{"prompt_tokens":7,"completion_tokens":100,"completion_tokens_details":{"reasoning_tokens":90}}"#,
        nanosats: Some(100_000_000),
        sats: Some("0.1"),
    },
    // A free provider costs 0, and that is known.
    Case {
        rates: ("0", "0"),
        lines: &[],
        usage: r#"{"prompt_tokens":7,"completion_tokens":1}"#,
        nanosats: Some(0),
        sats: Some("0"),
    },
    // Far beyond what a double can hold exactly.
    Case {
        rates: ("999999.999", "999999.999"),
        lines: &["base_fee = 3"],
        usage: r#"{"prompt_tokens":9007199253,"completion_tokens":0}"#,
        nanosats: Some(9_007_199_246_992_800_747),
        sats: Some("9007199246.992800747"),
    },
    Case {
        rates: ("10", "10"),
        lines: &["base_fee = 5"],
        usage: "null",
        nanosats: None,
        sats: None,
    },
    Case {
        rates: ("10", "10"),
        lines: &[],
        usage: r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
        nanosats: None,
        sats: None,
    },
    Case {
        rates: ("10", "10"),
        lines: &[],
        usage: r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
        nanosats: None,
        sats: None,
    },
    Case {
        rates: ("10", "10"),
        lines: &[],
        usage: r#"{"prompt_tokens":"1","completion_tokens":1}"#,
        nanosats: None,
        sats: None,
    },
    Case {
        rates: ("10", "10"),
        lines: &[],
        usage: r#"{"prompt_tokens":1,"completion_tokens":1099511627777}"#,
        nanosats: None,
        sats: None,
    },
    // The most that a row can hold, and more: nobody is told what is not on record.
    Case {
        rates: ("1", "8388.607"),
        lines: &[],
        usage: r#"{"prompt_tokens":0,"completion_tokens":1099511627776}"#,
        nanosats: Some(9_223_370_937_343_148_032),
        sats: Some("9223370937.343148032"),
    },
    Case {
        rates: ("1", "8388.608"),
        lines: &[],
        usage: r#"{"prompt_tokens":0,"completion_tokens":1099511627776}"#,
        nanosats: None,
        sats: None,
    },
    Case {
        rates: ("10", "10"),
        lines: &[],
        usage: r#"{"total_tokens":4}"#,
        nanosats: None,
        sats: None,
    },
];

fn config(case: &Case, provider: &Provider) -> ProviderConfig {
    case.lines.iter().fold(
        ProviderConfig::new("alpha", provider).rates(case.rates.0, case.rates.1),
        |config, line| config.line(line),
    )
}

fn json_with(usage: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    )
}

#[test]
fn the_cost_of_a_json_answer_is_exact_in_header_and_row() {
    for case in CASES {
        let body = json_with(case.usage);
        let provider = Provider::always(Answer::json(200, &body));
        let arbstr = Setup::new().provider(config(case, &provider)).start();
        let mut reply = arbstr.chat(&ask("model-a"));
        assert_eq!(reply.finish(), body, "a JSON answer is never changed");
        assert_eq!(
            reply.header("x-arbstr-cost-sats"),
            case.sats,
            "{}",
            case.usage
        );
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_cost(&row, case);
        assert!(
            row.int("latency_ms").is_some() && row.int("stream_duration_ms").is_none(),
            "{row:?}"
        );
    }
}

#[test]
fn the_cost_of_a_stream_is_exact_in_event_and_row() {
    for case in CASES {
        let stream = format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{}}}\n\ndata: [DONE]\n\n",
            case.usage
        );
        let provider = Provider::always(Answer::sse().send(stream));
        let arbstr = Setup::new().provider(config(case, &provider)).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        let shown = text
            .split("\"cost_sats\":")
            .nth(1)
            .unwrap_or_else(|| panic!("{text}"))
            .split([',', '}'])
            .next()
            .unwrap();
        assert_eq!(shown, case.sats.unwrap_or("null"), "{}", case.usage);
        assert_cost(&arbstr.row(&reply.id()), case);
    }
}

#[track_caller]
fn assert_cost(row: &Row, case: &Case) {
    assert_eq!(
        row.int("cost_nanosats"),
        case.nanosats,
        "{}: {row:?}",
        case.usage
    );
    let readable = match row.value("cost_sats") {
        rusqlite::types::Value::Null => None,
        rusqlite::types::Value::Real(number) => Some(*number),
        rusqlite::types::Value::Integer(number) => Some(number.to_string().parse().unwrap()),
        rusqlite::types::Value::Text(text) => Some(text.parse().unwrap()),
        other => panic!("{other:?}"),
    };
    let exact: Option<f64> = case.sats.map(|sats| sats.parse().unwrap());
    match (readable, exact) {
        (None, None) => {}
        (Some(readable), Some(exact)) => assert!(
            (readable - exact).abs() <= exact.abs() * 1e-12,
            "{readable} for {exact}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_rate_is_an_unknown_cost() {
    let provider = Provider::healthy(10, 5);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).no_rates())
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    assert_eq!(reply.header("x-arbstr-cost-sats"), None);
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("cost_nanosats")),
        (Some(10), None)
    );
}

#[test]
fn a_models_own_rates_and_name_are_used() {
    let provider = Provider::healthy(1000, 1000);
    let rates = "model = \"small\"\nupstream_model = \"vendor/small\"\ninput_rate = 600\noutput_rate = 2400";
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .models(&["model-a", "small"])
                .model_rates(rates),
        )
        .start();
    let mut reply = arbstr.chat(&ask("small"));
    reply.finish();
    assert_eq!(reply.needs("x-arbstr-cost-sats"), "3");
    let row = arbstr.row(&reply.id());
    assert_eq!(
        (
            row.text("model").as_deref(),
            row.text("served_model").as_deref()
        ),
        (Some("small"), Some("vendor/small"))
    );
    assert_eq!(provider.only().text(), ask("vendor/small"));
    let mut other = arbstr.chat(&ask("model-a"));
    other.finish();
    assert_eq!(other.needs("x-arbstr-cost-sats"), "3");
}

#[test]
fn the_reference_cost_is_the_same_tokens_at_the_dearest_candidate() {
    let (cheap, dear, elsewhere) = (
        Provider::healthy(1000, 500),
        Provider::healthy(1, 1),
        Provider::healthy(1, 1),
    );
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("cheap", &cheap).rates("1000", "2000"))
        .provider(
            ProviderConfig::new("dear", &dear)
                .rates("4000", "8000")
                .line("base_fee = 1"),
        )
        .provider(
            ProviderConfig::new("elsewhere", &elsewhere)
                .rates("90000", "90000")
                .models(&["model-z"]),
        )
        .start();
    for body in [ask("model-a"), ask_stream("model-a")] {
        let mut reply = arbstr.chat(&body);
        reply.finish();
        let row = arbstr.row(&reply.id());
        assert_eq!(row.int("cost_nanosats"), Some(2_000_000_000));
        // 1000 at 4000, 500 at 8000 sats per million, and one sat for asking.
        assert_eq!(
            row.int("reference_cost_nanosats"),
            Some(9_000_000_000),
            "{row:?}"
        );
    }
}

#[test]
fn what_the_provider_itself_reports_is_kept_beside_ours_and_told_where_it_differs() {
    let usage = r#"{"prompt_tokens":1000,"completion_tokens":500,"cost_sats":2.5}"#;
    let provider = Provider::always(Answer::json(200, &json_with(usage)));
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    assert_eq!(
        (row.int("cost_nanosats"), row.int("provider_cost_nanosats")),
        (Some(2_000_000_000), Some(2_500_000_000))
    );
    assert_eq!(
        row.int("cost_disagrees"),
        Some(1),
        "a quarter more than ours"
    );
    arbstr.chat(&ask("model-a")).finish();
    let counted = "arbstr_price_doubts_total{kind=\"cost_disagrees\",provider=\"alpha\"} 2";
    let metrics = || arbstr.get("/metrics").finish();
    assert!(
        wait_until(Duration::from_secs(2), || metrics().contains(counted)),
        "{}",
        metrics()
    );
    let told = arbstr.log().matches("charged something else").count();
    assert_eq!(told, 1, "{}", arbstr.log());
}

#[test]
fn token_columns_hold_what_details_say() {
    let usage = r#"{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":40},"completion_tokens_details":{"reasoning_tokens":30}}"#;
    let provider = Provider::always(Answer::json(200, &json_with(usage)));
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    let columns = [
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "reasoning_tokens",
    ]
    .map(|column| row.int(column));
    assert_eq!(columns, [Some(100), Some(50), Some(40), Some(30)]);
    assert_eq!(row.text("finish_reason").as_deref(), Some("stop"));
}

#[test]
fn more_cached_tokens_than_tokens_is_no_sane_usage() {
    let usage = r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":40}}"#;
    let provider = Provider::always(Answer::json(200, &json_with(usage)));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).line("cached_input_rate = 1"))
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert!(
        row.int("cost_nanosats").is_none_or(|cost| cost >= 0),
        "{row:?}"
    );
}

#[test]
fn a_failed_attempt_costs_nothing_by_itself() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::always(Answer::json(200, &completion(1000, 500))),
    );
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("bad", &bad)
                .rates("1", "1")
                .line("base_fee = 0"),
        )
        .provider(ProviderConfig::new("good", &good))
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    assert_eq!(reply.needs("x-arbstr-cost-sats"), "2");
}
