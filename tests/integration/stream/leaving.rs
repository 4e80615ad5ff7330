//! Clients that leave: what becomes of the upstream, the cost and the row.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    Answer, Arbstr, DONE, Gate, Provider, ProviderConfig, Reply, Row, Setup, ask, ask_stream,
    chunk, completion, finish, usage_chunk, wait_until,
};

/// A stream that stands still after its first chunk until the gate opens, then ends well.
fn held(gate: &Gate) -> Answer {
    Answer::sse()
        .send(chunk("Hel"))
        .wait_for(gate)
        .send(chunk("lo"))
        .send(finish("stop"))
        .send(usage_chunk(10, 4))
        .send(DONE)
}

#[track_caller]
fn leave(arbstr: &Arbstr, how: fn(Reply)) -> String {
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("Hel"));
    let id = reply.id();
    let before = arbstr.log().matches(LEFT).count();
    how(reply);
    arbstr.wait_for_log(LEFT, before + 1);
    id
}

#[test]
fn a_client_that_leaves_is_drained_for_so_that_the_cost_is_known() {
    for how in [Reply::leave as fn(Reply), Reply::reset] {
        let gate = Gate::new();
        let provider = Provider::always(held(&gate));
        let arbstr = Setup::of(&provider).start();
        let id = leave(&arbstr, how);
        assert_eq!(provider.closed_at(0), None, "drained, not dropped");
        gate.open();
        let row = arbstr.row(&id);
        row.assert_failure("client_disconnected");
        assert_eq!(
            (
                row.int("input_tokens"),
                row.int("output_tokens"),
                row.int("cost_nanosats")
            ),
            (Some(10), Some(4), Some(18_000_000))
        );
    }
}

#[test]
fn a_drain_that_meets_no_done_leaves_the_cost_unknown() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("Hel"))
            .wait_for(&gate)
            .send(usage_chunk(10, 4))
            .reset(),
    );
    let arbstr = Setup::of(&provider).start();
    let id = leave(&arbstr, Reply::leave);
    gate.open();
    let row = arbstr.row(&id);
    row.assert_failure("client_disconnected");
    assert_eq!(
        (row.int("input_tokens"), row.int("cost_nanosats")),
        (None, None)
    );
}

#[test]
fn a_drain_lasts_no_longer_than_it_may() {
    let gate = Gate::new();
    let provider = Provider::always(held(&gate));
    let arbstr = Setup::of(&provider)
        .set("stream", "drain_max_secs = 1")
        .start();
    let id = leave(&arbstr, Reply::reset);
    assert!(
        provider.saw_close(0, Duration::from_millis(2500)),
        "still draining"
    );
    arbstr.row(&id).assert_failure("client_disconnected");
}

#[test]
fn abort_closes_the_upstream_within_a_second() {
    let line = r#"on_client_disconnect = "abort""#;
    for provider_line in [false, true] {
        let gate = Gate::new();
        let provider = Provider::always(held(&gate));
        let config = ProviderConfig::new("alpha", &provider);
        let setup = if provider_line {
            Setup::new().provider(config.line(line))
        } else {
            Setup::new().provider(config).set("stream", line)
        };
        let arbstr = setup.start();
        let id = leave(&arbstr, Reply::reset);
        assert!(
            provider.saw_close(0, Duration::from_secs(1)),
            "the upstream is still open"
        );
        let row = arbstr.row(&id);
        row.assert_failure("client_disconnected");
        assert_eq!(row.int("cost_nanosats"), None);
    }
}

#[test]
fn a_client_that_leaves_before_the_first_byte_follows_the_same_rule() {
    for (mode, drains) in [("drain", true), ("abort", false)] {
        let gate = Gate::new();
        let answer = Answer::sse()
            .send(chunk("Hel"))
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE)
            .after(&gate);
        let provider = Provider::always(answer);
        let arbstr = Setup::of(&provider)
            .set("stream", &format!("on_client_disconnect = \"{mode}\""))
            .start();
        let mut client = arbstr.client();
        client.request_chat(&ask_stream("model-a"));
        gate.wait_reached();
        client.reset();
        let closed = provider.saw_close(0, Duration::from_millis(1000));
        assert_eq!(closed, !drains, "{mode}");
        gate.open();
        let row = arbstr.first_row();
        row.assert_failure("client_disconnected");
        assert_eq!(
            row.int("cost_nanosats"),
            drains.then_some(18_000_000),
            "{mode}: {row:?}"
        );
    }
}

#[test]
fn who_lets_a_client_wait_in_vain_comes_after_the_others() {
    let (silent, good) = (
        Provider::always(Answer::bare().stall()),
        Provider::healthy(10, 4),
    );
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("cheap", &silent))
        .provider(ProviderConfig::new("dear", &good).rates("2000", "4000"))
        .start();
    let mut client = arbstr.client();
    let body = ask("model-a");
    client.request("POST", "/v1/chat/completions", &[], body.as_bytes());
    // Longer than a stream would be waited for.
    thread::sleep(Duration::from_millis(12_300));
    client.reset();
    assert!(wait_until(Duration::from_secs(2), || arbstr
        .log()
        .contains("a client gave up waiting for it")));
    let reply = arbstr.chat(&body);
    assert_eq!(
        (reply.status, reply.needs("x-arbstr-provider")),
        (200, "dear")
    );
}

