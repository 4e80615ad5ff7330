//! What the client asks and the provider answers, word for word.
//!
//! Both ends of the bench build their bytes here, so what must arrive is compared with what was sent and not with a
//! second opinion of it.

use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use memchr::memmem;

/// One kind of exchange. Its name is the model that the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A prompt of about 1 KB, answered with JSON.
    Json,
    /// A prompt of 1 MB, answered with JSON.
    Prompt,
    /// A stream of [`BURST_CHUNKS`] events, written as fast as the socket takes them.
    Burst,
    /// The same, where each event carries the `"usage":null` that some providers send once usage is asked for.
    Nulls,
    /// A stream of [`PACED_CHUNKS`] events, one each [`PACE_MS`], each stamped with the time of its sending.
    Paced,
    /// A stream whose first event comes at once and whose last only when the provider is told.
    Idle,
}

impl Shape {
    /// The shape whose name is `name`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let found = ALL.into_iter().find(|shape| shape.name() == name);
        found.with_context(|| format!("no shape is called {name:?}"))
    }

    /// The shape that a request body asks for.
    pub(crate) fn of_request(body: &[u8]) -> Result<Self> {
        let start = memmem::find(body, MODEL).context("the request names no model")? + MODEL.len();
        let rest = &body[start..];
        let end = memchr::memchr(b'"', rest).context("the model's name does not end")?;
        Self::parse(std::str::from_utf8(&rest[..end])?)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Prompt => "prompt",
            Self::Burst => "burst",
            Self::Nulls => "nulls",
            Self::Paced => "paced",
            Self::Idle => "idle",
        }
    }

    pub(crate) fn is_stream(self) -> bool {
        !matches!(self, Self::Json | Self::Prompt)
    }

    /// Content events of one answer; 0 for JSON.
    pub(crate) fn chunks(self) -> usize {
        match self {
            Self::Json | Self::Prompt => 0,
            Self::Burst | Self::Nulls => BURST_CHUNKS,
            Self::Paced => PACED_CHUNKS,
            Self::Idle => 2,
        }
    }

    /// How long a prompt is, unless it is said otherwise.
    pub(crate) fn prompt_bytes(self) -> usize {
        match self {
            Self::Prompt => 1_000_000,
            _ => 800,
        }
    }

    /// The client's request body with a prompt of about `bytes`.
    pub(crate) fn request(self, bytes: usize) -> Bytes {
        let prompt = prompt(bytes);
        let stream = if self.is_stream() {
            r#","stream":true"#
        } else {
            ""
        };
        let name = self.name();
        Bytes::from(format!(
            r#"{{"model":"{name}","messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{prompt}"}}],"temperature":0.2,"max_tokens":256{stream}}}"#
        ))
    }

    /// The JSON answer of a shape that does not stream.
    pub(crate) fn json_answer(self) -> Bytes {
        let name = self.name();
        let words = "The quick brown fox jumps over the lazy dog. ".repeat(10);
        Bytes::from(format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"{name}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE},"system_fingerprint":"{STAMP}"}}"#
        ))
    }

    /// The events of a stream, `[DONE]` last; with `usage` also what a provider adds when usage was asked for.
    pub(crate) fn events(self, usage: bool) -> Vec<Bytes> {
        let nulls = usage && self == Self::Nulls;
        let mut events: Vec<Bytes> = (1..=self.chunks())
            .map(|number| self.event(number == self.chunks(), nulls))
            .collect();
        if usage {
            let name = self.name();
            events.push(Bytes::from(format!(
                "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{name}\",\"choices\":[],\"usage\":{USAGE}}}\n\n"
            )));
        }
        events.push(Bytes::from_static(DONE));
        events
    }

    fn event(self, last: bool, nulls: bool) -> Bytes {
        let name = self.name();
        let (delta, finish) = if last {
            ("{}", "\"stop\"")
        } else {
            (r#"{"content":" word"}"#, "null")
        };
        let usage = if nulls { ",\"usage\":null" } else { "" };
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{name}\",\"system_fingerprint\":\"{STAMP}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]{usage}}}\n\n"
        ))
    }
}

/// What a body may hold beyond the provider's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    None,
    /// After a stream: arbstr's own event and `[DONE]`.
    Arbstr,
}

