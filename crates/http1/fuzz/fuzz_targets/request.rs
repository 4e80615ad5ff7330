//! However requests are cut, they read the same; and what was taken is never more than what came.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/asked/mod.rs"]
mod asked;

fuzz_target!(|input: &[u8]| asked::check(input));
