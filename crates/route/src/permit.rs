//! Leave to ask one candidate, and what comes back of it to circuits, limits and latencies.
//!
//! A permit holds a place among the requests in flight and, when a circuit is half-open, the probe. Both come back on
//! every path, because dropping the permit returns what has not been settled: a panic, or a client that left, can
//! leave nobody waiting. What the answer itself teaches is in [`report`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::{Sats, Tokens};

use crate::candidate::{Offer, OfferState, ProviderState, Skip, extend};
use crate::change::ProviderEvent;
use crate::circuit::{Pass, Proof, Urgency};
use crate::limit::Slot;
use crate::verdict::{Action, AttemptOutcome, Blame, SUSPENSION, Scope, TimeoutKind, Verdict};

mod report;

pub use report::Report;
pub(crate) use report::RequestTraits;
use report::{is_implausible, reported};

/// Leave to have one request in flight at one offer. Keep it until the last byte of the answer.
#[must_use = "dropping a permit gives its place back"]
#[derive(Debug)]
pub struct Permit {
    offer: Arc<Offer>,
    connections: Pass,
    answers: Pass,
    slot: Slot,
    traits: Arc<RequestTraits>,
    /// What the answer was expected to take.
    expected: Tokens,
    /// Its place was given back.
    is_over: bool,
}

/// On what terms an attempt asks for leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) urgency: Urgency,
    /// Whether it passes over a learned limit, which is a guess; it never does over the operator's.
    pub(crate) over_limit: bool,
}

/// How an accepted answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermitEnd {
    /// Whole, whoever was there to read it.
    Complete,
    /// The provider broke off, fell silent, or sent an error after a good beginning.
    Broken,
    /// Nobody read on, so nothing can be said.
    ClientGone,
}

impl From<Urgency> for Admission {
    /// Within every limit.
    fn from(urgency: Urgency) -> Self {
        Self {
            urgency,
            over_limit: false,
        }
    }
}

impl Permit {
    /// Asks for leave to send a request with these `traits`, whose answer is expected to take so much.
    pub(crate) fn request(
        offer: &Arc<Offer>,
        traits: &Arc<RequestTraits>,
        expected: Tokens,
        admission: Admission,
        now: Instant,
    ) -> Result<Self, Skip> {
        let mut provider_state = offer.provider.lock();
        let mut offer_state = offer.lock();
        let urgency = admission.urgency;
        match offer.obstacle_in(&provider_state, &offer_state, now, urgency) {
            Some(Skip::AtCapacity { .. })
                if admission.over_limit && !provider_state.limit.is_explicit() => {}
            Some(skip) => return Err(skip),
            None => {}
        }
        let (connections, connections_transition) = provider_state.connections.enter(now, urgency);
        let (answers, answers_transition) = offer_state.answers.enter(now, urgency);
        let slot = provider_state.limit.enter();
        if let Some(transition) = connections_transition {
            offer.provider.report(transition);
        }
        if let Some(transition) = answers_transition {
            offer.report(transition);
        }
        drop((provider_state, offer_state));
        Ok(Self {
            offer: Arc::clone(offer),
            connections,
            answers,
            slot,
            traits: Arc::clone(traits),
            expected,
            is_over: false,
        })
    }

    /// The client left after it had waited for so long, with nothing to show for it.
    pub(crate) fn on_client_gone(&self, waited: Duration, now: Instant) {
        self.offer
            .on_wait_in_vain(waited, self.traits.streaming, now);
    }

    /// The answer ended. A complete one closes the circuit, widens a learned limit and teaches what such requests
    /// take; a broken one counts as a failure that is probably billed. Whether the usage reported cannot be true.
    pub fn finish(mut self, end: PermitEnd, report: &Report, now: Instant) -> bool {
        let settings = self.offer.provider.circuit;
        let implausible = is_implausible(&self.traits, report);
        // Who reports nothing that makes sense shows at least how much he says.
        let sane = report.usage.filter(|usage| !usage.insane);
        let usage = (end == PermitEnd::Complete).then(|| sane.unwrap_or_default());
        let text = report.text_bytes;
        self.give_back(end == PermitEnd::Complete);
        let sample = {
            let mut state = self.offer.lock();
            let transition = match end {
                PermitEnd::Complete => {
                    state.profile.reckoned = None;
                    state.profile.tally.succeed(now);
                    state
                        .answers
                        .on_success(&mut self.answers, Proof::Whole, &settings)
                }
                PermitEnd::Broken => {
                    state.profile.reckoned = None;
                    state.profile.tally.fail(self.share_of(report), now);
                    state.answers.on_failure(&mut self.answers, now, &settings)
                }
                PermitEnd::ClientGone => state.answers.on_return(&mut self.answers),
            };
            transition
                .into_iter()
                .for_each(|transition| self.offer.report(transition));
            usage.map(|usage| {
                let reported = reported(&self.traits, &usage, text, implausible);
                let sample = state.profile.sample(&reported);
                (usage, reported, sample)
            })
        };
        if let Some((usage, reported, sample)) = sample {
            self.learn(&usage, &reported, &sample, now);
        }
        implausible
    }

