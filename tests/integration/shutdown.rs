//! SIGTERM and SIGINT: what is running may finish within the grace, the rest is told, every row is written, exit 0.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, DONE, Gate, Provider, Setup, ask, ask_stream, chunk, completion, finish, usage_chunk,
    wait_until,
};

fn held(gate: &Gate) -> Answer {
    Answer::sse()
        .send(chunk("a"))
        .wait_for(gate)
        .send(finish("stop"))
        .send(usage_chunk(10, 4))
        .send(DONE)
}

#[test]
fn a_stream_finishes_within_the_grace() {
    for signal in ["TERM", "INT"] {
        let gate = Gate::new();
        let provider = Provider::always(held(&gate));
        let mut arbstr = Setup::of(&provider)
            .set("server", "shutdown_grace_secs = 5")
            .start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        reply.read_until(&chunk("a"));
        arbstr.signal(signal);
        assert!(
            wait_until(Duration::from_secs(2), || TcpStream::connect(
                arbstr.address()
            )
            .is_err()),
            "still accepting"
        );
        gate.open();
        let text = reply.finish();
        assert!(
            text.contains(r#""arbstr""#) && text.ends_with(DONE),
            "{text}"
        );
        assert_eq!(
            arbstr.wait_exit(Duration::from_secs(3)).code(),
            Some(0),
            "{}",
            arbstr.log()
        );
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(row.int("cost_nanosats"), Some(18_000_000));
    }
}

#[test]
fn a_client_that_is_still_sending_is_told_at_the_end_of_the_grace() {
    let provider = Provider::healthy(1, 1);
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 1")
        .start();
    let mut client = arbstr.client();
    client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{",
    );
    thread::sleep(Duration::from_millis(100));
    arbstr.signal("TERM");
    let mut reply = client.reply("POST");
    let body = reply.finish();
    assert_eq!(reply.status, 503, "{}{body}", reply.head);
    assert!(body.contains("server_shutting_down"), "{body}");
    let exit = arbstr.wait_exit(Duration::from_secs(2));
    assert_eq!(exit.code(), Some(0), "{}", arbstr.log());
    assert!(!arbstr.log().contains("in time"), "{}", arbstr.log());
    assert_eq!(provider.count(), 0);
}

#[test]
fn beyond_the_grace_a_stream_is_told_and_its_row_written() {
    let gate = Gate::new();
    let provider = Provider::always(held(&gate));
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 1")
        .start();
    let mut replies: Vec<_> = (0..3)
        .map(|_| arbstr.chat(&ask_stream("model-a")))
        .collect();
    for reply in &mut replies {
        reply.read_until(&chunk("a"));
    }
    let from = Instant::now();
    arbstr.signal("TERM");
    for reply in &mut replies {
        let text = reply.finish();
        let data = text
            .strip_prefix(&chunk("a"))
            .unwrap()
            .strip_prefix("data: ")
            .unwrap_or_else(|| panic!("{text}"));
        let error: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(error["error"]["code"], "server_shutting_down", "{error}");
        assert!(!text.contains("[DONE]"));
    }
    assert!(
        from.elapsed() > Duration::from_millis(700),
        "the grace was not granted"
    );
    assert_eq!(
        arbstr.wait_exit(Duration::from_secs(4)).code(),
        Some(0),
        "{}",
        arbstr.log()
    );
    for reply in &replies {
        let row = arbstr
            .row_now(&reply.id())
            .expect("flushed before the exit");
        let (success, message) = row.verdict();
        assert!(
            !success && !["in_progress", "interrupted"].contains(&message.as_deref().unwrap()),
            "{row:?}"
        );
        assert_eq!(row.int("cost_nanosats"), None);
        assert_eq!(row.int("error_status"), None, "the client got 200");
    }
}

#[test]
fn a_json_answer_finishes_within_the_grace() {
    let gate = Gate::new();
    let provider = Provider::always(Answer::json(200, &completion(10, 4)).after(&gate));
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 5")
        .start();
    let mut client = arbstr.client();
    client.request_chat(&ask("model-a"));
    gate.wait_reached();
    arbstr.signal("TERM");
    arbstr.wait_for_log("shutting down: ", 1);
    gate.open();
    let mut reply = client.reply("POST");
    assert_eq!((reply.finish(), reply.status), (completion(10, 4), 200));
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(arbstr.wait_exit(Duration::from_secs(3)).code(), Some(0));
    arbstr
        .row_now(&reply.id())
        .expect("flushed")
        .assert_success();
}

#[test]
fn a_slow_client_gets_all_of_an_answer_within_the_grace() {
    let body = completion(10, 4).replace('}', &format!("}}{}", " ".repeat(4_000_000)));
    let provider = Provider::always(Answer::json(200, &body));
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 20")
        .start();
    let mut client = arbstr.client();
    client.request_chat(&ask("model-a"));
    let mut reply = client.reply("POST");
    arbstr.signal("TERM");
    arbstr.wait_for_log("shutting down: ", 1);
    // The last bytes of an answer have half a second once nothing else runs.
    thread::sleep(Duration::from_millis(900));
    assert_eq!(reply.finish().len(), body.len());
    assert_eq!(arbstr.wait_exit(Duration::from_secs(3)).code(), Some(0));
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    let provider = Provider::healthy(10, 4);
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 20")
        .start();
    let mut idle = arbstr.client();
    idle.request("GET", "/health", &[], b"");
    let fresh = arbstr.client();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let from = Instant::now();
    arbstr.signal("TERM");
    assert_eq!(arbstr.wait_exit(Duration::from_secs(5)).code(), Some(0));
    assert!(from.elapsed() < Duration::from_secs(5));
    arbstr
        .row_now(&reply.id())
        .expect("flushed")
        .assert_success();
    idle.reset();
    fresh.reset();
}

#[test]
fn a_head_that_never_ends_does_not_hold_it_up() {
    let provider = Provider::healthy(10, 4);
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 20")
        .start();
    let mut half = arbstr.client();
    half.send("GET /health HTTP/1.1\r\nho");
    assert_eq!(arbstr.get("/health").status, 200);
    arbstr.signal("TERM");
    assert_eq!(arbstr.wait_exit(Duration::from_secs(3)).code(), Some(0));
    half.reset();
}

#[test]
fn a_client_that_does_not_read_does_not_hold_it_up() {
    let big = chunk(&"x".repeat(60_000));
    let mut answer = Answer::sse().send(chunk("a"));
    for _ in 0..300 {
        answer = answer.send(&big);
    }
    let provider = Provider::always(answer.send(DONE));
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 1")
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    thread::sleep(Duration::from_millis(200));
    arbstr.signal("TERM");
    assert_eq!(arbstr.wait_exit(Duration::from_secs(4)).code(), Some(0));
    let (success, message) = arbstr.row_now(&reply.id()).expect("flushed").verdict();
    assert!(
        !success && !["in_progress", "interrupted"].contains(&message.as_deref().unwrap()),
        "{message:?}"
    );
}

#[test]
fn a_drain_for_a_client_that_left_is_cut_at_the_grace() {
    let gate = Gate::new();
    let provider = Provider::always(held(&gate));
    let mut arbstr = Setup::of(&provider)
        .set("server", "shutdown_grace_secs = 1")
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    let id = reply.id();
    reply.reset();
    arbstr.wait_for_log("client left its stream", 1);
    arbstr.signal("TERM");
    assert_eq!(arbstr.wait_exit(Duration::from_secs(4)).code(), Some(0));
    arbstr
        .row_now(&id)
        .expect("flushed")
        .assert_failure("client_disconnected");
}

#[test]
fn beyond_the_grace_an_unanswered_request_is_told_too() {
    for body in [ask("model-a"), ask_stream("model-a")] {
        let gate = Gate::new();
        let provider = Provider::always(Answer::json(200, &completion(10, 4)).after(&gate));
        let mut arbstr = Setup::of(&provider)
            .set("server", "shutdown_grace_secs = 1")
            .start();
        let mut client = arbstr.client();
        client.request_chat(&body);
        gate.wait_reached();
        arbstr.signal("TERM");
        let mut reply = client.reply("POST");
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["error"]["code"]),
            (503, &"server_shutting_down".into()),
            "{error}"
        );
        assert_eq!(arbstr.wait_exit(Duration::from_secs(4)).code(), Some(0));
        let row = arbstr.row_now(&reply.id()).expect("flushed");
        row.assert_failure("server_shutting_down");
        assert_eq!(row.int("error_status"), Some(503), "what the client got");
    }
}
