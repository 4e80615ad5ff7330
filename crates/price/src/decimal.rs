//! Reads and writes fixed-point decimals as plain text.
//!
//! Amounts and rates share one grammar, so that a number means the same wherever it stands in a config:
//! `[+-] digits [. digits]`, with `_` allowed between two digits as in TOML and no exponent. The value is a whole
//! number of the smallest unit; digits beyond it must be zeros.

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
pub(crate) enum Fault {
    /// Not `[+-] digits [. digits]`.
    Malformed,
    /// A digit other than zero stands behind the last decimal kept.
    TooFine,
    /// Does not fit 128 bits.
    TooLarge,
}

/// Parses `text` with at most `decimals` digits that matter behind the point.
pub(crate) fn parse(text: &str, decimals: u32) -> Result<Fixed, Fault> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, part) = match digits.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (digits, None),
    };
    let mut units = push_digits(0, whole)?;
    let mut left = decimals;
    if let Some(part) = part {
        check_digits(part)?;
        for digit in part.bytes().filter(|byte| *byte != b'_') {
            if left == 0 {
                if digit != b'0' {
                    return Err(Fault::TooFine);
                }
            } else {
                units = push_digit(units, digit)?;
                left -= 1;
            }
        }
    }
    for _ in 0..left {
        units = push_digit(units, b'0')?;
    }
    Ok(Fixed { negative, units })
}

/// Writes `units` of `10^-decimals`: no exponent, no trailing zeros, padded as the formatter asks.
///
/// By hand, from the last digit to the first: a plan has a dozen amounts, and each request a plan.
pub(crate) fn write(
    f: &mut fmt::Formatter<'_>,
    negative: bool,
    units: u128,
    decimals: u32,
) -> fmt::Result {
    let mut text = [b'0'; LONGEST];
    let mut at = LONGEST;
    let mut end = LONGEST;
    let mut left = units;
    let mut place = 0;
    while left > 0 || place <= decimals {
        if place == decimals && place > 0 && end > at {
            at -= 1;
            text[at] = b'.';
        }
        let (rest, digit) = split_digit(left);
        at -= 1;
        text[at] = digit;
        // Zeros behind the last digit that matters are left out.
        if place < decimals && digit == b'0' && end == at + 1 {
            end = at;
        }
        left = rest;
        place += 1;
    }
    if negative {
        at -= 1;
        text[at] = b'-';
    }
    f.pad(std::str::from_utf8(&text[at..end]).unwrap_or_default())
}

/// The number without its last digit, and that digit. Almost all amounts fit the machine's own division.
fn split_digit(number: u128) -> (u128, u8) {
    let (rest, digit) = match u64::try_from(number) {
        Ok(number) => (u128::from(number / 10), number % 10),
        Err(_) => (number / 10, u64::try_from(number % 10).unwrap_or_default()),
    };
    (
        rest,
        b"0123456789"[usize::try_from(digit).unwrap_or_default()],
    )
}

/// Room for the digits of a `u128`, a sign, a point and a zero before it.
const LONGEST: usize = 42;

fn push_digits(start: u128, digits: &str) -> Result<u128, Fault> {
    check_digits(digits)?;
    digits
        .bytes()
        .filter(|byte| *byte != b'_')
        .try_fold(start, push_digit)
}

fn push_digit(units: u128, digit: u8) -> Result<u128, Fault> {
    units
        .checked_mul(10)
        .and_then(|units| units.checked_add(u128::from(digit - b'0')))
        .ok_or(Fault::TooLarge)
}

/// Digits only, at least one, each `_` between two of them.
fn check_digits(digits: &str) -> Result<(), Fault> {
    let mut after_digit = false;
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => after_digit = true,
            b'_' if after_digit => after_digit = false,
            _ => return Err(Fault::Malformed),
        }
    }
    if after_digit {
        Ok(())
    } else {
        Err(Fault::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_grammar_and_nothing_else() {
        type Read = Result<(bool, u128), Fault>;
        let cases: [(&str, Read); 22] = [
            ("0", Ok((false, 0))),
            ("1", Ok((false, 1000))),
            ("-1", Ok((true, 1000))),
            ("+1.5", Ok((false, 1500))),
            ("0.001", Ok((false, 1))),
            ("007.25", Ok((false, 7250))),
            ("10_000.5", Ok((false, 10_000_500))),
            ("1.00000", Ok((false, 1000))),
            ("1.0001", Err(Fault::TooFine)),
            ("", Err(Fault::Malformed)),
            ("-", Err(Fault::Malformed)),
            (".5", Err(Fault::Malformed)),
            ("5.", Err(Fault::Malformed)),
            ("1e4", Err(Fault::Malformed)),
            ("1__0", Err(Fault::Malformed)),
            ("_1", Err(Fault::Malformed)),
            ("1_", Err(Fault::Malformed)),
            ("1_.5", Err(Fault::Malformed)),
            ("1.2.3", Err(Fault::Malformed)),
            (" 1", Err(Fault::Malformed)),
            ("--1", Err(Fault::Malformed)),
            ("1٣", Err(Fault::Malformed)),
        ];
        for (text, want) in cases {
            let got = parse(text, 3).map(|fixed| (fixed.negative, fixed.units));
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(parse(&"9".repeat(40), 0), Err(Fault::TooLarge));
        assert_eq!(parse(&"9".repeat(37), 3), Err(Fault::TooLarge));
    }
}
