//! Reads and writes fixed-point decimals as plain text.
//!
//! Amounts and rates share one grammar, so that a number means the same wherever it stands in a config:
//! `[+-] digits [. digits] [e [+-] digits]`, with `_` allowed between two digits as in TOML. The value is a whole number
//! of the smallest unit; digits beyond it must be zeros.

use std::fmt;

/// A decimal read as `units` of `10^-decimals`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// The text began with `-`.
    pub(crate) negative: bool,
    /// Distance from zero, in the smallest unit.
    pub(crate) units: u128,
}

/// Why a text is no fixed-point decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalError {
    /// Not `[+-] digits [. digits] [e [+-] digits]`.
    Malformed,
    /// A digit other than zero stands behind the last decimal kept.
    TooFine,
    /// Does not fit 128 bits.
    TooLarge,
}

/// Parses `text` with at most `decimals` digits that matter behind the point.
pub(crate) fn parse(text: &str, decimals: u32) -> Result<Fixed, DecimalError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().map_err(|_| DecimalError::Malformed)?;
            (mantissa, exponent)
        }
        None => (digits, 0),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((whole, part)) => {
            check_digits(part)?;
            (whole, part.trim_end_matches(['0', '_']))
        }
        None => (mantissa, ""),
    };
    let units = push_digits(0, whole)?;
    let part = part.bytes().filter(|byte| *byte != b'_');
    let behind_point = i64::try_from(part.clone().count()).unwrap_or(i64::MAX);
    let digits = part.into_iter().try_fold(units, push_digit)?;
    let units = scale(
        digits,
        i64::from(exponent) + i64::from(decimals) - behind_point,
    )?;
    Ok(Fixed { negative, units })
}

/// An exact decimal as text: no exponent, no trailing zeros; a valid JSON number too.
///
/// Held in place and made by hand, from the last digit to the first: a plan has a dozen amounts, and each request a plan.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    text: [u8; LONGEST],
    start: usize,
}

impl Decimal {
    /// The text of `units` of `10^-DECIMALS`.
    pub(crate) fn new<const DECIMALS: u32>(negative: bool, units: u128) -> Self {
        let scale = const { 10_u64.pow(DECIMALS) };
        let mut decimal = Self {
            text: [0; LONGEST],
            start: LONGEST,
        };
        // Almost all amounts fit the machine's own division.
        if let Ok(units) = u64::try_from(units) {
            decimal.push_part(units % scale, DECIMALS);
            decimal.push_whole(units / scale);
        } else {
            let part = units % u128::from(scale);
            decimal.push_part(u64::try_from(part).unwrap_or_default(), DECIMALS);
            decimal.push_large(units / u128::from(scale));
        }
        if negative {
            decimal.push(b'-');
        }
        decimal
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text, ASCII all of it, for whoever copies it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }

    /// What stands behind the point, and the point; nothing where that is nothing.
    fn push_part(&mut self, mut part: u64, mut digits: u32) {
        if part == 0 {
            return;
        }
        while part.is_multiple_of(10) {
            part /= 10;
            digits -= 1;
        }
        for _ in 0..digits {
            self.push_digit(part % 10);
            part /= 10;
        }
        self.push(b'.');
    }

    fn push_whole(&mut self, mut whole: u64) {
        loop {
            self.push_digit(whole % 10);
            whole /= 10;
            if whole == 0 {
                return;
            }
        }
    }

    fn push_large(&mut self, mut whole: u128) {
        loop {
            if let Ok(whole) = u64::try_from(whole) {
                return self.push_whole(whole);
            }
            self.push_digit(u64::try_from(whole % 10).unwrap_or_default());
            whole /= 10;
        }
    }

