//! Prices as providers publish them, in sats or dollars per token, turned into rates.
//!
//! A published amount is a decimal in any spelling, `0.0000001` as well as `1e-7`, and is read exactly. What does not
//! come out as a whole nanosat is rounded **up**: an expected cost may be a trifle too high, never too low. Since a
//! rate is nanosats per token and a fee is nanosats, one rounding serves both. Nothing is guessed: dollars without a
//! price of bitcoin, and amounts that are no price, are errors.

use std::fmt;
use std::str::FromStr;

use arbstr_wire::{Currency, PublishedPrice};

use crate::{Rate, Rates, Sats};

/// What one bitcoin costs in US dollars, exactly as it was stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BtcPrice(Amount);

/// Why a text is no price of bitcoin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBtcPriceError {
    /// Not a decimal number.
    #[error("is not a decimal number such as 100000 or 98765.43")]
    Malformed,
    /// A number that is hardly dollars for a bitcoin, but perhaps cents, or sats for a dollar.
    #[error("is not from 1000 to 100000000 US dollars")]
    OutOfRange,
}

/// Why a published price makes no rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedPriceError {
    /// An amount is no number.
    #[error("an amount that is no number")]
    Malformed,
    /// An amount is below zero, which some write where the price varies.
    #[error("a negative amount")]
    Negative,
    /// A rate that does not fit 64 bits of thousandths.
    #[error("an amount that is far too large")]
    TooLarge,
    /// A rate that only makes sense for a million tokens, as some lists give it, and not for one.
    #[error("an amount that seems to be for a million tokens")]
    PerMillion,
    /// In dollars, and nobody said what a bitcoin costs.
    #[error("in dollars, and no price of bitcoin is set")]
    NoBtcPrice,
}

/// The rates that a published price comes to, each rounded up to its smallest unit.
///
/// A cached rate of 0 beside an input rate above it says nothing, since that is how lists write "none": cached input
/// is then charged as any other.
///
/// # Errors
/// When an amount is no price for a token, or in dollars while `btc` is not known.
pub fn published_rates(
    price: &PublishedPrice,
    btc: Option<BtcPrice>,
) -> Result<Rates, PublishedPriceError> {
    let amounts = [
        Some(&price.input),
        Some(&price.output),
        price.cached_input.as_ref(),
    ];
    let most = match price.currency {
        Currency::Sats => MOST_SATS,
        Currency::Dollars => MOST_DOLLARS,
    };
    for amount in amounts.into_iter().flatten() {
        if Scale::SATS.nanosats_up(amount.parse()?)? >= most {
            return Err(PublishedPriceError::PerMillion);
        }
    }
    let scale = match (price.currency, btc) {
        (Currency::Sats, _) => Scale::SATS,
        (Currency::Dollars, Some(btc)) => Scale::dollars(btc),
        (Currency::Dollars, None) => return Err(PublishedPriceError::NoBtcPrice),
    };
    let rate = |text: &str| {
        let nanosats = scale.nanosats_up(text.parse()?)?;
        let nanosats = u64::try_from(nanosats).map_err(|_| PublishedPriceError::TooLarge)?;
        Ok(Rate::from_millisats_per_million(nanosats))
    };
    let input = rate(&price.input)?;
    let cached_input = price.cached_input.as_deref().map(rate).transpose()?;
    let fee = price.request.as_deref().unwrap_or("0").parse()?;
    Ok(Rates {
        input,
        output: rate(&price.output)?,
        cached_input: cached_input.filter(|cached| *cached > Rate::ZERO && *cached != input),
        base_fee: Sats::from_nanosats(
            i128::try_from(scale.nanosats_up(fee)?).map_err(|_| PublishedPriceError::TooLarge)?,
        ),
    })
}

/// Dollars in sats, rounded up to whole nanosats. `nanodollars` are billionths of a dollar.
pub(crate) fn dollars_in_sats(nanodollars: u64, btc: BtcPrice) -> Option<Sats> {
    let amount = Amount::new(nanodollars.into(), -9);
    let nanosats = Scale::dollars(btc).nanosats_up(amount).ok()?;
    i128::try_from(nanosats).ok().map(Sats::from_nanosats)
}

impl FromStr for BtcPrice {
    type Err = ParseBtcPriceError;

