//! Drives a relay as the proxy does.

use arbstr_wire::{Endpoint, FirstEvent, Metadata, Rewriter, StreamEnd, StreamSettings, Trailer};
use bytes::Bytes;

pub(crate) const ASKED: StreamSettings = StreamSettings {
    endpoint: Endpoint::Chat,
    hide_usage: false,
    metadata: Metadata::Event,
    requires_done: true,
    choices: 1,
};
pub(crate) const UNASKED: StreamSettings = StreamSettings {
    hide_usage: true,
    ..ASKED
};

pub(crate) const TRAILER: Trailer<'static> = Trailer {
    request_id: "req-1",
    provider: "alpha",
    model: "asked-model",
    created: 1_700_000_000,
    cost_sats: Some("0.125"),
    latency_ms: 42,
    input_tokens: Some(3),
    output_tokens: None,
    retries: 1,
};

/// The `arbstr` member of that trailer.
pub(crate) const ARBSTR: &str = r#"{"request_id":"req-1","provider":"alpha","cost_sats":0.125,"latency_ms":42,"input_tokens":3,"output_tokens":null,"retries":1}"#;

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) client: Vec<u8>,
    /// How the upstream ended; `None` when `[DONE]` ended the response before that.
    pub(crate) end: Option<StreamEnd>,
    /// The observation, printed.
    pub(crate) seen: String,
    pub(crate) first: FirstEvent,
}

impl Relayed {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.client).expect("text in this test")
    }
}

/// A whole stream, cut at the given offsets.
pub(crate) fn relay(settings: StreamSettings, stream: &[u8], cuts: &[usize]) -> Relayed {
    let mut rewriter = Rewriter::new(settings);
    let mut client = Vec::new();
    let mut end = None;
    let mut from = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        client.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(&stream[from..cut])));
        from = cut;
        if rewriter.is_done() {
            break;
        }
    }
    if !rewriter.is_done() {
        let (tail, how) = rewriter.finish();
        client.extend_from_slice(&tail);
        end = Some(how);
    }
    client.extend_from_slice(&rewriter.trailer(&TRAILER));
    Relayed {
        client,
        end,
        seen: format!("{:?}", rewriter.observation()),
        first: rewriter.first_event(),
    }
}

pub(crate) fn whole(settings: StreamSettings, stream: &[u8]) -> Relayed {
    relay(settings, stream, &[])
}

/// Cuts every `size` bytes.
pub(crate) fn every(size: usize, stream: &[u8]) -> Vec<usize> {
    (size..stream.len()).step_by(size).collect()
}

/// The trailing event and `[DONE]` of [`TRAILER`].
pub(crate) fn trailing_event(id: &str, created: u64, model: &str) -> String {
    format!(
        "data: {{\"id\":\"{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":\"{model}\",\"choices\":[],\"arbstr\":{ARBSTR}}}\n\ndata: [DONE]\n\n"
    )
}
