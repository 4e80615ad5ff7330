//! Reads, splices and writes what OpenAI clients and providers say, streams included.

#![forbid(unsafe_code)]

pub mod usage;

pub use usage::{ReportedCost, Usage};
