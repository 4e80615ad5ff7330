//! Leave to ask one candidate, and what it learns from the answer.
//!
//! A permit holds a place among the requests in flight and, when a circuit is half-open, the probe. Both come back on
//! every path, because dropping the permit returns what has not been settled: a panic, or a client that left, can
//! leave nobody waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_wire::Usage;

use crate::candidate::{Offer, OfferState, ProviderState, Skip};
use crate::change::Event;
use crate::circuit::{Entry, Pass, Proof};
use crate::estimate::to_number;
use crate::limit::Slot;
use crate::verdict::{Blame, Outcome, SUSPENSION, Scope, Then, TimeoutKind, Verdict};

/// Leave to have one request in flight at one offer. Keep it until the last byte of the answer.
#[must_use = "dropping a permit gives its place back"]
#[derive(Debug)]
pub struct Permit {
    offer: Arc<Offer>,
    connections: Pass,
    answers: Pass,
    slot: Slot,
    terms: Terms,
}

/// How an accepted answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Whole, whoever was there to read it.
    Complete,
    /// The provider broke off, fell silent, or sent an error after a good beginning.
    Broken,
    /// Nobody read on, so nothing can be said.
    ClientGone,
}

/// What about a request decides what its answer teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) policy: Option<usize>,
    pub(crate) streaming: bool,
    pub(crate) choices: u32,
    /// Input tokens as estimated, before any correction.
    pub(crate) input: u64,
    /// Whether the answer has output tokens to learn from.
    pub(crate) generates: bool,
}

impl Permit {
    /// Asks for leave. `overflow` passes over a learned limit, which is a guess, but never over the operator's.
    pub(crate) fn request(
        offer: &Arc<Offer>,
        now: Instant,
        (entry, overflow): (Entry, bool),
        terms: Terms,
    ) -> Result<Self, Skip> {
        let mut provider_state = offer.provider.lock();
        let mut offer_state = offer.lock();
        match offer.obstacle_in(&provider_state, &offer_state, (now, entry)) {
            Some(Skip::AtCapacity { .. })
                if overflow && offer.provider.max_concurrency.is_none() => {}
            Some(skip) => return Err(skip),
            None => {}
        }
        let (connections, connections_turn) = provider_state.connections.enter();
        let (answers, answers_turn) = offer_state.answers.enter();
        let slot = provider_state.limit.enter();
        if let Some(turn) = connections_turn {
            offer.provider.report(turn);
        }
        if let Some(turn) = answers_turn {
            offer.report(turn);
        }
        drop((provider_state, offer_state));
        Ok(Self {
            offer: Arc::clone(offer),
            connections,
            answers,
            slot,
            terms,
        })
    }

    /// The answer ended. A complete one closes the circuit, widens a learned limit and teaches what such requests
    /// take; a broken one counts as a failure.
    pub fn finish(mut self, end: End, usage: Option<&Usage>, now: Instant) {
        let settings = self.offer.provider.circuit;
        {
            let mut state = self.offer.lock();
            let turn = match end {
                End::Complete => {
                    state
                        .answers
                        .on_success(&mut self.answers, Proof::Whole, &settings)
                }
                End::Broken => state.answers.on_failure(&mut self.answers, now, &settings),
                End::ClientGone => None,
            };
            turn.into_iter().for_each(|turn| self.offer.report(turn));
        }
        if end == End::Complete {
            self.offer.provider.lock().limit.on_success();
            if let Some(usage) = usage.filter(|usage| !usage.insane) {
                self.learn(usage);
            }
        }
    }

    /// Whom it is for.
    #[must_use]
    pub fn offer(&self) -> &Arc<Offer> {
        &self.offer
    }

    /// Tells circuits, limit and latency how the attempt went; `took` since it was sent.
    pub(crate) fn settle(
        &mut self,
        outcome: &Outcome,
        verdict: &Verdict,
        (now, took): (Instant, Duration),
    ) {
        let offer = Arc::clone(&self.offer);
        let mut provider_state = offer.provider.lock();
        // Reported under the lock, so that changes are told in the order in which they came about.
        for event in self
            .settle_provider(&mut provider_state, verdict, now)
            .into_iter()
            .flatten()
        {
            offer.provider.report(event);
        }
        drop(provider_state);
        let mut offer_state = offer.lock();
        for event in self
            .settle_offer(&mut offer_state, verdict, now)
            .into_iter()
            .flatten()
        {
            offer.report(event);
        }
        match outcome {
            Outcome::Good { .. } => self.record_latency(&mut offer_state, took),
            Outcome::Timeout(TimeoutKind::FirstEvent | TimeoutKind::Response) => {
                self.record_latency(&mut offer_state, took.saturating_mul(2));
            }
            _ => {}
        }
    }

