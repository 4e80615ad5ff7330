//! HTTP/1 as clients speak it: framing, pipelines, and what is refused.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Provider, Setup, ask, ask_stream, completion};

fn setup() -> (Provider, Setup) {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    (provider, setup)
}

#[test]
fn both_lengths_at_once_are_refused_and_the_connection_closed() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let mut client = arbstr.client();
    let smuggled = "0\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}",
        arbstr.address(),
        smuggled.len()
    ));
    let mut reply = client.reply("POST");
    reply.drain();
    assert_eq!(reply.status, 400, "{}", reply.head);
    assert_eq!(reply.id().len(), 36, "every answer has its id");
    assert!(reply.text().contains("two_framings"), "{}", reply.text());
    let deadline = Instant::now() + Duration::from_secs(2);
    while reply.read_frame() && Instant::now() < deadline {}
    assert!(
        !reply.text().contains("HTTP/1.1 200"),
        "the smuggled request was answered"
    );
    assert_eq!(provider.count(), 0);
}

#[test]
fn oversized_and_broken_heads_get_a_4xx() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let host = format!("GET /health HTTP/1.1\r\nhost: {}\r\n", arbstr.address());
    let heads = [
        format!("{host}x-big: {}\r\n\r\n", "a".repeat(300_000)),
        format!("{host}{}\r\n", "x-many: 1\r\n".repeat(2000)),
        format!(
            "GET /{} HTTP/1.1\r\nhost: {}\r\n\r\n",
            "a".repeat(300_000),
            arbstr.address()
        ),
        "GARBAGE\r\n\r\n".to_owned(),
        format!("{host}bad header\r\n\r\n"),
        format!("{host}content-length: x\r\n\r\n"),
        format!("{host}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
        "GET /health HTTP/1.1\r\n\r\n".to_owned(),
    ];
    for head in heads {
        let mut client = arbstr.client();
        drop(client.try_send(&head));
        let shown = &head[..head.len().min(60)];
        let reply = client.try_reply("GET");
        let status = reply.as_ref().map(|reply| reply.status);
        assert!(
            status
                .as_ref()
                .is_ok_and(|status| (400..500).contains(status)),
            "{status:?} for {shown:?}"
        );
    }
    assert_eq!(arbstr.get("/health").status, 200);
}

#[test]
fn pipelined_and_kept_alive_requests_are_answered_in_order() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut stream = std::net::TcpStream::connect(arbstr.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let body = ask("model-a");
    let one = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
        arbstr.address(),
        body.len()
    );
    std::io::Write::write_all(&mut stream, format!("{one}{one}").as_bytes()).unwrap();
    let mut text = String::new();
    let mut space = [0; 4096];
    while text.matches(&completion(10, 4)).count() < 2 {
        let count = stream.read(&mut space).unwrap();
        assert!(count > 0, "{text}");
        text += &String::from_utf8_lossy(&space[..count]);
    }
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2);
}

#[test]
fn a_client_that_closes_its_sending_side_hangs_nobody() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    // A client that shuts its sending side down after the request still reads the answer, or is treated as gone: never a hang.
    let mut client = Client::connect(arbstr.address());
    client.request(
        "POST",
        "/v1/chat/completions",
        &[],
        ask("model-a").as_bytes(),
    );
    client.finish_sending();
    if let Ok(mut reply) = client.try_reply("POST") {
        reply.drain();
    }
    assert_eq!(arbstr.get("/health").status, 200);
}

#[test]
fn a_request_that_trickles_in_is_served_like_any_other() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let body = ask("model-a");
    let text = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        arbstr.address()
    );
    let mut client = arbstr.client();
    for piece in text.as_bytes().chunks(7) {
        client.send(piece);
        thread::sleep(Duration::from_millis(1));
    }
    for byte in body.as_bytes().chunks(3) {
        client
            .send(format!("{:x}\r\n", byte.len()))
            .send(byte)
            .send("\r\n");
    }
    client.send("0\r\n\r\n");
    let mut reply = client.reply("POST");
    assert_eq!((reply.finish(), reply.status), (completion(10, 4), 200));
    assert_eq!(provider.only().text(), body);
}

#[test]
fn a_client_of_http_1_0_gets_its_stream_by_close() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let body = ask_stream("model-a");
    let mut client = arbstr.client();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.0\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
        arbstr.address(),
        body.len()
    ));
    let mut reply = client.reply("POST");
    let text = reply.finish();
    assert_eq!(
        (reply.status, reply.header("transfer-encoding")),
        (200, None),
        "{}",
        reply.head
    );
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    arbstr.row(&reply.id()).assert_success();
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let body = ask("model-a");
    let mut client = arbstr.client();
    client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", arbstr.address(), body.len()));
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").send(&body);
    assert_eq!(client.reply("POST").finish(), completion(10, 4));
}

#[test]
fn a_client_that_breaks_its_body_off_leaves_no_row() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    for _ in 0..3 {
        let mut client = arbstr.client();
        client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\r\n{{\"model\":", arbstr.address()));
        thread::sleep(Duration::from_millis(20));
        client.reset();
    }
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    assert_eq!(provider.count(), 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(arbstr.rows().len(), 1);
}

#[test]
fn a_connection_serves_on_after_a_stream_and_after_an_error() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut client = arbstr.client();
    for (body, status) in [
        (ask_stream("model-a"), 200),
        ("{".to_owned(), 400),
        (ask("model-z"), 404),
        (ask("model-a"), 200),
        (ask_stream("model-a"), 200),
    ] {
        client.request("POST", "/v1/chat/completions", &[], body.as_bytes());
        let mut reply = client.reply("POST");
        reply.finish();
        assert_eq!(reply.status, status, "{body}");
        client = reply.again();
    }
}
