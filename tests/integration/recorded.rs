//! Streams of real providers, as they were received, through the real binary: every byte passes, the row says what a plain reading finds.
//!
//! The recordings are others' and not part of this repository: `ARBSTR_RECORDED` names their folder, without it the test says so.

use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;

use crate::harness::{Answer, Arbstr, Provider, Setup, ask_stream, ask_stream_with_usage};

struct Recording {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

fn recordings() -> Option<Vec<Recording>> {
    let folder = PathBuf::from(env::var_os("ARBSTR_RECORDED")?);
    let index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let read = |entry: &Value| Recording {
        name: entry["file"].as_str().unwrap().to_owned(),
        bytes: fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap(),
        expected: entry["expect"].clone(),
    };
    Some(
        index["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(read)
            .collect(),
    )
}

fn in_pieces(bytes: &[u8], size: usize) -> Answer {
    bytes
        .chunks(size)
        .fold(Answer::sse(), |answer, piece| answer.send(piece))
}

#[test]
fn recorded_streams_pass_byte_for_byte_at_any_chunking() {
    let Some(recordings) = recordings() else {
        eprintln!("skipped: ARBSTR_RECORDED is not set");
        return;
    };
    let mut failures = Vec::new();
    for recording in recordings {
        // Comments alone may come before the first event, so that no piece is empty of meaning; sizes are primes.
        for size in [usize::MAX / 2, 4099, 61] {
            let provider = Provider::always(in_pieces(&recording.bytes, size));
            let arbstr = Setup::of(&provider).start();
            failures.extend(
                tried(&arbstr, &recording)
                    .into_iter()
                    .map(|told| format!("{} in pieces of {size}: {told}", recording.name)),
            );
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn tried(arbstr: &Arbstr, recording: &Recording) -> Vec<String> {
    let mut told = Vec::new();
    let done = recording.expected["done"] == true;
    let mut reply = arbstr.chat(&ask_stream_with_usage("model-a"));
    let text = reply.finish();
    if !reply.body.starts_with(&recording.bytes) {
        told.push(format!(
            "bytes differ: {} of {}",
            reply.body.len(),
            recording.bytes.len()
        ));
    } else if done != text.trim_end().ends_with("data: [DONE]")
        || done != text[recording.bytes.len()..].contains("cost_sats")
            && !text[recording.bytes.len()..].contains("\"error\"")
    {
        told.push(format!("appended {:?}", &text[recording.bytes.len()..]));
    }
    let row = arbstr.row(&reply.id());
    let usage = &recording.expected["usage"];
    for (column, key) in [
        ("input_tokens", "prompt_tokens"),
        ("output_tokens", "completion_tokens"),
    ] {
        let expected = usage[key].as_i64().filter(|_| done);
        if row.int(column) != expected {
            told.push(format!(
                "{column} {:?} instead of {expected:?}",
                row.int(column)
            ));
        }
    }
    let reason = recording.expected["finish_reasons"]
        .as_array()
        .unwrap()
        .last()
        .and_then(Value::as_str);
    if row.text("finish_reason").as_deref() != reason {
        told.push(format!(
            "finish_reason {:?} instead of {reason:?}",
            row.text("finish_reason")
        ));
    }
    let has_error = text[..recording.bytes.len().min(text.len())].contains("\"error\":{")
        || text.contains("event: error");
    if row.verdict().0 != (done && !has_error) {
        told.push(format!(
            "{:?}, done {done}, error {has_error}",
            row.verdict()
        ));
    }
    let mut unasked = arbstr.chat(&ask_stream("model-a"));
    let shown = unasked.finish();
    told.extend(difference(
        &String::from_utf8_lossy(&recording.bytes),
        &shown,
    ));
    told
}

/// What a client that did not ask for usage should not have been shown, or misses; told by a plain reading, event by event.
fn difference(given: &str, shown: &str) -> Option<String> {
    let mut shown = shown.split("\n\n");
    for event in given.replace("\r\n", "\n").split_terminator("\n\n") {
        let data = event
            .lines()
            .find_map(|line| line.strip_prefix("data:"))
            .map(str::trim);
        let parsed: Option<Value> = data.and_then(|data| serde_json::from_str(data).ok());
        let caused = |value: &Value| {
            value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object()
        };
        if parsed.as_ref().is_some_and(caused) {
            continue;
        }
        let next = shown.next().unwrap_or_default().replace('\r', "");
        if next.trim_start_matches('\n') == event.trim_start_matches('\n') {
            continue;
        }
        let without = parsed.map(|mut value| {
            value.as_object_mut().map(|members| members.remove("usage"));
            value
        });
        let got: Option<Value> = next
            .trim()
            .strip_prefix("data:")
            .and_then(|data| serde_json::from_str(data).ok());
        if without.is_none() || without != got {
            return Some(format!("{event:?} became {next:?}"));
        }
    }
    None
}
