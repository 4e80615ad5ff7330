//! Cuts a byte stream into server-sent events, whatever the chunking.
#![no_std]

extern crate alloc;
#[cfg(any(test, doctest))]
extern crate std;

pub mod encode;
mod event;
mod limit;
mod scanner;

pub use event::{Event, Item};
pub use limit::{Limits, Overflow};
pub use scanner::Parser;
