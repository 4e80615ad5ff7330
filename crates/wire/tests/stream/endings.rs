//! Every way a stream can end, as the client's bytes.

use std::sync::Arc;

use arbstr_wire::stream::MAX_EVENT;
use arbstr_wire::{BreakCode, Endpoint, FirstEvent, Metadata, Rewriter, StreamEnd, StreamSettings};
use bytes::Bytes;

use super::relay::{ARBSTR, ASKED, TRAILER, UNASKED, every, relay, trailing_event, whole};

const HI: &str = "data: {\"id\":\"c1\",\"created\":9,\"model\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"id\":\"\",\"created\":0,\"model\":\"\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn with(metadata: Metadata, requires_done: bool) -> StreamSettings {
    StreamSettings {
        metadata,
        requires_done,
        ..ASKED
    }
}

#[test]
fn what_is_appended_depends_on_the_end_and_the_mode() {
    let event = trailing_event("c1", 9, "m1");
    let comment = format!(": arbstr {ARBSTR}\n\n");
    let none = String::new();
    use Metadata::{Comment, Event, Off};
    // Each line: upstream, mode, requires_done, what is appended, how it ended.
    let cases = [
        ([HI, STOP, DONE].concat(), Event, true, &event, None),
        ([HI, STOP, DONE].concat(), Event, false, &event, None),
        ([HI, STOP, DONE].concat(), Comment, true, &comment, None),
        ([HI, STOP, DONE].concat(), Off, true, &none, None),
        ([HI, DONE].concat(), Event, true, &event, None),
        (
            [HI, STOP].concat(),
            Event,
            true,
            &none,
            Some(StreamEnd::CompleteWithoutDone),
        ),
        (
            [HI, STOP].concat(),
            Event,
            false,
            &event,
            Some(StreamEnd::CompleteWithoutDone),
        ),
        (
            [HI, STOP].concat(),
            Comment,
            false,
            &comment,
            Some(StreamEnd::CompleteWithoutDone),
        ),
        (
            [HI, STOP].concat(),
            Off,
            false,
            &none,
            Some(StreamEnd::CompleteWithoutDone),
        ),
        (
            HI.to_owned(),
            Event,
            true,
            &none,
            Some(StreamEnd::Incomplete),
        ),
        (
            HI.to_owned(),
            Event,
            false,
            &none,
            Some(StreamEnd::Incomplete),
        ),
    ];
    for (stream, metadata, requires_done, appended, end) in cases {
        let relayed = whole(with(metadata, requires_done), stream.as_bytes());
        assert_eq!(
            (relayed.text(), relayed.end),
            (format!("{stream}{appended}").as_str(), end),
            "{metadata:?} {requires_done}"
        );
    }
}

#[test]
fn a_tail_without_its_line_ends_is_completed_when_it_is_whole() {
    let event = trailing_event("c1", 9, "m1");
    let last = STOP.trim_end();
    let cases = [
        (
            format!("{HI}data: [DONE]"),
            format!("{HI}data: [DONE]\n\n{event}"),
            StreamEnd::Done,
        ),
        (
            format!("{HI}data: [DONE]\n"),
            format!("{HI}data: [DONE]\n\n{event}"),
            StreamEnd::Done,
        ),
        (
            format!("{HI}data:[DONE]\r\n"),
            format!("{HI}data:[DONE]\r\n\n{event}"),
            StreamEnd::Done,
        ),
        (
            format!("{HI}{last}"),
            format!("{HI}{STOP}"),
            StreamEnd::CompleteWithoutDone,
        ),
        (
            format!("{HI}{last}\n"),
            format!("{HI}{STOP}"),
            StreamEnd::CompleteWithoutDone,
        ),
        (
            format!("{HI}{}", &last[..last.len() - 1]),
            HI.to_owned(),
            StreamEnd::Incomplete,
        ),
        (
            format!("{HI}{STOP}data: {{\"cut"),
            format!("{HI}{STOP}"),
            StreamEnd::CompleteWithoutDone,
        ),
        (
            format!("{HI}: half a com"),
            HI.to_owned(),
            StreamEnd::Incomplete,
        ),
        (format!("{HI}id: 3\n"), HI.to_owned(), StreamEnd::Incomplete),
        (String::new(), String::new(), StreamEnd::Incomplete),
    ];
    for (stream, client, end) in cases {
        for size in [1, 7, 10_000] {
            let relayed = relay(ASKED, stream.as_bytes(), &every(size, stream.as_bytes()));
            assert_eq!(
                (relayed.text(), relayed.end),
                (client.as_str(), Some(end)),
                "{stream}"
            );
        }
    }
    let hidden = whole(
        UNASKED,
        format!("{HI}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1}}}}").as_bytes(),
    );
    assert_eq!(hidden.text(), HI, "a usage-only tail stays hidden");
}

