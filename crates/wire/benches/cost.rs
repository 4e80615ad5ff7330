//! What reading costs, against doing the same the plain way, within one run.
//!
//! `cargo bench -p arbstr-wire`. Each figure is the least of many rounds; each reader's result is checked. On a shared
//! machine compare the ratios, not the nanoseconds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use arbstr_sse::{Item, Limits, Parser};
use arbstr_wire::{Endpoint, Metadata, Observer, Request, Rewriter, StreamSettings, json};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

const EVENTS: usize = 2_000;
const READ: usize = 16 * 1024;

fn main() {
    per_event("", "usage absent until the end");
    per_event(",\"usage\":null", "\"usage\":null on every chunk");
    per_prompt(
        "plain text",
        &"the quick brown fox jumps over the lazy dog. ".repeat(25_000),
    );
    per_prompt(
        "code (escapes)",
        &"    if x < 3 {\\n\\treturn \\\"a\\\";\\n    }\\n".repeat(28_000),
    );
    per_prompt(
        "not ASCII",
        &"Тридцать три коровы, свежая строка. ".repeat(17_000),
    );
}

/// Nanoseconds per event of a stream, in reads of 16 KiB.
fn per_event(usage: &str, name: &str) {
    let stream = Bytes::from(chat(usage));
    let observer = best(|| assert_eq!(observe(&stream), (true, Some(2_000))));
    let [asked, unasked] = [false, true].map(|hide_usage| best(|| relay(&stream, hide_usage)));
    let value = best(|| assert_eq!(parse_all(&stream), (true, Some(2_000))));
    println!("{EVENTS} events of {} B, {name}", stream.len() / EVENTS);
    for (reader, time) in [
        ("observer", observer),
        ("relay, asked", asked),
        ("relay, unasked", unasked),
        ("serde_json::Value", value),
    ] {
        println!(
            "  {reader:<20}{:>8.1} ns/event{:>8.1}x",
            time.as_nanos() as f64 / EVENTS as f64,
            value.as_secs_f64() / time.as_secs_f64()
        );
    }
}

/// GB/s over a request with a prompt of a megabyte.
fn per_prompt(name: &str, prompt: &str) {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}],"stream":true}}"#
    );
    let body = body.as_bytes();
    let mut copy = vec![0; body.len()];
    let times = [
        (
            "memcpy",
            best(|| black_box(&mut copy).copy_from_slice(black_box(body))),
        ),
        (
            "from_utf8",
            best(|| assert!(std::str::from_utf8(black_box(body)).is_ok())),
        ),
        (
            "json, spans only",
            best(|| assert_eq!(walk(black_box(body)), 3)),
        ),
        (
            "Request::parse",
            best(|| {
                assert!(
                    Request::parse(Endpoint::Chat, black_box(body))
                        .is_ok_and(|request| request.is_stream())
                )
            }),
        ),
        (
            "serde_json, ignored",
            best(|| assert!(serde_json::from_slice::<IgnoredAny>(black_box(body)).is_ok())),
        ),
        (
            "serde_json::Value",
            best(|| assert!(serde_json::from_slice::<Value>(black_box(body)).is_ok())),
        ),
    ];
    println!("prompt of {} KB, {name}", body.len() / 1_000);
    for (reader, time) in times {
        println!(
            "  {reader:<20}{:>8.2} GB/s",
            body.len() as f64 / time.as_nanos() as f64
        );
    }
}

fn walk(body: &[u8]) -> usize {
    let mut cursor = json::Cursor::new(body);
    let mut members = 0;
    cursor.open_object().expect("an object");
    while cursor.next_key().expect("JSON").is_some() {
        cursor.pass().expect("JSON");
        members += 1;
    }
    members
}

fn observe(stream: &[u8]) -> (bool, Option<u64>) {
    let mut parser = Parser::new(Limits {
        max_event: 64 * 1024,
    });
    let mut observer = Observer::new(1);
    for mut read in stream.chunks(READ) {
        while let Some(item) = parser.next(&mut read) {
            if let Item::Event(event) = item {
                observer.observe(event.data());
            }
        }
    }
    let seen = observer.observation();
    (
        seen.done && seen.finish_reason == Some("stop"),
        seen.usage.and_then(|usage| usage.output),
    )
}

fn relay(stream: &Bytes, hide_usage: bool) {
    let settings = StreamSettings {
        endpoint: Endpoint::Chat,
        hide_usage,
        metadata: Metadata::Event,
        requires_done: true,
        choices: 1,
    };
    let mut rewriter = Rewriter::new(settings);
    let mut released = 0;
    for from in (0..stream.len()).step_by(READ) {
        released += rewriter
            .push(stream.slice(from..stream.len().min(from + READ)))
            .len();
    }
    assert!(rewriter.is_done() && (released == stream.len()) != hide_usage);
}

fn parse_all(stream: &[u8]) -> (bool, Option<u64>) {
    let mut parser = Parser::new(Limits {
        max_event: 64 * 1024,
    });
    let (mut stopped, mut output) = (false, None);
    for mut read in stream.chunks(READ) {
        while let Some(item) = parser.next(&mut read) {
            let Item::Event(event) = item else { continue };
            let Ok(value) = serde_json::from_slice::<Value>(event.data()) else {
                continue;
            };
            stopped |= value["choices"][0]["finish_reason"] == "stop";
            output = value["usage"]["completion_tokens"].as_u64().or(output);
        }
    }
    (stopped, output)
}

/// A stream of chat chunks with varied contents.
fn chat(usage: &str) -> String {
    let words = [
        " the",
        " a\\n",
        " model",
        " \\\"said\\\"",
        " über",
        " answer",
        ".",
        " of",
        " forty-two",
        " \\u00e9t\\u00e9",
    ];
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-Ab3xY7Lq2mN8pR5tV1wZ4cK6\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44added55e\",{rest}}}\n\n"
        )
    };
    let mut stream: String = (0..EVENTS - 2)
        .map(|at| {
            let word = words[at * 7 % words.len()];
            chunk(&format!("\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]{usage}"))
        })
        .collect();
    stream += &chunk(&format!(
        "\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}]{usage}"
    ));
    stream += &chunk(
        "\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":2000,\"total_tokens\":2012}",
    );
    stream + "data: [DONE]\n\n"
}

/// The least time of as many rounds as fit.
#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn best(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(500) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    best
}