    fn from_str(text: &str) -> Result<Self, ParseBtcPriceError> {
        let amount: Amount = text.parse().map_err(|_| ParseBtcPriceError::Malformed)?;
        let whole = Scale::ONE.nanosats_up(amount).unwrap_or(u128::MAX);
        if (LEAST_BTC_PRICE..=MOST_BTC_PRICE).contains(&whole) {
            Ok(Self(amount))
        } else {
            Err(ParseBtcPriceError::OutOfRange)
        }
    }
}

impl BtcPrice {
    /// Whether one of the two is more than double the other: then one of them is wrong.
    #[must_use]
    pub fn is_far_from(self, other: Self) -> bool {
        let whole = |price: Self| Scale::ONE.nanosats_up(price.0).unwrap_or(u128::MAX);
        let (one, two) = (whole(self), whole(other));
        one.max(two) > one.min(two).saturating_mul(2)
    }
}

impl fmt::Display for BtcPrice {
    /// The plain decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Amount { digits, exponent } = self.0;
        let shift = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
        let digits = digits.to_string();
        if exponent >= 0 {
            return f.pad(&format!("{digits}{:0<shift$}", ""));
        }
        let padded = format!("{digits:0>width$}", width = shift + 1);
        let (whole, part) = padded.split_at(padded.len() - shift);
        f.pad(&format!("{whole}.{part}"))
    }
}

/// `digits * 10^exponent`, not negative, without zeros at the end of `digits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    digits: u128,
    exponent: i32,
}

impl Amount {
    fn new(mut digits: u128, mut exponent: i32) -> Self {
        if digits == 0 {
            return Self {
                digits,
                exponent: 0,
            };
        }
        while digits.is_multiple_of(10) {
            digits /= 10;
            exponent += 1;
        }
        Self { digits, exponent }
    }
}

impl FromStr for Amount {
    type Err = PublishedPriceError;

    /// Digits beyond [`MAX_DIGITS`], which no price has, round up.
    fn from_str(text: &str) -> Result<Self, PublishedPriceError> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (text, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && part.is_empty()) || !is_digits(whole) || !is_digits(part) {
            return Err(PublishedPriceError::Malformed);
        }
        let (mut digits, mut exponent) = (0_u128, exponent);
        let (mut kept, mut lost) = (0, false);
        for (at, digit) in whole.bytes().chain(part.bytes()).enumerate() {
            if kept < MAX_DIGITS {
                digits = digits * 10 + u128::from(digit - b'0');
                kept += u32::from(digits > 0);
                exponent -= i32::from(at >= whole.len());
            } else {
                lost |= digit != b'0';
                exponent += i32::from(at < whole.len());
            }
        }
        let digits = digits + u128::from(lost);
        if negative && digits != 0 {
            return Err(PublishedPriceError::Negative);
        }
        Ok(Self::new(digits, exponent))
    }
}

/// What turns an amount into nanosats: times `10^exponent`, divided by `divisor`.
#[derive(Debug, Clone, Copy)]
struct Scale {
    exponent: i32,
    divisor: u128,
}

impl Scale {
    const ONE: Self = Self {
        exponent: 0,
        divisor: 1,
    };
    const SATS: Self = Self {
        exponent: 9,
        divisor: 1,
    };

    /// A bitcoin is 10^8 sats of 10^9 nanosats.
    fn dollars(BtcPrice(btc): BtcPrice) -> Self {
        Self {
            exponent: 17 - btc.exponent,
            divisor: btc.digits,
        }
    }

    fn nanosats_up(self, amount: Amount) -> Result<u128, PublishedPriceError> {
        if amount.digits == 0 {
            return Ok(0);
        }
        let exponent = amount.exponent + self.exponent;
        let power = 10_u128.checked_pow(exponent.unsigned_abs());
        if exponent < 0 {
            // What is too small for the division is still more than nothing.
            let divisor = power.and_then(|power| power.checked_mul(self.divisor));
            return Ok(divisor.map_or(1, |divisor| amount.digits.div_ceil(divisor)));
        }
        power
            .and_then(|power| amount.digits.checked_mul(power))
            .map(|scaled| scaled.div_ceil(self.divisor))
            .ok_or(PublishedPriceError::TooLarge)
    }
}

