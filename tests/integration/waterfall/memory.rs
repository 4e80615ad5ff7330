//! What is remembered of a failure: cool-downs, problems of an operator, circuits.

use std::thread;
use std::time::Duration;

use super::{Mode, assert_answer_of, pair, tried};
use crate::harness::{
    Answer, Gate, Provider, ProviderConfig, Setup, ask, ask_stream, chunk, completion, event,
    wait_until,
};

#[test]
fn a_key_or_balance_problem_is_skipped_for_a_while() {
    for code in [401, 402, 403, 404] {
        let (bad, good) = (
            Provider::always(Answer::fault(code, "x")),
            Provider::healthy(1, 1),
        );
        let arbstr = pair(&bad, &good).start();
        for _ in 0..3 {
            assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        }
        assert_eq!((bad.count(), good.count()), (1, 3), "after {code}");
        assert!(
            arbstr
                .log()
                .lines()
                .any(|line| line.contains("bad")
                    && (line.contains("WARN") || line.contains("ERROR"))),
            "an operator reads of {code}"
        );
    }
}

#[test]
fn a_balance_problem_in_a_429_is_no_busyness() {
    let (bad, good) = (
        Provider::always(Answer::fault(429, "insufficient_quota")),
        Provider::healthy(1, 1),
    );
    let arbstr = pair(&bad, &good).start();
    for _ in 0..3 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!((bad.count(), good.count()), (1, 3));
}

#[test]
fn retry_after_cools_a_provider_down_for_as_long_as_it_says() {
    for (status, header, value) in [
        (429, "retry-after", "1"),
        (503, "retry-after", "1"),
        (429, "retry-after-ms", "900"),
    ] {
        let bad = Provider::answering([
            Answer::fault(status, "busy").header(header, value),
            Answer::json(200, &completion(1, 1)),
        ]);
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        assert_eq!(bad.count(), 1, "{status} was cooling down");
        thread::sleep(Duration::from_millis(1100));
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    }
}

/// Without a `Retry-After` to speak of it was asked first, and in vain, by every request.
#[test]
fn who_refuses_every_lone_request_is_left_alone_for_a_while() {
    let refusal = Answer::fault(429, "rate_limit_exceeded").header("retry-after", "0");
    let bad = Provider::always(refusal);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    for _ in 0..12 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!(bad.count(), 4, "it was put up with four times");
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!(bad.count(), 5, "and asked once more after a second");
}

#[test]
fn a_circuit_opens_after_failures_in_a_row_and_closes_after_one_success() {
    let sick = Gate::new();
    let healthy = sick.clone();
    let bad = Provider::by(move |_, _| {
        if healthy.is_open() {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::fault(500, "x")
        }
    });
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("circuit", "failures = 3")
        .set("circuit", "open_secs = 1")
        .start();
    for _ in 0..5 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!(bad.count(), 3, "open after three");
    sick.open();
    thread::sleep(Duration::from_millis(1200));
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
}

