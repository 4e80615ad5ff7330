//! What arbstr itself says at the end of a stream: the trailing event, the comment, the error event.
//!
//! The trailing event has the shape of a chunk with no choices, placed after the provider's `[DONE]`: tried with the
//! client libraries in use, nothing else in any other place is read by all of them without harm.

use std::fmt::Write as _;

use super::Observation;
use crate::error::{ErrorObject, quote};
use crate::request::Endpoint;

/// What the client is told about its request at the end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer<'a> {
    /// arbstr's id of the request.
    pub request_id: &'a str,
    /// Who served it.
    pub provider: &'a str,
    /// The model to name when the stream named none.
    pub model: &'a str,
    /// The time to name when the stream named none, in seconds since the epoch.
    pub created: u64,
    /// The cost in sats as a decimal text, written as a JSON number; `None`, unknown, becomes `null`.
    pub cost_sats: Option<&'a str>,
    /// Time to the first byte of the attempt that won.
    pub latency_ms: u64,
    /// Input tokens, if known.
    pub input_tokens: Option<u64>,
    /// Output tokens, if known.
    pub output_tokens: Option<u64>,
    /// Attempts after the first.
    pub retries: u32,
}

/// Why arbstr ended a stream that was not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakCode {
    /// The provider broke off, stalled, or sent what cannot be read.
    UpstreamStreamInterrupted,
    /// arbstr is shutting down.
    ServerShuttingDown,
}

impl BreakCode {
    /// The error's `code`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamStreamInterrupted => "upstream_stream_interrupted",
            Self::ServerShuttingDown => "server_shutting_down",
        }
    }
}

/// The chunk that carries the cost, and arbstr's own `[DONE]`.
pub(super) fn write_event(
    out: &mut String,
    endpoint: Endpoint,
    seen: &Observation<'_>,
    trailer: &Trailer<'_>,
) {
    let object = match endpoint {
        Endpoint::Completions => "text_completion",
        Endpoint::Chat | Endpoint::Embeddings => "chat.completion.chunk",
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        r#"data: {{"id":{},"object":"{object}","created":{},"model":{},"choices":[],"arbstr":"#,
        quote(seen.id.unwrap_or(trailer.request_id)),
        seen.created.unwrap_or(trailer.created),
        quote(seen.model.unwrap_or(trailer.model)),
    );
    write_arbstr(out, trailer);
    out.push_str("}\n\ndata: [DONE]\n\n");
}

/// The same as a comment.
pub(super) fn write_comment(out: &mut String, trailer: &Trailer<'_>) {
    out.push_str(": arbstr ");
    write_arbstr(out, trailer);
    out.push_str("\n\n");
}

/// The event of a stream that breaks off; its `arbstr` member only where a trailer is given.
pub(super) fn write_break(
    out: &mut String,
    code: BreakCode,
    message: &str,
    trailer: Option<&Trailer<'_>>,
) {
    out.push_str("data: {\"error\":");
    ErrorObject::new("server_error", Some(code.as_str()), message).write_into(out);
    if let Some(trailer) = trailer {
        out.push_str(",\"arbstr\":");
        write_arbstr(out, trailer);
    }
    out.push_str("}\n\n");
}

fn write_arbstr(out: &mut String, trailer: &Trailer<'_>) {
    let tokens =
        |count: Option<u64>| count.map_or_else(|| "null".to_owned(), |count| count.to_string());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        r#"{{"request_id":{},"provider":{},"cost_sats":{},"latency_ms":{},"input_tokens":{},"output_tokens":{},"retries":{}}}"#,
        quote(trailer.request_id),
        quote(trailer.provider),
        trailer.cost_sats.unwrap_or("null"),
        trailer.latency_ms,
        tokens(trailer.input_tokens),
        tokens(trailer.output_tokens),
        trailer.retries,
    );
}
