//! Holds the store to its promises through its public interface, reading the file with SQLite itself.

mod crash;
mod lifecycle;
mod samples;
mod scratch;
mod trouble;
