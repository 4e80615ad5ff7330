//! Drives the parser over an input cut into chunks, and says what it saw in the naive reading's words.

use super::naive::{Reading, Seen};
use arbstr_sse::{Item, Limits, Parser};

/// Reads `input` cut at the offsets `cuts` (ascending; equal ones make empty chunks).
pub(crate) fn read_cut(input: &[u8], cuts: &[usize], max: usize) -> Reading {
    let mut parser = Parser::new(Limits { max_event: max });
    let mut items = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        push(&mut parser, &input[from..to], &mut items);
        assert_eq!(parser.position(), to as u64, "all of a chunk is consumed");
        from = to;
    }
    close_reading(&mut parser, items)
}

fn push(parser: &mut Parser, mut chunk: &[u8], items: &mut Vec<Seen>) {
    while let Some(item) = parser.next(&mut chunk) {
        let seen = describe(item);
        let (Seen::Event { span, .. } | Seen::Overflow { span }) = &seen;
        assert_eq!(
            span.1,
            parser.position(),
            "an item ends where the parser stands"
        );
        items.push(seen);
    }
    assert!(chunk.is_empty(), "None means that the chunk is consumed");
}

fn close_reading(parser: &mut Parser, items: Vec<Seen>) -> Reading {
    let pending_from = parser.pending_from();
    let tail = parser.finish().map(describe);
    Reading {
        items,
        tail,
        id: parser.last_event_id().to_vec(),
        retry: parser.retry(),
        pending_from,
    }
}

fn describe(item: Item<'_>) -> Seen {
    let span = (item.span().start, item.span().end);
    match item {
        Item::Event(event) => Seen::Event {
            event_type: event.event_type().to_vec(),
            data: event.data().to_vec(),
            id: event.id().to_vec(),
            retry: event.retry(),
            span,
            data_span: event.data_span().map(|at| (at.start, at.end)),
        },
        Item::Overflow(_) => Seen::Overflow { span },
        other => panic!("an item this test does not know: {other:?}"),
    }
}

/// The naive reading as a stream cut at `cuts` shows it: a blank CRLF cut in two ends its event after the CR.
pub(crate) fn shorten_cut_ends(input: &[u8], cuts: &[usize], mut reading: Reading) -> Reading {
    for item in &mut reading.items {
        let (Seen::Event { span, .. } | Seen::Overflow { span }) = item;
        let end = usize::try_from(span.1).expect("offsets into a slice");
        if input[..end].ends_with(b"\r\n") && cuts.contains(&(end - 1)) {
            span.1 -= 1;
        }
    }
    reading
}