#[test]
fn nothing_after_done_reaches_the_client() {
    let stream = [HI, DONE, "data: late\n\n"].concat();
    let expected = format!("{HI}{DONE}{}", trailing_event("c1", 9, "m1"));
    for size in [1, 50, 10_000] {
        assert_eq!(
            relay(ASKED, stream.as_bytes(), &every(size, stream.as_bytes())).text(),
            expected
        );
    }
    let mut rewriter = Rewriter::new(ASKED);
    rewriter.push(Bytes::from(stream));
    assert!(
        rewriter
            .push(Bytes::from_static(b"data: later\n\n"))
            .is_empty()
    );
    assert_eq!(rewriter.finish(), (Bytes::new(), StreamEnd::Done));
    assert!(!rewriter.trailer(&TRAILER).is_empty());
    assert!(rewriter.trailer(&TRAILER).is_empty(), "only once");
    assert_eq!(rewriter.finish(), (Bytes::new(), StreamEnd::Done));
    assert!(
        rewriter
            .break_off(BreakCode::ServerShuttingDown, "late", &TRAILER)
            .is_empty()
    );
}

#[test]
fn the_trailing_event_names_what_the_stream_named_last_or_what_was_asked() {
    let anonymous = whole(
        ASKED,
        format!("data: {{\"choices\":[],\"id\":\"\",\"model\":\"\",\"created\":0}}\n\n{DONE}")
            .as_bytes(),
    );
    assert!(
        anonymous
            .text()
            .ends_with(&trailing_event("req-1", 1_700_000_000, "asked-model")),
        "{}",
        anonymous.text()
    );
    let late = whole(ASKED, [STOP, HI, DONE].concat().as_bytes());
    assert!(
        late.text().ends_with(&trailing_event("c1", 9, "m1")),
        "{}",
        late.text()
    );
    let quoted = whole(
        ASKED,
        format!("data: {{\"id\":\"a\\\"\\n\",\"model\":\"é\"}}\n\n{DONE}").as_bytes(),
    );
    assert!(
        quoted
            .text()
            .ends_with(&trailing_event("a\\\"\\n", 1_700_000_000, "é")),
        "{}",
        quoted.text()
    );
    let completion = whole(
        StreamSettings {
            endpoint: Endpoint::Completions,
            ..ASKED
        },
        DONE.as_bytes(),
    );
    assert!(
        completion.text().contains("\"object\":\"text_completion\""),
        "{}",
        completion.text()
    );
    let unknown = Rewriter::new(ASKED);
    let mut rewriter = unknown;
    rewriter.push(Bytes::from_static(DONE.as_bytes()));
    let trailer = rewriter.trailer(&arbstr_wire::Trailer {
        cost_sats: None,
        ..TRAILER
    });
    assert!(
        trailer
            .windows(16)
            .any(|window| window == b"\"cost_sats\":null"),
        "{trailer:?}"
    );
}

