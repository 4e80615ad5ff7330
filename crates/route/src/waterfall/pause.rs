//! How long to pause before the same candidate is asked again.
//!
//! The bound doubles with each try, and the pause is anything below it: requests that failed together do not come
//! back together.

use std::time::Duration;

/// How often and how fast is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts per request at most; 0 counts as 1.
    pub max_attempts: u32,
    /// The bound of the first random pause before the same candidate is asked again; it doubles each time.
    pub backoff_base: Duration,
    /// Quick tries again at a candidate before the next one.
    pub same_provider_first: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            backoff_base: Duration::from_millis(200),
            same_provider_first: 0,
        }
    }
}

impl Retry {
    /// The pause after the given number of tries, by `dice`.
    pub(super) fn backoff(&self, tries: u32, dice: u64) -> Duration {
        let doublings = tries.saturating_sub(1).min(16);
        let bound = self.backoff_base.saturating_mul(1 << doublings);
        up_to(bound.min(LONGEST_BACKOFF), dice)
    }
}

/// The longest pause on our own account.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Anything below `bound`, by `dice`.
pub(super) fn up_to(bound: Duration, dice: u64) -> Duration {
    let width = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let share = (u128::from(mix(dice, 0)) * u128::from(width)) >> 64;
    Duration::from_nanos(u64::try_from(share).unwrap_or(width))
}

/// Makes one random number serve several uses (the finaliser of SplitMix64).
pub(super) const fn mix(dice: u64, salt: usize) -> u64 {
    let mut z = dice.wrapping_add((salt as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_and_the_pause_is_drawn_at_random() {
        let retry = Retry::default();
        for (tries, bound_ms) in [
            (0, 200),
            (1, 200),
            (2, 400),
            (3, 800),
            (6, 6400),
            (7, 10_000),
            (40, 10_000),
        ] {
            let pauses: Vec<u128> = (0..1000)
                .map(|dice| retry.backoff(tries, dice).as_millis())
                .collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(
                *most < bound_ms && *most > bound_ms * 9 / 10,
                "{tries}: {most}"
            );
            assert!(*least < bound_ms / 10, "{tries}: {least}");
        }
    }

    #[test]
    fn no_setting_panics() {
        let retry = Retry {
            backoff_base: Duration::MAX,
            ..Retry::default()
        };
        assert!(retry.backoff(u32::MAX, u64::MAX) <= LONGEST_BACKOFF);
    }
}
