//! What a request would cost, before it is sent.
//!
//! The parts stay apart so that a plan can be explained: which share is the fee, which the prefix, which the output.
//! Token counts here are guesses, so every sum holds at the bound instead of failing.

use crate::{Rates, Sats};

/// Expected token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// Those of `input` expected from the prefix cache.
    pub cached_input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
}

/// An expected cost by its parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quote {
    /// For input that is not cached.
    pub input: Sats,
    /// For cached input.
    pub cached_input: Sats,
    /// For output.
    pub output: Sats,
    /// For the request as such.
    pub base_fee: Sats,
    /// What failures are expected to add until one try succeeds.
    pub failure: Sats,
}

impl Quote {
    /// The sum of the parts.
    #[must_use]
    pub fn total(&self) -> Sats {
        [
            self.input,
            self.cached_input,
            self.output,
            self.base_fee,
            self.failure,
        ]
        .iter()
        .sum()
    }

    /// The same with failures that add so many millionths of the other parts.
    #[must_use]
    pub fn with_failures(self, millionths: u32) -> Self {
        let failure = Sats::ZERO;
        if millionths == 0 {
            return Self { failure, ..self };
        }
        let certain = Self { failure, ..self }.total().nanosats();
        let added = certain.saturating_mul(i128::from(millionths)) / 1_000_000;
        let failure = Sats::from_nanosats(added);
        Self { failure, ..self }
    }
}

/// Prices `tokens` at `rates`; more cached tokens than input count as all of the input.
#[must_use]
pub fn quote(tokens: &Tokens, rates: &Rates) -> Quote {
    let cached = tokens.cached_input.min(tokens.input);
    Quote {
        input: rates.input.times(tokens.input - cached),
        cached_input: rates.cached_rate().times(cached),
        output: rates.output.times(tokens.output),
        base_fee: rates.base_fee,
        failure: Sats::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;
    use proptest::prelude::*;

    fn card(cached_input: Option<u64>) -> Rates {
        Rates {
            input: Rate::from_millisats_per_million(10),
            output: Rate::from_millisats_per_million(30),
            cached_input: cached_input.map(Rate::from_millisats_per_million),
            base_fee: Sats::from_nanosats(7),
        }
    }

    #[test]
    fn splits_the_prefix_from_the_rest() {
        let tokens = Tokens {
            input: 100,
            cached_input: 60,
            output: 5,
        };
        let got = quote(&tokens, &card(Some(1)));
        let parts = [got.input, got.cached_input, got.output, got.base_fee].map(Sats::nanosats);
        assert_eq!(parts, [400, 60, 150, 7]);
        assert_eq!(got.total().nanosats(), 617);
    }

    #[test]
    fn a_prefix_without_a_price_of_its_own_changes_nothing() {
        let mut tokens = Tokens {
            input: 100,
            cached_input: 0,
            output: 5,
        };
        let without = quote(&tokens, &card(None)).total();
        tokens.cached_input = 99;
        assert_eq!(quote(&tokens, &card(None)).total(), without);
        tokens.cached_input = 500;
        assert_eq!(quote(&tokens, &card(None)).total(), without);
    }

    #[test]
    fn failures_add_their_share_of_the_rest() {
        let tokens = Tokens {
            input: 100,
            cached_input: 60,
            output: 5,
        };
        let certain = quote(&tokens, &card(Some(1)));
        for (millionths, want) in [(0, 0), (1_000_000, 617), (500_000, 308), (10, 0)] {
            let quote = certain.with_failures(millionths);
            assert_eq!(quote.failure.nanosats(), want, "{millionths}");
            assert_eq!(quote.total().nanosats(), 617 + want);
            assert_eq!(quote.with_failures(millionths), quote);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_at_any_count(input: u64, cached_input: u64, output: u64, rate: u64, fee: i128) {
            let rate = Rate::from_millisats_per_million(rate);
            let card = Rates { input: rate, output: rate, cached_input: None, base_fee: Sats::from_nanosats(fee) };
            let _ = quote(&Tokens { input, cached_input, output }, &card).with_failures(u32::MAX).total();
        }
    }
}
