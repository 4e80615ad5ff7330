//! The HTTP face: errors in the OpenAI shape, limits, tokens, origins, models, health.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Gate, Provider, ProviderConfig, Reply, Setup, ask, ask_stream, completion, wait_until,
};

/// The error envelope, complete and with an id.
#[track_caller]
fn error(reply: &mut Reply, status: u16) -> Value {
    let json = reply.json();
    assert_eq!(reply.status, status, "{}{json}", reply.head);
    assert!(
        reply.needs("content-type").starts_with("application/json"),
        "{}",
        reply.head
    );
    let error = json["error"]
        .as_object()
        .unwrap_or_else(|| panic!("{json}"));
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{json}"
    );
    assert!(error["type"].is_string(), "{json}");
    for key in ["param", "code"] {
        assert!(
            error
                .get(key)
                .is_some_and(|value| value.is_string() || value.is_null()),
            "{key} in {json}"
        );
    }
    reply.id();
    json["error"].clone()
}

fn setup() -> (Provider, Setup) {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    (provider, setup)
}

#[test]
fn malformed_requests_are_400_in_the_openai_shape_and_leave_no_row() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{\"model\":\"model-a\",\"messages\":[]",
        "{\"model\":\"model-a\",\"messages\":[]}}",
        "{\"model\":\"model-a\",\"messages\":[],}",
        "{\"messages\":[]}",
        "{\"model\":7,\"messages\":[]}",
        "{\"model\":null,\"messages\":[]}",
        "{\"model\":\"\",\"messages\":[]}",
        "{\"model\":\"model-a\",\"messages\":[],\"stream\":\"yes\"}",
        "{\"model\":\"model-a\",\"messages\":[],\"stream\":1}",
        "{\"model\":\"model-a\",\"messages\":[],\"stream\":true,\"stream_options\":7}",
        "{\"model\":\"model-a\\ud800\",\"messages\":[]}",
    ] {
        let error = error(&mut arbstr.chat(body), 400);
        assert_eq!(error["type"], "invalid_request_error", "{body}");
    }
    let not_text = [
        b"{\"model\":\"model-a\",\"messages\":[\"".as_slice(),
        &[0xff, 0xfe],
        b"\"]}",
    ]
    .concat();
    error(
        &mut arbstr.call(
            "POST",
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            &not_text,
        ),
        400,
    );
    let deep = format!(
        "{{\"model\":\"model-a\",\"messages\":{}{}}}",
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let mut reply = arbstr.chat(&deep);
    reply.drain();
    assert!(reply.status == 400 || reply.status == 200, "{}", reply.head);
    assert!(arbstr.get("/health").status == 200, "deep nesting hurt it");
    let kept = arbstr.rows().len();
    assert!(
        kept == provider.count(),
        "{kept} rows for {} well-formed requests",
        provider.count()
    );
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_allow() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    for path in [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/../health",
        "//",
        "/v1/chat/completionsx",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            error(&mut arbstr.call(method, path, &[], b""), 404);
        }
    }
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/health", "GET"),
        ("FOO", "/health", "GET"),
    ] {
        let mut reply = arbstr.call(method, path, &[], b"");
        error(&mut reply, 405);
        assert!(reply.needs("allow").contains(allow), "{}", reply.head);
    }
}

#[test]
fn a_body_of_50_mb_is_413_that_the_client_can_read() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let total = 50 * 1024 * 1024;
    for chunked in [false, true] {
        let mut client = arbstr.client();
        let framing = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {total}")
        };
        client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n", arbstr.address()));
        let piece = vec![b' '; 1024 * 1024];
        for _ in 0..50 {
            let sent = if chunked {
                client
                    .try_send(format!("{:x}\r\n", piece.len()))
                    .and_then(|()| client.try_send(&piece))
                    .and_then(|()| client.try_send("\r\n"))
            } else {
                client.try_send(&piece)
            };
            assert!(
                sent.is_ok() || chunked,
                "cut while it was sending: {sent:?}"
            );
            if sent.is_err() {
                break;
            }
        }
        let mut reply = client.reply("POST");
        assert_eq!(error(&mut reply, 413)["type"], "invalid_request_error");
    }
    assert_eq!((provider.count(), arbstr.rows().len()), (0, 0));
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
}

