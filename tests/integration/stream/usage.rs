//! Usage: found wherever a provider puts it, kept from clients that did not ask for it.

use serde_json::Value;

use super::{after_bytes, own_event};
use crate::harness::{
    Answer, DONE, Provider, Setup, ask_stream, ask_stream_with_usage, chunk, event, finish,
};

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
        let arbstr = Setup::of(&provider).start();
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
        let arbstr = Setup::of(&provider).start();
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

/// Name, bytes of the stream, and what the row has to say: input, output, cached, reasoning tokens.
type Case = (&'static str, String, [Option<i64>; 4]);

fn cases() -> Vec<Case> {
    let with = |usage: &str| {
        event(&format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"finish_reason":null}}],"usage":{usage}}}"#
        ))
    };
    let only = |usage: &str| event(&format!(r#"{{"choices":[],"usage":{usage}}}"#));
    let two = r#"{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}"#;
    let details = r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":6,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}}"#;
    let deepseek = r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":4}"#;
    vec![
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
    ]
}

#[test]
fn usage_is_found_wherever_a_provider_puts_it() {
    for (name, stream, expected) in cases() {
        let provider = Provider::always(Answer::sse().send(stream + DONE));
        let arbstr = Setup::of(&provider).start();
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