/// Holds an answer against the provider's bytes: `provider` are those (see [`provider_bytes`]), stamps left blank.
///
/// # Errors
/// The first difference found.
pub(crate) fn verify(shape: Shape, tail: Tail, provider: &[u8], body: &mut [u8]) -> Result<()> {
    if shape == Shape::Paced {
        blank_stamps(body);
    }
    let Some(rest) = body.strip_prefix(provider) else {
        let at = body
            .iter()
            .zip(provider)
            .take_while(|(a, b)| a == b)
            .count();
        let from = at.saturating_sub(60);
        bail!(
            "the answer ({} bytes) differs from the provider's ({} bytes) at byte {at}: {:?}",
            body.len(),
            provider.len(),
            String::from_utf8_lossy(&body[from..body.len().min(at + 60)])
        );
    };
    if tail == Tail::None || !shape.is_stream() {
        ensure!(
            rest.is_empty(),
            "{} bytes follow the provider's",
            rest.len()
        );
        return Ok(());
    }
    let event = rest
        .strip_suffix(DONE)
        .context("arbstr's [DONE] is missing")?;
    let one = memmem::find_iter(event, b"\n\n").count() == 1;
    let own = memmem::find(event, b"\"arbstr\":{").is_some()
        && memmem::find(event, b"\"cost_sats\":").is_some();
    ensure!(
        one && own,
        "not arbstr's event: {:?}",
        String::from_utf8_lossy(event)
    );
    Ok(())
}

/// The whole answer that a client which asked for no usage must get from the provider.
pub(crate) fn provider_bytes(shape: Shape) -> Vec<u8> {
    if shape.is_stream() {
        shape.events(false).concat()
    } else {
        shape.json_answer().to_vec()
    }
}

/// Writes the time into an event's blank stamp, in ns since the epoch.
pub(crate) fn stamp(event: &Bytes) -> Bytes {
    let mut event = event.to_vec();
    if let Some(at) = memmem::find(&event, STAMP_START) {
        let digits = format!("{:020}", unix_nanos());
        event[at + STAMP_START.len()..][..STAMP_DIGITS].copy_from_slice(digits.as_bytes());
    }
    Bytes::from(event)
}

/// The time that an event was stamped with, in ns since the epoch.
pub(crate) fn read_stamp(event: &[u8]) -> Option<u64> {
    let at = memmem::find(event, STAMP_START)? + STAMP_START.len();
    let digits = event.get(at..at + STAMP_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Nanoseconds since the epoch: a clock that the provider and the client share.
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("the epoch is past");
    u64::try_from(since.as_nanos()).expect("the year is before 2554")
}

fn blank_stamps(body: &mut [u8]) {
    let found: Vec<usize> = memmem::find_iter(body, STAMP_START).collect();
    for at in found {
        let start = at + STAMP_START.len();
        let end = body.len().min(start + STAMP_DIGITS);
        body[start..end].fill(b'0');
    }
}

/// About `size` bytes of prose as it stands in a JSON string, escapes included.
fn prompt(size: usize) -> String {
    let mut text = String::with_capacity(size + 100);
    let mut line = 0;
    while text.len() < size {
        line += 1;
        text.push_str(&format!(
            "Line {line}: she said \\\"na\\u00efve\\\", and the function returned; please explain why.\\n"
        ));
    }
    text
}

/// Events of a burst.
pub(crate) const BURST_CHUNKS: usize = 200;
/// Events of a paced stream.
pub(crate) const PACED_CHUNKS: usize = 50;
/// Milliseconds from one paced event to the next.
pub(crate) const PACE_MS: u64 = 20;
/// Every shape; their names are the provider's model list.
pub(crate) const ALL: [Shape; 6] = [
    Shape::Json,
    Shape::Prompt,
    Shape::Burst,
    Shape::Nulls,
    Shape::Paced,
    Shape::Idle,
];
const MODEL: &[u8] = b"\"model\":\"";
const DONE: &[u8] = b"data: [DONE]\n\n";
const USAGE: &str = r#"{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300,"prompt_tokens_details":{"cached_tokens":50}}"#;
const STAMP: &str = "fp_00000000000000000000";
const STAMP_START: &[u8] = b"\"fp_";
const STAMP_DIGITS: usize = 20;
