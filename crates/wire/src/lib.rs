//! Reads, splices and writes what OpenAI clients and providers say, streams included.

#![forbid(unsafe_code)]

mod chat;
mod completions;
mod embeddings;
pub mod fault;
pub mod json;
pub mod request;
pub mod splice;
pub mod usage;

pub use fault::{Fault, redact, redact_text, relay_fault};
pub use request::{Endpoint, Request, RequestError, Role, Size, StreamOptions, Text};
pub use splice::{Edits, Spliced, Splicer};
pub use usage::{ReportedCost, Usage};
