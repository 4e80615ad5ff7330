//! Faults that were found once, each by its name, so that none comes back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use http_body_util::BodyExt as _;

use crate::harness::{
    Answer, Arbstr, DONE, Http2Provider, Provider, ProviderConfig, Setup, Turn, ask, ask_stream,
    chunk, completion, connect_http2, event, finish, usage_chunk,
};

/// The proxy before this one wrote every stream down as failed and without a cost.
#[test]
fn a_streamed_request_is_a_success_with_a_cost() {
    let provider = Provider::healthy(1000, 500);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert!(
        row.int("cost_nanosats").is_some_and(|cost| cost > 0),
        "{row:?}"
    );
}

/// A client that stops at the first `[DONE]` and leaves is not one that left early.
#[test]
fn a_client_that_stops_at_the_first_done_is_a_success() {
    for _ in 0..5 {
        let provider = Provider::always(
            Answer::sse().send(chunk("a") + &finish("stop") + &usage_chunk(10, 4) + DONE),
        );
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        reply.read_until(DONE);
        let id = reply.id();
        reply.leave();
        arbstr.row(&id).assert_success();
    }
}

/// Comments say nothing of the answer, however many come: a provider that then dies has given nothing.
#[test]
fn a_flood_of_comments_is_no_first_event() {
    let flood = Answer::sse().send(": processing\n".repeat(10_000)).reset();
    let (bad, good) = (Provider::always(flood), Provider::healthy(1, 1));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good))
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let body = reply.finish();
    assert!(!body.contains("error") && body.ends_with(DONE), "{body}");
    assert_eq!(reply.needs("x-arbstr-provider"), "good");
}

/// A name of a megabyte, asked for by a client, went into the journal, the row, the roll-ups and the log.
#[test]
fn a_record_keeps_only_the_beginning_of_an_endless_name() {
    let arbstr = Setup::of(&Provider::healthy(1, 1)).start();
    let name = "é".repeat(500_000);
    let mut reply = arbstr.chat(&ask_stream(&name));
    assert_eq!((reply.status, reply.finish().is_empty()), (404, false));
    let row = arbstr.row(&reply.id());
    assert_eq!(row.text("model"), Some("é".repeat(256)));
    // Who asks for the row by the name that was sent finds it, as far as a URL can hold it.
    let mut found = arbstr.get(&format!("/v1/requests?model={}", "%C3%A9".repeat(300)));
    assert_eq!(found.json()["data"][0]["correlation_id"], reply.id());
    assert!(reply.body.len() < 10_000, "{}", reply.body.len());
}

/// Of two framings the chunked one holds; the other one's length reached the client, which then cut the answer or waited on.
#[test]
fn a_length_that_contradicts_the_framing_does_not_reach_the_client() {
    let body = completion(3, 2);
    for length in ["20".to_owned(), "2000".to_owned(), "-".to_owned()] {
        let answer = Answer::new(200)
            .header("content-type", "application/json")
            .header("content-length", &length)
            .send(&body);
        let provider = Provider::always(answer);
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask("model-a"));
        assert_eq!(reply.finish(), body, "{length}: {}", reply.head);
        arbstr.row(&reply.id()).assert_success();
    }
    let twice = format!("{0}, {0}", body.len());
    let listed = Answer::bare().raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {twice}\r\n\r\n{body}"
    ));
    let provider = Provider::always(listed);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_eq!(reply.needs("content-length"), body.len().to_string());
    assert_eq!(reply.finish(), body);
}

/// Headers of good answers were passed on unread, and those of errors unless the whole key stood there.
#[test]
fn a_header_that_echoes_a_key_does_not_reach_the_client() {
    let key = "sk-abcdefghijklmnop";
    let cut = format!("Bearer error=\"{}...\"", &key[..15]);
    let whole = format!("bearer {key}");
    let with_echoes = |answer: Answer| {
        answer
            .header("www-authenticate", &cut)
            .header("x-debug", &whole)
            .header("x-fine", "sk-abcdefgh, and nothing more")
    };
    let stream = Answer::sse().send(chunk("a") + &finish("stop") + DONE);
    for (answer, body) in [
        (Answer::fault(401, "bad"), ask("model-a")),
        (Answer::json(200, &completion(1, 1)), ask("model-a")),
        (stream, ask_stream("model-a")),
    ] {
        let provider = Provider::always(with_echoes(answer));
        let config = ProviderConfig::new("alpha", &provider)
            .no_key()
            .line(&format!("api_key = \"{key}\""));
        let arbstr = Setup::new().provider(config).start();
        let mut reply = arbstr.chat(&body);
        reply.finish();
        assert!(!reply.head.contains("sk-abcdefghi"), "{}", reply.head);
        assert_eq!(reply.needs("x-fine"), "sk-abcdefgh, and nothing more");
        assert_eq!(reply.needs("x-arbstr-provider"), "alpha");
    }
}

