//! How a stream may end, and what then reaches the client and the row.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{after_bytes, body_of, own_event};
use crate::harness::{
    Answer, DONE, Provider, ProviderConfig, Setup, ask_stream, ask_stream_with_usage, chunk, event,
    finish, usage_chunk,
};

/// What ends a stream after its first event.
struct Cut {
    name: &'static str,
    answer: Answer,
    /// What of the provider's bytes has to reach the client before the error event.
    seen: String,
}

fn cuts() -> Vec<Cut> {
    let (whole, half) = (chunk("Hello"), chunk("half an event"));
    let start = || Answer::sse().send(chunk("Hello"));
    let cut = |name, answer: Answer| Cut {
        name,
        answer,
        seen: whole.clone(),
    };
    vec![
        cut("reset", start().reset()),
        cut("closed amid chunks", start().fin()),
        cut("clean end", start()),
        cut("closed amid an event", start().send(&half[..30]).fin()),
        cut(
            "reset amid an event",
            start().send(&half[..30]).pause(50).reset(),
        ),
        cut(
            "reset amid a line end",
            start().send(half.trim_end_matches('\n')).pause(50).reset(),
        ),
        cut(
            "Content-Length too long",
            Answer::sse().send(&whole).short_by(10),
        ),
        cut(
            "closed where the close ends it",
            Answer::sse().until_close().send(&whole),
        ),
        cut("silent", start().stall()),
        cut("broken chunk size", start().raw("zz\r\n").fin()),
    ]
}

#[test]
fn an_upstream_that_breaks_gives_an_error_event_and_no_done() {
    for Cut { name, answer, seen } in cuts() {
        let provider = Provider::always(answer);
        let arbstr = Setup::of(&provider).set("timeouts", "idle = 1").start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        let rest = after_bytes(&text, &seen);
        let error = error_event(rest).unwrap_or_else(|| panic!("{name}: {rest:?}"));
        assert_eq!(
            error["error"]["code"], "upstream_stream_interrupted",
            "{name}"
        );
        assert!(
            error["error"]["message"].is_string() && error["error"]["type"].is_string(),
            "{name}: {error}"
        );
        assert_eq!(error["arbstr"]["request_id"], reply.id(), "{name}");
        assert!(!text.contains("[DONE]"), "{name}");
        let row = arbstr.row(&reply.id());
        let (success, message) = row.verdict();
        let message = message.unwrap_or_default();
        let told = if ["clean end", "closed where the close ends it"].contains(&name) {
            "stream_incomplete"
        } else {
            "upstream_error: "
        };
        assert!(!success && message.starts_with(told), "{name}: {row:?}");
        for column in ["input_tokens", "output_tokens", "cost_nanosats"] {
            assert_eq!(row.int(column), None, "{name} {column}");
        }
        assert!(row.int("stream_duration_ms").is_some(), "{name}");
    }
}

/// The last event, if it is an error on a line of its own.
fn error_event(rest: &str) -> Option<Value> {
    let (before, data) = rest.rsplit_once("data: {\"error\"")?;
    let data = data.strip_suffix("\n\n")?;
    (before.is_empty() || before.ends_with('\n')).then_some(())?;
    serde_json::from_str(&format!("{{\"error\"{data}")).ok()
}

#[test]
fn usage_of_an_unfinished_stream_is_not_trusted_but_estimated() {
    let answer = Answer::sse().send(chunk("Hello")).send(event(r#"{"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":10,"completion_tokens":4}}"#)).reset();
    let provider = Provider::always(answer);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    assert!(!row.verdict().0);
    assert_eq!(
        (
            row.int("input_tokens"),
            row.int("output_tokens"),
            row.int("cost_nanosats")
        ),
        (None, None, None)
    );
    // 10 at 1000, 4 at 2000 sats per million.
    assert_eq!(
        row.int("estimated_cost_nanosats"),
        Some(18_000_000),
        "{row:?}"
    );
}

#[test]
fn the_error_event_comes_in_every_metadata_mode() {
    for mode in ["comment", "off"] {
        let provider = Provider::always(Answer::sse().send(chunk("Hello")).reset());
        let arbstr = Setup::of(&provider)
            .set("stream", &format!("metadata = \"{mode}\""))
            .start();
        let text = arbstr.chat(&ask_stream("model-a")).finish();
        let error =
            error_event(after_bytes(&text, &chunk("Hello"))).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            (&error["error"]["code"], error.get("arbstr")),
            (&"upstream_stream_interrupted".into(), None)
        );
    }
}

#[test]
fn a_clean_end_after_all_finish_reasons_gets_nothing_appended() {
    let two = ask_stream_with_usage("model-a").replace("\"stream\"", "\"n\":2,\"stream\"");
    let first = finish("stop");
    let second = first.replace("\"index\":0", "\"index\":1");
    for (body, stream, complete) in [
        (ask_stream_with_usage("model-a"), chunk("a") + &first, true),
        (two.clone(), chunk("a") + &first + &second, true),
        (two, chunk("a") + &first, false),
    ] {
        let provider = Provider::always(Answer::sse().send(&stream));
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&body);
        let text = reply.finish();
        let rest = after_bytes(&text, &stream);
        assert_eq!(rest.is_empty(), complete, "{rest}");
        assert_eq!(error_event(rest).is_some(), !complete);
        let row = arbstr.row(&reply.id());
        row.assert_failure("stream_incomplete");
        assert_eq!(row.int("cost_nanosats"), None);
    }
}

