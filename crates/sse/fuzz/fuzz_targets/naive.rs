//! The parser, fed any stream in any chunks under any limit, against a naive reading of the standard.
#![no_main]

#[path = "../../tests/chunking/mod.rs"]
mod chunking;
#[path = "../../tests/naive/mod.rs"]
mod naive;
#[path = "../../tests/replay/mod.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::check_input(bytes));
