//! A request's name and the moment it came, which everything later refers to.

use std::fmt;
use std::ops::Deref;

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
        let timestamp_ms = clock::unix_ms();
        let id = name(timestamp_ms);
        Self {
            id: RequestId::of(id),
            at,
            read_at: at,
            timestamp_ms,
            random: id.as_u64_pair().1,
        }
    }
}

/// A UUIDv7 (RFC 9562, section 5.7) of its own for each request. Nobody needs those of one millisecond to be in order, which
/// would take a lock.
fn name(timestamp_ms: i64) -> Uuid {
    let millis = u64::try_from(timestamp_ms).unwrap_or(0);
    let nanos = (millis % 1000) as u32 * 1_000_000;
    Uuid::new_v7(Timestamp::from_unix(NoContext, millis / 1000, nanos))
}
