//! The stream: what of it reaches the client, when, and how it may end.

use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, DONE, Gate, House, Provider, Reply, Seller, ask_stream, ask_stream_with_usage,
    chunk, event, finish, usage_chunk, wait_until,
};

/// What arbstr added after the provider's own bytes, taken apart.
#[track_caller]
fn own_event(appended: &str) -> Value {
    let data = appended
        .strip_prefix("data: ")
        .and_then(|rest| rest.strip_suffix("\n\ndata: [DONE]\n\n"));
    let data = data.unwrap_or_else(|| panic!("no trailing event: {appended:?}"));
    assert!(!data.contains('\n'), "one line: {data:?}");
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}"))
}

/// The provider's bytes come first, unchanged; gives the rest.
#[track_caller]
fn after_bytes<'a>(text: &'a str, own: &str) -> &'a str {
    text.strip_prefix(own)
        .unwrap_or_else(|| panic!("provider gave\n{own}\nclient got\n{text}"))
}

fn body_of(answer: &Answer) -> String {
    String::from_utf8(answer.body()).unwrap()
}

#[test]
fn the_streamed_row_has_provider_tokens_cost_latency_and_success() {
    let provider = Provider::healthy(1000, 500);
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(row.text("provider").as_deref(), Some("alpha"));
    assert_eq!(
        (
            row.int("streaming"),
            row.int("input_tokens"),
            row.int("output_tokens")
        ),
        (Some(1), Some(1000), Some(500))
    );
    // 1000 at 1000 and 500 at 2000 sats per million: two sats.
    assert_eq!(row.int("cost_nanosats"), Some(2_000_000_000));
    assert!(
        row.int("latency_ms").is_some()
            && row.int("stream_duration_ms").is_some()
            && row.int("duration_ms").is_some(),
        "{row:?}"
    );
    assert_eq!(row.text("finish_reason").as_deref(), Some("stop"));
    assert_eq!(
        (row.int("attempts"), row.int("error_status")),
        (Some(1), None)
    );
}

#[test]
fn a_client_that_asked_for_usage_gets_every_byte_then_the_trailing_event() {
    let answer = Answer::sse()
        .send(": hello\n\n")
        .send(chunk("Hé"))
        .send("event: ping\nid: 7\nretry: 10\ndata:{\"choices\":[]}\n\n")
        .send(event(r#"{"id":"chatcmpl-last", "choices":[ {"index":0,"delta":{},"finish_reason":"stop"} ], "usage":null, "model":"served-last"}"#))
        .send(usage_chunk(1000, 500))
        .send(DONE);
    let provider = Provider::always(answer.clone());
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    let text = reply.finish();
    let own = own_event(after_bytes(&text, &body_of(&answer)));
    assert_eq!(own["object"], "chat.completion.chunk");
    assert_eq!(
        (&own["id"], &own["model"], &own["created"]),
        (
            &"chatcmpl-p1".into(),
            &"served-name".into(),
            &1_700_000_001.into()
        )
    );
    assert_eq!(own["choices"], Value::Array(Vec::new()));
    let extra = &own["arbstr"];
    assert_eq!(
        (&extra["request_id"], &extra["provider"]),
        (&reply.id().into(), &"alpha".into())
    );
    assert!(extra["latency_ms"].is_u64(), "{extra}");
    assert!(
        text.contains(r#""cost_sats":2,"#) || text.contains(r#""cost_sats":2}"#),
        "an exact decimal: {extra}"
    );
    assert_eq!(own.get("usage"), None);
    assert!(
        reply.needs("content-type").starts_with("text/event-stream"),
        "{}",
        reply.head
    );
    assert_eq!(
        reply.header("x-arbstr-cost-sats"),
        None,
        "nobody knows it yet"
    );
}

#[test]
fn id_and_model_of_the_trailing_event_are_the_last_non_empty_ones() {
    let answer = Answer::sse()
        .send(event(r#"{"id":"first","model":"m1","created":5,"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#))
        .send(event(r#"{"id":"","model":"","created":0,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#))
        .send(DONE);
    let provider = Provider::always(answer.clone());
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    let own = own_event(after_bytes(&reply.finish(), &body_of(&answer)));
    assert_eq!((&own["id"], &own["model"]), (&"first".into(), &"m1".into()));
    assert_eq!(
        own["arbstr"]["cost_sats"],
        Value::Null,
        "unknown is null, not 0"
    );
}

#[test]
fn the_first_chunk_arrives_before_the_provider_sends_its_second() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("one"))
            .wait_for(&gate)
            .send(chunk("two"))
            .send(finish("stop"))
            .send(DONE),
    );
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("one"));
    assert!(!gate.is_open() && !reply.text().contains("two"));
    gate.open();
    assert!(reply.finish().contains("two"));
}

#[test]
fn every_event_passes_as_soon_as_it_is_complete() {
    let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
    let mut answer = Answer::sse().send(chunk("0"));
    for (at, gate) in gates.iter().enumerate() {
        answer = answer.wait_for(gate).send(chunk(&format!("{}", at + 1)));
    }
    let provider = Provider::always(answer.send(DONE));
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let mut own = String::new();
    for (at, gate) in gates.iter().enumerate() {
        own += &chunk(&at.to_string());
        reply.read_until(&chunk(&at.to_string()));
        assert_eq!(reply.text(), own);
        gate.open();
    }
    reply.finish();
}

#[test]
fn a_slow_chunk_is_not_held_for_the_next_line() {
    // The event is complete with its empty line, not with the first byte of the next event.
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\r\n\r\n")
            .wait_for(&gate)
            .send(DONE),
    );
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    assert_eq!(reply.read_frame_within(Duration::from_secs(1)), Some(true));
    gate.open();
    reply.finish();
}

#[test]
fn the_trailing_event_leaves_in_the_same_write_as_done() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("a"))
            .wait_for(&gate)
            .send(DONE)
            .stall(),
    );
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    gate.open();
    let from = Instant::now();
    reply.finish();
    assert!(
        from.elapsed() < Duration::from_secs(1),
        "the response waited for the upstream to close"
    );
    let last = String::from_utf8(reply.frames.last().unwrap().1.clone()).unwrap();
    own_event(
        last.strip_prefix(DONE)
            .unwrap_or_else(|| panic!("{last:?}")),
    );
    arbstr.row(&reply.id()).assert_success();
}

