//! The stream: what of it reaches the client, when, and how it may end.

mod endings;
mod http2;
mod leaving;
mod usage;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Answer, DONE, Gate, Provider, ProviderConfig, Setup, ask_stream, ask_stream_with_usage, chunk,
    event, finish, usage_chunk, wait_until,
};

/// What arbstr added after the provider's own bytes, taken apart.
#[track_caller]
pub(super) fn own_event(appended: &str) -> Value {
    let data = appended
        .strip_prefix("data: ")
        .and_then(|rest| rest.strip_suffix("\n\ndata: [DONE]\n\n"));
    let data = data.unwrap_or_else(|| panic!("no trailing event: {appended:?}"));
    assert!(!data.contains('\n'), "one line: {data:?}");
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}"))
}

/// The provider's bytes come first, unchanged; gives the rest.
#[track_caller]
pub(super) fn after_bytes<'a>(text: &'a str, own: &str) -> &'a str {
    text.strip_prefix(own)
        .unwrap_or_else(|| panic!("provider gave\n{own}\nclient got\n{text}"))
}

pub(super) fn body_of(answer: &Answer) -> String {
    String::from_utf8(answer.body()).unwrap()
}

#[test]
fn the_streamed_row_has_provider_tokens_cost_latency_and_success() {
    let provider = Provider::healthy(1000, 500);
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
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
        let arbstr = Setup::of(&provider)
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    assert!(reply.body.starts_with(&bytes), "{}", reply.text());
    arbstr.row(&reply.id()).assert_success();
}

#[test]
fn a_stream_that_ended_promptly_gives_its_connection_back() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::of(&provider).set("timeouts", "idle = 1").start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let text = reply.finish();
    assert_eq!(text.matches(": keep-alive\n\n").count(), 5);
    arbstr.row(&reply.id()).assert_success();
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
    let arbstr = Setup::of(&provider).start();
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
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).models(&["model-a", "model-b"]))
        .start();
    arbstr.chat(&ask_stream("model-b")).finish();
    let before = arbstr.resident_kib();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("first"));
    thread::sleep(Duration::from_millis(700));
    let grown = arbstr.resident_kib().saturating_sub(before);
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
    let arbstr = Setup::of(&provider).start();
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

#[test]
fn what_follows_done_is_not_waited_for_and_not_passed_on() {
    let own = chunk("a") + &finish("stop") + DONE;
    let provider = Provider::always(
        Answer::sse()
            .send(own.clone() + ": late\n\n" + DONE)
            .stall(),
    );
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    own_event(after_bytes(&reply.finish(), &own));
    arbstr.row(&reply.id()).assert_success();
}

#[test]
fn done_is_known_in_every_spelling_that_the_format_allows() {
    for done in [
        "data:[DONE]\n\n",
        "data: [DONE]\r\n\r\n",
        "data: [DONE]\r\r",
        "id: 1\ndata: [DONE]\n\n",
        "data: [DONE] \n\n",
    ] {
        let provider = Provider::always(
            Answer::sse()
                .send(chunk("a"))
                .send(finish("stop"))
                .send(usage_chunk(10, 4))
                .send(done),
        );
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        let row = arbstr.row(&reply.id());
        assert!(row.verdict().0, "{done:?}: {row:?}\n{text}");
        assert_eq!(row.int("cost_nanosats"), Some(18_000_000), "{done:?}");
    }
}

#[test]
fn one_endless_line_costs_bounded_memory() {
    let piece = "x".repeat(256 * 1024);
    let mut answer = Answer::sse()
        .send(chunk("a"))
        .send("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
    for _ in 0..160 {
        answer = answer.send(&piece);
    }
    let answer = answer
        .send("\"}}]}\n\n")
        .send(finish("stop"))
        .send(usage_chunk(10, 4))
        .send(DONE);
    let provider = Provider::by(move |seen, nth| {
        if nth == 0 && seen.is_stream() {
            Answer::stream(1, 1)
        } else {
            answer.clone()
        }
    });
    let arbstr = Setup::of(&provider).start();
    arbstr.chat(&ask_stream("model-a")).finish();
    let before = arbstr.resident_kib();
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    let mut most = 0;
    while reply.read_frame() {
        most = most.max(arbstr.resident_kib().saturating_sub(before));
    }
    assert!(
        reply.body.len() > 40 * 1024 * 1024,
        "{} bytes",
        reply.body.len()
    );
    assert!(most < 8 * 1024, "{most} KiB for one line of 40 MB");
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        row.int("input_tokens"),
        Some(10),
        "in step again at the end of the line"
    );
}

#[test]
fn a_client_that_reads_nothing_for_too_long_is_cut_off() {
    let big = chunk(&"x".repeat(60_000));
    let mut answer = Answer::sse().send(chunk("first"));
    for _ in 0..500 {
        answer = answer.send(&big);
    }
    let provider = Provider::always(answer.stall());
    let arbstr = Setup::of(&provider)
        .set("timeouts", "client_stall = 1")
        .set("stream", "on_client_disconnect = \"abort\"")
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("first"));
    assert!(
        provider.saw_close(0, Duration::from_secs(4)),
        "the stream is still held open"
    );
    arbstr
        .row(&reply.id())
        .assert_failure("client_disconnected");
}

#[test]
fn times_are_of_the_winning_attempt_and_of_the_whole() {
    let slow = Provider::always(
        Answer::bare()
            .pause(400)
            .raw("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"),
    );
    let answer = Answer::sse()
        .send(chunk("a"))
        .pause(300)
        .send(finish("stop"))
        .send(DONE);
    let provider = Provider::always(answer);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("slow", &slow).rates("1", "1"))
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    let time = |column| row.int(column).unwrap();
    assert!(time("latency_ms") < 250, "{row:?}");
    assert!((300..650).contains(&time("stream_duration_ms")), "{row:?}");
    assert!(time("duration_ms") >= 700, "{row:?}");
    assert!(reply.needs("x-arbstr-latency-ms").parse::<i64>().unwrap() < 250);
    let attempts = arbstr.attempts(&reply.id());
    assert!(
        attempts[0].int("duration_ms").unwrap() >= 400,
        "{attempts:?}"
    );
}

#[test]
fn an_event_is_held_until_it_is_whole_but_no_more_than_64_kib_of_it() {
    let (small, large) = (Gate::new(), Gate::new());
    let whole = chunk("held");
    let (head, tail) = whole.split_at(40);
    let big = chunk(&"y".repeat(200_000));
    let (most, rest) = big.split_at(150_000);
    let answer = Answer::sse()
        .send(chunk("a"))
        .send(head)
        .wait_for(&small)
        .send(tail)
        .send(most)
        .wait_for(&large)
        .send(rest)
        .send(DONE);
    let own = body_of(&answer);
    let provider = Provider::always(answer);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    assert_eq!(
        reply.read_frame_within(Duration::from_millis(200)),
        None,
        "half an event was passed on"
    );
    small.open();
    reply.read_until(&whole);
    let had = chunk("a").len() + whole.len();
    while reply.body.len() < had + 150_000 - 64 * 1024 {
        assert_eq!(
            reply.read_frame_within(Duration::from_secs(1)),
            Some(true),
            "{} bytes of a large event came",
            reply.body.len() - had
        );
    }
    large.open();
    own_event(after_bytes(&reply.finish(), &own));
}