#[test]
fn the_limit_of_a_body_is_the_configured_one() {
    let (provider, setup) = setup();
    let arbstr = setup.set("server", "max_body_bytes = 1000").start();
    let fits = ask("model-a").replace(
        "Say hello.",
        &"x".repeat(1000 - ask("model-a").len() + "Say hello.".len()),
    );
    assert_eq!(fits.len(), 1000);
    assert_eq!(arbstr.chat(&fits).status, 200);
    error(&mut arbstr.chat(&fits.replace("xx", "xxx")), 413);
    let mut client = arbstr.client();
    client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: 5000000\r\nexpect: 100-continue\r\n\r\n", arbstr.address()));
    error(&mut client.reply("POST"), 413);
    assert_eq!(provider.count(), 1);
}

#[test]
fn with_a_token_everything_but_health_needs_it() {
    let (provider, setup) = setup();
    let arbstr = setup
        .set("server", "auth_token = \"${TOKEN}\"")
        .variable("TOKEN", "s3cret-token")
        .start();
    assert_eq!(arbstr.get("/health").status, 200);
    for wrong in [
        None,
        Some("Bearer wrong"),
        Some("Bearer s3cret-toke"),
        Some("Bearer s3cret-token2"),
        Some("Basic s3cret-token"),
        Some("s3cret-token"),
        Some("Bearer "),
    ] {
        let headers: Vec<_> = wrong
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        for (method, path) in [
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
            ("GET", "/v1/nowhere"),
        ] {
            let mut reply = arbstr.call(method, path, &headers, ask("model-a").as_bytes());
            let error = error(&mut reply, 401);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
    assert_eq!(
        (provider.count(), arbstr.rows().len()),
        (0, 0),
        "no row for a 401"
    );
    for right in ["Bearer s3cret-token", "bearer s3cret-token"] {
        assert_eq!(
            arbstr
                .chat_with(&[("authorization", right)], &ask("model-a"))
                .status,
            200,
            "{right}"
        );
    }
    assert_eq!(
        arbstr
            .call(
                "GET",
                "/v1/models",
                &[("authorization", "Bearer s3cret-token")],
                b""
            )
            .status,
        200
    );
    assert!(!arbstr.log().contains("s3cret-token"));
}

#[test]
fn a_strangers_page_and_a_foreign_host_are_403() {
    let (provider, setup) = setup();
    let arbstr = setup
        .set("server", "cors_origins = [\"https://app.example\"]")
        .start();
    let own = format!("http://{}", arbstr.address());
    let port = arbstr.address().port();
    let body = ask("model-a");
    let call = |headers: &[(&str, &str)]| {
        arbstr.call("POST", "/v1/chat/completions", headers, body.as_bytes())
    };
    for origin in [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://app.example.evil.example",
        "http://app.example",
    ] {
        error(&mut call(&[("origin", origin)]), 403);
    }
    for host in [
        "evil.example",
        "arbstr.evil.example:8080",
        "127.0.0.1.evil.example",
    ] {
        error(&mut call(&[("host", host)]), 403);
    }
    assert_eq!(provider.count(), 0);
    assert_eq!(call(&[("origin", &own)]).status, 200);
    assert_eq!(call(&[("host", &format!("localhost:{port}"))]).status, 200);
    assert_eq!(call(&[("host", &format!("[::1]:{port}"))]).status, 200);
    let listed = call(&[("origin", "https://app.example")]);
    assert_eq!(
        (listed.status, listed.header("access-control-allow-origin")),
        (200, Some("https://app.example"))
    );
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type,x-stainless-os",
        ),
    ];
    let reply = arbstr.call("OPTIONS", "/v1/chat/completions", &preflight, b"");
    assert!((200..300).contains(&reply.status), "{}", reply.head);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("authorization,content-type,x-stainless-os")
    );
    assert_eq!(call(&[]).header("access-control-allow-origin"), None);
}