/// `stream` config, then what follows the provider's bytes.
#[test]
fn metadata_as_a_comment_or_off() {
    let answer = Answer::sse()
        .send(chunk("Hello"))
        .send(finish("stop"))
        .send(usage_chunk(10, 5))
        .send(DONE);
    let provider = Provider::always(answer.clone());
    for (mode, has_comment) in [("comment", true), ("off", false)] {
        let arbstr = House::of(&provider)
            .set("stream", &format!("metadata = \"{mode}\""))
            .start();
        let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
        let text = reply.finish();
        let rest = after_bytes(&text, &body_of(&answer));
        if has_comment {
            let json = rest
                .strip_prefix(": arbstr ")
                .map(str::trim_end)
                .unwrap_or_else(|| panic!("{rest:?}"));
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(value["request_id"], reply.id());
            assert!(!json.contains('\n') && rest.ends_with("\n\n"), "{rest:?}");
        } else {
            assert_eq!(rest, "");
        }
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(row.int("cost_nanosats"), Some(20_000_000));
    }
}

const CONTENT: &str =
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;

/// Data of an event as the provider sends it, and as a client sees it that did not ask for usage (`None`: not at all).
const HIDDEN: &[(&str, Option<&str>)] = &[
    (CONTENT, Some(CONTENT)),
    (
        r#"{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        None,
    ),
    (
        r#"{ "usage" : { "prompt_tokens" : 1 } , "x":1, "choices" : [ ] }"#,
        None,
    ),
    (
        r#"{"choices":[{"index":0,"delta":{}}],"usage":null}"#,
        Some(r#"{"choices":[{"index":0,"delta":{}}]}"#),
    ),
    (
        r#"{"usage":null,"choices":[{"index":0,"delta":{}}]}"#,
        Some(r#"{"choices":[{"index":0,"delta":{}}]}"#),
    ),
    (
        r#"{"choices":[{"delta":{"content":"\"usage\":null"},"index":0}],"x":{"usage":null}}"#,
        Some(
            r#"{"choices":[{"delta":{"content":"\"usage\":null"},"index":0}],"x":{"usage":null}}"#,
        ),
    ),
    // Azure's empty first chunk, and usage beside choices, are the provider's own.
    (
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
        Some(r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#),
    ),
    (
        r#"{"choices":[{"index":0,"delta":{"content":"y"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        Some(
            r#"{"choices":[{"index":0,"delta":{"content":"y"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        ),
    ),
];

#[test]
fn what_asking_for_usage_caused_is_kept_from_a_client_that_did_not_ask() {
    let provider_says: String = HIDDEN
        .iter()
        .map(|(data, _)| event(data))
        .collect::<String>()
        + DONE;
    let client_sees: String = HIDDEN
        .iter()
        .filter_map(|(_, data)| data.map(event))
        .collect::<String>()
        + DONE;
    let (head, tail) = provider_says.split_at(provider_says.len() / 2);
    let sends = [
        Answer::sse().send(&provider_says),
        Answer::sse().send(head).pause(10).send(tail),
        Answer::sse().trickle(&provider_says),
        Answer::sse().with_length().send(&provider_says),
        Answer::sse().until_close().send(&provider_says),
    ];
    for answer in sends {
        let provider = Provider::always(answer);
        let arbstr = House::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        own_event(after_bytes(&reply.finish(), &client_sees));
        let mut asking = arbstr.chat(&ask_stream_with_usage("model-a"));
        own_event(after_bytes(&asking.finish(), &provider_says));
        for id in [reply.id(), asking.id()] {
            let row = arbstr.row(&id);
            row.assert_success();
            assert_eq!(
                (row.int("input_tokens"), row.int("output_tokens")),
                (Some(1), Some(2))
            );
        }
    }
}

#[test]
fn usage_null_with_spaces_around_leaves_sound_json() {
    let variants = [
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}] , \"usage\" : null }",
        "{ \"usage\" : null , \"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
        "{\"id\":\"x\", \"usage\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
    ];
    for data in variants {
        let provider = Provider::always(Answer::sse().send(event(data)).send(DONE));
        let arbstr = House::of(&provider).start();
        let text = arbstr.chat(&ask_stream("model-a")).finish();
        let first = text.lines().next().unwrap().strip_prefix("data: ").unwrap();
        let mut expected: Value = serde_json::from_str(data).unwrap();
        expected.as_object_mut().unwrap().remove("usage");
        assert_eq!(
            serde_json::from_str::<Value>(first).unwrap_or_else(|error| panic!("{error}: {first}")),
            expected
        );
    }
}

/// The bytes of the stream, what the row has to say: input, output, cached, reasoning tokens.
#[test]
fn usage_is_found_wherever_a_provider_puts_it() {
    let with = |usage: &str| {
        event(&format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"finish_reason":null}}],"usage":{usage}}}"#
        ))
    };
    let only = |usage: &str| event(&format!(r#"{{"choices":[],"usage":{usage}}}"#));
    let two = r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}"#;
    let details = r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":6,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}}"#;
    let deepseek = r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":4}"#;
    let cases: Vec<(&str, String, [Option<i64>; 4])> = vec![
        (
            "own chunk",
            chunk("x") + &finish("stop") + &only(two),
            [Some(10), Some(4), None, None],
        ),
        (
            "last content chunk",
            chunk("x") + &with(two) + &finish("stop"),
            [Some(10), Some(4), None, None],
        ),
        (
            "cumulative, last wins",
            with(r#"{"prompt_tokens":10,"completion_tokens":1}"#) + &with(two),
            [Some(10), Some(4), None, None],
        ),
        (
            "details",
            chunk("x") + &only(details),
            [Some(10), Some(4), Some(6), Some(3)],
        ),
        (
            "DeepSeek",
            chunk("x") + &only(deepseek),
            [Some(10), Some(4), Some(6), None],
        ),
        (
            "CRLF",
            (chunk("x") + &only(two)).replace('\n', "\r\n"),
            [Some(10), Some(4), None, None],
        ),
        (
            "no space after the colon",
            (chunk("x") + &only(two)).replace("data: ", "data:"),
            [Some(10), Some(4), None, None],
        ),
        (
            "two data lines",
            chunk("x")
                + "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4}}\n\n",
            [Some(10), Some(4), None, None],
        ),
        (
            "garbage between",
            chunk("x")
                + "data: {\"choices\":[\n\ndata: \u{0}\u{1}\n\n:::\n\nnothing\n\n"
                + &only(two),
            [Some(10), Some(4), None, None],
        ),
        (
            "negative",
            chunk("x") + &only(r#"{"prompt_tokens":-1,"completion_tokens":4}"#),
            [None, Some(4), None, None],
        ),
        (
            "fraction",
            chunk("x") + &only(r#"{"prompt_tokens":10,"completion_tokens":4.5}"#),
            [Some(10), None, None, None],
        ),
        (
            "string",
            chunk("x") + &only(r#"{"prompt_tokens":"10","completion_tokens":4}"#),
            [None, Some(4), None, None],
        ),
        (
            "over 2^40",
            chunk("x") + &only(r#"{"prompt_tokens":10,"completion_tokens":1099511627777}"#),
            [Some(10), None, None, None],
        ),
        ("none", chunk("x") + &finish("stop"), [None; 4]),
    ];
    for (name, stream, expected) in cases {
        let provider = Provider::always(Answer::sse().send(stream + DONE));
        let arbstr = House::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        reply.finish();
        let row = arbstr.row(&reply.id());
        row.assert_success();
        let got = [
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "reasoning_tokens",
        ]
        .map(|column| row.int(column));
        // A detail that a provider gives as nothing may be kept as nothing or as 0.
        let same = got
            .iter()
            .zip(&expected)
            .enumerate()
            .all(|(at, (got, want))| got == want || at > 1 && want.is_none() && *got == Some(0));
        assert!(same, "{name}: {got:?} instead of {expected:?}");
        let known = expected[0].is_some() && expected[1].is_some();
        assert_eq!(row.int("cost_nanosats").is_some(), known, "{name}: {row:?}");
    }
}

#[test]
fn a_huge_event_and_split_characters_pass_and_the_observer_is_in_step_after_them() {
    let huge = chunk(&"é".repeat(1_000_000));
    let answer = Answer::sse()
        .send(chunk("a"))
        .send(&huge)
        .send(finish("stop"))
        .send(usage_chunk(10, 4))
        .send(DONE);
    let provider = Provider::always(answer.clone());
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    reply.finish();
    assert!(
        reply.body.starts_with(&answer.body()),
        "2 MB of one event did not pass as it came"
    );
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("output_tokens")),
        (Some(10), Some(4))
    );
}

#[test]
fn bytes_that_are_no_text_pass_untouched() {
    let mut bytes = chunk("a").into_bytes();
    bytes.extend_from_slice(b"data: \xff\xfe\x80 not utf-8\n\n: \xc3\x28\n\n");
    bytes.extend_from_slice((finish("stop") + DONE).as_bytes());
    let provider = Provider::always(Answer::sse().send(&bytes));
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    assert!(reply.body.starts_with(&bytes), "{}", reply.text());
    arbstr.row(&reply.id()).assert_success();
}

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
        let arbstr = House::of(&provider).set("timeouts", "idle = 1").start();
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
    let arbstr = House::of(&provider).start();
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
        let arbstr = House::of(&provider)
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
        let arbstr = House::of(&provider).start();
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
    let arbstr = House::new()
        .seller(Seller::new("alpha", &provider).line("requires_done = false"))
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
        let arbstr = House::of(&provider).start();
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
        let arbstr = House::of(&provider).start();
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

/// A stream that stands still after its first chunk until the gate opens, then ends well.
fn held(gate: &Gate) -> Answer {
    Answer::sse()
        .send(chunk("Hel"))
        .wait_for(gate)
        .send(chunk("lo"))
        .send(finish("stop"))
        .send(usage_chunk(10, 4))
        .send(DONE)
}

#[track_caller]
fn leave(arbstr: &Arbstr, how: fn(Reply)) -> String {
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("Hel"));
    let id = reply.id();
    how(reply);
    thread::sleep(Duration::from_millis(100));
    id
}

#[test]
fn a_client_that_leaves_is_drained_for_so_that_the_cost_is_known() {
    for how in [Reply::leave as fn(Reply), Reply::reset] {
        let gate = Gate::new();
        let provider = Provider::always(held(&gate));
        let arbstr = House::of(&provider).start();
        let id = leave(&arbstr, how);
        assert_eq!(provider.closed_at(0), None, "drained, not dropped");
        gate.open();
        let row = arbstr.row(&id);
        row.assert_failure("client_disconnected");
        assert_eq!(
            (
                row.int("input_tokens"),
                row.int("output_tokens"),
                row.int("cost_nanosats")
            ),
            (Some(10), Some(4), Some(18_000_000))
        );
    }
}

#[test]
fn a_drain_that_meets_no_done_leaves_the_cost_unknown() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("Hel"))
            .wait_for(&gate)
            .send(usage_chunk(10, 4))
            .reset(),
    );
    let arbstr = House::of(&provider).start();
    let id = leave(&arbstr, Reply::leave);
    gate.open();
    let row = arbstr.row(&id);
    row.assert_failure("client_disconnected");
    assert_eq!(
        (row.int("input_tokens"), row.int("cost_nanosats")),
        (None, None)
    );
}

