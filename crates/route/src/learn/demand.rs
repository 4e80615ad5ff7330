//! What requests for one model take, by what they look like.
//!
//! Each request is remembered under every key of its [`Shape`](crate::Shape), from "any request" to "the same system
//! prompt, the same beginning, the same length". Which of these keys tells most differs from one user to the next, so it
//! is not decided beforehand: every key keeps how far off it was when it predicted, and a prediction is the mean of all
//! keys' means, each weighed by how well it has done. A key that never comes twice says nothing; one that came
//! once is doubted.
//!
//! ```text
//!   prediction = Σ wᵢ meanᵢ / Σ wᵢ,   wᵢ = (errorᵢ · (1 + 1/nᵢ))⁻⁴
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::blend::Blend;
use self::node::Lanes;
use super::explore::ExplorationBudget;
use super::shared::SharedDemand;
use super::typical::{Logs, Typical};
use crate::shape::{Keys, LEVELS};

mod blend;
mod node;
mod table;

pub(crate) use blend::{Expectation, Prediction};
pub(super) use node::Evidence;
pub(crate) use node::{BILLING, Clue, INPUT, Level, MEMORY, Mean, Node, OUTPUT, TEXT};
pub(crate) use table::Table;

/// What requests for one model gave so far.
#[derive(Debug)]
pub(crate) struct Demand {
    state: Mutex<DemandState>,
    shared: Arc<SharedDemand>,
    /// Others stand in for this model, so that the same requests go now to one of them, now to another.
    has_peers: AtomicBool,
}

/// The part behind the lock.
#[derive(Debug, Default)]
pub(crate) struct DemandState {
    pub(crate) nodes: Table,
    pub(crate) levels: [Level; LEVELS],
    /// Counts the requests planned, as a clock of what happens here.
    pub(crate) ticks: u32,
    pub(crate) budget: ExplorationBudget,
    /// What its offers add.
    pub(crate) typical: Typical,
}

/// What one answer shows, less what its server added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) log_output: Option<Clue>,
    pub(crate) log_text: Option<Clue>,
    pub(crate) log_billing: Option<Clue>,
    pub(crate) log_input: Option<Clue>,
}

impl Demand {
    /// Nothing learned yet; it joins `shared`, which helps out.
    pub(crate) fn new(shared: &Arc<SharedDemand>) -> Arc<Self> {
        let demand = Arc::new(Self {
            state: Mutex::default(),
            shared: Arc::clone(shared),
            has_peers: AtomicBool::new(false),
        });
        shared.admit(&demand);
        demand
    }

    /// Whether others may stand in for this model from now on.
    pub(crate) fn set_peers(&self, has_peers: bool) {
        self.has_peers.store(has_peers, Ordering::Relaxed);
    }

    /// What a request with these keys may be expected to take, what offers add as a rule, and the clock of requests, which is
    /// moved on if this one `counts`.
    pub(crate) fn expect(&self, keys: &Keys, counts: bool) -> (Expectation, Logs, u32) {
        if counts {
            self.shared.tick();
        }
        let mut state = self.lock();
        state.ticks = state.ticks.wrapping_add(u32::from(counts));
        let ticks = state.ticks;
        let mut blend = state.blend(keys);
        let known = state.known();
        let typical = state.typical.logs();
        drop(state);
        self.ask_around(&mut blend, keys, known);
        (blend.finish(), typical, ticks)
    }

    /// Takes an answer to a request with these keys into account. Gives what was expected of it before, doubted as far
    /// as that rests on what its `server` itself has shown: nobody is measured against himself.
    pub(crate) fn learn(&self, keys: &Keys, sample: &Sample, server: u32) -> (Expectation, u32) {
        let evidence = sample.evidence();
        let now = self.shared.now();
        let mut state = self.lock();
        let ticks = state.ticks;
        let known = state.known();
        let before = state.nodes.len();
        let mut blend = Blend::default();
        state.learn(keys, &evidence, server, now, |node, trust| {
            blend.add_but_for(server, node, trust);
        });
        let after = state.nodes.len();
        drop(state);
        self.ask_around(&mut blend, keys, known);
        // A model that is well known tells the others of itself now and then: no busy one shall outshout the rest.
        if self.shares(known) || is_one_in(8, now) {
            self.shared.learn(keys, &evidence, server);
        }
        self.shared.note_change(before, after);
        let mut expected = blend.finish();
        if !blend.knows_output() {
            // A prediction without evidence is nothing to measure anybody against.
            expected.doubt = f32::INFINITY;
        }
        (expected, ticks)
    }

