//! The waterfall: which failures reach a client, which provider is asked next, and what is remembered of it.

mod memory;
mod sunk;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, DONE, Gate, Provider, ProviderConfig, Reply, Setup, ask, ask_stream, chunk, completion,
    event, finish, wait_until,
};

/// `x-arbstr-attempts` taken apart: provider, `status` or `error`, value.
#[track_caller]
pub(super) fn attempts(reply: &Reply) -> Vec<(String, String, String)> {
    let list = reply.needs("x-arbstr-attempts");
    list.split(',')
        .map(|item| {
            let (provider, outcome) = item
                .trim()
                .split_once(';')
                .unwrap_or_else(|| panic!("{item:?} in {list:?}"));
            let (key, value) = outcome
                .trim()
                .split_once('=')
                .unwrap_or_else(|| panic!("{item:?} in {list:?}"));
            assert!(key == "status" || key == "error", "{list}");
            (provider.to_owned(), key.to_owned(), value.to_owned())
        })
        .collect()
}

#[track_caller]
pub(super) fn tried(reply: &Reply) -> Vec<String> {
    attempts(reply)
        .into_iter()
        .map(|(provider, ..)| provider)
        .collect()
}

pub(super) fn ask_as(mode: Mode, model: &str) -> String {
    match mode {
        Mode::Json => ask(model),
        Mode::Stream => ask_stream(model),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Json,
    Stream,
}

pub(super) const MODES: [Mode; 2] = [Mode::Json, Mode::Stream];

/// A cheap provider that misbehaves in front of a dear one that does not.
pub(super) fn pair(bad: &Provider, good: &Provider) -> Setup {
    Setup::new()
        .provider(ProviderConfig::new("bad", bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", good))
}

#[track_caller]
pub(super) fn assert_answer_of(reply: &mut Reply, provider: &str, mode: Mode) {
    let body = reply.finish();
    assert_eq!(reply.status, 200, "{}{body}", reply.head);
    assert_eq!(reply.needs("x-arbstr-provider"), provider);
    match mode {
        Mode::Json => assert!(body.contains(r#""content":"Hello""#), "{body}"),
        Mode::Stream => assert!(
            body.contains("Hel") && body.ends_with(DONE) && !body.contains("error"),
            "{body}"
        ),
    }
}

#[test]
fn third_provider_answers_when_the_cheapest_is_down_and_the_second_says_500() {
    for mode in MODES {
        let (alpha, beta) = (
            Provider::refusing(),
            Provider::always(Answer::fault(500, "oops")),
        );
        let gamma = Provider::healthy(11, 7);
        let arbstr = Setup::new()
            .provider(ProviderConfig::new("gamma", &gamma).rates("3000", "6000"))
            .provider(ProviderConfig::new("alpha", &alpha).rates("1000", "2000"))
            .provider(ProviderConfig::new("beta", &beta).rates("2000", "4000"))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "gamma", mode);
        assert_eq!(reply.needs("x-arbstr-retries"), "2");
        let list = attempts(&reply);
        assert_eq!((list[0].0.as_str(), list[0].1.as_str()), ("alpha", "error"));
        assert_eq!(
            reply
                .needs("x-arbstr-attempts")
                .split(", ")
                .skip(1)
                .collect::<Vec<_>>(),
            ["beta;status=500", "gamma;status=200"]
        );
        assert!(reply.needs("x-arbstr-latency-ms").parse::<u64>().is_ok());
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(row.text("provider").as_deref(), Some("gamma"));
        assert_eq!(
            (
                row.int("input_tokens"),
                row.int("output_tokens"),
                row.int("attempts")
            ),
            (Some(11), Some(7), Some(3))
        );
        let rows = arbstr.attempts(&reply.id());
        let providers: Vec<_> = rows
            .iter()
            .map(|row| row.text("provider").unwrap())
            .collect();
        assert_eq!(providers, ["alpha", "beta", "gamma"], "{rows:?}");
        assert_eq!(rows[1].int("status"), Some(500));
    }
}

#[test]
fn all_failed_is_one_503_that_names_every_attempt() {
    for mode in MODES {
        let (alpha, beta) = (
            Provider::refusing(),
            Provider::always(Answer::fault(500, "x")),
        );
        let gamma =
            Provider::always(Answer::fault(429, "rate_limit_exceeded").header("retry-after", "7"));
        let arbstr = Setup::new()
            .set("retry", "max_attempts = 3")
            .provider(ProviderConfig::new("alpha", &alpha).rates("1", "1"))
            .provider(ProviderConfig::new("beta", &beta).rates("2", "2"))
            .provider(ProviderConfig::new("gamma", &gamma).rates("3", "3"))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        let error = reply.json();
        assert_eq!(reply.status, 503, "{error}");
        assert!(reply.needs("content-type").starts_with("application/json"));
        assert_eq!(error["error"]["code"], "all_providers_failed");
        let all = error.to_string();
        for word in ["alpha", "beta", "gamma", "500", "429"] {
            assert!(all.contains(word), "{word} in {all}");
        }
        assert_eq!(tried(&reply), ["alpha", "beta", "gamma"]);
        assert_eq!(reply.needs("x-arbstr-provider"), "gamma");
        assert_eq!(reply.needs("x-arbstr-retries"), "2");
        let after: u64 = reply.needs("retry-after").parse().unwrap();
        assert!((1..=7).contains(&after), "{after}");
        let row = arbstr.row(&reply.id());
        assert!(!row.verdict().0, "{row:?}");
        assert_eq!(
            (
                row.int("error_status"),
                row.int("attempts"),
                row.int("cost_nanosats")
            ),
            (Some(503), Some(3), None)
        );
        assert_eq!(arbstr.attempts(&reply.id()).len(), 3);
    }
}

#[test]
fn all_saying_that_the_context_is_too_long_is_returned_as_it_is() {
    let faults = [
        Answer::fault(400, "context_length_exceeded"),
        Answer::fault(400, "context_length_exceeded"),
    ];
    let providers = faults.clone().map(Provider::always);
    let arbstr = pair(&providers[0], &providers[1]).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_eq!(
        (reply.finish().into_bytes(), reply.status),
        (faults[1].body(), 400)
    );
    assert_eq!(providers.map(|provider| provider.count()), [1, 1]);
}

#[test]
fn no_more_attempts_than_allowed_and_nobody_twice_before_everybody_once() {
    let providers: Vec<_> = (0..10)
        .map(|_| Provider::always(Answer::fault(500, "x")))
        .collect();
    let mut setup = Setup::new().set("retry", "max_attempts = 8");
    for (at, provider) in providers.iter().enumerate() {
        setup = setup.provider(
            ProviderConfig::new(&format!("p{at}"), provider).rates(&format!("{}", at + 1), "1"),
        );
    }
    let arbstr = setup.start();
    let reply = arbstr.chat(&ask("model-a"));
    assert_eq!(reply.status, 503);
    assert_eq!(
        tried(&reply),
        (0..8).map(|at| format!("p{at}")).collect::<Vec<_>>()
    );
    let asked: Vec<_> = providers.iter().map(Provider::count).collect();
    assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn a_busy_provider_is_tried_again_when_no_other_is_left() {
    for mode in MODES {
        let good = if mode == Mode::Json {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::stream(1, 1)
        };
        let bad = Provider::always(Answer::fault(404, "no_such_model"));
        let busy =
            Provider::answering([Answer::fault(503, "busy"), Answer::fault(429, "busy"), good]);
        let arbstr = Setup::new()
            .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
            .provider(ProviderConfig::new("busy", &busy))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "busy", mode);
        assert_eq!(tried(&reply), ["bad", "busy", "busy", "busy"]);
        assert_eq!((bad.count(), busy.count()), (1, 3));
    }
}

#[test]
fn same_provider_first_gives_a_hiccup_a_second_chance() {
    let bad = Provider::answering([
        Answer::fault(500, "hiccup"),
        Answer::json(200, &completion(1, 1)),
    ]);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("retry", "same_provider_first = 1")
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_answer_of(&mut reply, "bad", Mode::Json);
    assert_eq!(
        reply.needs("x-arbstr-attempts"),
        "bad;status=500, bad;status=200"
    );
    assert_eq!(good.count(), 0);
}

#[test]
fn a_reset_of_a_reused_connection_is_no_attempt() {
    for mode in MODES {
        let good = if mode == Mode::Json {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::stream(1, 1)
        };
        let provider = Provider::by(move |seen, nth| {
            if nth > 0 && seen.connection == 0 {
                Answer::bare().reset()
            } else {
                good.clone()
            }
        });
        let arbstr = Setup::of(&provider).start();
        assert_answer_of(&mut arbstr.chat(&ask_as(mode, "model-a")), "alpha", mode);
        // The connection has to be back in the pool before it can be used again.
        thread::sleep(Duration::from_millis(100));
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "alpha", mode);
        let connections: Vec<_> = provider.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(
            connections,
            [0, 0, 1],
            "kept alive, reused, then a fresh one"
        );
        assert_eq!(reply.needs("x-arbstr-retries"), "0");
        assert_eq!(reply.needs("x-arbstr-attempts"), "alpha;status=200");
    }
}

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
fn retry_after_is_kept_for_the_client_of_a_sole_provider() {
    let provider = Provider::always(Answer::fault(429, "busy").header("retry-after", "13"));
    let arbstr = Setup::of(&provider)
        .set("retry", "max_attempts = 1")
        .start();
    let reply = arbstr.chat(&ask("model-a"));
    assert_eq!((reply.status, reply.needs("retry-after")), (429, "13"));
}

#[test]
fn once_the_client_has_gone_nobody_else_is_asked() {
    for mode in MODES {
        let gate = Gate::new();
        let bad = Provider::always(Answer::fault(500, "x").after(&gate));
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        let mut client = arbstr.client();
        client.request_chat(&ask_as(mode, "model-a"));
        gate.wait_reached();
        client.reset();
        // Only that of the question itself.
        let alone = "\narbstr_client_connections 1\n";
        let has_left = || arbstr.get("/metrics").finish().contains(alone);
        assert!(wait_until(Duration::from_secs(5), has_left));
        gate.open();
        let row = arbstr.first_row();
        row.assert_failure("client_disconnected");
        assert_eq!((bad.count(), good.count()), (1, 0), "{mode:?}");
    }
}

#[test]
fn each_failed_attempt_is_one_warning_without_secrets() {
    let bad = Provider::always(Answer::fault(500, "sk-bad-secret"));
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_answer_of(&mut reply, "good", Mode::Json);
    let id = reply.id();
    let warned = || {
        arbstr
            .log()
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(&id))
            .count()
    };
    assert!(
        wait_until(Duration::from_secs(1), || warned() == 1),
        "{} warnings",
        warned()
    );
    let log = arbstr.log();
    let line = log
        .lines()
        .find(|line| line.contains("WARN") && line.contains(&id))
        .unwrap();
    for word in ["bad", "model-a", "500"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(
        !log.contains("sk-bad-secret")
            && !log.contains("sk-good-secret")
            && !log.contains("Say hello."),
        "{log}"
    );
}

#[test]
fn a_provider_that_echoes_a_key_is_redacted() {
    let echo = r#"{"error":{"message":"Incorrect API key provided: sk-alpha-secret.","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let html = format!("<html>{echo}</html>");
    for (status, body, kind) in [
        (401, echo, "application/json"),
        (400, echo, "application/json"),
        (500, html.as_str(), "text/html"),
    ] {
        let provider = Provider::always(
            Answer::new(status)
                .header("content-type", kind)
                .with_length()
                .send(body),
        );
        let arbstr = Setup::of(&provider)
            .set("retry", "max_attempts = 1")
            .start();
        let mut reply = arbstr.chat(&ask("model-a"));
        let json = reply.json();
        assert_eq!(reply.status, status);
        assert!(
            json["error"]["message"]
                .as_str()
                .unwrap()
                .contains("Incorrect API key provided"),
            "{json}"
        );
        assert!(!reply.text().contains("sk-alpha-secret"), "{json}");
        arbstr.row(&reply.id());
        let database = std::fs::read(arbstr.database()).unwrap();
        assert!(
            !database
                .windows(15)
                .any(|window| window == b"sk-alpha-secret")
        );
        assert!(!arbstr.log().contains("sk-alpha-secret"));
    }
}

#[test]
fn an_error_that_is_no_json_is_wrapped_and_cut_short() {
    let page = format!("<html>\"quoted\" {}</html>", "x".repeat(100_000));
    let provider = Provider::always(
        Answer::new(502)
            .header("content-type", "text/html")
            .with_length()
            .send(&page),
    );
    let arbstr = Setup::of(&provider)
        .set("retry", "max_attempts = 1")
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    let json = reply.json();
    assert_eq!(reply.status, 502);
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("<html>\"quoted\""), "{message}");
    assert!(reply.body.len() < 2048, "{} bytes", reply.body.len());
}

#[test]
fn a_provider_that_rejects_the_injected_stream_options_is_asked_without_and_remembered() {
    let refusals = [
        r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":"stream_options","code":null}}"#,
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
    ];
    for refusal in refusals {
        asked_without(refusal);
    }
}

#[track_caller]
fn asked_without(refusal: &'static str) {
    let provider = Provider::by(move |seen, _| {
        if seen.text().contains("stream_options") {
            Answer::json(400, refusal)
        } else {
            Answer::sse()
                .send(chunk("Hello"))
                .send(finish("stop"))
                .send(DONE)
        }
    });
    let arbstr = Setup::of(&provider).start();
    let body = ask_stream("model-a");
    let mut reply = arbstr.chat(&body);
    assert_answer_of(&mut reply, "alpha", Mode::Stream);
    assert_answer_of(&mut arbstr.chat(&body), "alpha", Mode::Stream);
    let asked: Vec<_> = provider
        .seen()
        .iter()
        .map(|seen| seen.text().contains("stream_options"))
        .collect();
    assert_eq!(asked, [true, false, false]);
    assert_eq!(provider.seen()[1].text(), body);
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("cost_nanosats")),
        (None, None),
        "no usage, no cost"
    );
}

