//! What the fuzzer once found worth keeping, replayed.

mod chunking;
mod naive;
mod replay;

use std::fs;
use std::path::Path;

#[test]
fn the_fuzz_corpus_reads_like_the_standard() {
    // The corpus is not part of the published package.
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/naive");
    let Ok(entries) = fs::read_dir(corpus) else {
        return;
    };
    let mut inputs = 0;
    for entry in entries {
        let path = entry.expect("the corpus can be listed").path();
        println!("{}", path.display());
        replay::check_input(&fs::read(&path).expect("the corpus can be read"));
        inputs += 1;
    }
    assert!(inputs > 50, "the corpus is there");
}
