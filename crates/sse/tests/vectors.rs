//! Every case of the shared vectors, however its bytes arrive.

mod chunking;
mod naive;

use std::time::Duration;

use arbstr_sse::{Item, Limits, Parser};
use base64::prelude::*;
use chunking::{read_cut, shorten_cut_ends};
use serde_json::{Value, json};

struct Case {
    name: String,
    input: Vec<u8>,
    expect: Value,
}

#[test]
fn whole_input() {
    each_case(|case| check(case, &[&case.input]));
}

#[test]
fn one_byte_at_a_time() {
    each_case(|case| check(case, &case.input.chunks(1).collect::<Vec<_>>()));
}

#[test]
fn one_byte_at_a_time_with_empty_chunks_between() {
    each_case(|case| {
        let chunks: Vec<&[u8]> = case
            .input
            .chunks(1)
            .flat_map(|byte| [&b""[..], byte, b""])
            .collect();
        check(case, &chunks);
    });
}

#[test]
fn every_two_chunk_split() {
    each_case(|case| {
        for cut in cuts_of(&case.input) {
            let (left, right) = case.input.split_at(cut);
            check(case, &[left, right]);
        }
    });
}

#[test]
fn every_two_chunk_split_with_empty_chunks_between() {
    each_case(|case| {
        for cut in cuts_of(&case.input) {
            let (left, right) = case.input.split_at(cut);
            check(case, &[b"", left, b"", b"", right, b""]);
        }
    });
}

#[test]
fn spans_agree_with_the_naive_reading() {
    each_case(|case| {
        for max in [16, 64, 1 << 20] {
            let naive = naive::read(&case.input, max);
            for cut in cuts_of(&case.input) {
                let expected = shorten_cut_ends(&case.input, &[cut], naive.clone());
                assert_eq!(
                    read_cut(&case.input, &[cut], max),
                    expected,
                    "{} cut at {cut}, max {max}",
                    case.name
                );
            }
        }
    });
}

/// Every place of a short input; the first and last hundred and every 97th of a long one, whose middle is one line.
fn cuts_of(input: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let length = input.len();
    (0..=length)
        .filter(move |cut| length < 20_000 || *cut < 100 || length - cut < 100 || cut % 97 == 0)
}

fn each_case(check: impl Fn(&Case)) {
    let vectors: Value =
        serde_json::from_str(include_str!("sse-vectors.json")).expect("the file is JSON");
    let cases = vectors["cases"].as_array().expect("cases is a list");
    assert_eq!(cases.len(), 99, "the file is whole");
    for case in cases {
        let input = BASE64_STANDARD.decode(text(&case["input"]));
        check(&Case {
            name: text(&case["name"]).to_owned(),
            input: input.expect("input is base64"),
            expect: json!([case["expect"], case["end"]]),
        });
    }
}

fn check(case: &Case, chunks: &[&[u8]]) {
    let mut parser = Parser::new(Limits::default());
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        while let Some(item) = parser.next(&mut input) {
            let Item::Event(event) = item else {
                panic!("{}: nothing here is too long", case.name);
            };
            events.push(json!({
                "event": event.event_type_str(),
                "data": event.data_str(),
                "id": event.id_str(),
                "retry": millis(event.retry()),
            }));
        }
    }
    parser.finish();
    let end = json!({
        "id": String::from_utf8_lossy(parser.last_event_id()),
        "retry": millis(parser.retry()),
    });
    let lengths: Vec<usize> = chunks.iter().take(6).map(|chunk| chunk.len()).collect();
    assert_eq!(
        json!([events, end]),
        case.expect,
        "{} in chunks of {lengths:?}",
        case.name
    );
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn millis(retry: Option<Duration>) -> Option<u64> {
    retry.map(|retry| u64::try_from(retry.as_millis()).expect("no vector waits that long"))
}
