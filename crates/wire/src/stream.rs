//! The stream contract: what of a provider's stream reaches the client, and what is learned from it.
//!
//! ```text
//!   provider's bytes ──► Rewriter ──► client's bytes
//!                          │  sse::Parser cuts events, says what may be released
//!                          └► Observer reads each event: usage, finish_reason, error, [DONE]
//! ```
//!
//! Bytes pass as they are, by reference where a chunk needs no edit. The observer can never harm the relay: what it
//! cannot read it skips, and a panic inside it costs the observation, not the stream.

mod boundary;
mod needles;
mod observer;
mod overlong;
mod rewriter;
mod template;
mod trailer;
mod window;

pub use observer::{FirstEvent, Observation, Observer};
pub use rewriter::{MAX_EVENT, Rewriter, StreamEnd};
pub use trailer::{BreakCode, Trailer};

use crate::request::Endpoint;

/// How the cost reaches the client at the end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metadata {
    /// As an event of arbstr's own and a second `[DONE]`.
    #[default]
    Event,
    /// As a comment, which every client ignores.
    Comment,
    /// Not at all: the provider's bytes alone.
    Off,
}

/// What one stream's relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The client did not ask for usage, so what arbstr's asking caused is kept from it.
    pub hide_usage: bool,
    /// How the cost reaches the client.
    pub metadata: Metadata,
    /// The provider ends a complete stream with `[DONE]`; `false` for one that never sends it.
    pub requires_done: bool,
    /// How many choices the answer has ([`Request::choices`](crate::Request::choices)).
    pub choices: u32,
}
