//! What goes upstream: the body byte for byte, and the headers by a list.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{
    Answer, DONE, Provider, ProviderConfig, Seen, Setup, ask, ask_stream, chunk, completion,
    finish, usage_chunk,
};

/// Body as the client sends it, body as the provider has to get it.
const BODIES: &[(&str, &str)] = &[
    // Not streamed: byte for byte.
    (
        r#"{"model":"model-a","messages":[]}"#,
        r#"{"model":"model-a","messages":[]}"#,
    ),
    (
        r#"{"model":"model-a","stream":false,"messages":[]}"#,
        r#"{"model":"model-a","stream":false,"messages":[]}"#,
    ),
    (
        r#"{"model":"model-a","stream":null,"messages":[]}"#,
        r#"{"model":"model-a","stream":null,"messages":[]}"#,
    ),
    (
        r#"{"model":"model-a","stream":false,"stream_options":{"include_usage":false},"messages":[]}"#,
        r#"{"model":"model-a","stream":false,"stream_options":{"include_usage":false},"messages":[]}"#,
    ),
    (
        " {\t\"messages\" : [ ] ,\r\n \"z\":1e-7, \"seed\": 123456789012345678901234567890, \"a\":1.0, \"e\":\"\\u00e9\\/\\ud83d\\ude00\", \"model\" :\"model-a\" }\n",
        " {\t\"messages\" : [ ] ,\r\n \"z\":1e-7, \"seed\": 123456789012345678901234567890, \"a\":1.0, \"e\":\"\\u00e9\\/\\ud83d\\ude00\", \"model\" :\"model-a\" }\n",
    ),
    (
        r#"{"model":"model-a","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"model\":\"x\"}"}}]},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}],"n":3,"x_unknown":{"model":"inner","stream":true}}"#,
        r#"{"model":"model-a","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"model\":\"x\"}"}}]},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}],"n":3,"x_unknown":{"model":"inner","stream":true}}"#,
    ),
    // An escaped spelling of the name stays as it is written.
    (
        r#"{"model":"model\u002da","messages":[]}"#,
        r#"{"model":"model\u002da","messages":[]}"#,
    ),
    // The provider's own name is spliced in, nothing else moves.
    (
        r#"{"x":1, "model" : "renamed" ,"messages":[]}"#,
        r#"{"x":1, "model" : "vendor/own \"name\"" ,"messages":[]}"#,
    ),
    // Streamed with a client's own word on usage: byte for byte.
    (
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
    ),
    (
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{ "include_usage" : false , "x":[1] }}"#,
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{ "include_usage" : false , "x":[1] }}"#,
    ),
];

#[test]
fn bodies_go_upstream_byte_for_byte() {
    for (sent, expected) in BODIES {
        assert_eq!(&upstream_body(sent), expected);
    }
}

/// What the provider gets when a client sends `body`.
#[track_caller]
fn upstream_body(body: &str) -> String {
    let provider = Provider::healthy(1, 1);
    let config = ProviderConfig::new("alpha", &provider).models(&["model-a", "renamed"]);
    let arbstr = Setup::new()
        .provider(config.model_rates("model = \"renamed\"\nupstream_model = 'vendor/own \"name\"'"))
        .start();
    let mut reply = arbstr.chat(body);
    reply.drain();
    assert_eq!(reply.status, 200, "{body}: {}", reply.text());
    provider.only().text()
}

/// Streamed bodies that say nothing of usage; each with the text that has to survive around the inserted member.
const MERGED: &[&str] = &[
    r#"{"model":"model-a","messages":[],"stream":true}"#,
    "{ \"model\" : \"model-a\" , \"messages\" : [ ] , \"stream\" : true }\n",
    r#"{"stream":true,"stream_options":{},"model":"model-a","messages":[]}"#,
    r#"{"stream":true,"stream_options": { } ,"model":"model-a","messages":[]}"#,
    r#"{"stream":true,"stream_options":{"include_obfuscation":false},"model":"model-a","messages":[],"seed":123456789012345678901234567890}"#,
    r#"{"stream_options":{"nested":{"include_usage":false},"s":"include_usage"},"stream":true,"model":"model-a","messages":[],"t":1e-7}"#,
    r#"{"model":"model-a","messages":[{"role":"user","content":"\"stream_options\":{\"include_usage\":true}"}],"stream":true}"#,
    r#"{"model":"model-a","messages":[],"stream":true,"x":{"stream_options":{"include_usage":false}}}"#,
];

