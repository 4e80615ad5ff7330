//! Streams made from nothing but their own numbers: the same bytes on every run.

use super::Seen;

/// A stream and the reads in which it arrives.
pub(crate) struct Corpus {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Where each read ends.
    reads: Vec<usize>,
    pub(crate) holds: Seen,
}

impl Corpus {
    /// The stream, one read at a time.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.reads.iter().map(move |&to| {
            let read = &self.bytes[from..to];
            from = to;
            read
        })
    }
}

/// A stream under construction.
#[derive(Default, Clone)]
struct Draft {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    holds: Seen,
}

impl Draft {
    /// Adds an event written out as `text`, with `data_bytes` of data.
    fn push(&mut self, text: &str, data_bytes: usize) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len());
        self.holds.events += 1;
        self.holds.data_bytes += data_bytes;
    }

    fn in_reads(&self, name: &'static str, reads: Reads) -> Corpus {
        let length = self.bytes.len();
        let reads = match reads {
            Reads::Whole => vec![length],
            Reads::Events => self.ends.clone(),
            Reads::Of(size) => (1..=length.div_ceil(size))
                .map(|read| (read * size).min(length))
                .collect(),
        };
        Corpus {
            name,
            bytes: self.bytes.clone(),
            reads,
            holds: self.holds,
        }
    }
}

#[derive(Clone, Copy)]
enum Reads {
    Whole,
    Events,
    Of(usize),
}

/// All corpora, in the order of the table.
pub(crate) fn corpora() -> Vec<Corpus> {
    let lf = chat("\n");
    let page = Reads::Of(16 * 1024);
    vec![
        lf.in_reads("chat whole", Reads::Whole),
        lf.in_reads("chat 16 KiB", page),
        lf.in_reads("chat 1460 B", Reads::Of(1460)),
        lf.in_reads("chat one event", Reads::Events),
        lf.in_reads("chat 1 B", Reads::Of(1)),
        chat("\r\n").in_reads("crlf 16 KiB", page),
        tiny().in_reads("tiny 16 KiB", page),
        multi().in_reads("multi 16 KiB", page),
        big().in_reads("big whole", Reads::Whole),
        big().in_reads("big 16 KiB", page),
    ]
}

/// 2,000 `chat.completion.chunk` events of about 300 B.
fn chat(end: &str) -> Draft {
    let words = [
        "Hello", " world", " of", " café", " streams", ", said", " the", " 东京", " proxy",
    ];
    let mut draft = Draft::default();
    for n in 0..2000 {
        let word = words[n * 7 % words.len()];
        let data = format!(
            "{{\"id\":\"chatcmpl-9f8e7d6c5b4a39281706f5e4d3c2\",\"object\":\"chat.completion.chunk\",\
             \"created\":17{n:08},\"model\":\"gpt-4o-mini-2024-07-18\",\"system_fingerprint\":\"fp_44709d6fcb\",\
             \"service_tier\":\"default\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\
             \"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}"
        );
        draft.push(&format!("data: {data}{end}{end}"), data.len());
    }
    draft
}

/// 200,000 events of nine bytes.
fn tiny() -> Draft {
    let mut draft = Draft::default();
    for _ in 0..200_000 {
        draft.push("data: x\n\n", 1);
    }
    draft
}

/// Named events with ids, comments, and data of three lines.
fn multi() -> Draft {
    let mut draft = Draft::default();
    for n in 0..10_000 {
        let first = format!("line one of event {n}");
        let second = "a second line, somewhat longer than the first one was";
        draft.push(
            &format!(
                ": note {n}\nevent: update\nid: {n}\ndata: {first}\ndata: {second}\ndata: end\n\n"
            ),
            first.len() + second.len() + "end".len() + 2,
        );
    }
    draft
}

/// Lines of 64 KiB.
fn big() -> Draft {
    let mut draft = Draft::default();
    let data = "0123456789abcdef".repeat(4096);
    for _ in 0..64 {
        draft.push(&format!("data: {data}\n\n"), data.len());
    }
    draft
}
