//! How a distribution of durations is kept small: counts per bucket, from which percentiles come within 5 %.
//!
//! A bucket below 32 ms is one millisecond; above, each doubling is cut into 16 buckets of equal width, so the middle
//! of a bucket is at most 1/32 of its value away from any value in it. In the database a histogram is a BLOB: for each
//! bucket with something in it the distance to the one before and its count, both LEB128.

use std::time::Duration;

/// Counts of values, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// By bucket, as far as the highest one in use.
    counts: Vec<u64>,
    total: u64,
}

/// The values below which half, 95 % and 99 % of all lie, by the nearest rank; within 5 %, exact below 32 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: Duration,
    /// The 95th percentile.
    pub p95: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// A BLOB that is no histogram.
#[derive(Debug, thiserror::Error)]
#[error("a histogram in the database cannot be read")]
pub(crate) struct Damaged;

impl Histogram {
    /// Counts one value.
    pub(crate) fn add(&mut self, millis: u64) {
        self.add_many(bucket_of(millis), 1);
    }

    /// Counts everything that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.reach(other.counts.len());
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total = self.total.saturating_add(other.total);
    }

    /// Undoes the merging of `other`.
    pub(crate) fn take_off(&mut self, other: &Self) {
        for (count, less) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_sub(*less);
        }
        self.total = self.total.saturating_sub(other.total);
    }

    /// Counts everything that is in `bytes`, which [`Self::encode`] made.
    pub(crate) fn merge_encoded(&mut self, mut bytes: &[u8]) -> Result<(), Damaged> {
        let mut bucket = 0;
        while !bytes.is_empty() {
            let distance = take_number(&mut bytes).ok_or(Damaged)?;
            let count = take_number(&mut bytes).ok_or(Damaged)?;
            let distance = usize::try_from(distance).map_err(|_| Damaged)?;
            bucket = distance.checked_add(bucket).ok_or(Damaged)?;
            if bucket >= BUCKETS {
                return Err(Damaged);
            }
            self.add_many(bucket, count);
        }
        Ok(())
    }

    /// The counts as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * self.counts.len());
        let mut last = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            if *count > 0 {
                put_number(&mut bytes, (bucket - last) as u64);
                put_number(&mut bytes, *count);
                last = bucket;
            }
        }
        bytes
    }

    /// What the counts say; `None` without a value.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (self.total > 0).then(|| Percentiles {
            p50: self.percentile(50),
            p95: self.percentile(95),
            p99: self.percentile(99),
        })
    }

    fn percentile(&self, percent: u64) -> Duration {
        let rank = (u128::from(self.total) * u128::from(percent)).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Duration::from_millis(middle_of(bucket));
            }
        }
        Duration::ZERO
    }

    fn add_many(&mut self, bucket: usize, count: u64) {
        self.reach(bucket + 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// Makes room for the first `buckets`.
    fn reach(&mut self, buckets: usize) {
        if self.counts.len() < buckets {
            self.counts.resize(buckets, 0);
        }
    }
}

fn bucket_of(millis: u64) -> usize {
    if let Ok(exact @ 0..EXACT) = usize::try_from(millis) {
        return exact;
    }
    let power = millis.ilog2();
    // Between 16 and 31: the five leading bits.
    let leading = millis >> (power - 4);
    let within = usize::try_from(leading).unwrap_or(0) - PER_DOUBLING;
    EXACT + (power as usize - 5) * PER_DOUBLING + within
}

fn middle_of(bucket: usize) -> u64 {
    if bucket < EXACT {
        return bucket as u64;
    }
    let above = bucket - EXACT;
    let shift = above / PER_DOUBLING + 1;
    let leading = (above % PER_DOUBLING + PER_DOUBLING) as u64;
    (leading << shift) + (1 << (shift - 1))
}

fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    take_long_number(bytes)
}

fn take_long_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Values below have a bucket of their own.
const EXACT: usize = 32;
const PER_DOUBLING: usize = 16;
/// As many as 64 bits need.
const BUCKETS: usize = EXACT + 59 * PER_DOUBLING;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.add(*value);
        }
        histogram
    }

    #[test]
    fn percentiles_of_few_values_are_those_values() {
        assert_eq!(Histogram::default().percentiles(), None);
        let found = of(&[7]).percentiles().unwrap();
        assert_eq!(
            (found.p50, found.p99),
            (Duration::from_millis(7), Duration::from_millis(7))
        );
        let found = of(&[1, 2, 3, 30]).percentiles().unwrap();
        assert_eq!(
            (found.p50, found.p95),
            (Duration::from_millis(2), Duration::from_millis(30))
        );
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [&[0x80][..], &[1], &[0xff; 20], &[0xff, 0x7f, 1]] {
            assert!(
                Histogram::default().merge_encoded(bytes).is_err(),
                "{bytes:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_value_is_near_the_middle_of_its_bucket(shift in 0..64_u32, value in any::<u64>()) {
            let value = value >> shift;
            let bucket = bucket_of(value);
            prop_assert!(bucket < BUCKETS);
            let error = u128::from(middle_of(bucket).abs_diff(value));
            prop_assert!(error * 32 <= u128::from(value), "{value} in {bucket}");
            prop_assert!(value >= EXACT as u64 || error == 0);
        }

        #[test]
        fn buckets_are_in_order(a in any::<u64>(), b in any::<u64>(), shift in 0..64_u32) {
            let (a, b) = (a >> shift, b >> shift);
            prop_assert!((a <= b) == (bucket_of(a) <= bucket_of(b)) || bucket_of(a) == bucket_of(b));
        }

        #[test]
        fn bytes_bring_back_what_was_counted(a in proptest::collection::vec(any::<u32>(), 0..50), b in any::<u64>()) {
            let mut whole = of(&a.iter().map(|value| u64::from(*value)).collect::<Vec<_>>());
            let mut read = Histogram::default();
            read.merge_encoded(&whole.encode()).unwrap();
            prop_assert_eq!(&read, &whole);
            read.merge_encoded(&of(&[b]).encode()).unwrap();
            whole.merge(&of(&[b]));
            prop_assert_eq!(read, whole);
        }
    }
}