#[test]
fn a_drain_lasts_no_longer_than_it_may() {
    let gate = Gate::new();
    let provider = Provider::always(held(&gate));
    let arbstr = House::of(&provider)
        .set("stream", "drain_max_secs = 1")
        .start();
    let id = leave(&arbstr, Reply::reset);
    assert!(
        provider.saw_close(0, Duration::from_millis(2500)),
        "still draining"
    );
    arbstr.row(&id).assert_failure("client_disconnected");
}

#[test]
fn abort_closes_the_upstream_within_a_second() {
    let line = r#"on_client_disconnect = "abort""#;
    for provider_line in [false, true] {
        let gate = Gate::new();
        let provider = Provider::always(held(&gate));
        let seller = Seller::new("alpha", &provider);
        let house = if provider_line {
            House::new().seller(seller.line(line))
        } else {
            House::new().seller(seller).set("stream", line)
        };
        let arbstr = house.start();
        let id = leave(&arbstr, Reply::reset);
        assert!(
            provider.saw_close(0, Duration::from_secs(1)),
            "the upstream is still open"
        );
        let row = arbstr.row(&id);
        row.assert_failure("client_disconnected");
        assert_eq!(row.int("cost_nanosats"), None);
    }
}

#[test]
fn a_client_that_leaves_before_the_first_byte_follows_the_same_rule() {
    for (mode, drains) in [("drain", true), ("abort", false)] {
        let gate = Gate::new();
        let answer = Answer::sse()
            .send(chunk("Hel"))
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE)
            .after(&gate);
        let provider = Provider::always(answer);
        let arbstr = House::of(&provider)
            .set("stream", &format!("on_client_disconnect = \"{mode}\""))
            .start();
        let mut client = arbstr.client();
        client.request(
            "POST",
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            ask_stream("model-a").as_bytes(),
        );
        gate.wait_reached();
        client.reset();
        let closed = provider.saw_close(0, Duration::from_millis(1000));
        assert_eq!(closed, !drains, "{mode}");
        gate.open();
        let settled = || {
            arbstr
                .rows()
                .first()
                .is_some_and(|row| row.text("error_message").as_deref() != Some("in_progress"))
        };
        assert!(wait_until(Duration::from_secs(2), settled));
        let row = arbstr.rows().remove(0);
        row.assert_failure("client_disconnected");
        assert_eq!(
            row.int("cost_nanosats"),
            drains.then_some(18_000_000),
            "{mode}: {row:?}"
        );
    }
}

