//! Fuzzes the relay and its observer against a plain reading.

#![no_main]
#![allow(dead_code)]

#[path = "../checks.rs"]
mod checks;
#[path = "../../tests/stream/plain.rs"]
mod plain;
#[path = "../../tests/stream/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::stream(input));