#[test]
fn a_half_open_circuit_lets_one_probe_through() {
    let gate = Gate::new();
    let probe = gate.clone();
    let slow = Answer::bare()
        .wait_for(&probe)
        .raw("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
        .fin();
    let bad = Provider::answering([Answer::fault(500, "x"), slow]);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("circuit", "failures = 1")
        .set("circuit", "open_secs = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    thread::sleep(Duration::from_millis(1100));
    thread::scope(|scope| {
        let probing =
            scope.spawn(|| assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json));
        gate.wait_reached();
        for _ in 0..3 {
            assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        }
        assert_eq!(bad.count(), 2, "one probe at a time");
        gate.open();
        probing.join().unwrap();
    });
}

#[test]
fn when_all_circuits_are_open_one_probes_and_the_rest_are_told_when_to_come_back() {
    let gate = Gate::new();
    let sick = |gate: Gate| {
        Provider::by(move |_, nth| match nth {
            0 => Answer::fault(500, "x"),
            _ => Answer::json(200, &completion(1, 1)).after(&gate),
        })
    };
    let (alpha, beta) = (sick(gate.clone()), sick(gate.clone()));
    let arbstr = pair(&alpha, &beta)
        .set("retry", "max_attempts = 2")
        .set("circuit", "failures = 1")
        .set("circuit", "open_secs = 30")
        .start();
    assert_eq!(arbstr.chat(&ask("model-a")).status, 503);
    thread::scope(|scope| {
        let probe = scope.spawn(|| arbstr.chat(&ask("model-a")));
        gate.wait_reached();
        // It waits a moment for the probe, which may come back well, and then gives up.
        let mut refused = arbstr.chat(&ask("model-a"));
        let asked = alpha.count() + beta.count();
        gate.open();
        assert_eq!(probe.join().unwrap().status, 200);
        assert_eq!((asked, refused.status), (3, 503), "{}", refused.head);
        assert!(refused.needs("retry-after").parse::<u64>().unwrap() > 0);
        assert!(refused.json()["error"]["code"].is_string());
    });
}

#[test]
fn a_sole_provider_is_never_skipped() {
    let provider = Provider::always(Answer::fault(500, "x"));
    let arbstr = Setup::of(&provider)
        .set("retry", "max_attempts = 1")
        .set("circuit", "failures = 1")
        .start();
    for _ in 0..4 {
        assert_eq!(arbstr.chat(&ask("model-a")).status, 500);
    }
    assert_eq!(provider.count(), 4);
}

#[test]
fn a_bad_model_does_not_take_its_provider_down_for_the_others() {
    let bad = Provider::by(|seen, _| {
        if seen.text().contains("model-a") {
            Answer::fault(500, "x")
        } else {
            Answer::json(200, &completion(1, 1))
        }
    });
    let good = Provider::healthy(1, 1);
    let both = ["model-a", "model-b"];
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("bad", &bad)
                .models(&both)
                .rates("1", "1"),
        )
        .provider(ProviderConfig::new("good", &good).models(&both))
        .set("circuit", "failures = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-b")), "bad", Mode::Json);
    assert_eq!(bad.count(), 2);
}

#[test]
fn conflicts_and_the_clients_own_mistakes_open_no_circuit() {
    for status in [409, 400, 422] {
        let (bad, good) = (
            Provider::always(Answer::fault(status, "x")),
            Provider::healthy(1, 1),
        );
        let arbstr = pair(&bad, &good).set("circuit", "failures = 1").start();
        for _ in 0..3 {
            arbstr.chat(&ask("model-a")).finish();
        }
        assert_eq!(bad.count(), 3, "{status}");
    }
}

#[test]
fn a_dead_connection_takes_the_provider_down_for_all_its_models() {
    let (bad, good) = (Provider::refusing(), Provider::healthy(1, 1));
    let both = ["model-a", "model-b"];
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("bad", &bad)
                .models(&both)
                .rates("1", "1"),
        )
        .provider(ProviderConfig::new("good", &good).models(&both))
        .set("circuit", "failures = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    let mut reply = arbstr.chat(&ask("model-b"));
    assert_answer_of(&mut reply, "good", Mode::Json);
    assert_eq!(tried(&reply), ["good"]);
}

