//! Reads, splices and writes what OpenAI clients and providers say, streams included.
//!
//! Bodies keep their bytes: a request is viewed, not parsed into a model of it, and what must change is changed by span.
//! Dialects are told apart by the members they use, never by who sends them. Nothing here does I/O or knows the time.
//!
//! ```
//! use arbstr_wire::{Edits, Endpoint, Metadata, Request, Rewriter, StreamSettings};
//! use bytes::Bytes;
//!
//! // A request, as the client sent it, and as the provider gets it.
//! let body = Bytes::from_static(br#"{"model":"gpt-4o","stream":true,"messages":[]}"#);
//! let request = Request::parse(Endpoint::Chat, &body)?;
//! let spliced = request.splicer().apply(&body, &Edits { model: Some("openai/gpt-4o"), include_usage: true });
//! assert_eq!(
//!     spliced.body,
//!     r#"{"model":"openai/gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#
//! );
//!
//! // The answer, as the provider streams it, and as the client gets it.
//! let mut relay = Rewriter::new(StreamSettings {
//!     endpoint: request.endpoint(),
//!     hide_usage: !request.asked_for_usage(),
//!     metadata: Metadata::Event,
//!     requires_done: true,
//!     choices: request.choices(),
//! });
//! let chunk = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\ndata: {\"choi");
//! assert_eq!(relay.push(chunk), "data: {\"choices\":[{\"delta\":{}}]}\n\n");
//! let chunk = Bytes::from_static(b"ces\":[],\"usage\":{\"prompt_tokens\":7}}\n\ndata: [DONE]\n\n");
//! assert_eq!(relay.push(chunk), "data: [DONE]\n\n");
//! assert!(relay.is_done());
//! assert_eq!(relay.observation().usage.and_then(|usage| usage.input), Some(7));
//! # Ok::<(), arbstr_wire::RequestError>(())
//! ```

#![forbid(unsafe_code)]

pub mod answer;
mod chat;
mod completions;
mod embeddings;
pub mod error;
mod fingerprint;
pub mod json;
pub mod models;
mod outline;
pub mod redact;
pub mod request;
pub mod splice;
pub mod stream;
mod text_bytes;
pub mod usage;

pub use answer::{Answer, AnswerError, usage_in};
pub use error::{ErrorObject, relay_error};
pub use fingerprint::Fingerprint;
pub use models::{
    Catalog, CatalogError, Currency, ListedModel, Model, ModelOffer, PublishedPrice, write_model,
    write_models,
};
pub use redact::{Secrets, redact_text};
pub use request::{Endpoint, Part, Request, RequestError, Role, Size, StreamOptions, Text};
pub use splice::{Edits, Spliced, Splicer};
pub use stream::{
    BreakCode, FirstEvent, Metadata, Observation, Observer, Rewriter, StreamEnd, StreamSettings,
    Trailer,
};
pub use usage::{ReportedCost, Usage};
