//! A request's name and the moment it came, which everything later refers to.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use uuid::fmt::Hyphenated;
use uuid::{NoContext, Timestamp, Uuid};

use crate::clock;

/// When a request came, and the name it goes by from then on.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The UUIDv7 of `x-arbstr-request-id` and of the record.
    pub(crate) id: RequestId,
    /// For durations.
    pub(crate) at: std::time::Instant,
    /// When all of it had come.
    pub(crate) read_at: std::time::Instant,
    /// For the record: ms since the epoch.
    pub(crate) timestamp_ms: i64,
    /// Differs from request to request.
    pub(crate) random: u64,
}

/// The name of a request: a UUID as text, which each stage has its own copy of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId([u8; Hyphenated::LENGTH]);

impl RequestId {
    fn of(id: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).expect("a UUID is ASCII")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl Arrival {
    /// A request that has just come.
    pub(crate) fn now() -> Self {
        let at = clock::now();
        let timestamp_us = clock::unix_micros();
        let id = name(timestamp_us);
        Self {
            id: RequestId::of(id),
            at,
            read_at: at,
            timestamp_ms: timestamp_us.div_euclid(1000),
            random: id.as_u64_pair().1,
        }
    }

    /// The moment that long after it came, in ms since the epoch, whatever was done to the system's clock meanwhile.
    pub(crate) fn unix_ms_after(&self, duration: Duration) -> i64 {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.timestamp_ms.saturating_add(ms)
    }
}

/// A UUIDv7 (RFC 9562, section 5.7) of its own for each request. The microseconds stand behind the milliseconds (section 6.2,
/// method 3), so that names sort by arrival; for those of one microsecond that would take a lock.
fn name(timestamp_us: i64) -> Uuid {
    let micros = u64::try_from(timestamp_us).unwrap_or(0);
    let (millis, rest) = (micros / 1000, micros % 1000);
    let nanos = (millis % 1000) as u32 * 1_000_000;
    let random = Uuid::new_v7(Timestamp::from_unix(NoContext, millis / 1000, nanos));
    // In 4,096ths of a millisecond.
    let [.., high, low] = (rest * 4096 / 1000).to_be_bytes();
    let mut bytes = random.into_bytes();
    (bytes[6], bytes[7]) = (0x70 | high, low);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_the_microsecond_and_are_uuids_of_version_7() {
        let start = 1_795_355_839_856_000;
        let moments = [0, 1, 2, 998, 999, 1000, 1001, 999_999, 1_000_000];
        let names = moments.map(|after| name(start + after));
        assert!(names.is_sorted(), "{names:?}");
        for (name, after) in names.iter().zip(moments) {
            assert_eq!(name.get_version_num(), 7);
            assert_eq!(name.get_variant(), uuid::Variant::RFC4122);
            let (seconds, nanos) = name.get_timestamp().expect("it has one").to_unix();
            let millis = seconds * 1000 + u64::from(nanos) / 1_000_000;
            assert_eq!(millis as i64, (start + after) / 1000);
        }
        assert_ne!(name(start), name(start));
        assert_ne!(name(-1), name(-1));
    }
}
