//! An exact amount of sats.
//!
//! The smallest unit is the nanosat, because a rate of one thousandth of a sat per million tokens is one nanosat per
//! token: every cost is then a whole number. There is no `+`, so that each place says what happens at the edge:
//! `checked_*` gives `None`, `saturating_*` stays at the bound.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use crate::decimal::{self, Decimal, DecimalError};

/// An amount of money, in whole nanosats (1 sat = 1,000,000,000 nanosats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sats(i128);

/// Why a text is not an amount of sats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSatsError {
    /// Something other than digits with an optional sign and point.
    #[error("is not a decimal number such as 1 or 0.5")]
    Malformed,
    /// Part of a nanosat.
    #[error("has more than 9 decimals")]
    TooFine,
    /// Beyond 128 bits of nanosats.
    #[error("is too large")]
    TooLarge,
}

impl Sats {
    /// No money at all; not the same as unknown.
    pub const ZERO: Self = Self(0);
    /// The bound at which saturating sums stop.
    pub const MAX: Self = Self(i128::MAX);
    /// Nanosats in a sat.
    pub const NANOS_PER_SAT: i128 = 1_000_000_000;

    /// An amount of whole nanosats.
    #[must_use]
    pub const fn from_nanosats(nanosats: i128) -> Self {
        Self(nanosats)
    }

    /// An amount of whole sats.
    #[must_use]
    pub const fn from_sats(sats: i64) -> Self {
        Self(sats as i128 * Self::NANOS_PER_SAT)
    }

    /// The amount in nanosats.
    #[must_use]
    pub const fn nanosats(self) -> i128 {
        self.0
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The amount in sats as text, without the detour of a formatter.
    #[must_use]
    pub fn to_decimal(self) -> Decimal {
        Decimal::new::<DECIMALS>(self.is_negative(), self.0.unsigned_abs())
    }

    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when it does not fit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The amount `times` over, or `None` when it does not fit.
    #[must_use]
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.0.checked_mul(i128::from(times)).map(Self)
    }

    /// The sum, held at the bounds.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, held at the bounds.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount `times` over, held at the bounds.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times as i128))
    }
}

impl fmt::Display for Sats {
    /// The exact decimal of sats: no exponent, no trailing zeros; also a valid JSON number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_decimal().fmt(f)
    }
}

impl FromStr for Sats {
    type Err = ParseSatsError;

    fn from_str(text: &str) -> Result<Self, ParseSatsError> {
        let fixed = decimal::parse(text, DECIMALS)?;
        let units = i128::try_from(fixed.units).map_err(|_| ParseSatsError::TooLarge)?;
        Ok(Self(if fixed.negative { -units } else { units }))
    }
}

impl From<DecimalError> for ParseSatsError {
    fn from(fault: DecimalError) -> Self {
        match fault {
            DecimalError::Malformed => Self::Malformed,
            DecimalError::TooFine => Self::TooFine,
            DecimalError::TooLarge => Self::TooLarge,
        }
    }
}

impl Sum for Sats {
    /// Saturating: a total is shown, not trusted to fit.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

impl<'a> Sum<&'a Self> for Sats {
    fn sum<I: Iterator<Item = &'a Self>>(amounts: I) -> Self {
        amounts.copied().sum()
    }
}

/// Decimals of a sat that are kept.
const DECIMALS: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_an_exact_decimal() {
        let cases: [(i128, &str); 8] = [
            (0, "0"),
            (1, "0.000000001"),
            (-1, "-0.000000001"),
            (1_500_000_000, "1.5"),
            (100_000_000_000, "100"),
            (-2_000_000_000, "-2"),
            (i128::MAX, "170141183460469231731687303715.884105727"),
            (i128::MIN, "-170141183460469231731687303715.884105728"),
        ];
        for (nanosats, text) in cases {
            assert_eq!(Sats::from_nanosats(nanosats).to_string(), text);
        }
        assert_eq!(format!("[{:>5}]", Sats::from_sats(12)), "[   12]");
    }

    #[test]
    fn refuses_what_is_no_amount() {
        use ParseSatsError::{Malformed, TooFine, TooLarge};
        for (text, want) in [
            ("1 sat", Malformed),
            ("1e", Malformed),
            ("0.0000000001", TooFine),
            ("170141183460469231731687303715.884105728", TooLarge),
        ] {
            assert_eq!(text.parse::<Sats>(), Err(want), "{text}");
        }
    }

    #[test]
    fn sums_stay_at_the_bound_instead_of_wrapping() {
        let total: Sats = [Sats::MAX, Sats::from_sats(1)].iter().sum();
        assert_eq!(total, Sats::MAX);
        assert_eq!(Sats::MAX.checked_add(Sats::from_nanosats(1)), None);
        assert_eq!(Sats::MAX.saturating_mul(2), Sats::MAX);
        assert_eq!(Sats::MAX.checked_mul(2), None);
        assert_eq!(
            Sats::ZERO.checked_sub(Sats::from_sats(1)),
            Some(Sats::from_sats(-1))
        );
        assert_eq!(
            Sats::ZERO.saturating_sub(Sats::from_sats(1)).nanosats(),
            -1_000_000_000
        );
    }

    proptest! {
        #[test]
        fn text_and_amount_are_the_same_thing(nanosats in (i128::MIN + 1)..=i128::MAX) {
            let sats = Sats::from_nanosats(nanosats);
            prop_assert_eq!(sats.to_string().parse::<Sats>(), Ok(sats));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<Sats>();
        }
    }
}
