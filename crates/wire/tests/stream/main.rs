//! The stream contract from outside: bytes in, bytes out, and what was learned.

mod bounds;
mod chunking;
mod dialects;
mod endings;
mod hiding;
mod plain;
mod recorded;
mod relay;
