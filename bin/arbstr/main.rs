//! The `arbstr` binary.
fn main() {}
