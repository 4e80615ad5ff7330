//! HTTP/1 as clients speak it: framing, pipelines, what is refused, and what a connection that waits may cost.

use std::fs;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Gate, Provider, Setup, ask, ask_stream, completion, wait_until};

fn setup() -> (Provider, Setup) {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    (provider, setup)
}

/// A provider that answers no earlier than the gate opens.
fn held_back() -> (Gate, Provider) {
    let gate = Gate::new();
    let answer = crate::harness::Answer::json(200, &completion(10, 4)).after(&gate);
    (gate, Provider::always(answer))
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
fn what_is_no_request_is_refused_and_told_why() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let host = format!("GET /health HTTP/1.1\r\nhost: {}\r\n", arbstr.address());
    let too_large = (431, "request_header_too_large");
    let malformed = (400, "malformed_request");
    let cases = [
        (
            format!("{host}x-big: {}\r\n\r\n", "a".repeat(300_000)),
            too_large,
        ),
        (
            format!("{host}{}\r\n", "x-many: 1\r\n".repeat(2000)),
            too_large,
        ),
        (format!("GET /{}", "a".repeat(300_000)), too_large),
        ("GARBAGE\r\n\r\n".to_owned(), malformed),
        ("GET /health HTTP/2.0\r\n\r\n".to_owned(), malformed),
        (
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned(),
            malformed,
        ),
        // These are told before a blank line comes: a client that speaks TLS sends none.
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), malformed),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), malformed),
        (format!("{host}bad header\r\n"), malformed),
        (format!("{host}{}", "x-many: 1\r\n".repeat(200)), too_large),
        (format!("{host}a: b\r\n c\r\n\r\n"), malformed),
        (format!("{host}content-length: x\r\n\r\n"), malformed),
        (format!("{host}content-length: 1, 1\r\n\r\nx"), malformed),
        (
            format!("{host}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
            malformed,
        ),
        (
            format!("{host}transfer-encoding: gzip, chunked\r\n\r\n"),
            malformed,
        ),
        (
            "GET /health HTTP/1.1\r\n\r\n".to_owned(),
            (400, "missing_host"),
        ),
    ];
    let from = Instant::now();
    for (head, (status, code)) in &cases {
        let mut client = arbstr.client();
        let _ = client.try_send(head);
        let shown = &head[..head.len().min(60)];
        let mut reply = client.reply("GET");
        assert_eq!(reply.json()["error"]["code"], *code, "{shown:?}");
        assert_eq!((reply.status, reply.id().len()), (*status, 36), "{shown:?}");
        let closes = reply.header("connection") == Some("close");
        assert_eq!(closes, *code != "missing_host", "{shown:?}");
    }
    assert!(
        from.elapsed() < Duration::from_secs(10),
        "nobody waits for the end of a bad head"
    );
    assert_eq!(arbstr.get("/health").status, 200);
    let metrics = arbstr.get("/metrics").finish();
    assert!(
        metrics.contains("arbstr_http_responses_total{code=\"431\"} 4"),
        "{metrics}"
    );
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

#[test]
fn a_page_does_not_care_whether_its_client_still_sends() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    for path in [
        "/health",
        "/v1/models",
        "/metrics",
        "/providers",
        "/v1/stats",
        "/v1/requests",
    ] {
        for _ in 0..10 {
            let mut client = arbstr.client();
            client.request("GET", path, &[], b"");
            client.finish_sending();
            assert_eq!(client.reply("GET").status, 200, "{path}");
        }
    }
}

#[test]
fn a_client_that_leaves_behind_its_next_request_is_noticed() {
    let (gate, provider) = held_back();
    let arbstr = Setup::of(&provider)
        .set("stream", "on_client_disconnect = \"abort\"")
        .start();
    for (index, next) in ["\r\n", "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"]
        .iter()
        .enumerate()
    {
        let mut client = arbstr.client();
        client.request_chat(&ask("model-a"));
        assert!(wait_until(Duration::from_secs(5), || provider.count() == index + 1));
        thread::sleep(Duration::from_millis(50));
        client.send(next);
        thread::sleep(Duration::from_millis(50));
        drop(client);
        assert!(
            provider.saw_close(index, Duration::from_secs(5)),
            "{next:?}"
        );
    }
    gate.open();
}

#[test]
fn who_expects_100_and_sends_nothing_keeps_the_connection() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut client = arbstr.client();
    for fields in [&[("expect", "100-continue")][..], &[]] {
        client.request("GET", "/health", fields, b"");
        let mut reply = client.reply("GET");
        reply.finish();
        assert_eq!((reply.status, reply.header("connection")), (200, None));
        client = reply.again();
    }
}