    fn settle_provider(
        &mut self,
        state: &mut ProviderState,
        verdict: &Verdict,
        now: Instant,
    ) -> [Option<Event>; 3] {
        let settings = &self.offer.provider.circuit;
        let turn = match (verdict.blame, verdict.then) {
            (Blame::Provider, _) => {
                state
                    .connections
                    .on_failure(&mut self.connections, now, settings)
            }
            (_, Then::Stop) => state.connections.on_return(&mut self.connections),
            // Whatever it said, it could be reached.
            _ => state
                .connections
                .on_success(&mut self.connections, Proof::Whole, settings),
        };
        if verdict.then == Then::Accept {
            state.suspended_until = None;
            state.cooling_until = None;
        }
        if verdict.congested {
            state.limit.on_congestion(self.slot);
        }
        let cooling = verdict.cooldown.and_then(|length| {
            extend(&mut state.cooling_until, now, length).then_some(Event::CoolingDown { length })
        });
        let suspended = verdict.suspend == Some(Scope::Provider)
            && extend(&mut state.suspended_until, now, SUSPENSION);
        [
            turn.map(Event::from),
            cooling,
            suspended.then_some(Event::Suspended { length: SUSPENSION }),
        ]
    }

    fn settle_offer(
        &mut self,
        state: &mut OfferState,
        verdict: &Verdict,
        now: Instant,
    ) -> [Option<Event>; 2] {
        let settings = &self.offer.provider.circuit;
        let turn = match (verdict.then, verdict.blame) {
            (Then::Accept, _) => {
                state.suspended_until = None;
                state
                    .answers
                    .on_success(&mut self.answers, Proof::Begun, settings)
            }
            (_, Blame::Offer) => state.answers.on_failure(&mut self.answers, now, settings),
            // A probe that could not even connect has its answer: the model is not back.
            (_, Blame::Provider) if self.answers.is_probe() => {
                state.answers.on_failure(&mut self.answers, now, settings)
            }
            _ => state.answers.on_return(&mut self.answers),
        };
        let suspended = verdict.suspend == Some(Scope::Offer)
            && extend(&mut state.suspended_until, now, SUSPENSION);
        [
            turn.map(Event::from),
            suspended.then_some(Event::Suspended { length: SUSPENSION }),
        ]
    }

    fn record_latency(&self, state: &mut OfferState, took: Duration) {
        if self.terms.streaming {
            state.streams.record(took);
        } else {
            state.wholes.record(took);
        }
    }

    fn learn(&self, usage: &Usage) {
        let ratio = usage
            .input
            .filter(|_| self.terms.input > 0)
            .map(|input| to_number(input) / to_number(self.terms.input));
        let output = usage
            .output
            .filter(|_| self.terms.generates)
            .map(|output| to_number(output) / f64::from(self.terms.choices.max(1)));
        if let Some(ratio) = ratio {
            self.offer.lock().input_ratio.learn(ratio);
        }
        self.offer.demand.learn(self.terms.policy, output, ratio);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.offer.provider.lock();
            state.limit.leave();
            let turn = state.connections.on_return(&mut self.connections);
            turn.into_iter()
                .for_each(|turn| self.offer.provider.report(turn));
        }
        let mut state = self.offer.lock();
        let turn = state.answers.on_return(&mut self.answers);
        turn.into_iter().for_each(|turn| self.offer.report(turn));
    }
}

/// Moves `until` to `now + length` unless it is later already; whether it was in the past before.
fn extend(until: &mut Option<Instant>, now: Instant, length: Duration) -> bool {
    let was_over = until.is_none_or(|until| until <= now);
    *until = (*until).max(now.checked_add(length));
    was_over && !length.is_zero()
}