#[test]
fn usage_is_asked_for_by_one_inserted_member_and_nothing_else() {
    for sent in MERGED {
        let got = upstream_body(sent);
        let before: serde_json::Value = serde_json::from_str(sent).unwrap();
        let after: serde_json::Value = serde_json::from_str(&got).unwrap();
        let mut expected = before.clone();
        let options = expected
            .as_object_mut()
            .unwrap()
            .entry("stream_options")
            .or_insert_with(|| serde_json::json!({}));
        options
            .as_object_mut()
            .unwrap()
            .insert("include_usage".into(), true.into());
        assert_eq!(after, expected, "{got}");
        assert_one_insertion(sent, &got);
    }
}

/// `got` is `sent` with one run of bytes put in somewhere.
#[track_caller]
fn assert_one_insertion(sent: &str, got: &str) {
    let head = sent
        .bytes()
        .zip(got.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let tail = sent
        .bytes()
        .rev()
        .zip(got.bytes().rev())
        .take_while(|(a, b)| a == b)
        .count();
    assert!(
        head + tail >= sent.len(),
        "more than an insertion:\n{sent}\n{got}"
    );
}

#[test]
fn a_null_stream_options_is_as_good_as_none() {
    let got =
        upstream_body(r#"{"model":"model-a","messages":[],"stream":true,"stream_options":null}"#);
    let value: serde_json::Value = serde_json::from_str(&got).unwrap();
    assert_eq!(value["stream_options"]["include_usage"], true, "{got}");
    assert_eq!(got.matches("stream_options").count(), 1, "{got}");
}

#[test]
fn both_edits_can_meet_in_one_body() {
    let got = upstream_body(
        r#"{"stream":true,"model":"renamed","big":12345678901234567890123,"messages":[]}"#,
    );
    let value: serde_json::Value = serde_json::from_str(&got).unwrap();
    assert_eq!(
        (
            value["model"].as_str(),
            &value["stream_options"]["include_usage"]
        ),
        (Some("vendor/own \"name\""), &true.into())
    );
    assert!(got.contains(r#""big":12345678901234567890123,"#), "{got}");
}

#[test]
fn each_candidate_gets_its_own_edits_of_the_same_body() {
    let (alpha, beta) = (
        Provider::always(Answer::fault(500, "x")),
        Provider::healthy(1, 1),
    );
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &alpha).rates("1", "1").model_rates(
            "model = \"model-a\"\nupstream_model = \"a-at-alpha\"\ninput_rate = 1\noutput_rate = 1",
        ))
        .provider(ProviderConfig::new("beta", &beta))
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    assert_eq!(alpha.only().text(), ask("a-at-alpha"));
    assert_eq!(beta.only().text(), ask("model-a"));
    let row = arbstr.row(&reply.id());
    assert_eq!(
        (
            row.text("model").as_deref(),
            row.text("served_model").as_deref()
        ),
        (Some("model-a"), Some("model-a"))
    );
    let attempts = arbstr.attempts(&reply.id());
    assert_eq!(attempts[0].text("model").as_deref(), Some("a-at-alpha"));
}

#[test]
fn a_key_that_arbstr_reads_given_twice_is_400() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    for body in [
        r#"{"model":"model-a","model":"model-a","messages":[]}"#,
        r#"{"model":"model-a","messages":[],"stream":true,"stream":false}"#,
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{},"stream_options":{"include_usage":true}}"#,
        r#"{"model":"model-a","messages":[],"stream":true,"stream_options":{"include_usage":true,"include_usage":false}}"#,
        r#"{"model":"model-a","m\u006fdel":"model-b","messages":[]}"#,
    ] {
        let mut reply = arbstr.chat(body);
        let json = reply.json();
        assert_eq!(
            (reply.status, &json["error"]["type"]),
            (400, &"invalid_request_error".into()),
            "{body}: {json}"
        );
    }
    assert_eq!((provider.count(), arbstr.rows().len()), (0, 0));
}

const PASSED: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("accept", "text/event-stream, application/json"),
    ("user-agent", "OpenAI/Python 1.99.0"),
    ("idempotency-key", "idem-1"),
    ("openai-beta", "assistants=v2"),
    ("http-referer", "https://app.example"),
    ("x-title", "My App"),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    ("tracestate", "vendor=1"),
];

const KEPT: &[(&str, &str)] = &[
    ("authorization", "Bearer client-token"),
    ("cookie", "session=client-cookie"),
    ("x-api-key", "client-api-key"),
    ("x-forwarded-for", "10.9.8.7"),
    ("x-custom", "client-custom"),
    ("x-arbstr-policy", ""),
    ("accept-encoding", "br, zstd"),
    ("openai-organization", "org-client"),
    ("x-request-id", "client-request-id"),
    ("te", "trailers"),
    ("keep-alive", "timeout=5"),
    ("x-hop", "client-hop"),
    ("connection", "x-hop, keep-alive"),
    ("proxy-authorization", "Basic client-proxy"),
];

