//! The only reader of time.
//!
//! Everything else takes the time as an argument, so that the logic can be tested at any moment; a lint holds the
//! rest of the workspace to it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time, for durations and deadlines.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the epoch, UTC, for records.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds since the epoch, UTC, for the log and for traces.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub(crate) fn unix_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Whole milliseconds of a duration, for headers and records.
pub(crate) fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole seconds since a moment, for those who read.
pub(crate) fn age_secs(since: Option<Instant>, now: Instant) -> Option<u64> {
    since.map(|since| now.saturating_duration_since(since).as_secs())
}