#[test]
fn a_break_is_told_on_a_line_of_its_own() {
    let error = |arbstr: &str| {
        format!(
            "data: {{\"error\":{{\"message\":\"reset \\\"by\\\" peer\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_stream_interrupted\"}}{arbstr}}}\n\n"
        )
    };
    let with_member = error(&format!(",\"arbstr\":{ARBSTR}"));
    let huge = format!("data: {}", "x".repeat(100_000));
    // Each line: what came, what the client has of it, what stands between that and the error.
    let cases = [
        (HI.to_owned(), HI.to_owned(), ""),
        (
            format!("{HI}data: {{\"choices\":[{{\"delta"),
            HI.to_owned(),
            "",
        ),
        (format!("{HI}{}", HI.trim_end()), HI.to_owned(), ""),
        (format!("{HI}: ping\n"), format!("{HI}: ping\n"), "\n"),
        (format!("{HI}{huge}"), format!("{HI}{huge}"), "\n\n"),
        (format!("{HI}{huge}\n"), format!("{HI}{huge}\n"), "\n"),
        (format!("{HI}{huge}\r\n"), format!("{HI}{huge}\r\n"), "\n"),
        (HI.replace('\n', "\r\n"), HI.replace('\n', "\r\n"), ""),
    ];
    for (stream, client, between) in cases {
        for size in [13, 200_000] {
            let mut rewriter = Rewriter::new(ASKED);
            let mut released = Vec::new();
            for chunk in stream.as_bytes().chunks(size) {
                released.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(chunk)));
            }
            released.extend_from_slice(&rewriter.break_off(
                BreakCode::UpstreamStreamInterrupted,
                "reset \"by\" peer",
                &TRAILER,
            ));
            assert_eq!(
                String::from_utf8(released).unwrap(),
                format!("{client}{between}{with_member}")
            );
            assert!(
                rewriter.trailer(&TRAILER).is_empty()
                    && rewriter.push(Bytes::from_static(b"data: x\n\n")).is_empty()
            );
            assert_eq!(rewriter.finish(), (Bytes::new(), StreamEnd::Incomplete));
        }
    }
    for metadata in [Metadata::Comment, Metadata::Off] {
        let mut rewriter = Rewriter::new(with(metadata, true));
        assert_eq!(
            rewriter.break_off(
                BreakCode::UpstreamStreamInterrupted,
                "reset \"by\" peer",
                &TRAILER
            ),
            error("")
        );
    }
    let mut rewriter = Rewriter::new(ASKED);
    let text = rewriter.break_off(BreakCode::ServerShuttingDown, "", &TRAILER);
    assert!(String::from_utf8_lossy(&text).contains("\"code\":\"server_shutting_down\""));
}

#[test]
fn the_gate_opens_on_the_first_event_that_is_no_error() {
    let cases = [
        ("", FirstEvent::None),
        (": ping\n\n", FirstEvent::None),
        ("event: x\nid: 1\n\n", FirstEvent::None),
        ("data:\n\ndata: \n\n", FirstEvent::None),
        ("data: {\"choices\":[{}]}\n", FirstEvent::None),
        (": ping\n\ndata: {\"choices\":[{}]}\n\n", FirstEvent::Good),
        (
            "data: {\"error\":null,\"choices\":[]}\n\n",
            FirstEvent::Good,
        ),
        ("data: garbage\n\n", FirstEvent::Good),
        ("data: {\"choices\":[{\"error\":{}}]}\n\n", FirstEvent::Good),
        (
            "data: {\"choices\":[{}],\"error\":{ }}\n\n",
            FirstEvent::Good,
        ),
        (
            "data: {\"choices\":[{}],\"error\":[\r\ndata: ]}\r\n\r\n",
            FirstEvent::Good,
        ),
        ("data: {\"error\":{ }}\n\n", FirstEvent::Error),
        ("data: {\"choices\":[],\"usage\":{}}\n\n", FirstEvent::Good),
        (
            "data: {\"error\":{\"message\":\"m\"}}\n\n",
            FirstEvent::Error,
        ),
        (
            "data:\n\ndata: {\"x\":1,\"\\u0065rror\" : \"m\"}\n\n",
            FirstEvent::Error,
        ),
        (
            "data: {\"choices\":[{}]}\n\ndata: {\"error\":{}}\n\n",
            FirstEvent::Good,
        ),
        (
            "data: {\"object\":\"error\",\"message\":\"m\"}\n\n",
            FirstEvent::Error,
        ),
        (
            "data: {\"error_code\":18,\"error_msg\":\"limit\"}\n\n",
            FirstEvent::Error,
        ),
        (
            "data: {\"code\":20012,\"message\":\"no model\",\"data\":null}\n\n",
            FirstEvent::Error,
        ),
        (
            "data: {\"choices\":null,\"base_resp\":{\"status_code\":1008}}\n\n",
            FirstEvent::Error,
        ),
        ("data: {\"detail\":\"busy\"}\n\n", FirstEvent::Error),
        ("data: {\"message\":{\"x\":1}}\n\n", FirstEvent::Good),
        (
            "data: {\"base_resp\":{\"status_code\":0,\"status_msg\":\"success\"}}\n\n",
            FirstEvent::Good,
        ),
        (
            "data: {\"status\":\"queued\",\"message\":\"position 3\"}\n\n",
            FirstEvent::Good,
        ),
        ("data: {\"code\":0,\"msg\":\"ok\"}\n\n", FirstEvent::Good),
        (
            "data: {\"message\":\"m\",\"choices\":[]}\n\n",
            FirstEvent::Good,
        ),
        (
            "data: {\"choices\":[]}\n\ndata: {\"message\":\"m\"}\n\n",
            FirstEvent::Good,
        ),
        ("data: {}\n\n", FirstEvent::Good),
        ("data: [DONE]\n\n", FirstEvent::Done),
        ("data:\n\ndata: [DONE] \n\n", FirstEvent::Done),
    ];
    for (stream, first) in cases {
        let mut rewriter = Rewriter::new(UNASKED);
        rewriter.push(Bytes::from_static(stream.as_bytes()));
        assert_eq!(rewriter.first_event(), first, "{stream}");
    }
}