#[test]
fn headers_go_upstream_by_a_list() {
    let provider = Provider::healthy(1, 1);
    let config = ProviderConfig::new("alpha", &provider)
        .line(r#"headers = { "x-extra" = "from config", "X-Title" = "set by operator" }"#);
    let arbstr = Setup::new()
        .provider(config)
        .set("server", "auth_token = \"client-token\"")
        .start();
    for body in [ask("model-a"), ask_stream("model-a")] {
        let headers: Vec<_> = PASSED
            .iter()
            .chain(KEPT)
            .filter(|(name, _)| *name != "x-arbstr-policy" && *name != "content-type")
            .copied()
            .collect();
        let mut reply = arbstr.chat_with(&headers, &body);
        reply.finish();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = provider.seen().pop().unwrap();
        assert_headers(&seen, &provider);
    }
}

/// What was to pass has passed, and nothing else of the client.
#[track_caller]
fn assert_headers(seen: &Seen, provider: &Provider) {
    for (name, value) in PASSED.iter().filter(|(name, _)| *name != "x-title") {
        assert_eq!(
            seen.header(name).as_deref(),
            Some(*value),
            "{name}\n{}",
            seen.head
        );
    }
    assert_eq!(
        seen.header("authorization").as_deref(),
        Some("Bearer sk-alpha-secret")
    );
    assert_eq!(seen.header("x-extra").as_deref(), Some("from config"));
    assert!(seen.head.contains("set by operator"), "{}", seen.head);
    for (name, value) in KEPT
        .iter()
        .filter(|(name, _)| !["authorization", "connection", "keep-alive", "te"].contains(name))
    {
        assert!(
            seen.header(name).as_deref().is_none_or(|got| got != *value),
            "{name} went upstream\n{}",
            seen.head
        );
    }
    for word in [
        "client-token",
        "client-cookie",
        "client-api-key",
        "10.9.8.7",
        "client-custom",
        "br, zstd",
        "client-hop",
        "client-proxy",
    ] {
        assert!(
            !seen.head.contains(word),
            "{word} went upstream\n{}",
            seen.head
        );
    }
    assert_eq!(
        seen.header("host").as_deref(),
        Some(provider.address().to_string().as_str())
    );
    assert!(
        seen.head
            .starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(
        seen.headers()
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
            .count(),
        1
    );
    let told = seen
        .header("content-length")
        .map(|length| length.parse::<usize>().unwrap());
    assert_eq!(
        told,
        Some(seen.body.len()),
        "one length, no transfer coding"
    );
}

#[test]
fn a_provider_without_a_key_gets_none() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).no_key())
        .start();
    let mut reply = arbstr.chat_with(&[("authorization", "Bearer from-client")], &ask("model-a"));
    reply.finish();
    assert_eq!(provider.only().header("authorization"), None);
}

#[test]
fn the_key_may_come_from_the_environment() {
    let provider = Provider::healthy(1, 1);
    let by_name = ProviderConfig::new("my-provider", &provider).no_key();
    let arbstr = Setup::new()
        .provider(by_name)
        .variable("ARBSTR_MY_PROVIDER_API_KEY", "sk-by-name")
        .start();
    arbstr.chat(&ask("model-a")).finish();
    let by_variable = ProviderConfig::new("alpha", &provider)
        .no_key()
        .line("api_key = \"${SOME_KEY}\"");
    let other = Setup::new()
        .provider(by_variable)
        .variable("SOME_KEY", "sk-by-variable")
        .start();
    other.chat(&ask("model-a")).finish();
    let keys: Vec<_> = provider
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").unwrap())
        .collect();
    assert_eq!(keys, ["Bearer sk-by-name", "Bearer sk-by-variable"]);
}