/// The first of them was looked at, and any other let pass.
#[test]
fn each_of_several_origins_must_be_allowed() {
    let (provider, setup) = setup();
    let listed = "https://app.example";
    let arbstr = setup
        .set("server", "cors_origins = [\"https://app.example\"]")
        .start();
    let own = format!("http://{}", arbstr.address());
    let body = ask("model-a");
    let call = |origins: [&str; 2]| {
        let headers = origins.map(|origin| ("origin", origin));
        arbstr.call("POST", "/v1/chat/completions", &headers, body.as_bytes())
    };
    let evil = "https://evil.example";
    for origins in [[listed, evil], [evil, listed], [&own, evil], [&own, "null"]] {
        error(&mut call(origins), 403);
    }
    assert_eq!(provider.count(), 0);
    assert_eq!(call([listed, &own]).status, 200);
}

/// A client that is still sending, and has nobody to listen, saw a broken connection instead of the answer.
#[test]
fn whatever_is_refused_early_can_be_read_by_a_client_that_sends_first() {
    let (provider, setup) = setup();
    let arbstr = setup.set("server", "auth_token = \"secret-token\"").start();
    let body = "x".repeat(20_000_000);
    for (line, status) in [
        ("POST /v1/chat/completions HTTP/1.1", 401),
        (
            "POST /v1/nowhere HTTP/1.1\r\nauthorization: Bearer secret-token",
            404,
        ),
        (
            "PUT /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer secret-token",
            405,
        ),
        (
            "POST /v1/chat/completions HTTP/1.1\r\norigin: https://evil.example",
            403,
        ),
    ] {
        let mut client = arbstr.client();
        client.send(format!(
            "{line}\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            arbstr.address(),
            body.len()
        ));
        let sent = client.try_send(body.as_bytes());
        assert!(sent.is_ok(), "{status}: {sent:?}");
        let mut reply = client.reply("POST");
        error(&mut reply, status);
        assert_eq!(reply.header("connection"), None);
    }
    assert_eq!(provider.count(), 0);
    // Who does not come to an end is told that the connection does.
    let mut client = arbstr.client();
    client.send(format!(
        "POST /v1/nowhere HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n1",
        arbstr.address()
    ));
    let mut reply = client.reply("POST");
    error(&mut reply, 401);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn a_compressed_body_is_415_that_says_what_to_do() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    for (coding, status) in [("gzip", 415), ("br", 415), ("identity", 200)] {
        let mut reply = arbstr.chat_with(&[("content-encoding", coding)], &ask("model-a"));
        if status == 415 {
            assert_eq!(
                error(&mut reply, 415)["code"],
                "unsupported_content_encoding"
            );
            assert_eq!(reply.header("accept-encoding"), Some("identity"));
        }
        assert_eq!(reply.status, status, "{coding}");
    }
    assert_eq!(provider.count(), 1);
}

#[test]
fn models_are_the_union_over_providers() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .models(&["model-a", "vendor/model-b"])
                .rates("10000", "30000.5")
                .line("base_fee = 1"),
        )
        .provider(ProviderConfig::new("beta", &provider).rates("0.001", "2000"))
        .start();
    let list = arbstr.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let data = list["data"].as_array().unwrap();
    let mut ids: Vec<_> = data
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["model-a", "vendor/model-b"]);
    for model in data {
        assert_eq!(model["object"], "model");
        assert!(
            model["created"].is_u64() && model["owned_by"].is_string(),
            "{model}"
        );
    }
    let shared = arbstr.get("/v1/models/model-a").json();
    let providers = shared["arbstr"]["providers"].as_array().unwrap();
    assert_eq!(providers.len(), 2);
    let alpha = providers
        .iter()
        .find(|provider| provider["name"] == "alpha")
        .unwrap();
    assert_eq!(
        (
            &alpha["input_rate"],
            &alpha["output_rate"],
            &alpha["base_fee"]
        ),
        (&10000.into(), &30000.5.into(), &1.into())
    );
    assert_eq!(
        arbstr.get("/v1/models/vendor/model-b").json()["id"],
        "vendor/model-b"
    );
    assert_eq!(
        arbstr.get("/v1/models/vendor%2Fmodel-b").json()["id"],
        "vendor/model-b"
    );
    assert_eq!(
        error(&mut arbstr.get("/v1/models/none"), 404)["code"],
        "model_not_found"
    );
    assert!(!list.to_string().contains("secret"));
}

