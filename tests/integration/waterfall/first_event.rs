//! When a provider is believed: what a stream, or an answer in place of one, must begin with.

use std::thread;
use std::time::{Duration, Instant};

use super::{Mode, assert_answer_of, attempts, pair, tried};
use crate::harness::{
    Answer, DONE, Gate, Provider, Setup, ask, ask_stream, chunk, completion, event, finish,
};
#[test]
fn nothing_is_committed_before_the_first_event() {
    let gate = Gate::new();
    let role = event(
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    );
    let answer = Answer::sse()
        .send(": keep-alive\n\n")
        .wait_for(&gate)
        .send(&role)
        .stall();
    let provider = Provider::always(answer);
    let arbstr = Setup::of(&provider).start();
    let mut client = arbstr.client();
    client.request_chat(&ask_stream("model-a"));
    gate.wait_reached();
    let early = thread::scope(|scope| {
        let reply = scope.spawn(|| {
            let reply = client.reply("POST");
            (Instant::now(), reply)
        });
        thread::sleep(Duration::from_millis(250));
        let opened = Instant::now();
        gate.open();
        let (came, mut reply) = reply.join().unwrap();
        reply.read_until(&role);
        assert!(
            reply.text().starts_with(": keep-alive\n\n"),
            "comments pass: {}",
            reply.text()
        );
        came < opened
    });
    assert!(!early, "the head came before the first event");
}

#[test]
fn json_in_place_of_a_stream_is_passed_on_as_json() {
    let body = completion(9, 4);
    let provider = Provider::always(Answer::json(200, &body));
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    assert_eq!((reply.finish(), reply.status), (body, 200));
    assert!(reply.needs("content-type").starts_with("application/json"));
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("output_tokens")),
        (Some(9), Some(4))
    );
    // 9 in at 1000, 4 out at 2000 sats per million: 0.017 sats.
    assert_eq!(row.int("cost_nanosats"), Some(17_000_000));
}

#[test]
fn a_json_answer_may_take_longer_than_a_streams_limits() {
    let provider = Provider::always(Answer::json(200, &completion(1, 1)).pause_before_body(1500));
    let other = Provider::healthy(1, 1);
    let arbstr = pair(&provider, &other)
        .set("timeouts", "first_event = 1")
        .set("timeouts", "idle = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    assert_eq!(other.count(), 0);
}

#[test]
fn first_events_that_look_odd_are_still_good_ones() {
    for first in [
        r#"{"error":null,"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#.to_owned(),
        r#"{"choices":[{"index":0,"delta":{"content":"Hel"},"error":{"nested":true}}]}"#.to_owned(),
        r#"{"choices":[],"prompt_filter_results":[],"x":"Hel"}"#.to_owned(),
    ] {
        let bad = Provider::always(
            Answer::sse()
                .send("data:\n\n: c\n\n")
                .send(event(&first))
                .send(finish("stop"))
                .send(DONE),
        );
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let text = reply.finish();
        assert_eq!(reply.needs("x-arbstr-provider"), "bad", "{first}");
        assert!(
            text.contains(&event(&first)) && text.ends_with(DONE),
            "{text}"
        );
        assert_eq!(good.count(), 0, "{first}");
    }
}

#[test]
fn a_first_event_that_quotes_a_long_prompt_in_its_error_goes_to_the_next() {
    let error = format!(
        r#"{{"error":{{"message":"cannot serve: {}","code":"prompt_refused"}}}}"#,
        "word ".repeat(40_000)
    );
    let bad = Provider::always(Answer::sse().send(event(&error)));
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    assert_answer_of(
        &mut arbstr.chat(&ask_stream("model-a")),
        "good",
        Mode::Stream,
    );
    assert_eq!((bad.count(), good.count()), (1, 1));
}

#[test]
fn where_a_provider_does_not_say_what_it_sends_the_bytes_tell() {
    let stream = [&chunk("Hel"), &finish("stop"), DONE].concat();
    let later = format!("\u{feff}\n: hello\n\n{stream}");
    let whole = completion(1, 1);
    for label in [None, Some("text/plain"), Some("application/octet-stream")] {
        for (body, kind) in [
            (&stream, Some("text/event-stream")),
            (&later, Some("text/event-stream")),
            (&whole, label),
        ] {
            // The first bytes come alone, and tell nothing yet.
            let (begin, rest) = body.split_at(body.ceil_char_boundary(2));
            let answer = Answer::new(200).send(begin).pause(20).send(rest);
            let answer = match label {
                Some(label) => answer.header("content-type", label),
                None => answer,
            };
            let provider = Provider::always(answer);
            let arbstr = Setup::of(&provider).start();
            let mut reply = arbstr.chat(&ask_stream("model-a"));
            let text = reply.finish();
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, kind),
                "{label:?} {text}"
            );
            assert!(text.starts_with(body.as_str()), "{label:?} {text}");
        }
        let bad = Provider::always(
            Answer::new(200)
                .header("content-type", label.unwrap_or(""))
                .send("sorry"),
        );
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        assert_answer_of(
            &mut arbstr.chat(&ask_stream("model-a")),
            "good",
            Mode::Stream,
        );
    }
}

#[test]
fn the_last_candidate_may_take_as_long_as_a_response() {
    let slow = || {
        Answer::sse()
            .pause(1500)
            .send(chunk("Hel"))
            .send(finish("stop"))
            .send(DONE)
    };
    let (bad, good) = (Provider::always(slow()), Provider::always(slow()));
    let arbstr = pair(&bad, &good)
        .set("timeouts", "first_event = 1")
        .set("timeouts", "response = 4")
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    assert_answer_of(&mut reply, "good", Mode::Stream);
    let list = attempts(&reply);
    assert_eq!(
        (list[0].1.as_str(), list[0].2.as_str()),
        ("error", "timeout")
    );
}

#[test]
fn error_events_from_all_are_one_503() {
    let answer = Answer::sse()
        .send(event(r#"{"error":{"message":"no","code":"overloaded"}}"#))
        .send(DONE);
    let (bad, good) = (Provider::always(answer.clone()), Provider::always(answer));
    let arbstr = pair(&bad, &good).set("retry", "max_attempts = 2").start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    assert_eq!(reply.json()["error"]["code"], "all_providers_failed");
    assert_eq!(
        (reply.status, tried(&reply)),
        (503, vec!["bad".to_owned(), "good".to_owned()])
    );
}