#[test]
fn the_gate_does_not_wait_for_the_end_of_an_event_that_is_too_large() {
    for line in [
        format!("data: {}", "x".repeat(1_000)),
        "data: xxxxxxxxxx\n".repeat(60),
    ] {
        let mut rewriter = Rewriter::new(UNASKED);
        let mut released = 0;
        rewriter.push(Bytes::from_static(b"data: {"));
        while rewriter.first_event() == FirstEvent::None {
            released += rewriter.push(Bytes::copy_from_slice(line.as_bytes())).len();
            assert!(
                released < 100_000,
                "what is released before the gate opens is held by who waits"
            );
        }
        assert_eq!(
            (rewriter.first_event(), released > 60_000),
            (FirstEvent::Good, true)
        );
    }
    let mut rewriter = Rewriter::new(UNASKED);
    let comments = Bytes::from(": ping\n\n".repeat(20_000));
    assert_eq!(rewriter.push(comments.clone()), comments);
    assert_eq!(
        rewriter.first_event(),
        FirstEvent::None,
        "comments are no event, however many"
    );
}

#[test]
fn an_error_too_large_to_be_held_is_an_error_all_the_same_and_an_empty_one_is_none() {
    let long = "x".repeat(MAX_EVENT);
    let error = format!("event: error\ndata: {{\"error\":{{\"message\":\"{long}\"}}}}\n\n");
    let answer =
        format!("data: {{\"id\":\"c1\",\"choices\":[],\"error\":null,\"x\":\"{long}\"}}\n\n");
    let empty = |error: &str| {
        format!(
            "data: {{\"error\":{error},\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n"
        )
    };
    let nested = format!(
        "data: {{\"list\":[\n{}data: ]}}\n\n",
        "data: {\"error\":1}\n".repeat(5_000)
    );
    for (stream, first, has_error) in [
        (error.clone(), FirstEvent::Error, true),
        (format!(": hello\n\n{error}"), FirstEvent::Error, true),
        (format!("{HI}{error}{DONE}"), FirstEvent::Good, true),
        (answer, FirstEvent::Good, false),
        (empty("\"\""), FirstEvent::Good, false),
        (empty("{}"), FirstEvent::Good, false),
        (empty("[ ]"), FirstEvent::Good, false),
        (empty("false"), FirstEvent::Good, false),
        (empty("{\ndata: }"), FirstEvent::Good, false),
        (empty("{\"code\":1}"), FirstEvent::Error, true),
        (empty("0"), FirstEvent::Error, true),
        (nested, FirstEvent::Good, false),
    ] {
        for size in [1, 14, 1_000, MAX_EVENT - 7, stream.len()] {
            let mut rewriter = Rewriter::new(UNASKED);
            for piece in stream.as_bytes().chunks(size) {
                rewriter.push(Bytes::copy_from_slice(piece));
            }
            let seen = rewriter.observation();
            assert_eq!(
                (rewriter.first_event(), seen.error.is_some()),
                (first, has_error),
                "in pieces of {size}: {}…",
                &stream[..40]
            );
        }
    }
}

#[test]
fn a_providers_error_event_is_passed_on_and_remembered() {
    let error = "data: {\"id\":\"c1\",\"error\":{\"code\":502,\"message\":\"upstream died\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n";
    let usage = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"error\"}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
    let stream = [HI, error, "data: {\"error\":\"second\"}\n\n", usage, DONE].concat();
    let mut rewriter = Rewriter::new(UNASKED);
    assert_eq!(
        rewriter.push(Bytes::copy_from_slice(stream.as_bytes())),
        stream
    );
    let seen = rewriter.observation();
    let error = seen.error.unwrap();
    assert_eq!(
        (error.message.as_str(), error.code.as_deref()),
        ("upstream died", Some("502"))
    );
    assert_eq!(
        (seen.finish_reason, seen.done, seen.usage.unwrap().input),
        (Some("error"), true, Some(2))
    );
}

