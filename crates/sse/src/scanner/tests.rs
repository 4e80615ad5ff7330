use super::*;
use alloc::format;

fn drain(parser: &mut Parser, mut chunk: &[u8]) -> usize {
    let mut items = 0;
    while parser.next(&mut chunk).is_some() {
        items += 1;
    }
    items
}

#[test]
fn allocates_nothing_while_events_lie_within_their_chunks() {
    let mut parser = Parser::new(Limits::default());
    let chunk = b": note\nevent: x\ndata: 1\n\ndata: 2\r\n\r\n\n\ndata: 3\n\n";
    assert_eq!(drain(&mut parser, chunk), 3);
    assert_eq!(parser.held.capacity(), 0);
}

#[test]
fn gives_a_large_buffer_back_when_idle() {
    let mut parser = Parser::new(Limits::default());
    let data = [b'x'; 50_000];
    for _ in 0..2 {
        assert_eq!(drain(&mut parser, b"data: "), 0);
        assert_eq!(drain(&mut parser, &data), 0);
        assert!(parser.held.capacity() > KEEP);
        assert_eq!(drain(&mut parser, b"\n\ndata: small\n\n"), 2);
        assert_eq!(parser.held.capacity(), 0);
    }
}

#[test]
fn gives_a_large_buffer_back_though_no_chunk_ends_between_events() {
    let long = "x".repeat(50_000);
    for large in [
        format!("data: {long}"),
        format!("data: {long}\ndata: {long}"),
    ] {
        let mut parser = Parser::new(Limits::default());
        drain(&mut parser, large.as_bytes());
        for _ in 0..3 {
            assert_eq!(drain(&mut parser, b"\n\ndata: a\ndata: b"), 1);
        }
        let held = parser.held.capacity() + parser.draft.held();
        assert!(held <= 2 * KEEP, "{held}");
    }
    // What is large again and again keeps its room.
    let mut parser = Parser::new(Limits::default());
    let chunk = format!("\n\ndata: {long}");
    drain(&mut parser, chunk.as_bytes());
    let room = parser.held.as_ptr();
    drain(&mut parser, chunk.as_bytes());
    assert_eq!(parser.held.as_ptr(), room);
}

#[test]
fn lends_from_the_chunk_when_the_event_lies_within_it() {
    let chunk = b"data: one\n\nid: 1\nevent: e\ndata: two\n\n";
    let mut parser = Parser::new(Limits::default());
    let mut input = &chunk[..];
    for expected in [&chunk[6..9], &chunk[32..35]] {
        let Some(Item::Event(event)) = parser.next(&mut input) else {
            panic!("an event is there");
        };
        assert_eq!(event.data().as_ptr_range(), expected.as_ptr_range());
    }
}

#[test]
fn finish_begins_a_new_stream_that_remembers_the_id() {
    let mut parser = Parser::new(Limits::default());
    drain(
        &mut parser,
        b"\xEF\xBB\xBFid: 7\nretry: 9\ndata: 1\n\nid: 8\ndata: cut",
    );
    let Some(Item::Event(tail)) = parser.finish() else {
        panic!("a tail is there");
    };
    assert_eq!((tail.data(), tail.id()), (&b"cut"[..], &b"8"[..]));
    assert_eq!(parser.last_event_id(), b"7");
    assert_eq!((parser.position(), parser.pending_from()), (0, 0));
    let mut input = &b"\xEF\xBB\xBFdata: 2\n\n"[..];
    let Some(Item::Event(event)) = parser.next(&mut input) else {
        panic!("an event is there");
    };
    assert_eq!((event.span(), event.id()), (3..12, &b"7"[..]));
    assert_eq!(event.retry(), Some(Duration::from_millis(9)));
    assert!(parser.finish().is_none());
    assert!(parser.finish().is_none());
}

#[test]
fn tells_what_a_relay_may_let_go() {
    let mut parser = Parser::new(Limits { max_event: 20 });
    let steps: [(&[u8], u64); 10] = [
        (b": no", 0),
        (b"te\n", 8 - 1),
        (b"data: a\n", 7),
        (b"\r", 16),
        (b"\n", 17),
        (b"id: 1", 17),
        (b"\n: note of the block\n", 43),
        (b"data: b\n", 51),
        (b"\n", 52),
        (b": a comment longer than the limit", 85),
    ];
    for (chunk, pending_from) in steps {
        drain(&mut parser, chunk);
        assert_eq!(parser.pending_from(), pending_from, "after {chunk:?}");
    }
}

#[test]
fn what_is_held_grows_to_the_limit_and_no_further() {
    for line in ["data: ", ": note", "event:"] {
        let mut parser = Parser::new(Limits { max_event: 16 });
        drain(&mut parser, b"\n");
        drain(&mut parser, format!("{line}0123456789").as_bytes());
        assert_eq!(parser.pending_from(), 1, "{line} at the limit");
        drain(&mut parser, b"x");
        assert_eq!(parser.pending_from(), 18, "{line} over it");

        let mut parser = Parser::new(Limits { max_event: 16 });
        drain(&mut parser, b"\n");
        drain(&mut parser, format!("{line}0123456789x").as_bytes());
        assert_eq!(parser.pending_from(), 18, "{line} over it at once");
    }
}

#[test]
fn an_lf_later_than_right_after_a_cr_is_a_line_end() {
    let mut parser = Parser::new(Limits::default());
    for chunk in ["\r", "data: 1", "\n"] {
        assert_eq!(drain(&mut parser, chunk.as_bytes()), 0);
    }
    assert_eq!(drain(&mut parser, b"\n"), 1);
    for chunk in ["data: 2\r", "d", "\r"] {
        assert_eq!(drain(&mut parser, chunk.as_bytes()), 0);
    }
    assert_eq!(drain(&mut parser, b"\n\r"), 1);
}

#[test]
fn an_unterminated_line_sets_no_retry() {
    for stream in ["retry: 1\nretry: 2", "retry: 1\ndata: x\nretry: 2"] {
        let mut parser = Parser::new(Limits::default());
        drain(&mut parser, stream.as_bytes());
        parser.finish();
        assert_eq!(parser.retry(), Some(Duration::from_millis(1)), "{stream:?}");
    }
}
