//! What arbstr's asking for usage caused is kept from a client that did not ask, and nothing else is.

use super::relay::{ASKED, TRAILER, UNASKED, every, relay, whole};
use arbstr_wire::Rewriter;
use bytes::Bytes;

/// The client's bytes without what arbstr appends.
fn hidden(stream: &str) -> String {
    let mut rewriter = Rewriter::new(UNASKED);
    let released = rewriter.push(Bytes::copy_from_slice(stream.as_bytes()));
    String::from_utf8(released.to_vec()).expect("text in this test")
}

/// What came, and what a client that did not ask gets of it.
const CASES: &[(&str, &str)] = &[
    // The usage-only chunk goes, whatever its spacing and order.
    (
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "",
    ),
    (
        "data:{ \"usage\" : { } , \"x\":1, \"choices\" : [ ] }\n\n",
        "",
    ),
    (
        "event: x\nid: 7\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\nretry: 5\n\n",
        "",
    ),
    (
        "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1}}\n\n",
        "",
    ),
    (
        "data: {\"\\u0063hoices\":[],\"us\\u0061ge\":{\"prompt_tokens\":1}}\n\n",
        "",
    ),
    // A top-level null goes with one comma.
    (
        "data: {\"choices\":[{}],\"usage\":null}\n\n",
        "data: {\"choices\":[{}]}\n\n",
    ),
    (
        "data: {\"usage\":null,\"choices\":[{}]}\n\n",
        "data: {\"choices\":[{}]}\n\n",
    ),
    (
        "data: {\"a\":1, \"usage\" : null , \"choices\":[{}]}\n\n",
        "data: {\"a\":1 , \"choices\":[{}]}\n\n",
    ),
    (
        "data: {\"choices\":[{}],\"\\u0075sage\":null}\n\n",
        "data: {\"choices\":[{}]}\n\n",
    ),
    (
        "data: {\"choices\":[],\"usage\":null,\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
    ),
    // Also over several data lines.
    (
        "data: {\"a\":1,\ndata: \"usage\":\ndata: null,\ndata: \"b\":2}\n\n",
        "data: {\"a\":1\ndata: \ndata: ,\ndata: \"b\":2}\n\n",
    ),
    // Everything else stays.
    (
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
    ),
    (
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
    ),
    (
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
    ),
    (
        "data: {\"choices\":[],\"x_groq\":{\"usage\":{}}}\n\n",
        "data: {\"choices\":[],\"x_groq\":{\"usage\":{}}}\n\n",
    ),
    (
        "data: {\"choices\":[{\"usage\":null}]}\n\n",
        "data: {\"choices\":[{\"usage\":null}]}\n\n",
    ),
    (
        "data: {\"choices\":[{}],\"c\":\"\\\"usage\\\":null\"}\n\n",
        "data: {\"choices\":[{}],\"c\":\"\\\"usage\\\":null\"}\n\n",
    ),
    (
        "data: {\"choices\":[],\"usage\":null\n\n",
        "data: {\"choices\":[],\"usage\":null\n\n",
    ),
    (
        ": {\"choices\":[],\"usage\":null}\n\n",
        ": {\"choices\":[],\"usage\":null}\n\n",
    ),
    ("event: {\"usage\":null}\n\n", "event: {\"usage\":null}\n\n"),
    (
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"no\"}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"no\"}}\n\n",
    ),
    ("data: \"usage\"\n\n", "data: \"usage\"\n\n"),
];

#[test]
fn hides_exactly_what_the_asking_caused() {
    for &(stream, expected) in CASES {
        assert_eq!(hidden(stream), expected, "{stream}");
        let crlf = stream.replace('\n', "\r\n");
        assert_eq!(hidden(&crlf), expected.replace('\n', "\r\n"), "{crlf}");
        let cr = stream.replace('\n', "\r");
        assert_eq!(hidden(&cr), expected.replace('\n', "\r"), "{cr}");
    }
}

#[test]
fn a_client_that_asked_gets_every_byte() {
    let stream = "data: {\"choices\":[{}],\"usage\":null}\n\n: hi\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let mut rewriter = Rewriter::new(ASKED);
    assert_eq!(rewriter.push(Bytes::from_static(stream.as_bytes())), stream);
}

#[test]
fn neighbours_in_the_same_packet_stay_whole() {
    for newline in ["\n", "\r\n", "\r"] {
        let stream = [
            ": ping\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7}}\n\n",
            ": pong\n\n",
            "data: [DONE]\n\n",
        ];
        let expected = [
            stream[0],
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n",
            stream[4],
            stream[5],
        ];
        let (stream, expected) = (
            stream.concat().replace('\n', newline),
            expected.concat().replace('\n', newline),
        );
        let at_once = whole(UNASKED, stream.as_bytes());
        assert!(
            at_once
                .text()
                .starts_with(&format!("{expected}data: {{\"id\":\"req-1\"")),
            "{}",
            at_once.text()
        );
        for size in 1..200 {
            assert_eq!(
                relay(UNASKED, stream.as_bytes(), &every(size, stream.as_bytes())),
                at_once,
                "{size}"
            );
        }
    }
}

#[test]
fn a_chunk_that_needs_no_edit_is_passed_by_reference() {
    let mut rewriter = Rewriter::new(UNASKED);
    let chunk = Bytes::from("data: {\"choices\":[{}]}\n\n: ping\n\ndata: {\"choi".to_owned());
    let released = rewriter.push(chunk.clone());
    assert_eq!(
        (released.as_ptr(), released.len()),
        (chunk.as_ptr(), chunk.len() - "data: {\"choi".len())
    );
    let released = rewriter.push(Bytes::from_static(b"ces\":[{}]}\n\ndata: x\n\n"));
    assert_eq!(released, "data: {\"choices\":[{}]}\n\ndata: x\n\n");
    let chunk = Bytes::from("data: y\n\n".to_owned());
    assert_eq!(rewriter.push(chunk.clone()).as_ptr(), chunk.as_ptr());
    assert!(
        rewriter.trailer(&TRAILER).is_empty(),
        "the stream is not over"
    );
}