#[test]
fn a_clean_end_in_the_middle_can_be_told_as_a_break() {
    for (stream, ended) in [
        (HI, StreamEnd::Incomplete),
        (STOP, StreamEnd::CompleteWithoutDone),
        (DONE, StreamEnd::Done),
    ] {
        let mut rewriter = Rewriter::new(ASKED);
        rewriter.push(Bytes::from_static(stream.as_bytes()));
        rewriter.push(Bytes::from_static(b"data: {\"cut"));
        assert_eq!(rewriter.finish(), (Bytes::new(), ended));
        assert_eq!(rewriter.finish(), (Bytes::new(), ended), "asked again");
        let told = rewriter.break_off(BreakCode::UpstreamStreamInterrupted, "m", &TRAILER);
        assert_eq!(!told.is_empty(), ended == StreamEnd::Incomplete);
        assert!(
            rewriter
                .break_off(BreakCode::UpstreamStreamInterrupted, "m", &TRAILER)
                .is_empty()
        );
    }
}

#[test]
fn an_error_event_tells_no_secret() {
    let key = "sk-live-0123456789abcdef";
    let error = format!(
        "data: {{\"error\":{{\"message\":\"bad key {key}, cut {}\"}},\ndata: \"usage\":null,\"k\":\"{key}\"}}\n\n",
        &key[..14]
    );
    let harmless = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{key}\"}}}}]}}\n\n");
    let stream = [HI, &error, &harmless].concat();
    let clean =
        "data: {\"error\":{\"message\":\"bad key , cut \"},\ndata: \"usage\":null,\"k\":\"\"}\n\n";
    for (settings, clean) in [
        (ASKED, clean.to_owned()),
        (
            UNASKED,
            clean.replace(",\ndata: \"usage\":null", "\ndata: "),
        ),
    ] {
        for size in [1, 40, 10_000] {
            let mut rewriter = Rewriter::new(settings).redacting(Arc::new(vec![
                "other-secret-of-length".to_owned(),
                key.to_owned(),
            ]));
            let mut client = Vec::new();
            for chunk in stream.as_bytes().chunks(size) {
                client.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(chunk)));
            }
            assert_eq!(
                String::from_utf8(client).unwrap(),
                [HI, &clean, &harmless].concat()
            );
        }
    }
    assert_eq!(
        whole(ASKED, stream.as_bytes()).text(),
        stream,
        "untouched where nobody names a secret"
    );
}

#[test]
fn an_error_that_looks_like_the_events_before_it_tells_no_secret() {
    let key = "sk-live-0123456789abcdef";
    let chunk = |text: &str, error: &str| {
        format!(
            "data: {{\"id\":\"c1\",\"model\":\"mm\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}],\"error\":\"{error}\"}}\n\n"
        )
    };
    let object = |kind: &str, message: &str| {
        format!("data: {{\"object\":\"{kind}\",\"message\":\"{message}\"}}\n\n")
    };
    let named = |text: &str| HI.replace("hi", text);
    for stream in [
        [chunk("a", ""), chunk("b", ""), chunk("c", key)],
        [chunk("a", ""), chunk("a", ""), chunk("a", key)],
        [
            object("ping", "a"),
            object("ping", "b"),
            object("error", key),
        ],
        [
            named("a"),
            named("b"),
            format!(
                "data: {{\"id\":\"c1\",\"model\":\"m1\",\"object\":\"error\",\"message\":\"{key}\"}}\n\n"
            ),
        ],
    ] {
        let stream = stream.concat();
        for size in [1, 40, 10_000] {
            let mut rewriter = Rewriter::new(ASKED).redacting(Arc::new(vec![key.to_owned()]));
            let mut client = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                client.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(piece)));
            }
            assert_eq!(String::from_utf8(client).unwrap(), stream.replace(key, ""));
            assert!(rewriter.observation().error.is_some(), "{stream}");
            assert_eq!(rewriter.first_event(), FirstEvent::Good);
        }
    }
}