    fn push_digit(&mut self, digit: u64) {
        self.push(b"0123456789"[usize::try_from(digit).unwrap_or_default()]);
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.text[self.start] = byte;
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Room for the digits of a `u128`, a sign, a point and a zero before it.
const LONGEST: usize = 42;

/// `digits * 10^exponent`, if that is whole.
fn scale(digits: u128, exponent: i64) -> Result<u128, DecimalError> {
    if digits == 0 {
        return Ok(0);
    }
    let distance = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
    match (10_u128.checked_pow(distance), exponent < 0) {
        (Some(power), false) => digits.checked_mul(power).ok_or(DecimalError::TooLarge),
        (None, false) => Err(DecimalError::TooLarge),
        (Some(power), true) if digits.is_multiple_of(power) => Ok(digits / power),
        (_, true) => Err(DecimalError::TooFine),
    }
}

fn push_digits(start: u128, digits: &str) -> Result<u128, DecimalError> {
    check_digits(digits)?;
    digits
        .bytes()
        .filter(|byte| *byte != b'_')
        .try_fold(start, push_digit)
}

fn push_digit(units: u128, digit: u8) -> Result<u128, DecimalError> {
    units
        .checked_mul(10)
        .and_then(|units| units.checked_add(u128::from(digit - b'0')))
        .ok_or(DecimalError::TooLarge)
}

/// Digits only, at least one, each `_` between two of them.
fn check_digits(digits: &str) -> Result<(), DecimalError> {
    let mut after_digit = false;
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => after_digit = true,
            b'_' if after_digit => after_digit = false,
            _ => return Err(DecimalError::Malformed),
        }
    }
    if after_digit {
        Ok(())
    } else {
        Err(DecimalError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_grammar_and_nothing_else() {
        type Read = Result<(bool, u128), DecimalError>;
        let cases: [(&str, Read); 31] = [
            ("0", Ok((false, 0))),
            ("1", Ok((false, 1000))),
            ("-1", Ok((true, 1000))),
            ("+1.5", Ok((false, 1500))),
            ("0.001", Ok((false, 1))),
            ("007.25", Ok((false, 7250))),
            ("10_000.5", Ok((false, 10_000_500))),
            ("1.00000", Ok((false, 1000))),
            ("1.0001", Err(DecimalError::TooFine)),
            ("", Err(DecimalError::Malformed)),
            ("-", Err(DecimalError::Malformed)),
            (".5", Err(DecimalError::Malformed)),
            ("5.", Err(DecimalError::Malformed)),
            ("1e4", Ok((false, 10_000_000))),
            ("-2.5E-2", Ok((true, 25))),
            ("1.25e+1", Ok((false, 12_500))),
            ("5e-4", Err(DecimalError::TooFine)),
            ("0e-99", Ok((false, 0))),
            ("1e36", Err(DecimalError::TooLarge)),
            ("1e2147483648", Err(DecimalError::Malformed)),
            ("1e", Err(DecimalError::Malformed)),
            ("e4", Err(DecimalError::Malformed)),
            ("1e4.5", Err(DecimalError::Malformed)),
            ("1__0", Err(DecimalError::Malformed)),
            ("_1", Err(DecimalError::Malformed)),
            ("1_", Err(DecimalError::Malformed)),
            ("1_.5", Err(DecimalError::Malformed)),
            ("1.2.3", Err(DecimalError::Malformed)),
            (" 1", Err(DecimalError::Malformed)),
            ("--1", Err(DecimalError::Malformed)),
            ("1٣", Err(DecimalError::Malformed)),
        ];
        for (text, want) in cases {
            let got = parse(text, 3).map(|fixed| (fixed.negative, fixed.units));
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let cases = [
            (false, 0, "0"),
            (false, 1, "0.001"),
            (true, 1000, "-1"),
            (false, 1500, "1.5"),
            (false, 100_000, "100"),
            (true, 7_250, "-7.25"),
            (false, u128::from(u64::MAX), "18446744073709551.615"),
            (false, u128::from(u64::MAX) + 1, "18446744073709551.616"),
            (true, u128::MAX, "-340282366920938463463374607431768211.455"),
            (
                false,
                u128::MAX / 1000 * 1000,
                "340282366920938463463374607431768211",
            ),
        ];
        for (negative, units, want) in cases {
            let decimal = Decimal::new::<3>(negative, units);
            assert_eq!(decimal.as_str(), want);
            let read = parse(want, 3).map(|fixed| (fixed.negative, fixed.units));
            assert_eq!(read, Ok((negative, units)));
        }
        assert_eq!(format!("{:>6}|", Decimal::new::<3>(false, 1500)), "   1.5|");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(parse(&"9".repeat(40), 0), Err(DecimalError::TooLarge));
        assert_eq!(parse(&"9".repeat(37), 3), Err(DecimalError::TooLarge));
    }
}
