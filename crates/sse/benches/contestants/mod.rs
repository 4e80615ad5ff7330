//! What the benches read, and who reads it.
//!
//! Every contestant counts the events it saw and the bytes of their data; [`Corpus::run`] asserts both, so that no one
//! is fast by reading less.

mod corpora;
mod readers;

pub(crate) use corpora::{Corpus, corpora};
pub(crate) use readers::{Reader, readers};

/// What a reader saw of a corpus.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) events: usize,
    /// Of the events' data, lines joined by LF.
    pub(crate) data_bytes: usize,
}

impl Corpus {
    /// Lets `reader` read everything, and asserts that it did.
    pub(crate) fn run(&self, reader: &Reader) {
        let seen = std::hint::black_box((reader.read)(std::hint::black_box(self)));
        if reader.counts {
            assert_eq!(seen, self.holds, "{} on {}", reader.name, self.name);
        }
    }
}