/// A header for traces whose value is `4`, or a key of one letter, was blotted out of every error.
#[test]
fn what_is_too_short_for_a_secret_is_not_taken_out_of_errors() {
    let said = r#"{"error":{"message":"maximum is 4096 tokens for x","code":400}}"#;
    let provider = Provider::always(Answer::json(400, said));
    let config = ProviderConfig::new("alpha", &provider).no_key();
    let arbstr = Setup::new()
        .provider(config.line(r#"api_key = "x""#))
        .set(
            "telemetry",
            r#"headers = { "x-scope-orgid" = "4", "x-tenant" = "maximum is 4096" }"#,
        )
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_eq!((reply.status, reply.finish().as_str()), (400, said));
    let log = arbstr.log();
    assert!(
        log.contains("alpha") && log.contains("shorter than"),
        "{log}"
    );
}

/// An error in the event with the usage went with it: the client took the stream for whole.
#[test]
fn an_error_beside_the_usage_reaches_a_client_that_asked_for_none() {
    let fault = event(
        r#"{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2},"error":{"message":"provider overloaded","code":502}}"#,
    );
    for end in [DONE, ""] {
        let provider = Provider::always(Answer::sse().send(chunk("a")).send(fault.clone() + end));
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let body = reply.finish();
        assert!(body.contains(&fault), "{body}");
        let row = arbstr.row(&reply.id());
        assert_eq!(row.int("success"), Some(0), "{row:?}");
    }
}

/// Once comments were too many to hold, what came next was glued to the middle of one, and the first event with it.
#[test]
fn comments_beyond_what_is_held_take_no_event_with_them() {
    let rest = chunk("FIRST") + &chunk("SECOND") + &finish("stop") + DONE;
    let long = ": ".to_owned() + &"x".repeat(65_521);
    let lines = format!(": {}\n", "x".repeat(99)).repeat(700);
    for pieces in [
        vec![long.clone(), "y".repeat(100) + "\n\n", rest.clone()],
        vec![long.clone(), format!("data: hidden\n\n{rest}")],
        vec![long.clone(), "yyy\r".to_owned(), format!("\n{rest}")],
        vec![long.clone(), long.clone(), format!("\r\n{rest}")],
        vec![lines.clone(), lines.clone(), format!(": z\n{rest}")],
        vec![lines.clone(), long, format!(": z\r{rest}")],
    ] {
        let told = pieces
            .iter()
            .fold(Answer::sse(), |answer, piece| answer.send(piece).pause(40));
        let provider = Provider::always(told);
        let arbstr = Setup::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        let body = reply.finish();
        let before = body.find(&chunk("FIRST")).expect("the first event");
        let is_comment = |line: &str| line.is_empty() || line.starts_with(": ");
        assert!(
            body[..before].split(['\r', '\n']).all(is_comment)
                && (before == 0 || body[..before].ends_with(['\r', '\n'])),
            "{:?}",
            &body[before.saturating_sub(300)..]
        );
    }
}

/// Over HTTP/2 a HEAD got the body of its GET, which strict clients call a protocol error.
#[test]
fn a_head_over_http2_has_no_body() {
    let arbstr = Setup::of(&Provider::healthy(1, 1)).start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sender = connect_http2(arbstr.address()).await;
        for path in ["/v1/models", "/", "/nothing-here"] {
            let mut lengths = Vec::new();
            for method in ["GET", "HEAD"] {
                let request = hyper::Request::builder()
                    .method(method)
                    .uri(format!("http://{}{path}", arbstr.address()))
                    .body(String::new())
                    .unwrap();
                let reply = sender.send_request(request).await.unwrap();
                let declared = reply.headers()["content-length"]
                    .to_str()
                    .unwrap()
                    .to_owned();
                let body = reply.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body.is_empty(), method == "HEAD", "{method} {path}");
                lengths.push(declared);
            }
            assert_eq!(lengths[0], lengths[1], "{path}");
        }
    });
}