#[test]
fn a_retry_after_may_be_a_date() {
    let date = std::process::Command::new("date")
        .args(["-u", "-d", "+3 seconds", "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let date = String::from_utf8(date.stdout).unwrap();
    let bad = Provider::answering([
        Answer::fault(429, "busy").header("retry-after", date.trim()),
        Answer::json(200, &completion(1, 1)),
    ]);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_eq!(bad.count(), 1, "cooling down until {date}");
    thread::sleep(Duration::from_millis(3200));
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
}

#[test]
fn timeouts_408_and_broken_streams_count_against_the_circuit() {
    let answers = [
        Answer::fault(408, "timeout"),
        Answer::bare().stall(),
        Answer::sse().send(chunk("a")).reset(),
        Answer::sse()
            .send(chunk("a"))
            .send(event(r#"{"error":{"message":"gone"}}"#)),
    ];
    for answer in answers {
        let (bad, good) = (Provider::always(answer), Provider::healthy(1, 1));
        let arbstr = pair(&bad, &good)
            .set("circuit", "failures = 1")
            .set("timeouts", "first_event = 1")
            .start();
        arbstr.chat(&ask_stream("model-a")).finish();
        assert_answer_of(
            &mut arbstr.chat(&ask_stream("model-a")),
            "good",
            Mode::Stream,
        );
        assert_eq!(bad.count(), 1);
    }
}

#[test]
fn an_open_circuit_shows_in_health_and_is_told_once() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::healthy(1, 1),
    );
    let arbstr = pair(&bad, &good).set("circuit", "failures = 1").start();
    for _ in 0..4 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    let mut health = arbstr.get("/health");
    assert_eq!(
        (health.json()["status"].as_str(), health.status),
        (Some("degraded"), 200)
    );
    let told = arbstr
        .log()
        .lines()
        .filter(|line| line.to_lowercase().contains("circuit"))
        .count();
    assert_eq!(told, 1, "{}", arbstr.log());
}

#[test]
fn an_open_circuit_tells_when_its_probe_is_due() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::healthy(1, 1),
    );
    for (open_secs, wait) in [("30", false), ("0.2", true)] {
        let arbstr = pair(&bad, &good)
            .set("circuit", "failures = 1")
            .set("circuit", &format!("open_secs = {open_secs}"))
            .start();
        arbstr.chat(&ask("model-a")).finish();
        let health = || arbstr.get("/health").json()["open_circuits"][0].clone();
        if wait {
            // Nobody comes, so it stays open and says that it is due.
            let due = || health()["probe_due_ms"] == 0;
            assert!(wait_until(Duration::from_secs(5), due), "{}", health());
        }
        let open = health();
        let offer = arbstr.get("/providers").json()["data"][0]["models"][0].clone();
        for told in [&open["probe_due_ms"], &offer["probe_due_ms"]] {
            let told = told.as_u64().unwrap();
            assert_eq!(told == 0, wait, "{open} {offer}");
            assert!(told <= 30_000, "{open} {offer}");
        }
        assert_eq!(
            (&open["state"], &offer["circuit"]),
            (&"open".into(), &"open".into())
        );
        let closed = arbstr.get("/providers").json()["data"][1].clone();
        assert!(closed["probe_due_ms"].is_null() && closed["models"][0]["probe_due_ms"].is_null());
    }
}

#[test]
fn who_is_skipped_is_still_asked_when_nobody_else_can_serve() {
    let faults = [
        Answer::fault(401, "invalid_api_key"),
        Answer::fault(404, "model_not_found"),
        Answer::fault(500, "x"),
        Answer::bare().reset(),
    ];
    for fault in faults {
        let bad = Provider::answering([fault.clone(), Answer::json(200, &completion(1, 1))]);
        let good = Provider::answering([
            Answer::json(200, &completion(1, 1)),
            Answer::fault(502, "x"),
        ]);
        let arbstr = pair(&bad, &good).set("circuit", "failures = 1").start();
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        let mut reply = arbstr.chat(&ask("model-a"));
        assert_answer_of(&mut reply, "bad", Mode::Json);
        assert_eq!(tried(&reply), ["good", "bad"], "after {fault:?}");
    }
}

#[test]
fn a_success_in_between_keeps_a_circuit_closed() {
    let bad = Provider::by(|_, nth| {
        if nth % 3 == 2 {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::fault(500, "x")
        }
    });
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).set("circuit", "failures = 3").start();
    for _ in 0..9 {
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    }
    assert_eq!(bad.count(), 9, "never three in a row");
}
