//! Reads, splices and writes what OpenAI clients and providers say, streams included.

#![forbid(unsafe_code)]

pub mod answer;
mod chat;
mod completions;
mod embeddings;
pub mod fault;
pub mod json;
pub mod models;
mod outline;
pub mod request;
pub mod splice;
pub mod stream;
pub mod usage;

pub use answer::{Answer, AnswerError};
pub use fault::{Fault, redact, redact_text, relay_fault};
pub use models::{Model, Offer, write_model, write_models};
pub use request::{Endpoint, Request, RequestError, Role, Size, StreamOptions, Text};
pub use splice::{Edits, Spliced, Splicer};
pub use stream::{
    BreakCode, End, FirstEvent, Metadata, Observation, Observer, Rewriter, Secrets, Settings,
    Trailer,
};
pub use usage::{ReportedCost, Usage};
