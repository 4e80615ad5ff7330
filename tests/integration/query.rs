//! The query API: totals, pages of requests, and what one request cost and why it went where it went.

mod pages;
mod parameters;
mod totals;

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, Provider, ProviderConfig, Row, Setup, ask, ask_stream, wait_until,
};

/// A good answer to `GET path`.
#[track_caller]
fn get(arbstr: &Arbstr, path: &str) -> Value {
    let mut reply = arbstr.get(path);
    let json = reply.json();
    assert_eq!(reply.status, 200, "{path}: {json}");
    json
}

/// Waits until nothing is in progress any more and `count` requests are on record.
#[track_caller]
fn settle(arbstr: &Arbstr, count: usize) {
    let settled = || {
        let totals = get(arbstr, "/v1/stats")["totals"].clone();
        totals["requests"] == count && totals["in_progress"] == 0
    };
    assert!(
        wait_until(Duration::from_secs(3), settled),
        "{count} requests on record: {}",
        get(arbstr, "/v1/stats")
    );
}

/// Two providers of two models; a third model is broken, a fourth has no price.
fn market() -> (Vec<Provider>, Setup) {
    let providers = vec![
        Provider::healthy(1000, 500),
        Provider::healthy(77, 3),
        Provider::always(Answer::fault(500, "broken")),
        Provider::healthy(5, 5),
    ];
    let setup = Setup::new()
        .set("circuit", "failures = 1000")
        .provider(ProviderConfig::new("alpha", &providers[0]).rates("1000.5", "2000"))
        .provider(
            ProviderConfig::new("beta", &providers[1])
                .models(&["model-a", "model-b"])
                .rates("9000", "9000.001")
                .line("tier = \"frontier\""),
        )
        .provider(ProviderConfig::new("broken", &providers[2]).models(&["model-c"]))
        .provider(
            ProviderConfig::new("unpriced", &providers[3])
                .models(&["model-d"])
                .no_rates(),
        );
    (providers, setup)
}

/// `count` requests of every kind.
fn make_requests(arbstr: &Arbstr, count: usize) {
    for nth in 0..count {
        let model = [
            "model-a",
            "model-b",
            "model-a",
            "model-c",
            "model-d",
            "no-such-model",
        ][nth % 6];
        let body = if nth % 2 == 0 {
            ask(model)
        } else {
            ask_stream(model)
        };
        arbstr.chat(&body).drain();
    }
}

#[test]
fn a_request_is_found_by_its_id_with_plan_and_attempts() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::healthy(1000, 500),
    );
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good))
        .start();
    for body in [ask("model-a"), ask_stream("model-a")] {
        let mut reply = arbstr.chat(&body);
        reply.finish();
        let path = format!("/v1/requests/{}", reply.id());
        let finished = || arbstr.get(&path).json()["success"] == true;
        assert!(
            wait_until(Duration::from_secs(1), finished),
            "at the latest a second after the end: {}",
            arbstr.get(&path).json()
        );
        let found = arbstr.get(&path).json();
        assert_eq!(
            (
                &found["correlation_id"],
                &found["provider"],
                &found["model"]
            ),
            (&reply.id().into(), &"good".into(), &"model-a".into())
        );
        assert_eq!(
            (
                &found["input_tokens"],
                &found["output_tokens"],
                &found["cost_sats"]
            ),
            (&1000.into(), &500.into(), &2.into())
        );
        assert_eq!(found["streaming"], body.contains("stream"));
        let attempts = found["attempts"].as_array().unwrap();
        assert_eq!(attempts.last().unwrap()["provider"], "good", "{found}");
        let plan = found["plan"].as_object().unwrap();
        assert_eq!(plan["model"], "model-a");
        let candidates = plan["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), 2);
        for key in [
            "provider",
            "model",
            "expected_input_tokens",
            "expected_output_tokens",
            "expected_cost_sats",
            "skipped",
        ] {
            assert!(candidates[0].get(key).is_some(), "{key} in {plan:?}");
        }
        assert_eq!(candidates[0]["provider"], "bad", "cheapest first");
        assert_eq!(named_in_database(&arbstr, &reply.id()), *candidates);
    }
}

/// The candidates of that request as the database's view has them, in the API's shape.
fn named_in_database(arbstr: &Arbstr, id: &str) -> Vec<Value> {
    let sql = "SELECT json_object(
            'provider', provider, 'model', model, 'expected_input_tokens', expected_input_tokens,
            'expected_cached_input_tokens', expected_cached_input_tokens,
            'expected_output_tokens', expected_output_tokens, 'expected_cost_sats', expected_cost_sats,
            'price_age_secs', price_age_secs, 'cost_parts', json_object('input_sats', input_sats,
                'cached_input_sats', cached_input_sats, 'output_sats', output_sats,
                'base_fee_sats', base_fee_sats, 'failure_sats', failure_sats),
            'success_rate', success_rate, 'latency_ms', latency_ms, 'ranked', ranked, 'skipped', skipped) AS candidate
        FROM candidates WHERE correlation_id = ?1 ORDER BY place";
    let rows = Row::read(&arbstr.database(), sql, &[id]);
    let candidate = |row: &Row| serde_json::from_str(&row.text("candidate").unwrap()).unwrap();
    rows.iter().map(candidate).collect()
}

#[test]
fn an_unknown_id_is_404() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    for id in ["019a0000-0000-7000-8000-000000000000", "nonsense", "%00"] {
        let mut reply = arbstr.get(&format!("/v1/requests/{id}"));
        let error = reply.json();
        assert_eq!(reply.status, 404, "{error}");
        assert!(error["error"]["message"].is_string());
    }
}

#[test]
fn a_plan_of_many_keeps_the_best_and_those_that_can_be_asked() {
    let refusing = Provider::always(Answer::fault(401, "invalid_api_key"));
    let good = Provider::healthy(10, 4);
    let mut setup = Setup::new().set("retry", "max_attempts = 40");
    for nth in 0..40 {
        let provider = if nth < 30 { &refusing } else { &good };
        let rate = (nth + 1).to_string();
        let config = ProviderConfig::new(&format!("p{nth}"), provider).rates(&rate, &rate);
        setup = setup.provider(config);
    }
    let arbstr = setup.start();
    let mut replies = [(); 2].map(|()| arbstr.chat(&ask("model-a")));
    let plans = replies.each_mut().map(|reply| {
        reply.finish();
        assert_eq!(reply.status, 200);
        arbstr.row(&reply.id());
        get(&arbstr, &format!("/v1/requests/{}", reply.id()))["plan"].clone()
    });
    let skipped = |plan: &Value| {
        let candidates = plan["candidates"].as_array().unwrap().iter();
        candidates
            .map(|each| !each["skipped"].is_null())
            .collect::<Vec<_>>()
    };
    assert_eq!(skipped(&plans[0]), [false; 32]);
    assert_eq!(plans[0]["omitted"], 8);
    // Thirty are suspended now.
    assert_eq!(
        skipped(&plans[1]),
        [vec![true; 24], vec![false; 8]].concat()
    );
    assert_eq!(plans[1]["candidates"][24]["provider"], "p30");
    assert_eq!(plans[1]["omitted"], 8);
    let mut cost = arbstr.call("POST", "/v1/cost", &[], ask("model-a").as_bytes());
    let whole = cost.json();
    assert_eq!(whole["candidates"].as_array().unwrap().len(), 40);
    assert!(whole.get("omitted").is_none());
}
