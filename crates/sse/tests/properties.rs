//! Any bytes, any chunking, any limit: the parser says what the naive reading says.

mod chunking;
mod naive;

use chunking::{read_cut, shorten_cut_ends};
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_chunking_reads_like_the_standard(
        input in stream(),
        cuts in proptest::collection::vec(any::<Index>(), 0..12),
        max in prop_oneof![16_usize..80, Just(1 << 20)],
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let expected = shorten_cut_ends(&input, &cuts, naive::read(&input, max));
        prop_assert_eq!(read_cut(&input, &cuts, max), expected);
    }

    #[test]
    fn byte_by_byte_reads_like_the_standard(input in stream(), max in 16_usize..80) {
        let cuts: Vec<usize> = (0..=input.len()).collect();
        let expected = shorten_cut_ends(&input, &cuts, naive::read(&input, max));
        prop_assert_eq!(read_cut(&input, &cuts, max), expected);
    }

    #[test]
    fn what_is_released_at_any_moment_is_what_the_prefix_allows(
        input in stream(),
        cut in any::<Index>(),
        max in 16_usize..80,
    ) {
        let prefix = &input[..cut.index(input.len() + 1)];
        let expected = naive::read(prefix, max).pending_from;
        prop_assert_eq!(read_cut(prefix, &[], max).pending_from, expected);
        let cuts: Vec<usize> = (0..=prefix.len()).collect();
        prop_assert_eq!(read_cut(prefix, &cuts, max).pending_from, expected);
    }
}

/// Streams made of what matters to the standard, so that most of them dispatch something.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line_end = prop_oneof![Just("\n"), Just("\r"), Just("\r\n")];
    let field = prop_oneof![
        4 => Just("data"),
        1 => Just("event"),
        1 => Just("id"),
        1 => Just("retry"),
        1 => Just("dat"),
        1 => Just("data2"),
        1 => Just(""),
    ];
    let colon = prop_oneof![Just(""), Just(":"), Just(": "), Just(":  ")];
    let value = prop_oneof![
        "[a-z0-9]{0,30}",
        "[0-9]{1,3}",
        Just("\0".to_owned()),
        Just("é\u{2028}".to_owned())
    ];
    prop_oneof![
        6 => (field, colon, value, line_end.clone())
            .prop_map(|(field, colon, value, end)| format!("{field}{colon}{value}{end}").into_bytes()),
        4 => line_end.prop_map(|end| end.as_bytes().to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}
