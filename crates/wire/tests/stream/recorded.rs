//! Streams of real providers, where the machine has a folder of them: `ARBSTR_RECORDED` names it.
//!
//! Its `index.json` lists each file with the request that caused it and what a plain reading finds in it.

use std::path::{Path, PathBuf};

use arbstr_wire::{Endpoint, Observer, StreamSettings};
use serde_json::Value;

use super::plain;
use super::relay::{ASKED, every, relay};

struct Recording {
    name: String,
    settings: StreamSettings,
    bytes: Vec<u8>,
    expect: Value,
    features: Vec<String>,
}

/// Every recording, or none when there is no folder.
fn recordings() -> Vec<Recording> {
    let Some(folder) = std::env::var_os("ARBSTR_RECORDED").map(PathBuf::from) else {
        println!("skipped: ARBSTR_RECORDED is not set");
        return Vec::new();
    };
    let index = std::fs::read(folder.join("index.json")).expect("the folder has an index");
    let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
    let streams = index["streams"]
        .as_array()
        .expect("the index lists streams");
    assert!(!streams.is_empty());
    streams
        .iter()
        .map(|stream| recording(&folder, stream))
        .collect()
}

fn recording(folder: &Path, stream: &Value) -> Recording {
    let name = stream["file"].as_str().expect("a file name").to_owned();
    let request = &stream["request"];
    let endpoint = if request.get("prompt").is_some() {
        Endpoint::Completions
    } else {
        Endpoint::Chat
    };
    let choices = u32::try_from(request["n"].as_u64().unwrap_or(1)).expect("a small n");
    Recording {
        bytes: std::fs::read(folder.join(&name)).expect("the recording is there"),
        settings: StreamSettings {
            endpoint,
            choices,
            ..ASKED
        },
        expect: stream["expect"].clone(),
        features: serde_json::from_value(stream["features"].clone()).unwrap_or_default(),
        name,
    }
}

#[test]
fn the_observer_finds_what_the_index_says() {
    for recording in recordings() {
        let Recording {
            name,
            settings,
            bytes,
            expect,
            features,
        } = &recording;
        let mut observer = Observer::new(settings.choices);
        let mut data_events = 0;
        for data in plain::events(bytes) {
            data_events += 1;
            observer.observe(&data);
        }
        let seen = observer.observation();
        let expected_usage = [
            &expect["usage"]["prompt_tokens"],
            &expect["usage"]["completion_tokens"],
        ]
        .map(Value::as_u64);
        let found = seen
            .usage
            .map_or([None; 2], |usage| [usage.input, usage.output]);
        assert_eq!(found, expected_usage, "{name}");
        let reasons: Vec<&str> = expect["finish_reasons"]
            .as_array()
            .expect(name)
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(seen.finish_reason.is_some(), !reasons.is_empty(), "{name}");
        assert!(
            seen.finish_reason
                .is_none_or(|reason| reasons.contains(&reason)),
            "{name}"
        );
        assert_eq!(
            (seen.done, data_events),
            (
                expect["done"] == true,
                expect["events"].as_u64().expect(name)
            ),
            "{name}"
        );
        assert_eq!(
            seen.error.is_some(),
            features.iter().any(|feature| feature == "error-event"),
            "{name}"
        );
        let plain = plain::read(bytes);
        assert_eq!(
            (seen.usage, seen.finish_reason),
            (plain.usage, plain.finish_reason.as_deref()),
            "{name}"
        );
    }
}

#[test]
fn every_recording_passes_byte_for_byte_at_any_chunking() {
    for Recording {
        name,
        settings,
        bytes,
        ..
    } in recordings()
    {
        let hiding = StreamSettings {
            hide_usage: true,
            ..settings
        };
        let [asked, unasked] = [settings, hiding].map(|settings| relay(settings, &bytes, &[]));
        assert!(asked.client.starts_with(&bytes), "{name}");
        let appended = &asked.client[bytes.len()..];
        assert!(
            appended.is_empty() || appended.ends_with(b"data: [DONE]\n\n"),
            "{name}"
        );
        for size in [1, 7, 100, 1_460, 16_384] {
            assert_eq!(
                relay(settings, &bytes, &every(size, &bytes)),
                asked,
                "{name} in {size}"
            );
            assert_eq!(
                relay(hiding, &bytes, &every(size, &bytes)),
                unasked,
                "{name} in {size}"
            );
        }
        let sent = plain::read(&bytes);
        let got = plain::read(&unasked.client);
        assert_eq!(
            (got.finish_reasons, got.done, got.errors),
            (sent.finish_reasons, sent.done, sent.errors),
            "{name}"
        );
    }
}