#[test]
fn leaving_after_done_is_success() {
    let provider = Provider::always(Answer::stream(10, 4).stall());
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(DONE);
    let id = reply.id();
    reply.reset();
    let row = arbstr.row(&id);
    row.assert_success();
    assert_eq!(row.int("cost_nanosats"), Some(18_000_000));
}

#[test]
fn a_stream_that_ended_promptly_gives_its_connection_back() {
    let provider = Provider::healthy(1, 1);
    let arbstr = House::of(&provider).start();
    for _ in 0..3 {
        arbstr.chat(&ask_stream("model-a")).finish();
        thread::sleep(Duration::from_millis(100));
    }
    let connections: Vec<_> = provider.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0]);
}

#[test]
fn comments_keep_a_quiet_stream_alive() {
    let mut answer = Answer::sse().send(chunk("a"));
    for _ in 0..5 {
        answer = answer.pause(400).send(": keep-alive\n\n");
    }
    let provider = Provider::always(answer.send(finish("stop")).send(DONE));
    let arbstr = House::of(&provider).set("timeouts", "idle = 1").start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let text = reply.finish();
    assert_eq!(text.matches(": keep-alive\n\n").count(), 5);
    arbstr.row(&reply.id()).assert_success();
}

#[test]
fn a_total_limit_ends_even_a_lively_stream() {
    let mut answer = Answer::sse();
    for _ in 0..30 {
        answer = answer.send(chunk("a")).pause(100);
    }
    let provider = Provider::always(answer.send(DONE));
    let arbstr = House::of(&provider).set("timeouts", "total = 1").start();
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
fn headers_of_the_provider_pass_but_not_all() {
    let answer = Answer::stream(1, 1)
        .header("x-ratelimit-remaining-tokens", "99")
        .header("openai-processing-ms", "12")
        .header("set-cookie", "__cf=1")
        .header("x-arbstr-cost-sats", "0")
        .header("x-arbstr-forged", "yes")
        .header("x-request-id", "req_provider")
        .header("keep-alive", "timeout=9")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    let provider = Provider::always(answer);
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("99"));
    assert_eq!(reply.header("openai-processing-ms"), Some("12"));
    for name in [
        "set-cookie",
        "x-arbstr-forged",
        "x-arbstr-cost-sats",
        "x-hop",
    ] {
        assert_eq!(reply.header(name), None, "{name}\n{}", reply.head);
    }
    assert_ne!(reply.header("keep-alive"), Some("timeout=9"));
    assert_eq!(reply.needs("x-arbstr-attempts"), "alpha;status=200");
    assert_eq!(
        reply.needs("content-type"),
        "text/event-stream; charset=utf-8"
    );
}

