//! One stream in the manner of each dialect, written for this test, with all that can be learned from it.

use arbstr_wire::{ReportedCost, Rewriter, StreamSettings};
use bytes::Bytes;

use super::relay::{ASKED, TRAILER, UNASKED, every, relay, whole};

/// What is learned, by hand.
struct Learned {
    /// input, output, cached, reasoning
    tokens: [Option<u64>; 4],
    cost: Option<ReportedCost>,
    finish: Option<&'static str>,
    error: Option<&'static str>,
    done: bool,
    id: Option<&'static str>,
    model: Option<&'static str>,
}

struct Dialect {
    name: &'static str,
    stream: &'static str,
    /// What a client that did not ask gets, where that differs.
    unasked: Option<&'static str>,
    choices: u32,
    learned: Learned,
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../dialects/", $name, ".sse"))
    };
}

const NOTHING: Learned = Learned {
    tokens: [None; 4],
    cost: None,
    finish: None,
    error: None,
    done: false,
    id: None,
    model: None,
};

const fn tokens(
    input: u64,
    output: u64,
    cached: Option<u64>,
    reasoning: Option<u64>,
) -> [Option<u64>; 4] {
    [Some(input), Some(output), cached, reasoning]
}

const DIALECTS: [Dialect; 11] = [
    Dialect {
        name: "usage null on every chunk, then a chunk with usage alone",
        stream: fixture!("openai"),
        unasked: Some(fixture!("openai.unasked")),
        choices: 1,
        learned: Learned {
            tokens: tokens(14, 3, Some(8), Some(0)),
            finish: Some("stop"),
            done: true,
            id: Some("chatcmpl-a1"),
            model: Some("gpt-x-mini"),
            ..NOTHING
        },
    },
    Dialect {
        name: "an empty first chunk with nothing but filter results",
        stream: fixture!("azure"),
        unasked: None,
        choices: 1,
        learned: Learned {
            finish: Some("stop"),
            done: true,
            id: Some("chatcmpl-z9"),
            model: Some("gpt-x-az"),
            ..NOTHING
        },
    },
    Dialect {
        name: "usage beside the last choice, cache hits by another name",
        stream: fixture!("deepseek"),
        unasked: Some(fixture!("deepseek.unasked")),
        choices: 1,
        learned: Learned {
            tokens: tokens(20, 9, Some(16), Some(5)),
            finish: Some("length"),
            done: true,
            id: Some("ds-77"),
            model: Some("reasoner"),
            ..NOTHING
        },
    },
    Dialect {
        name: "usage in x_groq alone, which is not what was asked for",
        stream: fixture!("groq"),
        unasked: None,
        choices: 1,
        learned: Learned {
            finish: Some("stop"),
            done: true,
            id: Some("chatcmpl-g"),
            model: Some("llama-x"),
            ..NOTHING
        },
    },
    Dialect {
        name: "comments, a repeated finish reason, a cost in dollars",
        stream: fixture!("openrouter"),
        unasked: None,
        choices: 1,
        learned: Learned {
            tokens: tokens(11, 4, Some(0), Some(0)),
            cost: Some(ReportedCost::Nanodollars(1_234_567)),
            finish: Some("stop"),
            done: true,
            id: Some("gen-5"),
            model: Some("acme/large"),
            ..NOTHING
        },
    },
    Dialect {
        name: "an error beside choices in the middle of the stream",
        stream: fixture!("openrouter_error"),
        unasked: None,
        choices: 1,
        learned: Learned {
            finish: Some("error"),
            error: Some("provider overloaded"),
            done: false,
            id: Some("gen-6"),
            model: Some("acme/large"),
            ..NOTHING
        },
    },
    Dialect {
        name: "padding beside each chunk",
        stream: fixture!("mistral"),
        unasked: None,
        choices: 1,
        learned: Learned {
            tokens: tokens(5, 6, None, None),
            finish: Some("stop"),
            done: true,
            id: Some("m-1"),
            model: Some("mistral-x"),
            ..NOTHING
        },
    },
    Dialect {
        name: "two choices",
        stream: fixture!("two_choices"),
        unasked: Some(fixture!("two_choices.unasked")),
        choices: 2,
        learned: Learned {
            tokens: tokens(4, 4, None, None),
            finish: Some("length"),
            done: true,
            id: Some("chatcmpl-n2"),
            model: Some("gpt-x"),
            ..NOTHING
        },
    },
    Dialect {
        name: "no [DONE]",
        stream: fixture!("no_done"),
        unasked: None,
        choices: 1,
        learned: Learned {
            tokens: tokens(2, 1, None, None),
            finish: Some("stop"),
            done: false,
            id: Some("g-1"),
            model: Some("gem-x"),
            ..NOTHING
        },
    },
    Dialect {
        name: "usage in a choice",
        stream: fixture!("choice_usage"),
        unasked: None,
        choices: 1,
        learned: Learned {
            tokens: tokens(7, 2, Some(3), None),
            finish: Some("stop"),
            done: true,
            id: Some("k-1"),
            model: Some("moon-x"),
            ..NOTHING
        },
    },
    Dialect {
        name: "a cost in msats beside the usage",
        stream: fixture!("routstr"),
        unasked: None,
        choices: 1,
        learned: Learned {
            tokens: tokens(8, 8, None, None),
            cost: Some(ReportedCost::Nanosats(2_500_000_000)),
            finish: Some("stop"),
            done: true,
            id: Some("r-1"),
            model: Some("any/model"),
            ..NOTHING
        },
    },
];

