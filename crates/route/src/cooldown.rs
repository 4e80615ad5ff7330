//! How long a provider asks to be left alone.
//!
//! `Retry-After` comes as seconds or as an HTTP date. The date needs to know what time it is, so that is an argument;
//! the date's three spellings (RFC 9110, section 5.6.7) are read without a calendar library.

use std::time::Duration;

/// Reads a `Retry-After`: whole seconds, or an HTTP date as seen from `unix_now_secs`. A date that has passed is zero;
/// anything else is `None`. No wait is longer than an hour, so that a slip of the pen shuts nobody out for a year.
#[must_use]
pub fn parse_retry_after(value: &str, unix_now_secs: i64) -> Option<Duration> {
    let value = value.trim();
    let secs = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().unwrap_or(u64::MAX)
    } else {
        let due = parse_http_date(value)?;
        u64::try_from(due.saturating_sub(unix_now_secs)).unwrap_or(0)
    };
    Some(Duration::from_secs(secs).min(LONGEST))
}

/// Reads a `retry-after-ms`: whole milliseconds, an hour at most; anything else is `None`.
#[must_use]
pub fn parse_retry_after_ms(value: &str) -> Option<Duration> {
    let ms = value.trim().parse().ok()?;
    Some(Duration::from_millis(ms).min(LONGEST))
}

/// The longest wait that is believed.
const LONGEST: Duration = Duration::from_secs(3600);

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
/// `Sun Nov  6 08:49:37 1994`.
fn parse_http_date(text: &str) -> Option<i64> {
    let mut words = text.split([' ', ',', '-']).filter(|word| !word.is_empty());
    let _weekday = words.next()?;
    let rest: Vec<&str> = words.take(6).collect();
    let (day, month, year, time) = match rest[..] {
        [day, month, year, time, "GMT" | "UTC"] => (day, month, year, time),
        [month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let days = days_since_epoch(
        full_year(year)?,
        i64::try_from(month).ok()?,
        number(day, 31)?,
    );
    Some(days * 86_400 + seconds_of_day(time)?)
}

fn seconds_of_day(time: &str) -> Option<i64> {
    let mut parts = time.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?)
}

/// Two digits belong to this century up to 69, as in C's `strptime`.
fn full_year(text: &str) -> Option<i64> {
    let year = number(text, 9999)?;
    match text.len() {
        2 if year < 70 => Some(year + 2000),
        2 => Some(year + 1900),
        4 => Some(year),
        _ => None,
    }
}

fn number(text: &str, max: i64) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok())??;
    (value <= max).then_some(value)
}

/// Days from 1970-01-01 in the Gregorian calendar; `month` counts from 0, `day` from 1. Years are counted from March,
/// so that the leap day is the last one.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 784_111_777; // 6 November 1994, 08:49:37

    #[test]
    fn reads_both_forms() {
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:49:38 1994", Some(1)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("", None),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 PST", None),
        ];
        for (value, secs) in cases {
            let want = secs.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, NOW), want, "{value:?}");
        }
    }

    #[test]
    fn reads_milliseconds() {
        let cases = [
            ("900", Some(900)),
            (" 0 ", Some(0)),
            ("86400000", Some(3_600_000)),
            ("1.5", None),
            ("-1", None),
            ("", None),
        ];
        for (value, ms) in cases {
            let want = ms.map(Duration::from_millis);
            assert_eq!(parse_retry_after_ms(value), want, "{value:?}");
        }
    }

    #[test]
    fn counts_days_across_leap_years() {
        let cases = [
            ((1970, 0, 1), 0),
            ((1972, 1, 29), 789),
            ((1972, 2, 1), 790),
            ((2000, 1, 29), 11_016),
            ((2100, 2, 1), 47_541),
            ((2026, 10, 21), 20_778),
        ];
        for ((year, month, day), want) in cases {
            assert_eq!(
                days_since_epoch(year, month, day),
                want,
                "{year} {month} {day}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value in "\\PC{0,40}", now: i64) {
            let _ = parse_retry_after(&value, now);
            let _ = parse_retry_after(&format!("Sun, {value} 1994 08:49:37 GMT"), now);
        }
    }
}
