//! The query API: what a request cost and why it went where it went, by its id.

use std::time::Duration;

use crate::harness::{Answer, House, Provider, Seller, ask, ask_stream, wait_until};

#[test]
fn a_request_is_found_by_its_id_with_plan_and_attempts() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::healthy(1000, 500),
    );
    let arbstr = House::new()
        .seller(Seller::new("bad", &bad).rates("1", "1"))
        .seller(Seller::new("good", &good))
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
    }
}

#[test]
fn an_unknown_id_is_404() {
    let provider = Provider::healthy(1, 1);
    let arbstr = House::of(&provider).start();
    for id in ["019a0000-0000-7000-8000-000000000000", "nonsense", "%00"] {
        let mut reply = arbstr.get(&format!("/v1/requests/{id}"));
        let error = reply.json();
        assert_eq!(reply.status, 404, "{error}");
        assert!(error["error"]["message"].is_string());
    }
}