fn learned(settings: StreamSettings, stream: &[u8]) -> String {
    let mut rewriter = Rewriter::new(settings);
    rewriter.push(Bytes::copy_from_slice(stream));
    let seen = rewriter.observation();
    let usage = seen.usage;
    let tokens = usage.map_or([None; 4], |usage| {
        [
            usage.input,
            usage.output,
            usage.cached_input,
            usage.reasoning,
        ]
    });
    let error = seen.error.map(|error| error.message.as_str());
    let cost = usage.and_then(|usage| usage.reported_cost);
    let list = (
        tokens,
        cost,
        seen.finish_reason,
        error,
        seen.done,
        seen.id,
        seen.model,
    );
    format!("{list:?}")
}

#[test]
fn each_dialect_is_understood() {
    for Dialect {
        name,
        stream,
        choices,
        learned: expected,
        ..
    } in DIALECTS
    {
        let Learned {
            tokens,
            cost,
            finish,
            error,
            done,
            id,
            model,
        } = expected;
        let expected = format!("{:?}", (tokens, cost, finish, error, done, id, model));
        for stream in [stream.to_owned(), stream.replace('\n', "\r\n")] {
            let settings = StreamSettings { choices, ..UNASKED };
            assert_eq!(learned(settings, stream.as_bytes()), expected, "{name}");
        }
    }
}

#[test]
fn each_dialect_passes_at_any_chunking() {
    for Dialect {
        name,
        stream,
        unasked,
        choices,
        ..
    } in DIALECTS
    {
        for newline in ["\n", "\r\n", "\r"] {
            let [stream, unasked] =
                [stream, unasked.unwrap_or(stream)].map(|text| text.replace('\n', newline));
            for (settings, expected) in [(ASKED, &stream), (UNASKED, &unasked)] {
                let settings = StreamSettings {
                    choices,
                    ..settings
                };
                let at_once = whole(settings, stream.as_bytes());
                let appended = at_once
                    .text()
                    .strip_prefix(expected.as_str())
                    .unwrap_or_else(|| panic!("{name}: {}", at_once.text()));
                assert_eq!(appended.is_empty(), !expected.contains("[DONE]"), "{name}");
                for size in [1, 2, 3, 5, 64, 301] {
                    assert_eq!(
                        relay(settings, stream.as_bytes(), &every(size, stream.as_bytes())),
                        at_once,
                        "{name} in {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_choice_must_have_finished() {
    let stream = fixture!("two_choices");
    let mut rewriter = Rewriter::new(StreamSettings {
        choices: 2,
        ..UNASKED
    });
    let mut finished = Vec::new();
    for event in stream.split_inclusive("\n\n") {
        rewriter.push(Bytes::copy_from_slice(event.as_bytes()));
        finished.push(rewriter.observation().all_choices_finished);
    }
    assert_eq!(finished, [false, false, false, true, true, true]);
    assert!(!rewriter.trailer(&TRAILER).is_empty());
}
