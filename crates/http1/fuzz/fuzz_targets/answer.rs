//! However an answer is cut, it reads the same; and what was taken is never more than what came.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/whole/mod.rs"]
mod whole;

fuzz_target!(|input: &[u8]| whole::check(input));