#[test]
fn leaving_after_done_is_success() {
    let provider = Provider::always(Answer::stream(10, 4).stall());
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(DONE);
    let id = reply.id();
    reply.reset();
    let row = arbstr.row(&id);
    row.assert_success();
    assert_eq!(row.int("cost_nanosats"), Some(18_000_000));
}

#[test]
fn a_json_request_whose_client_left_is_drained_or_aborted_too() {
    for (mode, drains) in [("drain", true), ("abort", false)] {
        let gate = Gate::new();
        let provider = Provider::always(Answer::json(200, &completion(10, 4)).after(&gate));
        let arbstr = Setup::of(&provider)
            .set("stream", &format!("on_client_disconnect = \"{mode}\""))
            .start();
        let mut client = arbstr.client();
        client.request_chat(&ask("model-a"));
        gate.wait_reached();
        client.reset();
        assert_eq!(
            provider.saw_close(0, Duration::from_secs(1)),
            !drains,
            "{mode}"
        );
        gate.open();
        let row = arbstr.first_row();
        row.assert_failure("client_disconnected");
        assert_eq!(
            row.int("cost_nanosats"),
            drains.then_some(18_000_000),
            "{mode}: {row:?}"
        );
    }
}

#[test]
fn a_thousand_clients_leaving_at_once_leave_no_socket_and_no_memory_behind() {
    let gate = Gate::new();
    let provider = Provider::always(held(&gate));
    let arbstr = Setup::of(&provider)
        .set("stream", "on_client_disconnect = \"abort\"")
        .start();
    arbstr.get("/health").finish();
    let before = arbstr.open_files();
    let resident = arbstr.resident_kib();
    come_and_leave(&arbstr, before);
    let left = || {
        let rows = arbstr.rows();
        let gone = |row: &&Row| row.verdict().1.as_deref() == Some("client_disconnected");
        rows.iter().filter(gone).count()
    };
    assert!(wait_until(TIMEOUT, || left() == CLIENTS), "{} rows", left());
    let kept = arbstr.resident_kib().saturating_sub(resident);
    assert!(kept < 64 * 1024, "{kept} KiB for nobody");
}

/// All read their first chunk, then all reset their connection.
#[track_caller]
fn come_and_leave(arbstr: &Arbstr, before: usize) {
    let mut replies: Vec<_> = (0..CLIENTS)
        .map(|_| arbstr.chat(&ask_stream("model-a")))
        .collect();
    for reply in &mut replies {
        reply.read_until(&chunk("Hel"));
    }
    assert!(
        arbstr.open_files() >= before + 2 * CLIENTS - 10,
        "two sockets each: {} now, {before} before",
        arbstr.open_files()
    );
    replies.into_iter().for_each(Reply::reset);
    assert!(
        wait_until(TIMEOUT, || arbstr.open_files() <= before + 8),
        "{} open files, {before} before",
        arbstr.open_files()
    );
}

const CLIENTS: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(10);

const LEFT: &str = "client left its stream";

/// What was gathered for a client was taken for sent: one that reads nothing, and was cut off for it, was a success if the
/// end of its stream was among what arbstr still held.
#[test]
fn only_a_client_that_got_done_is_a_success() {
    const STEP: usize = 4 * 1024;
    let size = Arc::new(AtomicUsize::new(16 * 1024 * 1024));
    let next_size = Arc::clone(&size);
    let provider = Provider::by(move |_, _| {
        let text = chunk(&"x".repeat(STEP - chunk("").len()));
        let count = next_size.fetch_add(STEP, Ordering::Relaxed) / STEP;
        Answer::sse()
            .send(text.repeat(count))
            .send(finish("stop"))
            .send(DONE)
    });
    let arbstr = Setup::of(&provider)
        .set("timeouts", "client_stall = 1")
        .start();
    let sleeper = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket
            .connect(&arbstr.address().into())
            .expect("arbstr listens");
        let mut socket = TcpStream::from(socket);
        let body = ask_stream("model-a");
        let (address, length) = (arbstr.address(), body.len());
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}"
        );
        socket
            .write_all(format!("{head}\r\n\r\n{body}").as_bytes())
            .expect("it is taken");
        socket
    };
    let wake = |mut socket: TcpStream| {
        let mut got = Vec::new();
        // A connection that is reset was read to where it was.
        let _ = socket.read_to_end(&mut got);
        String::from_utf8(got).expect("text")
    };
    let first = sleeper();
    arbstr.wait_for_log("the client reads nothing", 1);
    let room = wake(first).len();
    size.store(room.saturating_sub(12 * STEP), Ordering::Relaxed);
    let sleepers: Vec<TcpStream> = (0..20).map(|_| sleeper()).collect();
    thread::sleep(Duration::from_millis(2_500));
    let mut kinds = BTreeSet::new();
    for socket in sleepers {
        let got = wake(socket);
        let id = got.split("x-arbstr-request-id: ").nth(1).expect("a head");
        let verdict = arbstr.row(&id[..36]).verdict();
        let expected = match got.contains(DONE) {
            true => (true, None),
            false => (false, Some("client_disconnected".to_owned())),
        };
        assert_eq!(verdict, expected, "after {} bytes", got.len());
        kinds.insert(verdict.0);
    }
    assert!(kinds.contains(&false), "nobody was cut off");
}
