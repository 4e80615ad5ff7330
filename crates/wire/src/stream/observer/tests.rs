//! What one event teaches the observer.

use super::*;

fn seen(events: &[&str]) -> Observer {
    let mut observer = Observer::new(1);
    for event in events {
        observer.observe(event.as_bytes());
    }
    observer
}

#[test]
fn the_last_usage_wins_and_null_or_empty_ones_do_not_count() {
    let observer = seen(&[
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        r#"{"usage":null}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":{"completion_tokens":9}"#,
    ]);
    let usage = observer.observation().usage.unwrap();
    assert_eq!((usage.input, usage.output), (Some(1), Some(2)));
}

#[test]
fn finish_reason_is_choice_zeros_last() {
    let observer = seen(&[
        r#"{"choices":[{"index":0,"finish_reason":"tool_calls"}]}"#,
        r#"{"choices":[{"index":1,"finish_reason":"length"}]}"#,
        r#"{"choices":[{"index":0,"finish_reason":"st\u006fp"}]}"#,
        r#"{"choices":[{"index":0,"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"finish_reason":""}]}"#,
    ]);
    assert_eq!(observer.observation().finish_reason, Some("stop"));
}

#[test]
fn all_choices_have_finished_only_when_each_has() {
    let finish =
        |index: u64| format!(r#"{{"choices":[{{"index":{index},"finish_reason":"stop"}}]}}"#);
    let most: Vec<u64> = (0..200).collect();
    let cases: [(u32, &[u64], bool); 10] = [
        (128, &most, true),
        (129, &most, false),
        (1, &[0], true),
        (0, &[], false),
        (2, &[0], false),
        (2, &[0, 0], false),
        (2, &[1, 0], true),
        (3, &[0, 2], false),
        (1, &[500], false),
        (u32::MAX, &[0], false),
    ];
    for (choices, finished, all) in cases {
        let mut observer = Observer::new(choices);
        finished
            .iter()
            .for_each(|index| observer.observe(finish(*index).as_bytes()));
        assert_eq!(
            observer.observation().all_choices_finished,
            all,
            "{choices} {finished:?}"
        );
    }
}

#[test]
fn id_and_model_are_the_last_that_are_not_empty() {
    let observer = seen(&[
        r#"{"id":"","model":"","created":0}"#,
        r#"{"id":"a","model":"m","created":5}"#,
        r#"{"id":"b","model":"","created":0,"usage":{}}"#,
        r#"{"id":"","model":"n","created":6.0,"usage":{}}"#,
    ]);
    let seen = observer.observation();
    assert_eq!(
        (seen.id, seen.model, seen.created),
        (Some("b"), Some("n"), Some(6))
    );
}

#[test]
fn a_search_for_an_id_that_never_comes_is_given_up() {
    let mut observer = Observer::new(1);
    let chunk = |at: u32| {
        format!(r#"{{"n":{at},"choices":[{{"index":0,"delta":{{}},"finish_reason":null}}]}}"#)
    };
    for at in 0..100 {
        observer.observe(chunk(at).as_bytes());
    }
    assert_eq!(
        (observer.identity_tries, observer.observation().events),
        (0, 100)
    );
    assert!(!observer.is_worth_parsing(chunk(100).as_bytes(), true));
}

#[test]
fn chunks_that_look_alike_still_teach() {
    let chunk = |id: &str, content: &str, reason: &str| {
        format!(
            r#"{{"id":"{id}","choices":[{{"index":0,"delta":{{"content":"{content}"}},"finish_reason":{reason}}}]}}"#
        )
    };
    let chunks = [
        chunk("", "a", "null"),
        chunk("", "b", "null"),
        chunk("x", "c", "\"\""),
        chunk("x", "d", "\"\""),
        chunk("x", "e", "\"stop\""),
        chunk("x", "f", "\"length\""),
        chunk("x", "g", "\"\""),
        chunk("x", r#"\"finish_reason\":\"no\""#, "\"\""),
    ];
    let seen: Vec<_> = (1..=chunks.len())
        .map(|count| {
            let observer = seen(
                &chunks[..count]
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            );
            let seen = observer.observation();
            (
                seen.id.map(str::to_owned),
                seen.finish_reason.map(str::to_owned),
            )
        })
        .collect();
    let expected = [
        (None, None),
        (None, None),
        (Some("x"), None),
        (Some("x"), None),
        (Some("x"), Some("stop")),
        (Some("x"), Some("length")),
        (Some("x"), Some("length")),
        (Some("x"), Some("length")),
    ];
    assert_eq!(
        seen,
        expected.map(|(id, reason)| (id.map(str::to_owned), reason.map(str::to_owned)))
    );
}

#[test]
fn bytes_and_events_are_counted_without_the_end_marker() {
    let mut observer = seen(&["{}", "garbage", "", "[DONE]"]);
    observer.observe_overflow(100_000, false);
    let seen = observer.observation();
    assert_eq!(
        (seen.events, seen.data_bytes, seen.done),
        (3, 100_009, true)
    );
}

#[test]
fn the_first_error_is_kept() {
    let observer = seen(&[
        r#"{"choices":[]}"#,
        r#"{"error":{"message":"a","type":"t","code":7}}"#,
        r#"{"error":"b"}"#,
    ]);
    let error = observer.observation().error.unwrap();
    assert_eq!(
        (
            error.message.as_str(),
            error.kind.as_deref(),
            error.code.as_deref()
        ),
        ("a", Some("t"), Some("7"))
    );
    assert_eq!(observer.first_event(), FirstEvent::Good);
}

#[test]
fn bad_utf8_is_read_as_the_standard_says() {
    let mut observer = Observer::new(1);
    observer.observe(b"{\"id\":\"a\xff\",\"choices\":[{\"finish_reason\":\"sto\xf9\\n\"}]}");
    let seen = observer.observation();
    assert_eq!(
        (seen.id, seen.finish_reason),
        (Some("a\u{fffd}"), Some("sto\u{fffd}\n"))
    );
}

#[test]
fn id_and_model_are_the_last_that_are_not_empty_wherever_they_change() {
    let chunk = |id: &str, model: &str, text: &str| {
        format!(
            r#"{{"id":"{id}","model":"{model}","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
        )
    };
    type Names<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Names<'_>, &str, &str); 6] = [
        (&[("A", "M"), ("A", "M")], "A", "M"),
        (&[("A", "M"), ("B", ""), ("", "N")], "B", "N"),
        (&[("A", "M"), ("B", "M"), ("A", "N")], "A", "N"),
        (&[("A", "M"), ("AB", "M")], "AB", "M"),
        (&[("", ""), ("", ""), ("A", "M")], "A", "M"),
        (&[("A\\u0042", "M"), ("C", "M")], "C", "M"),
    ];
    for (chunks, id, model) in cases {
        let mut observer = Observer::new(1);
        for (id, model) in chunks {
            for text in ["Hello", "A", "M"] {
                observer.observe(chunk(id, model, text).as_bytes());
            }
        }
        let seen = observer.observation();
        assert_eq!((seen.id, seen.model), (Some(id), Some(model)), "{chunks:?}");
    }
}

#[test]
fn counts_what_a_stream_says_recognised_or_not() {
    let chunk = |content: &str| {
        format!(
            r#"{{"id":"c","model":"m","choices":[{{"delta":{{"content":"{content}"}},"finish_reason":null}}]}}"#
        )
    };
    let role =
        r#"{"id":"c","model":"m","choices":[{"delta":{"content":""},"finish_reason":null}]}"#;
    let end =
        r#"{"id":"c","model":"m","choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}"#;
    let words = [
        "Hello",
        " there",
        ",",
        "",
        " how are you?",
        "same",
        "same",
        "same",
    ];
    let chunks: Vec<String> = words.iter().map(|word| chunk(word)).collect();
    let mut events = vec![role];
    events.extend(chunks.iter().map(String::as_str));
    events.push(end);
    let said: usize = words.iter().map(|word| word.len()).sum();
    assert_eq!(seen(&events).observation().text_bytes, said as u64);
}

#[test]
fn a_name_that_an_event_with_usage_brought_is_taken_back() {
    let chunk = |text: &str| {
        format!(
            r#"{{"id":"c1","model":"m1","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
        )
    };
    let usage = r#"{"id":"c2","model":"m2","choices":[],"usage":{"prompt_tokens":1}}"#;
    let observer = seen(&[&chunk("a"), &chunk("b"), usage, &chunk("c")]);
    let seen = observer.observation();
    assert_eq!((seen.id, seen.model), (Some("c1"), Some("m1")));
}