    /// Puts what was saved in the place of what was learned.
    pub(crate) fn replace(&self, mut saved: DemandState) {
        saved.rebase(self.shared.now());
        let mut state = self.lock();
        let before = state.nodes.len();
        *state = saved;
        let after = state.nodes.len();
        drop(state);
        self.shared.note_change(before, after);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, DemandState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands beside those of other models.
    pub(crate) const fn shared(&self) -> &Arc<SharedDemand> {
        &self.shared
    }

    /// Until enough is `known` of this model, what others gave helps out.
    fn ask_around(&self, blend: &mut Blend, keys: &Keys, known: f32) {
        if self.shares(known) {
            blend.add_hint(&self.shared.common().blend(keys));
        }
    }

    /// A model with peers gives and takes for ever: its requests are theirs, and it may have seen few of a kind.
    fn shares(&self, known: f32) -> bool {
        known < ENOUGH || self.has_peers.load(Ordering::Relaxed)
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let held = self.lock().nodes.len();
        self.shared.note_end(held);
    }
}

impl Sample {
    fn evidence(&self) -> Evidence {
        let mut clues = [None; 4];
        clues[OUTPUT] = self.log_output;
        clues[TEXT] = self.log_text;
        clues[BILLING] = self.log_billing;
        clues[INPUT] = self.log_input;
        Evidence::of(clues)
    }
}

impl DemandState {
    /// Takes an answer of `server` into account; `before` sees each node as it was, with how far what it predicts can be trusted.
    pub(super) fn learn(
        &mut self,
        keys: &Keys,
        evidence: &Evidence,
        server: u32,
        now: u32,
        mut before: impl FnMut(&Node, &Lanes),
    ) {
        if self.nodes.len() + LEVELS > MOST_NODES {
            self.forget(now);
        }
        for (key, level) in keys.iter().zip(&mut self.levels) {
            let node = self.nodes.entry(*key);
            let trust = node.trust(level);
            before(node, &trust);
            node.used = now;
            node.note_server(server);
            node.learn(evidence, &trust, level);
        }
    }

    /// Lets the half go that was not used for longest, by the shared clock.
    pub(super) fn forget(&mut self, now: u32) {
        let ages = self.nodes.iter().map(|(_, node)| node.age(now));
        let median = median(ages.collect());
        let mut room = MOST_NODES / 2;
        self.nodes.retain(|node| {
            let keep = node.age(now) <= median && room > 0;
            room -= usize::from(keep);
            keep
        });
    }

    /// Ages that were kept as if the clock had stood at nothing are reckoned from `now`.
    pub(super) fn rebase(&mut self, now: u32) {
        for node in self.nodes.nodes_mut() {
            node.used = node.used.wrapping_add(now);
        }
    }

    fn blend(&self, keys: &Keys) -> Blend {
        let mut blend = Blend::default();
        for (key, level) in keys.iter().zip(&self.levels) {
            if let Some(node) = self.nodes.find(*key) {
                blend.add(node, &node.trust(level));
            }
        }
        blend
    }

    /// Answers behind the most general key.
    fn known(&self) -> f32 {
        self.levels[0].count
    }
}

/// The middle one of some ages; of none, nothing.
pub(super) fn median(mut ages: Vec<u32>) -> u32 {
    if ages.is_empty() {
        return 0;
    }
    let middle = ages.len() / 2;
    *ages.select_nth_unstable(middle).1
}

/// Whether this is one moment of the clock in `many`, in no rhythm that requests could have too.
pub(crate) fn is_one_in(many: u64, now: u32) -> bool {
    let spread = now.wrapping_mul(0x9e37_79b9);
    (u64::from(spread) * many) >> 32 == 0
}

/// Answers after which other models' requests are not asked any more.
const ENOUGH: f32 = 30.0;
/// Keys kept of one model: some six hundred kilobytes.
pub(crate) const MOST_NODES: usize = 4096;
