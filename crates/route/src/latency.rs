//! How long a provider takes to begin its answers, remembered with decay.
//!
//! Times fall into buckets that grow by the square root of two, so that a memory of fixed size gives both the usual
//! time and the slow tail. Each new time fades the older ones: the memory reaches back some fifty answers.

use std::time::Duration;

use crate::learn::faded;
use crate::learn::save::{LoadError, Moment, Reader, Stored, Writer};

/// A decayed histogram of times.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    weights: [f32; BUCKETS],
    mean_ms: f32,
    total: f32,
}

impl Latency {
    /// No times yet.
    pub(crate) const fn new() -> Self {
        Self {
            weights: [0.0; BUCKETS],
            mean_ms: 0.0,
            total: 0.0,
        }
    }

    /// Remembers one more time.
    pub(crate) fn record(&mut self, time: Duration) {
        let ms = time.as_secs_f32() * 1000.0;
        for weight in &mut self.weights {
            *weight = faded(*weight * FADE);
        }
        self.total = self.total.mul_add(FADE, 1.0);
        self.weights[bucket(ms)] += 1.0;
        self.mean_ms += (ms - self.mean_ms) / self.total;
    }

    /// The usual time; `None` before the first.
    pub(crate) fn mean(&self) -> Option<Duration> {
        (self.total > 0.0).then(|| Duration::from_secs_f32(self.mean_ms.max(0.0) / 1000.0))
    }

    /// The time that 19 of 20 answers keep to, rounded up to a bucket; `None` before the first.
    pub(crate) fn p95(&self) -> Option<Duration> {
        let allowed = self.total * 0.05;
        let mut slower = 0.0;
        for (index, weight) in self.weights.iter().enumerate().rev() {
            slower += weight;
            if slower > allowed {
                return Some(upper_bound(index));
            }
        }
        None
    }
}

impl Stored for Latency {
    fn write(&self, to: &mut Writer, _: Moment) {
        to.floats(&self.weights);
        to.floats(&[self.mean_ms, self.total]);
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        let mut latency = Self::new();
        for weight in &mut latency.weights {
            *weight = from.amount()?;
        }
        latency.mean_ms = from.amount()?.min(LONGEST_MS);
        latency.total = from.amount()?;
        Ok(latency)
    }
}

/// Buckets from 1 ms to about 17 minutes.
const BUCKETS: usize = 41;

/// Nothing takes longer than a day.
const LONGEST_MS: f32 = 86_400_000.0;

/// What is left of a weight after one more time.
const FADE: f32 = 0.98;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the number of buckets just before"
)]
fn bucket(ms: f32) -> usize {
    let index = (ms.max(1.0).log2() * 2.0).ceil();
    index.clamp(0.0, (BUCKETS - 1) as f32) as usize
}

fn upper_bound(index: usize) -> Duration {
    Duration::from_secs_f32((index as f32 / 2.0).exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn knows_nothing_before_the_first_time() {
        assert_eq!(Latency::new().mean(), None);
        assert_eq!(Latency::new().p95(), None);
    }

    #[test]
    fn tells_the_usual_time_from_the_tail() {
        let mut latency = Latency::new();
        for index in 0..200 {
            latency.record(ms(if index % 10 == 0 { 5000 } else { 100 }));
        }
        let (mean, p95) = (latency.mean().unwrap(), latency.p95().unwrap());
        assert!(mean > ms(300) && mean < ms(900), "{mean:?}");
        assert!(p95 >= ms(5000) && p95 < ms(7500), "{p95:?}");
    }

    #[test]
    fn forgets_what_is_long_past() {
        let mut latency = Latency::new();
        for _ in 0..100 {
            latency.record(ms(8000));
        }
        for _ in 0..300 {
            latency.record(ms(50));
        }
        assert!(latency.mean().unwrap() < ms(100));
        assert!(latency.p95().unwrap() < ms(100));
    }

    proptest! {
        #[test]
        fn no_time_panics(times in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut latency = Latency::new();
            for time in times {
                latency.record(Duration::from_nanos(time));
            }
            prop_assert!(latency.mean().is_some() && latency.p95().is_some());
        }
    }
}