#[test]
fn health_says_ok() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut reply = arbstr.get("/health");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["status"], "ok");
    reply.id();
}

#[test]
fn every_response_has_an_id_and_those_of_a_provider_tell_its_story() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut ids = vec![
        arbstr.get("/health").id(),
        arbstr.get("/nowhere").id(),
        arbstr.chat("{").id(),
    ];
    for body in [ask("model-a"), ask_stream("model-a")] {
        let mut reply = arbstr.chat_with(&[("x-request-id", "client-chose-this")], &body);
        reply.finish();
        assert_eq!(reply.needs("x-arbstr-provider"), "alpha");
        assert_eq!(reply.needs("x-arbstr-retries"), "0");
        assert_eq!(reply.needs("x-arbstr-attempts"), "alpha;status=200");
        assert!(reply.needs("x-arbstr-latency-ms").parse::<u64>().is_ok());
        ids.push(reply.id());
        let both = |line: &str| line.contains("client-chose-this") && line.contains(&reply.id());
        let told = || arbstr.log().lines().any(both);
        assert!(
            wait_until(Duration::from_secs(1), told),
            "both ids in one line of the log"
        );
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn a_json_answer_keeps_its_bytes_its_headers_and_its_length() {
    let body = " {\"id\" : \"x\",\"choices\":[{\"index\":0,\"message\":{\"content\":null,\"tool_calls\":[]}}],\"big\":123456789012345678901,\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"e\":\"\\u00e9\"}\n";
    let provider = Provider::always(
        crate::harness::Answer::json(200, body)
            .header("x-ratelimit-limit", "5")
            .header("set-cookie", "a=b")
            .header("x-arbstr-provider", "forged"),
    );
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_eq!(reply.finish(), body);
    assert_eq!(reply.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(
        (reply.header("set-cookie"), reply.needs("x-arbstr-provider")),
        (None, "alpha")
    );
    assert_eq!(reply.needs("content-type"), "application/json");
}

#[test]
fn a_second_host_is_refused_whatever_it_says() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    for second in ["evil.example".to_owned(), arbstr.address().to_string()] {
        let mut client = arbstr.client();
        client.send(format!(
            "GET /providers HTTP/1.1\r\nhost: {}\r\nhost: {second}\r\n\r\n",
            arbstr.address()
        ));
        let mut reply = client.reply("GET");
        assert_eq!(reply.json()["error"]["code"], "duplicate_host", "{second}");
        assert_eq!(reply.status, 400);
    }
}

#[test]
fn requests_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let provider = Provider::by(move |seen, _| {
        let answer = crate::harness::Answer::json(200, &completion(10, 4));
        if seen.text().contains("slow") {
            answer.after(&held)
        } else {
            answer
        }
    });
    let arbstr = Setup::of(&provider).start();
    thread::scope(|scope| {
        let slow: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| arbstr.chat(&ask("model-a").replace("hello", "slow")).status))
            .collect();
        gate.wait_reached();
        let from = Instant::now();
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
        assert!(from.elapsed() < Duration::from_secs(1));
        gate.open();
        for thread in slow {
            assert_eq!(thread.join().unwrap(), 200);
        }
    });
}
