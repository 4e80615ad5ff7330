//! What one event teaches the observer.

use proptest::prelude::*;

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

#[test]
fn an_error_that_looks_like_the_events_before_it_is_one() {
    let chunk = |text: &str, error: &str| {
        format!(
            r#"{{"id":"c1","model":"mm","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}],"error":"{error}"}}"#
        )
    };
    let object = |name: &str, kind: &str, message: &str| {
        format!(r#"{{"id":"{name}","model":"mm","object":"{kind}","message":"{message}"}}"#)
    };
    let [pings, many]: [Vec<String>; 2] =
        [2, 20].map(|count| vec![r#"{"object":"ping","message":"a"}"#.to_owned(); count]);
    let error = r#"{"object":"error","message":"boom"}"#.to_owned();
    for (before, error) in [
        (vec![chunk("a", "")], chunk("a", "boom")),
        (vec![chunk("a", ""), chunk("b", "")], chunk("c", "boom")),
        (vec![object("c1", "ping", "a")], object("c1", "error", "b")),
        (vec![chunk("a", ""); 2], object("c1", "error", "boom")),
        (pings, error.clone()),
        (many, error),
    ] {
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let mut observer = seen(&before);
        assert_eq!(observer.error_events(), 0, "{before:?}");
        observer.observe(error.as_bytes());
        assert_eq!(observer.error_events(), 1, "{error} after {before:?}");
        let seen = observer.observation().error.unwrap();
        assert!(["boom", "b"].contains(&&*seen.message), "{seen:?}");
    }
}

/// What a member may say, the usual first. All of it has been seen, or is one step beside what has.
const MEMBERS: [(&str, &[&str]); 11] = [
    ("id", &[r#""c1""#, r#""c2""#, r#""""#, "null"]),
    ("model", &[r#""m1""#, r#""m2""#, r#""""#]),
    ("object", &[r#""ping""#, r#""error""#, r#""""#, "{}"]),
    (
        "error",
        &[
            r#""""#,
            r#""boom""#,
            "null",
            "{}",
            r#"{"message":""}"#,
            r#"{"message":"boom"}"#,
            "[ ]",
            "false",
            "0",
        ],
    ),
    (
        "choices",
        &[
            r#"[{"index":0,"delta":{"content":"a"},"finish_reason":""}]"#,
            r#"[{"index":0,"delta":{"content":"bc"},"finish_reason":""}]"#,
            r#"[{"index":0,"delta":{"content":"error"},"finish_reason":"stop"}]"#,
            r#"[{"index":0,"delta":{"error":"a","id":"b"},"finish_reason":null}]"#,
            r#"[{"index":0,"text":"a","usage":{"prompt_tokens":3}}]"#,
            "[]",
            "null",
            r#""a""#,
        ],
    ),
    (
        "usage",
        &[
            "null",
            r#""a""#,
            "{}",
            r#"{"prompt_tokens":1,"service_tier":"flex"}"#,
        ],
    ),
    ("service_tier", &[r#""default""#, r#""flex""#]),
    ("cost", &[r#""a""#, r#"{"total_msats":5}"#]),
    ("message", &[r#""a""#, r#""error""#, r#""b\"usage\":{}""#]),
    ("code", &["1", r#""a""#, r#""b""#]),
    ("data", &[r#""a""#, "[]", "null"]),
];

/// Some events with the same members, which differ in what a few of them say. Any member may be there twice, but for the
/// two names: where a known one stands somewhere, the search takes it for the name.
fn alike() -> impl Strategy<Value = Vec<String>> {
    let names = prop::collection::vec(0..MEMBERS.len(), 1..7);
    let says = prop::collection::vec(prop_oneof![3 => Just(0), 1 => 0..9usize], 7);
    (names, prop::collection::vec(says, 1..6)).prop_map(|(mut names, events)| {
        for once in ["id", "model"] {
            let mut seen = false;
            names.retain(|name| MEMBERS[*name].0 != once || !std::mem::replace(&mut seen, true));
        }
        let event = |says: Vec<usize>| {
            let members = names.iter().zip(says).map(|(name, says)| {
                let (name, values) = MEMBERS[*name];
                format!("\"{name}\":{}", values[says % values.len()])
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        events.into_iter().map(event).collect()
    })
}

/// Reads an event as if none had come that looks like it, and no search could spare the reading.
fn inspect_anew(observer: &mut Observer, data: &[u8], hide_usage: bool) -> Edit {
    observer.template = Template::new();
    observer.identity_tries = 1;
    let id = observer.id.take();
    let edit = observer.inspect(data, hide_usage);
    observer.id = observer.id.take().or(id);
    edit
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// How much is said is left out: it is weighed roughly where nothing is parsed.
    #[test]
    fn an_event_like_others_teaches_what_it_would_teach_alone(
        events in alike(), is_named in any::<bool>(), hide_usage in any::<bool>()
    ) {
        let first = Some(r#"{"id":"c1","model":"m1","choices":[]}"#.to_owned());
        let (mut quick, mut slow) = (Observer::new(1), Observer::new(1));
        for event in first.into_iter().filter(|_| is_named).chain(events) {
            let edit = quick.inspect(event.as_bytes(), hide_usage);
            prop_assert_eq!(edit, inspect_anew(&mut slow, event.as_bytes(), hide_usage), "{}", &event);
            prop_assert_eq!(quick.error_events(), slow.error_events(), "{}", &event);
            let learned = |observer: &Observer| format!("{:?}", Observation { text_bytes: 0, ..observer.observation() });
            prop_assert_eq!(learned(&quick), learned(&slow), "{}", &event);
        }
    }
}