#[test]
fn a_client_that_asked_for_usage_itself_gets_the_rejection() {
    let fault = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":"stream_options","code":null}}"#;
    let provider = Provider::always(Answer::json(400, fault));
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&crate::harness::ask_stream_with_usage("model-a"));
    assert_eq!((reply.finish().as_str(), reply.status), (fault, 400));
    assert_eq!(provider.count(), 1);
}

#[test]
fn a_model_that_nobody_has_is_404_and_on_record() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    for mode in MODES {
        let mut reply = arbstr.chat(&ask_as(mode, "model-z"));
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["error"]["code"]),
            (404, &"model_not_found".into()),
            "{error}"
        );
        assert!(
            error["error"]["message"]
                .as_str()
                .unwrap()
                .contains("model-z")
        );
        assert_eq!(reply.header("x-arbstr-provider"), None);
        let row = arbstr.row(&reply.id());
        assert!(!row.verdict().0);
        assert_eq!(
            (
                row.text("model").as_deref(),
                row.text("provider"),
                row.int("error_status")
            ),
            (Some("model-z"), None, Some(404))
        );
        assert_eq!(row.int("attempts"), Some(0));
    }
    assert_eq!(provider.count(), 0);
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
fn names_that_do_not_resolve_and_broken_tls_go_to_the_next() {
    let (plain, good) = (
        Provider::always(Answer::fault(400, "no TLS here")),
        Provider::healthy(1, 1),
    );
    let tls = format!("https://{}/v1", plain.address());
    for url in ["http://no-such-host.invalid/v1", &tls] {
        let arbstr = Setup::new()
            .provider(ProviderConfig::new("bad", &plain).rates("1", "1").url(url))
            .provider(ProviderConfig::new("good", &good))
            .start();
        let mut reply = arbstr.chat(&ask("model-a"));
        assert_answer_of(&mut reply, "good", Mode::Json);
        assert_eq!(attempts(&reply)[0].1, "error", "{url}");
    }
}