#[test]
fn no_proxy_variable_is_obeyed_and_no_redirect_followed() {
    let trap = Provider::healthy(1, 1);
    let proxy = format!("http://{}", trap.address());
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider)
        .variable("HTTP_PROXY", &proxy)
        .variable("http_proxy", &proxy)
        .variable("ALL_PROXY", &proxy)
        .variable("all_proxy", &proxy)
        .start();
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    let location = format!("http://{}/v1/chat/completions", trap.address());
    let redirecting =
        Provider::always(Answer::new(307).header("location", &location).with_length());
    let arbstr = Setup::of(&redirecting).start();
    assert_eq!(arbstr.chat(&ask("model-a")).status, 502);
    assert_eq!((trap.count(), redirecting.count()), (0, 1));
    let told = format!("a redirect to http://{}", trap.address());
    arbstr.wait_for_log(&told, 1);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_that_nobody_asked_for_is_decoded() {
    let stream = [
        chunk("Hello"),
        finish("stop"),
        usage_chunk(3, 2),
        DONE.to_owned(),
    ]
    .concat();
    let provider = Provider::by(move |seen, _| {
        if seen.is_stream() {
            let packed = gzip(&stream);
            let (head, tail) = packed.split_at(packed.len() / 2);
            Answer::sse()
                .header("content-encoding", "gzip")
                .send(head)
                .pause(20)
                .send(tail)
        } else {
            let packed = gzip(&completion(3, 2));
            Answer::new(200)
                .header("content-type", "application/json")
                .header("content-encoding", "gzip")
                .with_length()
                .send(packed)
        }
    });
    let arbstr = Setup::of(&provider).start();
    for body in [ask("model-a"), ask_stream("model-a")] {
        let mut reply = arbstr.chat(&body);
        let text = reply.finish();
        assert!(text.contains(r#""content":"Hello""#), "{text:?}");
        assert_eq!(reply.header("content-encoding"), None);
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(
            (row.int("input_tokens"), row.int("output_tokens")),
            (Some(3), Some(2))
        );
        let asked = provider.seen().pop().unwrap().header("accept-encoding");
        assert!(
            asked
                .as_deref()
                .is_none_or(|coding| ["identity", "gzip"].contains(&coding)),
            "{asked:?}"
        );
    }
}

#[test]
fn completions_and_embeddings_take_the_same_road() {
    let provider = Provider::by(|seen, _| {
        match seen.head.split(' ').nth(1) {
        Some("/v1/embeddings") => Answer::json(
            200,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ),
        Some("/v1/completions") if seen.text().contains("stream") => Answer::sse()
            .send("data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"Hi\",\"finish_reason\":\"stop\"}]}\n\n")
            .send("data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n")
            .send(DONE),
        Some("/v1/completions") => Answer::json(
            200,
            r#"{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"Hi","finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#,
        ),
        path => panic!("{path:?}"),
    }
    });
    let arbstr = Setup::of(&provider).start();
    // In at 1000, out at 2000 sats per million tokens.
    for (path, body, tokens, nanosats) in [
        (
            "/v1/embeddings",
            r#"{"model":"model-a","input":["a","b"]}"#,
            (Some(8), Some(0)),
            8_000_000,
        ),
        (
            "/v1/completions",
            r#"{"model":"model-a","prompt":"Say"}"#,
            (Some(5), Some(2)),
            9_000_000,
        ),
        (
            "/v1/completions",
            r#"{"model":"model-a","prompt":"Say","stream":true}"#,
            (Some(5), Some(2)),
            9_000_000,
        ),
    ] {
        let mut reply = arbstr.call(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        );
        let text = reply.finish();
        assert_eq!(reply.status, 200, "{path} {text}");
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(
            (row.int("input_tokens"), row.int("output_tokens")),
            tokens,
            "{path}: {row:?}"
        );
        assert_eq!(row.int("cost_nanosats"), Some(nanosats), "{path}");
    }
    let bodies: Vec<_> = provider.seen().iter().map(Seen::text).collect();
    assert_eq!(bodies[0], r#"{"model":"model-a","input":["a","b"]}"#);
    assert!(
        bodies[2].contains(r#""include_usage":true"#),
        "{}",
        bodies[2]
    );
}

#[test]
fn a_body_of_30_mb_arrives_whole() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let words: String = (0..3_000_000u32)
        .map(|at| format!("{:9} ", at.wrapping_mul(2_654_435_761)))
        .collect();
    let body = ask("model-a").replace("Say hello.", &words[..30_000_000]);
    assert_eq!(arbstr.chat(&body).status, 200);
    assert!(
        provider.only().body == body.as_bytes(),
        "30 MB changed on their way"
    );
}

#[test]
fn the_path_of_a_provider_is_kept_and_a_last_slash_means_nothing() {
    for (base, path) in [
        ("/v1/", "/v1/chat/completions"),
        ("/api/openai/v1", "/api/openai/v1/chat/completions"),
        ("", "/chat/completions"),
    ] {
        let provider = Provider::healthy(1, 1);
        let url = format!("http://{}{base}", provider.address());
        let arbstr = Setup::new()
            .provider(ProviderConfig::new("alpha", &provider).url(&url))
            .start();
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
        assert!(
            provider
                .only()
                .head
                .starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "{}",
            provider.only().head
        );
    }
}
