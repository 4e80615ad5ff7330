//! Every reader on every corpus, as absolute throughput. The ratios that count are in `ratios`.

mod contestants;

use contestants::{Reader, corpora, readers};
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

#[divan::bench(args = names(), max_time = 0.5)]
fn read(bencher: divan::Bencher<'_, '_>, name: &str) {
    let (corpus, reader) = name.split_once(" | ").expect("made by names");
    let corpus = corpora()
        .into_iter()
        .find(|other| other.name == corpus)
        .expect("a corpus");
    let reader: Reader = readers()
        .into_iter()
        .find(|other| other.name == reader)
        .expect("a reader");
    bencher
        .counter(BytesCount::new(corpus.bytes.len()))
        .bench(|| corpus.run(&reader));
}

fn names() -> Vec<String> {
    let corpora = corpora();
    let pairs = corpora.iter().flat_map(|corpus| {
        readers()
            .into_iter()
            .map(|reader| format!("{} | {}", corpus.name, reader.name))
    });
    // One event at a time by eventsource-stream's quadratic buffer takes minutes on whole corpora.
    pairs.filter(|name| !is_quadratic(name)).collect()
}

fn is_quadratic(name: &str) -> bool {
    name.ends_with("eventsource") && (name.contains("whole") || name.contains("1 B"))
}
