//! Compiles what sets the allocator up, for the binary alone.

use std::env;
use std::path::PathBuf;

const SOURCE: &str = "bin/arbstr/allocator.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let headers =
        env::var_os("DEP_MIMALLOC_INCLUDE_DIR").expect("libmimalloc-sys tells its headers");
    let objects = cc::Build::new()
        .include(PathBuf::from(headers))
        .file(SOURCE)
        .compile_intermediates();
    for object in objects {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
