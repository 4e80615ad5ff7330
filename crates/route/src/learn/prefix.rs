//! Who has seen which conversation.
//!
//! A provider that prices cached input makes it worth something to go back to whoever served the turn before. Leading
//! messages are known by name only; a name maps to the offers that were sent it, with the time. Entries expire, and when
//! there are too many the oldest go.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::profile::HeldPrefix;
use crate::shape::Prefix;

/// The prefixes that offers have seen.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    seen: Mutex<Seen>,
}

/// Behind the lock: the name of a prefix, and who has seen it.
pub(crate) type Seen = HashMap<u64, Vec<Holder>, BuildHasherDefault<NameHasher>>;

/// An offer that was sent a prefix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Holder {
    /// The offer's name.
    pub(crate) offer: u64,
    pub(crate) at: Instant,
}

impl Prefixes {
    /// Notes that `offer` was sent all of `prefixes`; what it had seen of them before.
    pub(crate) fn note(&self, prefixes: &[Prefix], offer: u64, now: Instant) -> Option<HeldPrefix> {
        if prefixes.is_empty() {
            return None;
        }
        let mut seen = self.lock();
        if seen.len() + prefixes.len() > MOST_NAMES {
            forget(&mut seen, now);
        }
        let mut held = None;
        for prefix in prefixes {
            let holders = seen.entry(prefix.name).or_default();
            let known = holders.iter().position(|holder| holder.offer == offer);
            if let Some(place) = known {
                let age = now.saturating_duration_since(holders.remove(place).at);
                let tokens = prefix.tokens;
                // The longest counts, which comes last.
                held = (age < EXPIRY)
                    .then_some(HeldPrefix { tokens, age })
                    .or(held);
            } else if holders.len() == MOST_HOLDERS {
                holders.remove(0);
            }
            holders.push(Holder { offer, at: now });
        }
        held
    }

    /// Who has seen how much of a request with these `prefixes`: each offer once, with the longest.
    pub(crate) fn holders(&self, prefixes: &[Prefix], now: Instant) -> Vec<(u64, HeldPrefix)> {
        if prefixes.is_empty() {
            return Vec::new();
        }
        let seen = self.lock();
        let mut found: Vec<(u64, HeldPrefix)> = Vec::new();
        for prefix in prefixes.iter().rev() {
            for holder in seen.get(&prefix.name).into_iter().flatten() {
                let age = now.saturating_duration_since(holder.at);
                let is_new = found.iter().all(|(offer, _)| *offer != holder.offer);
                if is_new && age < EXPIRY {
                    let tokens = prefix.tokens;
                    found.push((holder.offer, HeldPrefix { tokens, age }));
                }
            }
        }
        found
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names are well spread already.
#[derive(Debug, Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, name: u64) {
        self.0 = name;
    }
}

/// Lets expired entries go; if that is not enough, the older half.
fn forget(seen: &mut Seen, now: Instant) {
    let newest = |holders: &Vec<Holder>| holders.last().map(|holder| holder.at);
    seen.retain(|_, holders| {
        holders.retain(|holder| now.saturating_duration_since(holder.at) < EXPIRY);
        !holders.is_empty()
    });
    if seen.len() <= MOST_NAMES / 2 {
        return;
    }
    let mut times: Vec<Option<Instant>> = seen.values().map(newest).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    let mut room = MOST_NAMES / 2;
    seen.retain(|_, holders| {
        let keep = newest(holders) >= median && room > 0;
        room -= usize::from(keep);
        keep
    });
}

/// No provider is known to keep a prefix longer without being paid for it.
pub(crate) const EXPIRY: Duration = Duration::from_secs(3600);
/// Names kept, of all conversations.
pub(crate) const MOST_NAMES: usize = 32_768;
/// Offers kept of one prefix.
pub(crate) const MOST_HOLDERS: usize = 6;
