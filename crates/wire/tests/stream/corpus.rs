//! Every file that a fuzzer found worth keeping, through the fuzzers' own checks.

use std::path::Path;

use super::checks;

fn replay(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(folder).expect("the corpus is there");
    let mut count = 0;
    for file in files {
        let path = file.expect("a file").path();
        println!("{}", path.display());
        check(&std::fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 10, "{count} files");
}

#[test]
fn the_json_corpus_holds() {
    replay("json", checks::json);
}

#[test]
fn the_splice_corpus_holds() {
    replay("splice", checks::splice);
}

#[test]
fn the_stream_corpus_holds() {
    replay("stream", checks::stream);
}
