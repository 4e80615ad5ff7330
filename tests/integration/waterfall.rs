//! The waterfall: which failures reach a client, which provider is asked next, and what is remembered of it.

mod first_event;
mod memory;
mod sunk;
mod table;
mod told;

use std::thread;
use std::time::Duration;

use crate::harness::{
    Answer, DONE, Gate, Provider, ProviderConfig, Reply, Setup, ask, ask_stream, chunk, completion,
    finish, wait_until,
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
