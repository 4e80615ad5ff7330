//! JSON numbers as exact integers: no float touches a count or a price.

/// Significant digits that are kept; what a number has beyond them only says that it is not whole.
const MAX_DIGITS: u32 = 36;
/// Fewer than can exceed `u64`.
const MAX_PLAIN_DIGITS: usize = 20;

/// The number as a whole one, if that is what it is: `12`, `12.0`, `1.2e1`, but not `12.5`, `-1`, or over `u64`.
pub(crate) fn whole_number(raw: &[u8]) -> Option<u64> {
    // Nearly all counts are a few digits.
    if raw.len() < MAX_PLAIN_DIGITS
        && let Some(count) = raw.iter().try_fold(0, append_digit)
    {
        return Some(count);
    }
    let (units, exact) = scale(raw, 0)?;
    if exact {
        u64::try_from(units).ok()
    } else {
        None
    }
}

fn append_digit(count: u64, byte: &u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(count * 10 + u64::from(byte - b'0')),
        _ => None,
    }
}

/// The number in units of `10^-places`, rounded half up; `None` when it is negative or over `u64`.
pub(crate) fn rounded_units(raw: &[u8], places: i64) -> Option<u64> {
    u64::try_from(scale(raw, places)?.0).ok()
}

/// A valid JSON number times `10^places`, rounded, and whether that lost nothing. `None` when negative or far too large.
fn scale(raw: &[u8], places: i64) -> Option<(u128, bool)> {
    let Parts {
        digits,
        mut exponent,
        mut exact,
        negative,
    } = Parts::read(raw)?;
    if digits == 0 {
        return Some((0, exact));
    }
    if negative {
        return None;
    }
    exponent = exponent.checked_add(places)?;
    let magnitude = u32::try_from(exponent.unsigned_abs()).ok();
    if exponent >= 0 {
        let factor = 10u128.checked_pow(magnitude?)?;
        return digits.checked_mul(factor).map(|units| (units, exact));
    }
    let Some(divisor) = magnitude.and_then(|places| 10u128.checked_pow(places)) else {
        return Some((0, false));
    };
    exact &= digits.is_multiple_of(divisor);
    let rounded = digits / divisor + u128::from(digits % divisor >= divisor.div_ceil(2));
    Some((rounded, exact))
}

/// A number taken apart: `digits * 10^exponent`, less what did not fit.
struct Parts {
    digits: u128,
    exponent: i64,
    exact: bool,
    negative: bool,
}

impl Parts {
    fn read(raw: &[u8]) -> Option<Self> {
        let negative = raw.first() == Some(&b'-');
        let body = &raw[usize::from(negative)..];
        let end = body
            .iter()
            .position(|byte| matches!(byte, b'e' | b'E'))
            .unwrap_or(body.len());
        let mut parts = Self {
            digits: 0,
            exponent: exponent_of(body.get(end + 1..).unwrap_or_default()),
            exact: true,
            negative,
        };
        let mut seen_point = false;
        let mut significant = 0;
        for &byte in &body[..end] {
            match byte {
                b'.' => seen_point = true,
                b'0'..=b'9' if significant < MAX_DIGITS => {
                    parts.digits = parts.digits * 10 + u128::from(byte - b'0');
                    significant += u32::from(parts.digits > 0);
                    parts.exponent = parts.exponent.saturating_sub(i64::from(seen_point));
                }
                b'0'..=b'9' => {
                    parts.exact &= byte == b'0';
                    parts.exponent = parts.exponent.saturating_add(i64::from(!seen_point));
                }
                _ => return None,
            }
        }
        Some(parts)
    }
}

/// The exponent's digits; one that does not fit is as good as the largest.
fn exponent_of(raw: &[u8]) -> i64 {
    let negative = raw.first() == Some(&b'-');
    let digits = raw.iter().filter(|byte| byte.is_ascii_digit());
    let size = digits.fold(0i64, |size, &digit| {
        size.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_by_value_not_by_spelling() {
        let cases: [(&str, Option<u64>); 16] = [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1.2e1", Some(12)),
            ("1200e-2", Some(12)),
            ("-0", Some(0)),
            ("0e999999999999999999999", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("12.5", None),
            ("-1", None),
            ("1e400", None),
            ("1e-400", None),
            ("1e99999999999999999999", None),
            ("1.0000000000000000000000000000000000000000000000001", None),
            (
                "100000000000000000000000000000000000000000000000000e-48",
                Some(100),
            ),
        ];
        for (raw, expected) in cases {
            assert_eq!(whole_number(raw.as_bytes()), expected, "{raw}");
        }
    }

    #[test]
    fn units_are_rounded_half_up() {
        let cases: [(&str, Option<u64>); 9] = [
            ("0.0076509169000000005", Some(7_650_917)),
            ("0.00007159", Some(71_590)),
            ("7.159e-05", Some(71_590)),
            ("0.0000000005", Some(1)),
            ("0.00000000049", Some(0)),
            ("1e-400", Some(0)),
            ("3", Some(3_000_000_000)),
            ("-0.5", None),
            ("99999999999", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(rounded_units(raw.as_bytes(), 9), expected, "{raw}");
        }
    }
}