/// The statuses of so many answers, read as they come.
fn statuses(client: &mut std::net::TcpStream, count: usize) -> Vec<String> {
    let mut text = String::new();
    let mut space = [0; 4096];
    loop {
        let found: Vec<String> = text
            .match_indices("HTTP/1.1 ")
            .filter_map(|(at, line)| text.get(at + line.len()..at + line.len() + 3))
            .map(str::to_owned)
            .collect();
        if found.len() == count {
            return found;
        }
        let length = client.read(&mut space).expect("the answers come");
        assert!(length > 0, "{text}");
        text += &String::from_utf8_lossy(&space[..length]);
    }
}

#[test]
fn requests_of_all_framings_follow_each_other_however_they_are_cut() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let host = arbstr.address();
    let body = ask("model-a");
    let (first, rest) = body.split_at(20);
    let all = [
        format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        format!("POST /nothing HTTP/1.1\r\nhost: {host}\r\ncontent-length: 7\r\n\r\nignored"),
        format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: u\r\n\r\n"),
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n14\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()),
        format!("HEAD / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    ]
    .concat();
    let expected = ["200", "200", "404", "200", "200", "200", "200"];
    let cuts = [all.len(), 1, 7, 100, all.len() / 2 + 1];
    for cut in cuts {
        let mut client = std::net::TcpStream::connect(host).unwrap();
        client.set_nodelay(true).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        for piece in all.as_bytes().chunks(cut) {
            std::io::Write::write_all(&mut client, piece).unwrap();
        }
        assert_eq!(
            statuses(&mut client, expected.len()),
            expected,
            "in pieces of {cut}"
        );
    }
    let seen = provider.seen();
    assert_eq!(seen.len(), 2 * cuts.len());
    assert!(seen.iter().all(|seen| seen.text() == body));
}

#[test]
fn bodies_of_any_size_reach_the_provider_as_they_are() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let mut client = arbstr.client();
    let mut sent = Vec::new();
    // Around what one read brings, and what a thread keeps.
    for size in [
        1, 60_000, 65_535, 65_536, 65_537, 131_072, 1_000_003, 9_000_000,
    ] {
        let body = ask("model-a").replace("hello", &"h\u{e9}\\n".repeat(size / 5 + 1));
        client.request("POST", "/v1/chat/completions", &[], body.as_bytes());
        let mut reply = client.reply("POST");
        reply.finish();
        assert_eq!(reply.status, 200, "{size}");
        sent.push(body);
        client = reply.again();
    }
    let seen: Vec<String> = provider.seen().iter().map(|seen| seen.text()).collect();
    assert!(seen == sent, "a body changed on its way");
}

#[test]
fn a_large_body_in_small_pieces_is_not_copied_again_and_again() {
    let (provider, setup) = setup();
    let arbstr = setup.start();
    let body = ask("model-a").replace("hello", &"x".repeat(33_000_000));
    let (bulk, rest) = body.split_at(15_000_000);
    let (drops, rest) = rest.split_at(200);
    let mut client = arbstr.client();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{bulk}",
        arbstr.address(),
        body.len()
    ));
    thread::sleep(Duration::from_millis(200));
    let before = ticks(arbstr.pid());
    for byte in drops.as_bytes().chunks(1) {
        client.send(byte);
        thread::sleep(Duration::from_millis(2));
    }
    let used = ticks(arbstr.pid()) - before;
    client.send(rest);
    let mut reply = client.reply("POST");
    reply.finish();
    assert_eq!(reply.status, 200);
    assert!(
        provider.only().text() == body,
        "the body changed on its way"
    );
    // A copy of 15 MB takes most of a tick, or more.
    assert!(used < 20, "{used} ticks of CPU for two hundred bytes");
}

#[test]
fn a_head_has_fifteen_seconds_and_a_blank_line_is_none() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let host = arbstr.address();
    let health = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let from = Instant::now();
    thread::scope(|scope| {
        // (sent first, sent then each second)
        for (first, then) in [("GET /hea", ""), ("G", "E"), (&*health, "GET /v1")] {
            let mut client = arbstr.client();
            let health = &health;
            scope.spawn(move || {
                client.send(first);
                if first == health {
                    let mut reply = client.reply("GET");
                    reply.finish();
                    client = reply.again();
                    client.send(then);
                }
                for _ in 0..14 {
                    thread::sleep(Duration::from_secs(1));
                    if first == "G" {
                        let _ = client.try_send(then);
                    }
                }
                let mut reply = client.reply("GET");
                let waited = from.elapsed();
                assert_eq!(
                    reply.json()["error"]["code"],
                    "request_timeout",
                    "{first:?}"
                );
                assert_eq!(
                    (reply.status, reply.header("connection")),
                    (408, Some("close"))
                );
                assert!(
                    waited > Duration::from_secs(14),
                    "{first:?} after {waited:?}"
                );
            });
        }
        // Who keeps a connection ready has asked nothing, and would take a word for the answer to the first request.
        let silent = arbstr.client();
        scope.spawn(move || {
            thread::sleep(Duration::from_secs(14).saturating_sub(from.elapsed()));
            let closed = silent.try_reply("GET").map(|reply| reply.head);
            assert_eq!(
                closed.map_err(|error| error.kind()),
                Err(ErrorKind::UnexpectedEof)
            );
            let waited = from.elapsed();
            assert!(waited > Duration::from_secs(14), "after {waited:?}");
        });
        // Who sent a blank line behind a body may take its time for the next request.
        for blank in [&["\r\n"][..], &["\r", "\n"], &["\n", "\r\n\r", "\n"]] {
            let mut client = arbstr.client();
            client.send(&health);
            let mut reply = client.reply("GET");
            reply.finish();
            client = reply.again();
            let health = &health;
            scope.spawn(move || {
                for piece in blank {
                    client.send(piece);
                    thread::sleep(Duration::from_millis(50));
                }
                thread::sleep(Duration::from_secs(16));
                client.send(health);
                assert_eq!(client.reply("GET").status, 200, "{blank:?}");
            });
        }
    });
}

