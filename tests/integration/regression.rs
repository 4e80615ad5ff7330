//! Faults that were found once, each by its name, so that none comes back.

use std::thread;
use std::time::Duration;

use crate::harness::{
    Answer, DONE, House, Provider, Seller, ask_stream, chunk, finish, usage_chunk,
};

/// The proxy before this one wrote every stream down as failed and without a cost.
#[test]
fn a_streamed_request_is_a_success_with_a_cost() {
    let provider = Provider::healthy(1000, 500);
    let arbstr = House::of(&provider).start();
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
        let arbstr = House::of(&provider).start();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        reply.read_until(DONE);
        let id = reply.id();
        reply.leave();
        thread::sleep(Duration::from_millis(10));
        arbstr.row(&id).assert_success();
    }
}

/// Comments say nothing of the answer, however many come: a provider that then dies has given nothing.
#[test]
fn a_flood_of_comments_is_no_first_event() {
    let flood = Answer::sse().send(": processing\n".repeat(10_000)).reset();
    let (bad, good) = (Provider::always(flood), Provider::healthy(1, 1));
    let arbstr = House::new()
        .seller(Seller::new("bad", &bad).rates("1", "1"))
        .seller(Seller::new("good", &good))
        .start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    let body = reply.finish();
    assert!(!body.contains("error") && body.ends_with(DONE), "{body}");
    assert_eq!(reply.needs("x-arbstr-provider"), "good");
}

/// A name of a megabyte, asked for by a client, went into the journal, the row, the roll-ups and the log.
#[test]
fn a_record_keeps_only_the_beginning_of_an_endless_name() {
    let arbstr = House::of(&Provider::healthy(1, 1)).start();
    let name = "é".repeat(500_000);
    let mut reply = arbstr.chat(&ask_stream(&name));
    assert_eq!((reply.status, reply.finish().is_empty()), (404, false));
    let row = arbstr.row(&reply.id());
    assert_eq!(row.text("model"), Some("é".repeat(256)));
}