fn exponent_of(text: &str) -> Result<i32, PublishedPriceError> {
    let exponent: i32 = text.parse().map_err(|_| PublishedPriceError::Malformed)?;
    if exponent.unsigned_abs() > MAX_EXPONENT {
        return Err(PublishedPriceError::Malformed);
    }
    Ok(exponent)
}

/// Significant digits that are read as they are; a float has at most 17.
const MAX_DIGITS: u32 = 20;
/// An exponent beyond this is no price.
const MAX_EXPONENT: u32 = 400;
/// A billionth of a dollar: more for a token than this, 5,000 dollars for a million, nobody asks.
const MOST_DOLLARS: u128 = 5_000_000;
/// A nanosat: the same of 10 sats.
const MOST_SATS: u128 = 10_000_000_000;
const LEAST_BTC_PRICE: u128 = 1_000;
const MOST_BTC_PRICE: u128 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(currency: Currency, input: &str, output: &str) -> PublishedPrice {
        PublishedPrice {
            currency,
            input: input.to_owned(),
            output: output.to_owned(),
            cached_input: None,
            request: None,
        }
    }

    fn input_rate(
        currency: Currency,
        text: &str,
        btc: Option<&str>,
    ) -> Result<String, PublishedPriceError> {
        let btc = btc.map(|text| text.parse().unwrap());
        let rates = published_rates(&price(currency, text, "0"), btc)?;
        assert_eq!(rates.output, Rate::ZERO);
        Ok(rates.input.to_string())
    }

    #[test]
    fn sats_per_token_become_sats_per_million_rounded_up() {
        use PublishedPriceError::{Malformed, Negative, PerMillion, TooLarge};
        let cases: [(&str, Result<&str, PublishedPriceError>); 20] = [
            ("0.01", Ok("10000")),
            ("0", Ok("0")),
            ("0.000", Ok("0")),
            ("-0", Ok("0")),
            ("1e-7", Ok("0.1")),
            ("1E-07", Ok("0.1")),
            ("2.5e-3", Ok("2500")),
            ("+1.5e+0", Ok("1500000")),
            ("9.999", Ok("9999000")),
            ("10", Err(PerMillion)),
            (".5", Ok("500000")),
            ("0.000000001", Ok("0.001")),
            ("0.0000000011", Ok("0.002")),
            ("1e-12", Ok("0.001")),
            ("1e-399", Ok("0.001")),
            ("0.0027184900000000005", Ok("2718.491")),
            ("-1", Err(Negative)),
            ("1e30", Err(TooLarge)),
            ("1e401", Err(Malformed)),
            ("NaN", Err(Malformed)),
        ];
        for (text, want) in cases {
            let got = input_rate(Currency::Sats, text, None);
            assert_eq!(got.as_deref().map_err(|error| *error), want, "{text}");
        }
        for text in [
            "", ".", "e5", "1e", "1e1.5", "1,5", "0x1", "1 ", "--1", "1_0", "٣",
        ] {
            let got = input_rate(Currency::Sats, text, None);
            assert_eq!(got, Err(Malformed), "{text}");
        }
    }

    #[test]
    fn dollars_per_token_need_the_price_of_bitcoin() {
        let cases = [
            // 2.5 dollars per million tokens at 100,000 dollars are 2,500 sats.
            ("0.0000025", "100000", "2500"),
            ("2.5e-6", "1e5", "2500"),
            ("0.0000025", "62500", "4000"),
            // A third of a thousandth is rounded up.
            ("0.0000025", "75000", "3333.334"),
            ("1e-7", "98765.43", "101.251"),
            ("0.00000000000000001", "100000", "0.001"),
            ("0", "100000", "0"),
            ("0.004999", "100000", "4999000"),
        ];
        for (text, btc, want) in cases {
            assert_eq!(
                input_rate(Currency::Dollars, text, Some(btc)).as_deref(),
                Ok(want),
                "{text} at {btc}"
            );
        }
        assert_eq!(
            input_rate(Currency::Dollars, "0.001", None),
            Err(PublishedPriceError::NoBtcPrice)
        );
        for (input, output, cached) in [
            ("0.45", "3", None),
            ("0", "0.005", None),
            ("0", "0", Some("0.01")),
        ] {
            let mut published = price(Currency::Dollars, input, output);
            published.cached_input = cached.map(str::to_owned);
            for btc in [None, "100000".parse().ok()] {
                let got = published_rates(&published, btc);
                assert_eq!(
                    got,
                    Err(PublishedPriceError::PerMillion),
                    "{input} {output}"
                );
            }
        }
    }

    #[test]
    fn reads_cached_rate_and_fee_and_takes_no_cached_zero_for_a_gift() {
        let mut published = price(Currency::Dollars, "2e-6", "8e-6");
        published.request = Some("0.01".into());
        let btc = "100000".parse().ok();
        for (cached, want) in [
            (Some("5e-7"), Some("500")),
            (Some("0"), None),
            (Some("2e-6"), None),
            (None, None),
        ] {
            published.cached_input = cached.map(str::to_owned);
            let rates = published_rates(&published, btc).unwrap();
            let cached_rate = rates.cached_input.map(|rate| rate.to_string());
            assert_eq!(cached_rate.as_deref(), want);
            assert_eq!(rates.base_fee.to_string(), "10");
        }
        for (cached, request) in [(Some("?"), None), (None, Some("")), (None, Some("-1"))] {
            published.cached_input = cached.map(str::to_owned);
            published.request = request.map(str::to_owned);
            assert!(published_rates(&published, btc).is_err());
        }
    }

    #[test]
    fn a_price_of_bitcoin_is_sane_and_shown_plainly() {
        for (text, shown) in [
            ("100000", "100000"),
            ("1e5", "100000"),
            ("98765.430", "98765.43"),
            ("1000", "1000"),
        ] {
            assert_eq!(text.parse::<BtcPrice>().unwrap().to_string(), shown);
        }
        for (text, error) in [
            ("1000.5e-1", ParseBtcPriceError::OutOfRange),
            ("0", ParseBtcPriceError::OutOfRange),
            ("1e9", ParseBtcPriceError::OutOfRange),
            ("1e300", ParseBtcPriceError::OutOfRange),
            ("-100000", ParseBtcPriceError::Malformed),
            ("98,765", ParseBtcPriceError::Malformed),
        ] {
            assert_eq!(text.parse::<BtcPrice>(), Err(error), "{text}");
        }
        let price = |text: &str| text.parse::<BtcPrice>().unwrap();
        assert!(!price("50000").is_far_from(price("100000")));
        assert!(price("49999").is_far_from(price("100000")));
        assert!(price("100000").is_far_from(price("49999")));
    }

    #[test]
    fn dollars_charged_are_sats() {
        let btc = "100000".parse().unwrap();
        assert_eq!(
            dollars_in_sats(1_000_000_000, btc).unwrap().to_string(),
            "1000"
        );
        assert_eq!(dollars_in_sats(1, btc).unwrap().to_string(), "0.000001");
        assert_eq!(dollars_in_sats(0, btc), Some(Sats::ZERO));
        assert!(dollars_in_sats(u64::MAX, btc).is_some());
    }

    proptest! {
        #[test]
        fn every_spelling_of_an_amount_is_the_same_rate(units in 0..1_000_000_000_000_u64, shift in 0..24_i32) {
            let plain = format!("{units}e-{shift}");
            let width = usize::try_from(shift).unwrap() + 1;
            let digits = format!("{units:0>width$}");
            let (whole, part) = digits.split_at(digits.len() - (width - 1));
            let spelt = format!("{whole}.{part}0");
            let of = |text: &str| published_rates(&price(Currency::Sats, text, "0"), None);
            prop_assert_eq!(of(&plain), of(&spelt));
        }

        #[test]
        fn rounding_goes_up_and_by_less_than_one_unit(digits in 1..1_000_000_000_000_u64, btc in 1_000..100_000_000_u64) {
            let published = price(Currency::Dollars, &format!("{digits}e-15"), "0");
            let rates = published_rates(&published, btc.to_string().parse().ok()).unwrap();
            // digits * 10^-15 dollars a token are digits * 100 / btc thousandths of a sat per million.
            let exact = u128::from(digits) * 100;
            let got = u128::from(rates.input.millisats_per_million()) * u128::from(btc);
            prop_assert!(got >= exact && got - exact < u128::from(btc));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,70}") {
            let _ = published_rates(&price(Currency::Dollars, &text, &text), "77777.7".parse().ok());
            let _ = text.parse::<BtcPrice>().map(|price| price.to_string());
        }
    }
}
