//! Odd upstreams cost bounded memory and never harm the relay.

use arbstr_wire::stream::MAX_EVENT;
use arbstr_wire::{FirstEvent, Rewriter, StreamEnd};
use bytes::Bytes;

use super::relay::{ASKED, UNASKED, every, relay, whole};

const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_line_of_two_megabytes_passes_and_usage_behind_it_is_read() {
    let big = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}],\"usage\":null}}\n\n",
        "x".repeat(2 << 20)
    );
    let stream = [&big, USAGE, DONE].concat();
    for size in [1_460, 16_384, stream.len()] {
        let mut rewriter = Rewriter::new(UNASKED);
        let mut client = Vec::new();
        for chunk in stream.as_bytes().chunks(size) {
            client.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(chunk)));
            assert!(
                rewriter.held_capacity() <= 64 * 1024,
                "{}",
                rewriter.held_capacity()
            );
        }
        assert!(
            client == [&big, DONE].concat().as_bytes(),
            "unedited, and in step again behind it"
        );
        let seen = rewriter.observation();
        assert_eq!(
            (seen.usage.unwrap().input, seen.events, seen.done),
            (Some(7), 2, true)
        );
    }
}

#[test]
fn an_endless_line_passes_as_it_comes_and_holds_little() {
    for line in ["data: ", ": ", "nonsense", "", "data: x\n: "] {
        let mut rewriter = Rewriter::new(UNASKED);
        rewriter.push(Bytes::copy_from_slice(line.as_bytes()));
        let chunk = Bytes::from(vec![b'x'; 10_000]);
        let mut released = 0;
        for sent in 1..=2_000 {
            released += rewriter.push(chunk.clone()).len();
            let came = line.len() + sent * chunk.len();
            assert!(
                came - released <= MAX_EVENT + 16 && rewriter.held_capacity() <= 64 * 1024,
                "{line:?}: {came} {released}"
            );
        }
        let (tail, end) = rewriter.finish();
        assert_eq!((tail.len(), end), (0, StreamEnd::Incomplete));
    }
}

#[test]
fn only_an_event_opens_the_gate_however_much_comes_before_it() {
    let kib = |count: usize| "x".repeat(count * 1024);
    let cases = [
        (": keep-alive\n".repeat(20_000), FirstEvent::None),
        (": keep-alive\n\n".repeat(20_000), FirstEvent::None),
        (format!(": {}", kib(200)), FirstEvent::None),
        (format!(": {}\n: x\n", kib(200)), FirstEvent::None),
        (format!("event: {}\n", kib(200)), FirstEvent::None),
        (format!("event: {}\ndata: x", kib(200)), FirstEvent::None),
        (format!("event: {}\ndata: x\n", kib(200)), FirstEvent::Good),
        (format!("data: {}", kib(60)), FirstEvent::None),
        (format!("data: {}", kib(70)), FirstEvent::Good),
        ("data: x\n".repeat(20_000), FirstEvent::Good),
    ];
    for (stream, first) in cases {
        for size in [1_000, 16_384, stream.len()] {
            let mut rewriter = Rewriter::new(UNASKED);
            for chunk in stream.as_bytes().chunks(size) {
                rewriter.push(Bytes::copy_from_slice(chunk));
            }
            let begin = &stream[..40.min(stream.len())];
            assert_eq!(rewriter.first_event(), first, "{begin:?} in {size}");
        }
    }
}

#[test]
fn many_small_lines_of_one_event_are_one_event_over_the_limit() {
    let lines = "data: 12345678\n".repeat(20_000);
    let stream = format!("{lines}\n{USAGE}{DONE}");
    let relayed = relay(UNASKED, stream.as_bytes(), &every(1_000, stream.as_bytes()));
    assert!(relayed.text().starts_with(&format!("{lines}\n{DONE}")));
    assert!(relayed.seen.contains("input: Some(7)"), "{}", relayed.seen);
}

#[test]
fn the_largest_event_that_fits_is_still_edited() {
    let event = |padding: usize| {
        format!(
            "data: {{\"x\":\"{}\",\"usage\":null}}\n\n",
            "x".repeat(padding)
        )
    };
    let frame = event(0).len() - 2;
    for (padding, edited) in [(MAX_EVENT - frame, true), (MAX_EVENT - frame + 1, false)] {
        let stream = event(padding);
        for size in [1_000, 65_536] {
            let client = relay(UNASKED, stream.as_bytes(), &every(size, stream.as_bytes())).client;
            assert_eq!(client.len() < stream.len(), edited, "{padding} in {size}");
        }
    }
}

#[test]
fn an_idle_stream_holds_next_to_nothing() {
    let mut rewriter = Rewriter::new(UNASKED);
    let big = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(50_000));
    for chunk in big.as_bytes().chunks(1_000) {
        rewriter.push(Bytes::copy_from_slice(chunk));
    }
    assert!(
        rewriter.held_capacity() <= 1024,
        "{}",
        rewriter.held_capacity()
    );
    assert!(size_of::<Rewriter>() <= 1024, "{}", size_of::<Rewriter>());
}

#[test]
fn garbage_passes_untouched() {
    let garbage: Vec<u8> = (0..50_000u32)
        .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let ended = [
        &garbage,
        b"\n\ndata: {\"x\":\"\xff\xfe\"}\n\n".as_slice(),
        USAGE.as_bytes(),
        DONE.as_bytes(),
    ]
    .concat();
    for size in [1, 999, 100_000] {
        let relayed = relay(ASKED, &ended, &every(size, &ended));
        assert!(relayed.client.starts_with(&ended));
        assert!(relayed.seen.contains("input: Some(7)"), "{}", relayed.seen);
    }
    assert_eq!(whole(ASKED, b"\0\0\0").client, b"");
}

#[test]
fn a_split_character_is_no_fault() {
    let stream = "data: {\"id\":\"é😀\",\"choices\":[{\"delta\":{\"content\":\"日本\"}}]}\n\ndata: [DONE]\n\n";
    let at_once = whole(ASKED, stream.as_bytes());
    assert!(at_once.seen.contains("é😀"));
    for cut in 0..stream.len() {
        assert_eq!(relay(ASKED, stream.as_bytes(), &[cut]), at_once);
    }
}
