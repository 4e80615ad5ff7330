//! What a failed attempt cost all the same is kept with it, as far as its provider told; the request's own cost is the
//! winner's alone.

use super::{Mode, ask_as, assert_answer_of};
use crate::harness::{Answer, Provider, ProviderConfig, Setup, chunk, event, usage_chunk};

const USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}"#;
/// That at 1 and 2 sats per token and a fee of 1 sat.
const SUNK_NANOSATS: i64 = (1000 + 500 * 2 + 1) * 1_000_000_000;

struct Case {
    name: &'static str,
    answer: Answer,
    mode: Mode,
    sunk: Option<i64>,
}

fn case(name: &'static str, mode: Mode, answer: Answer, sunk: Option<i64>) -> Case {
    Case {
        name,
        answer,
        mode,
        sunk,
    }
}

fn cases() -> Vec<Case> {
    let billed_fault = format!(r#"{{"error":{{"message":"half done","type":"x"}},{USAGE}}}"#);
    let no_result = format!(r#"{{"object":"chat.completion",{USAGE}}}"#);
    let charged = |answer: Answer| answer.header("x-routstr-cost-msats", "2500");
    vec![
        case(
            "a status with usage beside its error",
            Mode::Json,
            Answer::json(500, &billed_fault),
            Some(SUNK_NANOSATS),
        ),
        case(
            "an error that says 200",
            Mode::Json,
            Answer::json(200, &billed_fault),
            Some(SUNK_NANOSATS),
        ),
        case(
            "an answer without a result",
            Mode::Json,
            Answer::json(200, &no_result),
            Some(SUNK_NANOSATS),
        ),
        case(
            "a first event that is an error",
            Mode::Stream,
            Answer::sse().send(event(&billed_fault)),
            Some(SUNK_NANOSATS),
        ),
        case(
            "a charge in a header",
            Mode::Json,
            charged(Answer::fault(500, "x")),
            Some(2_500_000_000),
        ),
        case(
            "a stream that was charged and ended empty",
            Mode::Stream,
            charged(Answer::sse()),
            Some(2_500_000_000),
        ),
        case(
            "a failure that tells of no cost",
            Mode::Json,
            Answer::fault(500, "x"),
            None,
        ),
        case(
            "usage that nobody can believe",
            Mode::Json,
            Answer::json(
                500,
                r#"{"error":{"message":"x"},"usage":{"prompt_tokens":-1,"completion_tokens":2}}"#,
            ),
            None,
        ),
    ]
}

#[test]
fn a_failed_attempt_keeps_what_it_cost() {
    for Case {
        name,
        answer,
        mode,
        sunk,
    } in cases()
    {
        let (bad, good) = (Provider::always(answer), Provider::healthy(10, 10));
        let arbstr = Setup::new()
            .provider(
                ProviderConfig::new("bad", &bad)
                    .rates("1000000", "2000000")
                    .line("base_fee = 1"),
            )
            .provider(ProviderConfig::new("good", &good).rates("3000000", "6000000"))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "good", mode);
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(
            row.int("cost_nanosats"),
            Some(10 * 9 * 1_000_000_000),
            "{name}"
        );
        let attempts = arbstr.attempts(&reply.id());
        assert_eq!(attempts.len(), 2, "{name}");
        assert_eq!(attempts[0].text("provider").as_deref(), Some("bad"));
        assert_eq!(attempts[0].int("cost_nanosats"), sunk, "{name}");
        assert_eq!(attempts[1].int("cost_nanosats"), None, "{name}");
        let shown = arbstr.get(&format!("/v1/requests/{}", reply.id())).json();
        let exact = sunk.map(|nanosats| nanosats as f64 / 1e9);
        assert_eq!(shown["attempts"][0]["cost_sats"].as_f64(), exact, "{name}");
    }
}

#[test]
fn a_stream_that_breaks_after_its_usage_keeps_what_it_cost_with_its_attempt() {
    let broken = Answer::sse()
        .send(chunk("Hel"))
        .send(usage_chunk(1000, 500))
        .reset();
    let provider = Provider::always(broken);
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .rates("1000000", "2000000")
                .line("base_fee = 1"),
        )
        .start();
    let mut reply = arbstr.chat(&ask_as(Mode::Stream, "model-a"));
    assert!(reply.finish().contains("upstream_stream_interrupted"));
    let row = arbstr.row(&reply.id());
    assert_eq!(
        row.int("cost_nanosats"),
        None,
        "an unfinished stream is not trusted"
    );
    assert_eq!(row.int("estimated_cost_nanosats"), Some(SUNK_NANOSATS));
    let attempts = arbstr.attempts(&reply.id());
    assert_eq!(attempts[0].int("cost_nanosats"), Some(SUNK_NANOSATS));
    assert_eq!(row.int("sunk_cost_nanosats"), None, "not counted twice");
    let totals = arbstr.get("/v1/stats").json();
    assert_eq!(totals["totals"]["sunk_cost_sats"], 0, "{totals}");
    let metrics = arbstr.get("/metrics").finish();
    assert!(
        !metrics.contains("arbstr_sunk_cost_sats_total{"),
        "{metrics}"
    );
}
