//! Sats per million tokens, and the card of rates an offer charges by.
//!
//! A rate is read from text, not from a float, because `0.1` of a float is not a tenth. One thousandth of a sat per
//! million tokens is exactly one nanosat per token, so a rate times a count is a [`Sats`] with nothing to round.

use std::fmt;
use std::str::FromStr;

use crate::Sats;
use crate::decimal::{self, Decimal, DecimalError};

/// A price per token: whole thousandths of a sat per 1,000,000 tokens, which are nanosats per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

/// What an offer charges. An offer whose price is not known has no `Rates` at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    /// Per input token that is not from the prefix cache.
    pub input: Rate,
    /// Per output token, reasoning included.
    pub output: Rate,
    /// Per input token from the prefix cache; `None` charges them as any other input.
    pub cached_input: Option<Rate>,
    /// Per request.
    pub base_fee: Sats,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRateError {
    /// Something other than digits with an optional point.
    #[error("is not a decimal number such as 10000 or 0.5")]
    Malformed,
    /// Below zero.
    #[error("is negative")]
    Negative,
    /// Finer than a thousandth of a sat per million tokens.
    #[error("has more than 3 decimals")]
    TooFine,
    /// Beyond 64 bits of thousandths.
    #[error("is too large")]
    TooLarge,
}

impl Rate {
    /// Free of charge; not the same as unknown.
    pub const ZERO: Self = Self(0);

    /// A rate of whole thousandths of a sat per 1,000,000 tokens.
    #[must_use]
    pub const fn from_millisats_per_million(thousandths: u64) -> Self {
        Self(thousandths)
    }

    /// The rate in thousandths of a sat per 1,000,000 tokens.
    #[must_use]
    pub const fn millisats_per_million(self) -> u64 {
        self.0
    }

    /// What `tokens` cost at this rate: exact up to [`Sats::MAX`], which no count below 2^63 reaches.
    #[must_use]
    pub const fn times(self, tokens: u64) -> Sats {
        Sats::from_nanosats((self.0 as i128).saturating_mul(tokens as i128))
    }
}

impl Rates {
    /// The rate of cached input: its own if there is one, else that of all input.
    #[must_use]
    pub fn cached_rate(&self) -> Rate {
        self.cached_input.unwrap_or(self.input)
    }
}

impl fmt::Display for Rate {
    /// Sats per 1,000,000 tokens, exact, without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::new::<DECIMALS>(false, u128::from(self.0)).fmt(f)
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let fixed = decimal::parse(text, DECIMALS)?;
        if fixed.negative && fixed.units != 0 {
            return Err(ParseRateError::Negative);
        }
        u64::try_from(fixed.units)
            .map(Self)
            .map_err(|_| ParseRateError::TooLarge)
    }
}

impl From<DecimalError> for ParseRateError {
    fn from(fault: DecimalError) -> Self {
        match fault {
            DecimalError::Malformed => Self::Malformed,
            DecimalError::TooFine => Self::TooFine,
            DecimalError::TooLarge => Self::TooLarge,
        }
    }
}

/// Decimals of a sat per million tokens that are kept.
const DECIMALS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_rate_from_its_text() {
        use ParseRateError::{Malformed, Negative, TooFine, TooLarge};
        let cases: [(&str, Result<u64, ParseRateError>); 10] = [
            ("10000", Ok(10_000_000)),
            ("0.001", Ok(1)),
            ("10_000.125", Ok(10_000_125)),
            ("0.100", Ok(100)),
            ("-0", Ok(0)),
            ("-1", Err(Negative)),
            ("0.0005", Err(TooFine)),
            ("1e4", Ok(10_000_000)),
            ("nan", Err(Malformed)),
            ("18446744073709551.616", Err(TooLarge)),
        ];
        for (text, want) in cases {
            let got = text.parse::<Rate>().map(Rate::millisats_per_million);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn a_missing_cached_rate_is_the_input_rate() {
        let mut rates = Rates {
            input: Rate::from_millisats_per_million(7),
            ..Rates::default()
        };
        assert_eq!(rates.cached_rate(), rates.input);
        rates.cached_input = Some(Rate::ZERO);
        assert_eq!(rates.cached_rate(), Rate::ZERO);
    }

    #[test]
    fn a_thousandth_per_million_is_a_nanosat_per_token() {
        let rate = "0.001".parse::<Rate>().unwrap();
        assert_eq!(rate.times(1).to_string(), "0.000000001");
        assert_eq!(rate.times(1_000_000).to_string(), "0.001");
        assert_eq!(
            Rate::from_millisats_per_million(u64::MAX).times(u64::MAX),
            Sats::MAX
        );
    }

    proptest! {
        #[test]
        fn text_and_rate_are_the_same_thing(thousandths: u64) {
            let rate = Rate::from_millisats_per_million(thousandths);
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }
    }
}