/// Memory of a process in KiB, as the kernel tells it.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_client_that_does_not_read_stalls_its_upstream_and_nothing_else() {
    let big = chunk(&"x".repeat(60_000));
    let mut answer = Answer::sse().send(chunk("first"));
    for _ in 0..1000 {
        answer = answer.send(&big);
    }
    let provider = Provider::by(move |seen, _| {
        if seen.text().contains("model-b") {
            Answer::stream(1, 1)
        } else {
            answer.clone()
        }
    });
    let arbstr = House::new()
        .seller(Seller::new("alpha", &provider).models(&["model-a", "model-b"]))
        .start();
    arbstr.chat(&ask_stream("model-b")).finish();
    let before = resident_kib(arbstr.pid());
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("first"));
    thread::sleep(Duration::from_millis(700));
    let grown = resident_kib(arbstr.pid()).saturating_sub(before);
    assert!(
        grown < 8 * 1024,
        "{grown} KiB held for a client that does not read"
    );
    arbstr.chat(&ask_stream("model-b")).finish();
    let id = reply.id();
    reply.reset();
    arbstr.rows();
    assert!(arbstr.row_now(&id).is_some());
}

#[test]
fn many_streams_at_once_keep_apart() {
    let provider = Provider::by(|seen, _| {
        let word = seen
            .text()
            .split("word-")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        let mut answer = Answer::sse();
        for _ in 0..20 {
            answer = answer.send(chunk(&word)).pause(5);
        }
        answer
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE)
    });
    let arbstr = House::of(&provider).start();
    thread::scope(|scope| {
        for at in 0..40 {
            let arbstr = &arbstr;
            scope.spawn(move || {
                let body = ask_stream("model-a").replace("Say hello.", &format!("word-{at}"));
                let text = arbstr.chat(&body).finish();
                assert_eq!(text.matches(&chunk(&at.to_string())).count(), 20);
            });
        }
    });
    let settled = || arbstr.rows().iter().filter(|row| row.verdict().0).count() == 40;
    assert!(
        wait_until(Duration::from_secs(3), settled),
        "{:?}",
        arbstr.rows()
    );
}
