//! Questions about records and their answers as JSON: the same for the HTTP API and the command line.
//!
//! A question comes as named texts, whoever asks: parameters of a URL or options of a command. What is wrong with one is
//! told by its name.

pub(crate) mod figures;
pub(crate) mod parameters;
pub(crate) mod plan;
pub(crate) mod row;
pub(crate) mod timestamp;

use std::fmt::Display;

use serde_json::value::RawValue;

/// A cost or rate as an exact JSON number; `null` when unknown.
pub(crate) fn exact(amount: Option<impl Display>) -> Option<Box<RawValue>> {
    amount.and_then(|amount| RawValue::from_string(amount.to_string()).ok())
}
