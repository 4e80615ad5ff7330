//! Where a run of plain string characters ends: at a quote, a backslash or a control character.
//!
//! A body is mostly strings, so this decides how fast one is read. A block is told by one bit for each of its bytes, so
//! that text full of escapes costs no more than its blocks and its escapes do.

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// Whether a plain run ends at `byte`.
pub(super) const fn is_stop(byte: u8) -> bool {
    // Flipping that bit puts the quote next to the controls, and those among themselves.
    byte ^ 2 <= b' ' || byte == b'\\'
}

/// The bytes of a block that end a plain run, the first of them in bit 0.
///
/// The first loop is of a kind that the compiler turns into vector instructions.
#[inline]
pub(super) fn among(block: &[u8; BLOCK]) -> u64 {
    let mut weights = [0u8; BLOCK];
    for (place, (weight, byte)) in weights.iter_mut().zip(block).enumerate() {
        *weight = u8::from((byte ^ 2 <= b' ') | (*byte == b'\\')) << (place % 8);
    }
    // The product's topmost byte is the sum of all eight, which have a bit each.
    let (words, _) = weights.as_chunks();
    let gathered = words
        .iter()
        .map(|word| u64::from_le_bytes(*word).wrapping_mul(ONES) >> 56);
    (0..)
        .step_by(8)
        .zip(gathered)
        .fold(0, |stops, (place, byte)| stops | byte << place)
}

/// How many of the first bytes of a word are plain.
pub(super) const fn plain_in(word: [u8; 8]) -> usize {
    let word = u64::from_le_bytes(word);
    // Quotes and controls are told together, as in [`is_stop`].
    let low = word ^ (ONES * 2);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let stops = low.wrapping_sub(ONES * (b' ' as u64 + 1)) & !low
        | backslashes.wrapping_sub(ONES) & !backslashes;
    // A borrow can only spoil bytes above the first true hit, so the lowest bit is exact.
    (stops & HIGHS).trailing_zeros() as usize / 8
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends_a_run(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }

    /// Bytes of all kinds, and more of those that matter.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            any::<u8>(),
            prop::sample::select(&b"\"\\\x1f\x20\x21\x22\x23\x7f\x80\xa2\xdc"[..])
        ]
    }

    #[test]
    fn runs_end_at_quotes_backslashes_and_controls() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_stop(byte), ends_a_run(byte), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn a_block_is_told_as_byte_by_byte(block in prop::collection::vec(byte(), BLOCK)) {
            let block: [u8; BLOCK] = block.try_into().unwrap();
            let naive = (0..BLOCK).map(|place| u64::from(ends_a_run(block[place])) << place).sum::<u64>();
            prop_assert_eq!(among(&block), naive);
        }

        #[test]
        fn a_word_is_told_as_byte_by_byte(word in prop::array::uniform8(byte())) {
            let naive = word.iter().take_while(|byte| !ends_a_run(**byte)).count();
            prop_assert_eq!(plain_in(word), naive);
        }
    }
}
