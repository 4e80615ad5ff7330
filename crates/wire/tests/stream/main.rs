//! The stream contract from outside: bytes in, bytes out, and what was learned.

mod bounds;
#[path = "../../fuzz/checks.rs"]
mod checks;
mod chunking;
mod corpus;
mod dialects;
mod endings;
mod hiding;
mod plain;
mod recorded;
mod relay;