/// Each answer over HTTP/2 left a task asleep, for as long as a client may take nothing: two minutes.
#[test]
fn an_answer_over_http2_leaves_nothing_behind() {
    let arbstr = Setup::of(&Provider::healthy(1, 1)).start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let grown = runtime.block_on(async {
        let mut sender = connect_http2(arbstr.address()).await;
        let mut sizes = Vec::new();
        for round in 0..3 {
            for _ in 0..if round == 0 { 500 } else { 2_000 } {
                let request = hyper::Request::get(format!("http://{}/health", arbstr.address()));
                let request = request.body(String::new()).unwrap();
                let mut reply = sender.send_request(request).await.unwrap();
                while reply.body_mut().frame().await.is_some() {}
            }
            sizes.push(arbstr.resident_kib());
        }
        sizes[2].saturating_sub(sizes[0])
    });
    assert!(grown < 1_000, "{grown} KiB for 4000 answers");
}

/// A connection that its provider retires, or that takes one stream less than was thought, or that somebody on the way
/// dropped, was held against the provider. With HTTP/1.1 it never was.
#[test]
fn an_http2_connection_that_ends_between_requests_is_no_fault_of_the_provider() {
    for (turn, connections) in [
        (Turn::GoAway, [0, 0, 0, 1, 1]),
        (Turn::Refuse, [0, 0, 0, 1, 0]),
        (Turn::Close, [0, 0, 0, 1, 1]),
    ] {
        let provider = Http2Provider::by(move |connection, nth| match (connection, nth) {
            (0, 2) => turn,
            _ => Turn::Answer,
        });
        let arbstr = over_http2(&provider);
        assert_eq!(in_turn(&arbstr, 4), ["alpha;status=200"; 4], "{turn:?}");
        assert_eq!(provider.seen(), connections, "{turn:?}");
    }
}

/// What a provider may have begun with is not sent again behind the client's back.
#[test]
fn an_http2_request_that_was_broken_off_counts() {
    for turn in [Turn::Break, Turn::Refuse, Turn::Close] {
        let provider = Http2Provider::by(move |connection, nth| match (connection, nth) {
            (0, 1) | (1, 0) => turn,
            _ => Turn::Answer,
        });
        let arbstr = over_http2(&provider);
        let told = in_turn(&arbstr, 2);
        assert_eq!(told, ["alpha;status=200", "alpha;error=closed"], "{turn:?}");
        let tries = if turn == Turn::Break { 1 } else { 2 };
        assert_eq!(provider.seen().len(), 1 + tries, "{turn:?}");
    }
}

/// What is told of requests on one connection, which one thread of arbstr serves.
fn in_turn(arbstr: &Arbstr, count: usize) -> Vec<String> {
    let mut client = arbstr.client();
    let mut told = Vec::new();
    for _ in 0..count {
        let body = ask("model-a");
        client.request("POST", "/v1/chat/completions", &[], body.as_bytes());
        let mut reply = client.reply("POST");
        reply.finish();
        told.push(reply.needs("x-arbstr-attempts").to_owned());
        client = reply.again();
    }
    told
}

/// Of those that came while arbstr was busy for a moment, all but 128 had to ask the system again after a second, or more.
#[test]
fn many_clients_at_once_find_a_place() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let many = allowed.trim().parse().unwrap_or(128).min(400);
    let arbstr = Setup::of(&Provider::healthy(10, 4)).start();
    arbstr.signal("STOP");
    let clients: Vec<_> = (0..many)
        .map(|_| TcpStream::connect_timeout(&arbstr.address(), Duration::from_millis(500)))
        .collect();
    arbstr.signal("CONT");
    for (number, client) in clients.into_iter().enumerate() {
        let mut client = client.unwrap_or_else(|error| panic!("client {number}: {error}"));
        client
            .write_all(b"GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

fn over_http2(provider: &Http2Provider) -> Arbstr {
    let nobody = Provider::refusing();
    let config = ProviderConfig::new("alpha", &nobody).url(&provider.url());
    Setup::new()
        .provider(config)
        .set("retry", "max_attempts = 1")
        .variable("SSL_CERT_FILE", Http2Provider::CERTIFICATE)
        .start()
}

/// To who had asked for a stream, a JSON answer that broke off was a connection closed before any answer.
#[test]
fn a_json_answer_cut_short_is_cut_whatever_was_asked_for() {
    let json = || Answer::new(200).header("content-type", "application/json");
    let begin = &completion(1, 1)[..50];
    let chunked = Answer::bare().raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{begin}"
    ));
    let endings = [
        Answer::json(200, begin).short_by(450),
        json().send(begin).reset(),
        json().send(begin).fin(),
        chunked.fin(),
    ];
    for answer in endings {
        let provider = Provider::always(answer);
        let arbstr = Setup::of(&provider).set("circuit", "failures = 9").start();
        for body in [ask("model-a"), ask_stream("model-a")] {
            let mut reply = arbstr.chat(&body);
            let told = reply.json();
            assert_eq!(reply.status, 502, "{body}: {told}");
            assert_eq!(told["error"]["code"], "upstream_bad_answer", "{body}");
            assert_eq!(reply.needs("x-arbstr-attempts"), "alpha;error=cut");
            let row = arbstr.row(&reply.id());
            let message = row.text("error_message");
            assert_eq!(message.as_deref(), Some("upstream_error: cut"), "{body}");
        }
    }
    let stream = Provider::always(Answer::sse().send(&chunk("x")[..40]).reset());
    let arbstr = Setup::of(&stream).start();
    let reply = arbstr.chat(&ask_stream("model-a"));
    let told = reply.needs("x-arbstr-attempts");
    assert_eq!((reply.status, told), (503, "alpha;error=closed"));
}