#[test]
fn a_provider_known_to_send_no_done_is_complete_without() {
    let stream = chunk("a") + &finish("stop") + &usage_chunk(10, 4);
    let provider = Provider::always(Answer::sse().send(&stream));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).line("requires_done = false"))
        .start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    own_event(after_bytes(&reply.finish(), &stream));
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(row.int("cost_nanosats"), Some(18_000_000));
}

#[test]
fn a_providers_own_error_event_is_passed_on_and_is_no_success() {
    for error in [
        r#"{"error":{"message":"overloaded","type":"server_error","code":"overloaded"}}"#,
        r#"{"id":"gen","provider":"X","error":{"code":"server_error","message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
    ] {
        let answer = Answer::sse()
            .send(chunk("a"))
            .send(event(error))
            .send(usage_chunk(10, 4))
            .send(DONE);
        let provider = Provider::always(answer.clone());
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
        after_bytes(&reply.finish(), &body_of(&answer));
        let row = arbstr.row(&reply.id());
        assert!(
            !row.verdict().0 && row.verdict().1.unwrap().starts_with("upstream_error: "),
            "{row:?}"
        );
        assert_eq!(
            (row.int("input_tokens"), row.int("cost_nanosats")),
            (Some(10), Some(18_000_000))
        );
        // And without [DONE]: passed on, and nobody claims success.
        let cut = Answer::sse().send(chunk("a")).send(event(error));
        let provider = Provider::always(cut.clone());
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        after_bytes(&text, &body_of(&cut));
        assert!(!text.contains("[DONE]"), "{text}");
        let row = arbstr.row(&reply.id());
        assert!(
            !row.verdict().0 && row.verdict().1.unwrap().starts_with("upstream_error: "),
            "{row:?}"
        );
        assert_eq!(row.int("cost_nanosats"), None);
    }
}

#[test]
fn a_total_limit_ends_even_a_lively_stream() {
    let mut answer = Answer::sse();
    for _ in 0..30 {
        answer = answer.send(chunk("a")).pause(100);
    }
    let provider = Provider::always(answer.send(DONE));
    let arbstr = Setup::of(&provider).set("timeouts", "total = 1").start();
    let from = Instant::now();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let text = reply.finish();
    assert!(
        from.elapsed() < Duration::from_millis(2200),
        "{:?}",
        from.elapsed()
    );
    assert!(
        error_event(&text).is_some() && !text.contains("[DONE]"),
        "{text}"
    );
    assert!(!arbstr.row(&reply.id()).verdict().0);
}

#[test]
fn done_makes_a_stream_whole_whatever_the_connection_does_then() {
    for answer in [
        Answer::sse().send(chunk("a")).send(DONE).reset(),
        Answer::sse().send(chunk("a")).send(DONE).fin(),
        Answer::sse().send(chunk("a")).send(DONE).raw("garbage"),
    ] {
        let provider = Provider::always(answer);
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        own_event(after_bytes(&text, &(chunk("a") + DONE)));
        arbstr.row(&reply.id()).assert_success();
    }
}

#[test]
fn even_a_provider_that_sends_no_done_has_to_finish() {
    let provider = Provider::always(Answer::sse().send(chunk("a")));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).line("requires_done = false"))
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let text = reply.finish();
    assert!(
        error_event(&text).is_some() && !text.contains("[DONE]"),
        "{text}"
    );
    arbstr.row(&reply.id()).assert_failure("stream_incomplete");
}

#[test]
fn an_error_event_is_one_of_its_own_even_in_the_middle_of_a_large_one() {
    let big = chunk(&"y".repeat(200_000));
    for cut in [150_000, big.len() - 2, big.len() - 1] {
        let provider = Provider::always(
            Answer::sse()
                .send(chunk("a"))
                .send(&big[..cut])
                .pause(100)
                .reset(),
        );
        let arbstr = Setup::of(&provider).start();
        let text = arbstr.chat(&ask_stream("model-a")).finish();
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let error: Value = serde_json::from_str(
            last.strip_prefix("data: ")
                .unwrap_or_else(|| panic!("{}", &last[..last.len().min(200)])),
        )
        .unwrap();
        assert_eq!(error["error"]["code"], "upstream_stream_interrupted");
    }
}
