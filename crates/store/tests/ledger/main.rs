//! Holds the store to its promises through its public interface, reading the file with SQLite itself.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests may look at the clock")]

mod asked;
mod crash;
mod full;
mod leavings;
mod lifecycle;
mod model;
mod pages;
mod retention;
mod samples;
mod scratch;
mod stats;
mod trouble;
mod upgrade;
