//! Short names for texts, so that alike requests are known again without keeping what they say.
//!
//! Sixty-four bits by folded multiplication; of a long text four lanes of sixteen bytes at a step, since this runs over all
//! of every prompt. The same bytes give the same name on every machine and in every version, since names are stored. It is
//! no protection against whoever looks for two texts of one name; what hangs on a name is an estimate.

/// A name for what was pushed, piece by piece.
///
/// ```
/// use arbstr_wire::Fingerprint;
/// let name = |pieces: &[&str]| {
///     let mut name = Fingerprint::default();
///     pieces.iter().for_each(|piece| name.push(piece.as_bytes()));
///     name.value()
/// };
/// assert_eq!(name(&["You are", "terse."]), name(&["You are", "terse."]));
/// assert_ne!(name(&["You are", "terse."]), name(&["You are terse."]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Fingerprint {
    /// Takes one more piece in; where pieces end counts too.
    pub fn push(&mut self, piece: &[u8]) {
        let mut state = self.0 ^ (piece.len() as u64).wrapping_mul(STEP);
        let mut rest = piece;
        if piece.len() >= LONG {
            let (blocks, end) = piece.as_chunks();
            state = fold_wide(state, blocks);
            rest = end;
        }
        let (blocks, rest) = rest.as_chunks();
        if !blocks.is_empty() {
            state = fold_blocks(state, blocks);
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            state = fold(state ^ u64::from_le_bytes(*word), STEP);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.0 = fold(state ^ u64::from_le_bytes(last), STEP);
    }

    /// Takes a number in.
    pub const fn push_number(&mut self, number: u64) {
        self.0 = fold(self.0 ^ number, STEP);
    }

    /// The name so far.
    pub const fn value(self) -> u64 {
        fold(self.0, SEED)
    }
}

/// Four multiplications side by side, since each waits for the one before it in its lane only.
fn fold_blocks(state: u64, blocks: &[[u8; 32]]) -> u64 {
    let mut lanes = lanes_of(state);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = fold(*lane ^ u64::from_le_bytes(*word), STEP);
        }
    }
    fold_lanes(lanes)
}

/// The same with both factors from the text, which takes half as many multiplications.
fn fold_wide(state: u64, blocks: &[[u8; 64]]) -> u64 {
    let mut lanes = lanes_of(state);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let (pairs, _) = words.as_chunks::<2>();
        for (lane, [one, other]) in lanes.iter_mut().zip(pairs) {
            *lane = fold(
                *lane ^ u64::from_le_bytes(*one),
                STEP ^ u64::from_le_bytes(*other),
            );
        }
    }
    fold_lanes(lanes)
}

const fn lanes_of(state: u64) -> [u64; 4] {
    [state, state ^ STEP, state ^ SEED, !state]
}

fn fold_lanes([first, rest @ ..]: [u64; 4]) -> u64 {
    rest.into_iter()
        .fold(first, |all, lane| fold(all ^ lane, STEP))
}

/// Both halves of the product, one over the other.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of a 128-bit product"
)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Odd numbers without a pattern: digits of the golden ratio and of pi.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0x2437_f6a8_885a_308d | 1;
/// From here on a text's name is told by [`fold_wide`].
const LONG: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn name(piece: &[u8]) -> u64 {
        let mut name = Fingerprint::default();
        name.push(piece);
        name.value()
    }

    #[test]
    fn names_do_not_change_between_versions() {
        assert_eq!(name(b""), 7_462_040_083_088_475_197);
        assert_eq!(
            name(b"You are a helpful assistant."),
            3_413_783_131_879_770_328
        );
        let long: Vec<u8> = (0..3000_u32).map(|at| (at * at % 251) as u8).collect();
        assert_eq!(
            [1000, 1023, 1024, 3000].map(|length| name(&long[..length])),
            [
                10_233_422_026_970_376_262,
                11_879_311_424_653_734_163,
                11_768_210_904_609_632_428,
                16_524_220_171_170_866_738,
            ]
        );
    }

    #[test]
    fn neighbours_have_names_of_their_own() {
        let names: HashSet<u64> = (0..100_000_u32)
            .map(|number| name(format!("message {number}").as_bytes()))
            .collect();
        assert_eq!(names.len(), 100_000);
    }

    proptest! {
        #[test]
        fn another_byte_is_another_name(
            short in prop::collection::vec(any::<u8>(), 1..100),
            times in prop::sample::select(vec![1, 20]),
            at: usize,
            bit in 0..8_u8,
        ) {
            let text = short.repeat(times);
            let mut other = text.clone();
            other[at % text.len()] ^= 1 << bit;
            prop_assert_ne!(name(&text), name(&other));
        }
    }
}
