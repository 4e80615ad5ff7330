//! How the bytes of a fuzz input become a stream, its chunks and a limit.

use super::chunking::{read_cut, shorten_cut_ends};
use super::naive;

/// Checks one input of the fuzz target: the first byte sets the limit, each byte up to the first zero is one more than
/// the length of a chunk, and the rest is the stream. What follows the last chunk is one more.
pub(crate) fn check_input(bytes: &[u8]) {
    let Some((limit, rest)) = bytes.split_first() else {
        return;
    };
    let chunks = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    let stream = rest.get(chunks + 1..).unwrap_or_default();
    let cuts: Vec<usize> = rest[..chunks]
        .iter()
        .scan(0, |end, length| {
            *end = stream.len().min(*end + usize::from(*length) - 1);
            Some(*end)
        })
        .collect();
    let max = 16 + usize::from(*limit);
    let expected = shorten_cut_ends(stream, &cuts, naive::read(stream, max));
    assert_eq!(
        read_cut(stream, &cuts, max),
        expected,
        "cut at {cuts:?}, max {max}"
    );
}