#[test]
fn what_was_read_ahead_keeps_its_order() {
    let (gate, provider) = held_back();
    let arbstr = Setup::of(&provider).start();
    let host = arbstr.address();
    let numbered = |number: usize| {
        let body =
            ask("model-a").replace("hello", &format!("{number} {}", "x".repeat(number * 97)));
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let all: String = (0..12).map(numbered).collect();
    let mut client = std::net::TcpStream::connect(host).unwrap();
    client.set_nodelay(true).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // The first and a part of the second at once, more while the first is answered: partly read, partly left in the socket.
    let mut pieces = all.as_bytes().chunks(700);
    std::io::Write::write_all(&mut client, pieces.next().unwrap()).unwrap();
    gate.wait_reached();
    for piece in pieces {
        std::io::Write::write_all(&mut client, piece).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    gate.open();
    assert_eq!(statuses(&mut client, 12), ["200"; 12]);
    let seen: Vec<String> = provider.seen().iter().map(|seen| seen.text()).collect();
    for (number, text) in seen.iter().enumerate() {
        assert!(
            text.contains(&format!("Say {number} {}.", "x".repeat(number * 97))),
            "{number} at its place"
        );
    }
}

#[test]
fn a_body_that_nobody_reads_is_no_request() {
    let (_provider, setup) = setup();
    let arbstr = setup.start();
    let mut client = arbstr.client();
    let inner = format!(
        "GET /v1/models HTTP/1.1\r\nhost: {}\r\n\r\n",
        arbstr.address()
    );
    for length in [10, 100_000, 3_000_000] {
        let body = inner.repeat(length / inner.len() + 1);
        for (method, path, status) in [
            ("POST", "/nothing", 404),
            ("GET", "/health", 200),
            ("POST", "/health", 405),
        ] {
            client.request(method, path, &[], body.as_bytes());
            let mut reply = client.reply(method);
            reply.finish();
            assert_eq!(reply.status, status, "{method} {path} {length}");
            client = reply.again();
        }
    }
}

/// Clock ticks of CPU that a process has used: user and system time.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
}

#[test]
fn a_connection_that_waits_costs_nothing() {
    let gate = Gate::new();
    let held = gate.clone();
    let provider = Provider::by(move |seen, _| {
        if seen.is_stream() {
            crate::harness::Answer::sse()
                .send(crate::harness::chunk("x"))
                .wait_for(&held)
        } else {
            crate::harness::Answer::json(200, &completion(10, 4)).after(&held)
        }
    });
    let arbstr = Setup::of(&provider).start();
    let host = arbstr.address();
    let post = |body: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let health = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let half_body = post(&ask("model-a"));
    let sent = [
        String::new(),
        "PRI * HT".to_owned(),
        health[..20].to_owned(),
        half_body[..half_body.len() - 5].to_owned(),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        ),
        health.clone(),
        post(&ask("model-a")),
        post(&ask_stream("model-a")),
        post(&ask("model-a")),
        format!("{}{health}{}", post(&ask_stream("model-a")), &health[..9]),
    ];
    let mut clients: Vec<Client> = sent
        .iter()
        .map(|bytes| {
            let mut client = arbstr.client();
            client.send(bytes);
            client
        })
        .collect();
    gate.wait_reached();
    thread::sleep(Duration::from_millis(100));
    // The next request, or more of this one, while an answer is waited for.
    for client in &mut clients[6..] {
        client.send(&health);
    }
    thread::sleep(Duration::from_millis(300));
    let before = ticks(arbstr.pid());
    thread::sleep(Duration::from_millis(1000));
    let used = ticks(arbstr.pid()) - before;
    // A loop that polls without end takes all of a core: a hundred ticks.
    assert!(used < 30, "{used} ticks of CPU while everybody waited");
    drop(clients);
    gate.open();
    assert_eq!(arbstr.get("/health").status, 200);
}