/// A key went into the database, the log, a trace or `/providers` by ways that nobody had thought of as text.
#[test]
fn a_key_in_a_finish_reason_or_a_list_is_kept_nowhere() {
    const KEY: &str = "sk-alpha-secret";
    let whole = completion(1, 1).replace("\"stop\"", &format!("\"{KEY}\""));
    let stream = chunk("a") + &finish(KEY) + &usage_chunk(1, 1) + DONE;
    let list = format!(r#"{{"data":[{{"id":"model-a"}},{{"id":"of {KEY}"}}]}}"#);
    let provider = Provider::by(move |seen, at| match seen.is_stream() {
        _ if seen.head.starts_with("GET ") && at == 0 => Answer::json(200, &list),
        _ if seen.head.starts_with("GET ") => {
            Answer::json(200, &list).header("content-encoding", KEY)
        }
        true => Answer::sse().send(&stream),
        false => Answer::json(200, &whole),
    });
    let config = ProviderConfig::new("alpha", &provider)
        .line("auto_discover = true")
        .line("discover_secs = 1");
    let arbstr = Setup::new().provider(config).start();
    arbstr.wait_for_log("models discovered", 1);
    for body in [ask("model-a"), ask_stream("model-a")] {
        let mut reply = arbstr.chat(&body);
        reply.finish();
        let row = arbstr.row(&reply.id());
        let reason = row.text("finish_reason");
        assert_eq!(reason.as_deref(), Some("[redacted]"), "{body}");
    }
    arbstr.wait_for_log("was not asked for and cannot be read", 1);
    let shown = ["/providers", "/v1/models", "/metrics", "/v1/requests"];
    for (place, mut reply) in shown.map(|path| (path, arbstr.get(path))) {
        assert!(!reply.finish().contains(KEY), "{place}: {}", reply.text());
    }
    assert!(!arbstr.log().contains(KEY), "{}", arbstr.log());
    for file in std::fs::read_dir(arbstr.folder()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() && !path.ends_with("arbstr.toml") {
            let bytes = std::fs::read(&path).unwrap();
            let echo = bytes
                .windows(KEY.len())
                .position(|text| text == KEY.as_bytes());
            assert_eq!(echo, None, "{path:?}");
        }
    }
}

/// Line ends and escapes of a terminal in a provider's code came out of the database as they were.
#[test]
fn what_a_provider_calls_an_end_is_written_down_without_control_characters() {
    let cases = [
        ("rate_limit é", "rate_limit é"),
        (r"over\nloaded\u001b[31m\u0000", "over loaded [31m "),
        (r"a\u202eb\u2028c", "a b c"),
    ];
    for (spelt, kept) in cases {
        let error = event(&format!(
            r#"{{"error":{{"message":"no","code":"{spelt}"}}}}"#
        ));
        let failing = Answer::sse().send(chunk("a")).send(error);
        let ending = chunk("a") + &finish("stop").replace("stop", spelt) + DONE;
        for (answer, column, kept) in [
            (failing, "error_message", format!("upstream_error: {kept}")),
            (Answer::sse().send(ending), "finish_reason", kept.to_owned()),
        ] {
            let provider = Provider::always(answer);
            let arbstr = Setup::of(&provider).start();
            let mut reply = arbstr.chat(&ask_stream("model-a"));
            reply.finish();
            let row = arbstr.row(&reply.id());
            assert_eq!(row.text(column), Some(kept), "{spelt}");
        }
    }
}
