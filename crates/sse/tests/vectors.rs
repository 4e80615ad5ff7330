//! Every case of the shared vectors, however its bytes arrive.

mod chunking;
mod naive;

use std::time::Duration;

use arbstr_sse::{Item, Limits, Parser};
use base64::prelude::*;
use chunking::{read_cut, shorten_cut_ends};
use serde_json::Value;

struct Case {
    name: String,
    input: Vec<u8>,
    events: Vec<Expected>,
    id: String,
    retry: Option<Duration>,
}

struct Expected {
    event_type: String,
    data: String,
    id: String,
    retry: Option<Duration>,
}

#[test]
fn whole_input() {
    each_case(|case| case.check(&[&case.input]));
}

#[test]
fn one_byte_at_a_time() {
    each_case(|case| case.check(&case.input.chunks(1).collect::<Vec<_>>()));
}

#[test]
fn one_byte_at_a_time_with_empty_chunks_between() {
    each_case(|case| {
        let bytes = case.input.chunks(1);
        case.check(
            &bytes
                .flat_map(|byte| [&b""[..], byte, b""])
                .collect::<Vec<_>>(),
        );
    });
}

#[test]
fn every_two_chunk_split() {
    each_case(|case| {
        for cut in 0..=case.input.len() {
            let (left, right) = case.input.split_at(cut);
            case.check(&[left, right]);
        }
    });
}

#[test]
fn every_two_chunk_split_with_empty_chunks_between() {
    each_case(|case| {
        for cut in 0..=case.input.len() {
            let (left, right) = case.input.split_at(cut);
            case.check(&[b"", left, b"", b"", right, b""]);
        }
    });
}

#[test]
fn spans_agree_with_the_naive_reading() {
    each_case(|case| {
        for max in [16, 64, 1 << 20] {
            let naive = naive::read(&case.input, max);
            for cut in (0..=case.input.len()).step_by(1 + case.input.len() / 500) {
                let expected = shorten_cut_ends(&case.input, &[cut], naive.clone());
                let read = read_cut(&case.input, &[cut], max);
                assert_eq!(read, expected, "{} cut at {cut}, max {max}", case.name);
            }
        }
    });
}

impl Case {
    fn read(case: &Value) -> Self {
        let input = BASE64_STANDARD.decode(text(&case["input"]));
        let events = case["expect"].as_array().expect("expect is a list");
        Self {
            name: text(&case["name"]),
            input: input.expect("input is base64"),
            events: events.iter().map(Expected::read).collect(),
            id: text(&case["end"]["id"]),
            retry: millis(&case["end"]["retry"]),
        }
    }

    fn check(&self, chunks: &[&[u8]]) {
        let name = &self.name;
        let lengths: Vec<usize> = chunks.iter().take(6).map(|chunk| chunk.len()).collect();
        let mut parser = Parser::new(Limits::default());
        let mut expected = self.events.iter();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(item) = parser.next(&mut input) {
                let (Item::Event(event), Some(expected)) = (item, expected.next()) else {
                    panic!("{name} in {lengths:?}: an item too many: {item:?}");
                };
                let agrees = event.event_type_str() == expected.event_type
                    && event.data_str() == expected.data
                    && event.id_str() == expected.id
                    && event.retry() == expected.retry;
                assert!(agrees, "{name} in {lengths:?}: {event:?}");
            }
        }
        assert_eq!(expected.count(), 0, "{name} in {lengths:?}: events missing");
        parser.finish();
        assert_eq!(
            parser.last_event_id(),
            self.id.as_bytes(),
            "{name} in {lengths:?}"
        );
        assert_eq!(parser.retry(), self.retry, "{name} in {lengths:?}");
    }
}

impl Expected {
    fn read(event: &Value) -> Self {
        Self {
            event_type: text(&event["event"]),
            data: text(&event["data"]),
            id: text(&event["id"]),
            retry: millis(&event["retry"]),
        }
    }
}

fn each_case(check: impl Fn(&Case)) {
    let vectors: Value =
        serde_json::from_str(include_str!("sse-vectors.json")).expect("the file is JSON");
    let cases = vectors["cases"].as_array().expect("cases is a list");
    assert_eq!(cases.len(), 99, "the file is whole");
    for case in cases {
        check(&Case::read(case));
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn millis(retry: &Value) -> Option<Duration> {
    retry.as_u64().map(Duration::from_millis)
}
