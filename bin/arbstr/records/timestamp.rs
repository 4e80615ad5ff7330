//! Moments as people and programs write them, to and from milliseconds since the epoch, UTC.

use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// What [`parse`] understands, for messages.
pub(crate) const EXPECTED: &str = "a time such as 2026-01-31T12:00:00Z or 2026-01-31 (UTC unless it says otherwise), \
     milliseconds since 1970, or an age such as 90m, 24h or 7d";

/// What [`parse_age`] understands, for messages.
pub(crate) const EXPECTED_AGE: &str = "1h, 24h, 7d, 30d or another number of m, h, d or w";

/// The moment that `text` means at `now_ms`: ISO 8601, milliseconds since the epoch, or an age.
///
/// A time without a zone is UTC, and so is a date, which means its first moment. A zone by its name alone means nothing here.
pub(crate) fn parse(text: &str, now_ms: i64) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|ms| *ms <= LATEST_MS);
    }
    if let Some(age_ms) = parse_age(text) {
        return Some(now_ms.saturating_sub(age_ms));
    }
    // In a query string a `+` that nobody escaped arrives as a blank.
    let restored = if text.contains(['T', 't']) {
        text.replace(' ', "+")
    } else {
        text.to_owned()
    };
    let written = Pieces::parse(&restored).ok()?;
    let offset = match (written.to_numeric_offset(), written.time_zone_annotation()) {
        (Some(offset), _) => offset,
        (None, None) => Offset::UTC,
        (None, Some(_)) => return None,
    };
    let time = written.time().unwrap_or(Time::midnight());
    let local = written.date().to_datetime(time);
    match offset.to_timestamp(local) {
        Ok(moment) => Some(moment.as_millisecond()),
        // The last hours of the calendar, a usual way to say "for ever", are none of UTC's in every zone.
        Err(_) => (local.year() == 9999).then_some(LATEST_MS),
    }
}

/// The milliseconds of an age: `90m`, `24h`, `7d`, `2w`, with or without `last_`.
pub(crate) fn parse_age(text: &str) -> Option<i64> {
    let age = text.strip_prefix("last_").unwrap_or(text);
    let unit_ms = match age.chars().last()? {
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 604_800_000,
        _ => return None,
    };
    let count = &age[..age.len() - 1];
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: i64 = count.parse().ok()?;
    count
        .checked_mul(unit_ms)
        .filter(|age_ms| *age_ms > 0 && *age_ms <= LATEST_MS)
}

/// ISO 8601 in UTC with milliseconds, such as `2026-01-31T12:00:00.000Z`.
pub(crate) fn iso(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(moment) => format!("{moment:.3}"),
        Err(_) if (0..=LATEST_MS).contains(&ms) => last_hours(ms),
        // Beyond all calendars: the number says at least what is stored.
        Err(_) => ms.to_string(),
    }
}

/// The last hours of the calendar: some are in no time zone west of UTC, and so not among the library's moments.
fn last_hours(ms: i64) -> String {
    let before = Timestamp::from_millisecond(ms - 2 * 86_400_000)
        .map(|moment| TimeZone::UTC.to_datetime(moment));
    let then = before.and_then(|before| before.checked_add(2.days()));
    then.map_or_else(|_| ms.to_string(), |then| format!("{then:.3}Z"))
}

/// The same for a person to read, to the second: `2026-01-31 12:00:00`.
pub(crate) fn plain(ms: i64) -> String {
    let iso = iso(ms);
    match iso.get(..19) {
        Some(seconds) => seconds.replace('T', " "),
        None => iso,
    }
}

/// The last millisecond of the year 9999.
const LATEST_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn reads_what_people_and_programs_write() {
        let noon = Some(1_769_860_800_000);
        for (text, ms) in [
            ("1769860800000", noon),
            ("0", Some(0)),
            ("2026-01-31T12:00:00Z", noon),
            ("2026-01-31t12:00:00z", noon),
            ("2026-01-31T12:00:00.000Z", noon),
            ("2026-01-31T12:00", noon),
            ("2026-01-31 12:00:00", noon),
            ("2026-01-31T14:00:00+02:00", noon),
            ("2026-01-31T14:00:00 02:00", noon),
            ("2026-01-31T05:30:00-06:30", noon),
            ("2026-01-31T12:00:00.0019Z", Some(1_769_860_800_001)),
            ("2026-01-31", Some(1_769_817_600_000)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("24h", Some(NOW - 86_400_000)),
            ("last_24h", Some(NOW - 86_400_000)),
            ("7d", Some(NOW - 604_800_000)),
            ("1w", Some(NOW - 604_800_000)),
            ("90m", Some(NOW - 5_400_000)),
            ("253402300799999", Some(LATEST_MS)),
            ("253402300800000", None),
            ("9999-12-31", Some(LATEST_MS)),
            ("9999-12-31T23:59:59Z", Some(LATEST_MS)),
            ("9999-12-31T23:59:59.999Z", Some(LATEST_MS)),
            ("9999-12-31T23:59:59-05:00", Some(LATEST_MS)),
            ("-009999-01-01", None),
            ("2026-01-31T14:00:00+02:00[Europe/Kyiv]", noon),
            ("2026-01-31T14:00:00[Europe/Kyiv]", None),
            ("2026-01-31[Europe/Kyiv]", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("1e12", None),
            ("1.5", None),
            ("yesterday", None),
            ("2026-13-01", None),
            ("2026-02-30", None),
            ("2026-01-31T25:00:00Z", None),
            ("2026-01-31T12:00:00X", None),
            ("31.01.2026", None),
            ("0h", None),
            ("h", None),
            ("-1h", None),
            ("+1h", None),
            ("1.5h", None),
            ("1y", None),
            ("last_", None),
            ("last_last_1h", None),
            ("9999999999999999999h", None),
            ("٣h", None),
            ("日", None),
        ] {
            assert_eq!(parse(text, NOW), ms, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for ms in [0, 1, -1, NOW, NOW + 7, LATEST_MS] {
            assert_eq!(parse(&iso(ms), 0), Some(ms), "{}", iso(ms));
        }
        assert_eq!(iso(1_769_860_800_000), "2026-01-31T12:00:00.000Z");
        assert_eq!(plain(1_769_860_800_999), "2026-01-31 12:00:00");
        assert_eq!(iso(LATEST_MS), "9999-12-31T23:59:59.999Z");
        assert_eq!(iso(LATEST_MS - 86_400_000), "9999-12-30T23:59:59.999Z");
        assert_eq!(iso(LATEST_MS + 1), (LATEST_MS + 1).to_string());
        assert_eq!(iso(i64::MAX), i64::MAX.to_string());
        assert!(!plain(i64::MIN).is_empty());
    }
}
