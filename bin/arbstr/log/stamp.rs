//! Times as RFC 3339 text, to the microsecond, in UTC.

use std::cell::Cell;

/// Appends a time, given in microseconds since the epoch. The text of a second is written once and then copied.
pub(super) fn write(out: &mut Vec<u8>, micros: i64) {
    let second = micros.div_euclid(1_000_000);
    let (cached, mut text) = SECOND.get();
    if cached != second {
        text = second_text(second);
        SECOND.set((second, text));
    }
    out.extend_from_slice(&text);
    out.push(b'.');
    out.extend_from_slice(&digits::<6>(micros.rem_euclid(1_000_000)));
    out.push(b'Z');
}

/// `2026-11-21T07:04:43`
fn second_text(second: i64) -> [u8; 19] {
    let (year, month, day) = civil(second.div_euclid(86_400));
    let of_day = second.rem_euclid(86_400);
    let mut text = *b"0000-00-00T00:00:00";
    text[..4].copy_from_slice(&digits::<4>(year));
    let pairs = [
        (5, month),
        (8, day),
        (11, of_day / 3600),
        (14, of_day / 60 % 60),
        (17, of_day % 60),
    ];
    for (at, value) in pairs {
        text[at..at + 2].copy_from_slice(&digits::<2>(value));
    }
    text
}

/// Year, month and day of a day counted from the epoch: eras of 400 years, years that begin in March.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn digits<const N: usize>(mut value: i64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
        value = value.div_euclid(10);
    }
    text
}

thread_local! {
    static SECOND: Cell<(i64, [u8; 19])> = const { Cell::new((i64::MIN, [0; 19])) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_moments_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_000_001, "2024-02-29T23:59:59.000001Z"),
            (1_795_244_683_123_456, "2026-11-21T07:04:43.123456Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ];
        for (micros, expected) in cases {
            let mut out = Vec::new();
            write(&mut out, micros);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
