//! What clients and the log are told of failures, and what not: keys, bodies, forged lines.

use std::time::Duration;

use super::{Mode, assert_answer_of, pair};
use crate::harness::{Answer, Provider, Setup, ask, ask_stream, chunk, event, wait_until};
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