    /// Gives its place at the provider back, behind an answer that came to its end or without one.
    fn give_back(&mut self, is_complete: bool) {
        self.is_over = true;
        let mut state = self.offer.provider.lock();
        if is_complete {
            state.limit.on_success();
        }
        state.limit.leave();
        let transition = state.connections.on_return(&mut self.connections);
        transition
            .into_iter()
            .for_each(|transition| self.offer.provider.report(transition));
    }

    /// Whom it is for.
    #[must_use]
    pub fn offer(&self) -> &Arc<Offer> {
        &self.offer
    }

    /// Tells circuits, limit and latency how the attempt went; `took` since it was sent.
    pub(crate) fn settle(
        &mut self,
        outcome: &AttemptOutcome,
        verdict: &Verdict,
        sunk_cost: Option<Sats>,
        took: Duration,
        now: Instant,
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
        match (outcome, verdict.action) {
            (AttemptOutcome::Good { .. }, _)
            | (_, Action::ReturnAsIs | Action::Stop | Action::WithoutStreamOptions) => {}
            _ if verdict.blame == Blame::ThisMachine => {}
            (outcome, _) => {
                let share = self.share_sunk(outcome, sunk_cost);
                offer_state.profile.reckoned = None;
                offer_state.profile.tally.fail(share, now);
                offer_state.profile.trying_until = None;
            }
        }
        if verdict.action != Action::Stop && verdict.blame != Blame::ThisMachine {
            let found_fault = verdict.action == Action::ReturnAsIs;
            offer_state.note_asked(self.traits.streaming, found_fault, now);
        }
        match outcome {
            AttemptOutcome::Good { .. } => self.record_latency(&mut offer_state, took),
            AttemptOutcome::Timeout(TimeoutKind::FirstEvent | TimeoutKind::Response) => {
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
    ) -> [Option<ProviderEvent>; 3] {
        let settings = &self.offer.provider.circuit;
        let transition = match (verdict.blame, verdict.action) {
            (Blame::Provider, _) => {
                state
                    .connections
                    .on_failure(&mut self.connections, now, settings)
            }
            (Blame::ThisMachine, _) | (_, Action::Stop) => {
                state.connections.on_return(&mut self.connections)
            }
            // Whatever it said, it could be reached.
            _ => state
                .connections
                .on_success(&mut self.connections, Proof::Whole, settings),
        };
        if verdict.action == Action::Accept {
            state.suspended_until = None;
            state.cooling_until = None;
        }
        let asked_for = verdict.cooldown.filter(|length| !length.is_zero());
        let cooldown = asked_for.or_else(|| state.refusals_cooldown(verdict));
        if verdict.congested {
            state.limit.on_congestion(self.slot);
        }
        let cooling = cooldown.and_then(|length| {
            extend(&mut state.cooling_until, now, length)
                .then_some(ProviderEvent::CoolingDown { length })
        });
        let suspended = verdict.suspend == Some(Scope::Provider)
            && extend(&mut state.suspended_until, now, SUSPENSION);
        [
            transition.map(ProviderEvent::from),
            cooling,
            suspended.then_some(ProviderEvent::Suspended { length: SUSPENSION }),
        ]
    }

    fn settle_offer(
        &mut self,
        state: &mut OfferState,
        verdict: &Verdict,
        now: Instant,
    ) -> [Option<ProviderEvent>; 2] {
        let settings = &self.offer.provider.circuit;
        let transition = match (verdict.action, verdict.blame) {
            (Action::Accept, _) => {
                state.suspended_until = None;
                state.in_vain = 0;
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
            transition.map(ProviderEvent::from),
            suspended.then_some(ProviderEvent::Suspended { length: SUSPENSION }),
        ]
    }

    fn record_latency(&self, state: &mut OfferState, took: Duration) {
        if self.traits.streaming {
            state.streams.record(took);
        } else {
            state.wholes.record(took);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.give_back(false);
        let mut state = self.offer.lock();
        let transition = state.answers.on_return(&mut self.answers);
        transition
            .into_iter()
            .for_each(|transition| self.offer.report(transition));
    }
}