#[test]
fn an_early_hint_is_not_the_answer() {
    let body = completion(1, 1);
    let raw = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let provider = Provider::always(Answer::bare().raw(raw));
    let arbstr = Setup::of(&provider).start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "alpha", Mode::Json);
}

#[test]
fn a_full_provider_overflows_to_the_next_cheapest() {
    let gate = Gate::new();
    let bad = Provider::always(Answer::json(200, &completion(1, 1)).after(&gate));
    let good = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("bad", &bad)
                .rates("1", "1")
                .line("max_concurrency = 1"),
        )
        .provider(ProviderConfig::new("good", &good))
        .start();
    thread::scope(|scope| {
        let first = scope.spawn(|| arbstr.chat(&ask("model-a")));
        gate.wait_reached();
        let mut second = arbstr.chat(&ask("model-a"));
        assert_answer_of(&mut second, "good", Mode::Json);
        assert_eq!(second.needs("x-arbstr-retries"), "0");
        gate.open();
        assert_answer_of(&mut first.join().unwrap(), "bad", Mode::Json);
    });
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
}

#[test]
fn a_model_name_cannot_smuggle_a_header_or_a_log_line() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(r#"{"model":"x\r\nx-evil: 1\r\n\r\n","messages":[]}"#);
    reply.json();
    assert_eq!((reply.status, reply.header("x-evil")), (404, None));
    let id = reply.id();
    assert!(wait_until(Duration::from_secs(1), || arbstr
        .log()
        .contains(&id)));
    assert!(
        !arbstr.log().lines().any(|line| line.starts_with("x-evil")),
        "{}",
        arbstr.log()
    );
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

#[test]
fn a_key_in_an_error_event_or_in_a_503_is_redacted() {
    let echo = r#"{"error":{"message":"bad key sk-bad-secret or sk-good-secret","code":"sk-good-secret"}}"#;
    let first = Provider::always(Answer::json(500, echo));
    let second = Provider::always(Answer::json(401, echo));
    let arbstr = pair(&first, &second)
        .set("retry", "max_attempts = 2")
        .start();
    let text = arbstr.chat(&ask("model-a")).finish();
    assert!(
        text.contains("all_providers_failed")
            && !text.contains("sk-bad-secret")
            && !text.contains("sk-good-secret"),
        "{text}"
    );
    let streaming = Provider::always(Answer::sse().send(chunk("Hel")).send(event(echo)));
    let arbstr = pair(&streaming, &second).start();
    let text = arbstr.chat(&ask_stream("model-a")).finish();
    assert!(
        text.contains("bad key") && !text.contains("sk-bad-secret"),
        "{text}"
    );
}

#[test]
fn a_fresh_connection_that_is_reset_too_is_a_failed_attempt() {
    let bad = Provider::by(|_, nth| {
        if nth == 0 {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::bare().reset()
        }
    });
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    thread::sleep(Duration::from_millis(100));
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_answer_of(&mut reply, "good", Mode::Json);
    assert_eq!(tried(&reply), ["bad", "good"]);
    assert_eq!(bad.count(), 3, "reused, then once more on a fresh one");
}
