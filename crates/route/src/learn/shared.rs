//! What all models' demands share: what requests in general take, a clock, and one bound on what is kept.
//!
//! A model that nobody has asked for before is not a blank: its requests look like those for other models. And an
//! operator with a thousand models has no more memory than one with ten, so that the keys of all models together are
//! bounded as well as those of each. Keys that were not used for longest go first, whichever model's they are.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arbstr_price::Sats;

use super::demand::{Demand, DemandState, Evidence, median};
use crate::shape::Keys;

/// The demands of all models.
#[derive(Debug, Default)]
pub(crate) struct SharedDemand {
    /// What requests for any model gave.
    common: Mutex<DemandState>,
    /// Counts the requests planned.
    clock: AtomicU32,
    /// Keys of all models' demands.
    nodes: AtomicI64,
    demands: Mutex<Vec<Weak<Demand>>>,
    /// What trials were expected to cost more than the best candidate, in nanosats, since the process began.
    explored: AtomicU64,
}

impl SharedDemand {
    pub(super) fn admit(&self, demand: &Arc<Demand>) {
        let mut demands = self.demands();
        demands.retain(|known| known.strong_count() > 0);
        demands.push(Arc::downgrade(demand));
    }

    pub(super) fn tick(&self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    /// What requests for any model gave.
    pub(crate) fn common(&self) -> MutexGuard<'_, DemandState> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn learn(&self, keys: &Keys, evidence: &Evidence, server: u32) {
        self.common()
            .learn(keys, evidence, server, self.now(), |_, _| {});
    }

    /// Puts what was saved of requests in general in the place of what was learned.
    pub(crate) fn replace(&self, mut saved: DemandState) {
        saved.rebase(self.now());
        *self.common() = saved;
    }

    /// A demand has so many keys where it had so many before; when all of them have too many, the older half goes.
    pub(super) fn note_change(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        let change = count(after) - count(before);
        let nodes = self.nodes.fetch_add(change, Ordering::Relaxed) + change;
        if change > 0 && nodes > count(MOST_NODES_OF_ALL) {
            self.forget();
        }
    }

    /// A demand with so many keys is no more.
    pub(super) fn note_end(&self, held: usize) {
        self.nodes.fetch_sub(count(held), Ordering::Relaxed);
    }

    /// Notes what a trial is expected to cost more.
    pub(crate) fn note_trial(&self, premium: Sats) {
        let nanosats = u64::try_from(premium.nanosats()).unwrap_or_default();
        self.explored.fetch_add(nanosats, Ordering::Relaxed);
    }

    /// What all trials so far were expected to cost more.
    pub(crate) fn explored(&self) -> Sats {
        Sats::from_nanosats(self.explored.load(Ordering::Relaxed).into())
    }

    /// Lets the keys go that were not used for longest, until half of what there may be is left.
    fn forget(&self) {
        let listed = self.demands();
        let demands: Vec<Arc<Demand>> = listed.iter().filter_map(Weak::upgrade).collect();
        let now = self.now();
        let mut ages = Vec::new();
        for demand in &demands {
            let state = demand.lock();
            ages.extend(state.nodes.iter().map(|(_, node)| node.age(now)));
        }
        if ages.len() <= MOST_NODES_OF_ALL {
            // Somebody else was faster.
            return;
        }
        let median = median(ages);
        let mut gone = 0;
        for demand in &demands {
            let mut state = demand.lock();
            gone += state.nodes.len();
            state.nodes.retain(|node| node.age(now) < median);
            gone -= state.nodes.len();
        }
        self.nodes.fetch_sub(count(gone), Ordering::Relaxed);
    }

    fn demands(&self) -> MutexGuard<'_, Vec<Weak<Demand>>> {
        self.demands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(nodes: usize) -> i64 {
    i64::try_from(nodes).unwrap_or(i64::MAX)
}

/// Keys kept of all models together: some ten megabytes.
pub(crate) const MOST_NODES_OF_ALL: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::demand::{Clue, Sample};
    use crate::shape::LEVELS;

    /// Plans and learns from a request under keys that no other has.
    fn serve(demand: &Demand, number: u64) {
        let keys: Keys = std::array::from_fn(|level| (number << 8 | level as u64) + 1);
        demand.expect(&keys, true);
        let sample = Sample {
            log_output: Some(Clue::sure(3.0)),
            ..Sample::default()
        };
        demand.learn(&keys, &sample, 1);
    }

    fn held(demands: &[Arc<Demand>]) -> usize {
        let held = |demand: &Arc<Demand>| demand.lock().nodes.len();
        demands.iter().map(held).sum()
    }

    #[test]
    fn all_models_together_keep_to_one_bound() {
        let shared = Arc::default();
        let demands: Vec<Arc<Demand>> = (0..100).map(|_| Demand::new(&shared)).collect();
        let mut most = 0;
        for number in 0..8_000 {
            // The first models are not asked for again, the last one all the time.
            let model = if number % 2 == 0 {
                99
            } else {
                (number / 80) as usize % 99
            };
            serve(&demands[model], number);
            if number % 50 == 0 {
                most = most.max(held(&demands));
            }
        }
        assert!(
            most <= MOST_NODES_OF_ALL && most > MOST_NODES_OF_ALL - 50 * LEVELS,
            "the room there is gets used, and no more: {most}"
        );
        assert_eq!(shared.nodes.load(Ordering::Relaxed), count(held(&demands)));
        assert_eq!(held(&demands[1..2]), 0, "not asked for since");
        assert!(held(&demands[98..]) > 1000, "asked for lately");
    }

    #[test]
    fn a_model_that_is_gone_makes_room() {
        let shared: Arc<SharedDemand> = Arc::default();
        let demand = Demand::new(&shared);
        serve(&demand, 1);
        assert_eq!(shared.nodes.load(Ordering::Relaxed), count(LEVELS));
        drop(demand);
        assert_eq!(shared.nodes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_model_that_nobody_asked_for_is_expected_to_be_like_others() {
        let shared = Arc::default();
        let (known, new) = (Demand::new(&shared), Demand::new(&shared));
        let keys: Keys = std::array::from_fn(|level| level as u64 + 1);
        let before = new.expect(&keys, false).0.output;
        for _ in 0..500 {
            serve_alike(&known, &keys);
        }
        let after = new.expect(&keys, false).0.output;
        assert!(
            (before - 300.0).abs() < 1.0 && (after - 20.0).abs() < 2.0,
            "{before} {after}"
        );
    }

    fn serve_alike(demand: &Demand, keys: &Keys) {
        demand.expect(keys, true);
        let log_output = Some(Clue::sure(20.0_f32.ln()));
        let sample = Sample {
            log_output,
            ..Sample::default()
        };
        demand.learn(keys, &sample, 1);
    }
}
