//! The log on stderr: one line for each request, for people or machines, and never in the way of one.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command};
use std::time::{Duration, Instant};
use std::{panic, thread};

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, Client, Folder, Provider, ProviderConfig, Setup, ask, ask_stream, command,
    completion, wait_until,
};

/// The lines about requests, once there are so many.
#[track_caller]
fn request_lines(arbstr: &Arbstr, count: usize) -> Vec<String> {
    let lines = || -> Vec<String> {
        let log = arbstr.log();
        let of_requests = log.lines().filter(|line| {
            line.contains(" INFO request ") || line.contains("\"message\":\"request\"")
        });
        of_requests.map(str::to_owned).collect()
    };
    assert!(
        wait_until(Duration::from_secs(5), || lines().len() >= count),
        "{}",
        arbstr.log()
    );
    thread::sleep(Duration::from_millis(50));
    let lines = lines();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[test]
fn every_request_is_one_line_with_what_is_on_record() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "oops")),
        Provider::healthy(1000, 500),
    );
    let arbstr = Setup::new()
        .argument("--log-format")
        .argument("json")
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good))
        .start();
    let headers = [("x-request-id", "mine \"7\"")];
    let mut json = arbstr.chat_with(&headers, &ask("model-a"));
    json.finish();
    let mut stream = arbstr.chat(&ask_stream("model-a"));
    stream.finish();
    let mut unknown = arbstr.chat(&ask("no-such-model"));
    unknown.finish();
    let lines = request_lines(&arbstr, 3);
    for (line, reply) in lines.iter().zip([&json, &stream, &unknown]) {
        let line: Value = serde_json::from_str(line).unwrap();
        let row = arbstr.row(&reply.id());
        assert_eq!(line["request_id"], reply.id());
        assert_eq!(line["level"], "info");
        assert_eq!(line["model"].as_str().map(str::to_owned), row.text("model"));
        assert_eq!(
            line["provider"]
                .as_str()
                .filter(|name| *name != "-")
                .map(str::to_owned),
            row.text("provider")
        );
        for column in [
            "input_tokens",
            "output_tokens",
            "latency_ms",
            "duration_ms",
            "attempts",
        ] {
            assert_eq!(line[column].as_i64(), row.int(column), "{column}: {line}");
        }
        let cost = row
            .int("cost_nanosats")
            .map(|nanosats| nanosats as f64 / 1e9);
        assert_eq!(line["cost_sats"].as_f64(), cost, "{line}");
        let outcome = row
            .text("error_message")
            .unwrap_or_else(|| "success".to_owned());
        assert_eq!(line["outcome"], outcome);
    }
    assert_eq!(
        serde_json::from_str::<Value>(&lines[0]).unwrap()["client_id"],
        "mine \"7\""
    );
    for line in arbstr.log().lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["timestamp"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_line_stays_one_line_whatever_is_in_it() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let evil = "m\\n2026-01-01T00:00:00Z ERROR forged\\u001b[31m\\u202e";
    arbstr.chat(&ask(evil)).finish();
    let lines = request_lines(&arbstr, 1);
    assert!(
        lines[0].contains(
            r#"model="m\n2026-01-01T00:00:00Z ERROR forged\u{1b}[31m\u{202e}" provider=-"#
        ),
        "{}",
        lines[0]
    );
    assert!(!arbstr.log().contains('\u{1b}') && !arbstr.log().contains("\n2026-01-01"));
}

#[test]
fn rust_log_says_what_is_told() {
    let (bad, good) = (
        Provider::always(Answer::fault(500, "oops")),
        Provider::always(Answer::json(200, &completion(1, 1))),
    );
    let setup = Setup::new()
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good));
    let folder = Folder::new();
    let config = folder.write("arbstr.toml", &setup.text(folder.path()));
    let mut serve = command(&folder);
    serve
        .env("RUST_LOG", "warn,arbstr::serve=info")
        .arg("serve")
        .arg("-c")
        .arg(config);
    let (mut child, address, mut stderr) = listening(serve.spawn().unwrap());
    let mut client = Client::connect(address);
    client.request(
        "POST",
        "/v1/chat/completions",
        &[],
        ask("model-a").as_bytes(),
    );
    assert_eq!(client.reply("POST").status, 200);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(
        line.contains(" WARN attempt failed ") && line.contains(" provider=bad "),
        "{line}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let rest: Vec<String> = stderr.lines().map_while(Result::ok).collect();
    assert_eq!(
        rest,
        Vec::<String>::new(),
        "nothing at info but what was asked for"
    );
}

#[test]
fn a_stderr_that_nobody_reads_stops_nothing() {
    let provider = Provider::healthy(1, 1);
    let folder = Folder::new();
    let config = folder.write("arbstr.toml", &Setup::of(&provider).text(folder.path()));
    let mut serve = command(&folder);
    serve
        .env("RUST_LOG", "trace")
        .arg("serve")
        .arg("-c")
        .arg(config);
    let (mut child, address, stderr) = listening(serve.spawn().unwrap());
    let answered = panic::catch_unwind(|| {
        // A pipe holds 64 KiB; at trace, each request says more than one of them.
        for _ in 0..150 {
            let began = Instant::now();
            let mut client = Client::connect(address);
            client.request(
                "POST",
                "/v1/chat/completions",
                &[],
                ask("model-a").as_bytes(),
            );
            assert_eq!(client.reply("POST").status, 200);
            assert!(
                began.elapsed() < Duration::from_secs(2),
                "{:?}",
                began.elapsed()
            );
        }
    });
    let told = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    let ended = told.success()
        && wait_until(Duration::from_secs(10), || {
            child.try_wait().unwrap().is_some()
        });
    drop(child.kill());
    drop(child.wait());
    drop(stderr);
    assert!(
        answered.is_ok() && ended,
        "answered: {}, ended: {ended}",
        answered.is_ok()
    );
}

/// Reads what a new process says until it listens, and no further.
fn listening(mut child: Child) -> (Child, SocketAddr, BufReader<ChildStderr>) {
    let mut stderr = BufReader::with_capacity(256, child.stderr.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(
            stderr.read_line(&mut line).unwrap() > 0,
            "arbstr does not listen"
        );
        if let Some((_, address)) = line.trim().split_once("listening on http://") {
            return (child, address.parse().unwrap(), stderr);
        }
    }
}
