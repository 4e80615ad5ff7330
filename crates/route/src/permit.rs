//! Leave to ask one candidate, and what it learns from the answer.
//!
//! A permit holds a place among the requests in flight and, when a circuit is half-open, the probe. Both come back on
//! every path, because dropping the permit returns what has not been settled: a panic, or a client that left, can
//! leave nobody waiting.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::{Sats, Tokens, quote};
use arbstr_wire::Usage;

use crate::candidate::{Offer, OfferState, ProviderState, Skip, extend};
use crate::change::ProviderEvent;
use crate::circuit::{Pass, Proof, Urgency};
use crate::estimate::to_number;
use crate::learn::demand::Sample;
use crate::learn::prefix::Prefixes;
use crate::learn::profile::{Bound, Reported};
use crate::limit::Slot;
use crate::shape::{Keys, Prefix};
use crate::verdict::{Action, AttemptOutcome, Blame, SUSPENSION, Scope, TimeoutKind, Verdict};

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

/// What an accepted answer told, as far as it came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// The usage that the provider reported.
    pub usage: Option<Usage>,
    /// Bytes of what the answer says, escapes and tool calls included; `None` where nobody counted.
    pub text_bytes: Option<u64>,
}

/// What about a request decides what its answer teaches.
#[derive(Debug)]
pub(crate) struct RequestTraits {
    pub(crate) keys: Keys,
    /// The leading messages; empty where nobody has a price for knowing them.
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) memory: Arc<Prefixes>,
    pub(crate) streaming: bool,
    pub(crate) choices: u32,
    /// Input tokens as estimated, before any correction.
    pub(crate) input: u64,
    pub(crate) max_output_tokens: Option<u64>,
    /// Whether the answer has output tokens to learn from.
    pub(crate) generates: bool,
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
                if admission.over_limit && offer.provider.max_concurrency.is_none() => {}
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
                PermitEnd::ClientGone => None,
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
        if end == PermitEnd::Complete {
            self.offer.provider.lock().limit.on_success();
        }
        if let Some((usage, reported, sample)) = sample {
            self.learn(&usage, &reported, &sample, now);
        }
        implausible
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
            (outcome, _) => {
                let share = self.share_sunk(outcome, sunk_cost);
                offer_state.profile.reckoned = None;
                offer_state.profile.tally.fail(share, now);
                offer_state.profile.trying_until = None;
            }
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
            (_, Action::Stop) => state.connections.on_return(&mut self.connections),
            // Whatever it said, it could be reached.
            _ => state
                .connections
                .on_success(&mut self.connections, Proof::Whole, settings),
        };
        if verdict.action == Action::Accept {
            state.suspended_until = None;
            state.cooling_until = None;
        }
        if verdict.congested {
            state.limit.on_congestion(self.slot);
        }
        let cooling = verdict.cooldown.and_then(|length| {
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

    fn learn(&self, usage: &Usage, reported: &Reported, sample: &Sample, now: Instant) {
        let traits = &*self.traits;
        let demand = &self.offer.demand;
        let server = self.offer.short_name();
        let (expected, tick) = demand.learn(&traits.keys, sample, server, !reported.implausible);
        let held = traits.memory.note(&traits.prefixes, self.offer.name, now);
        let mut state = self.offer.lock();
        let profile = &mut state.profile;
        profile.heard = tick;
        profile.trying_until = None;
        profile.reckoned = None;
        profile.learn(sample, &expected, reported);
        if let (true, Some(input)) = (self.offer.prices_cache(), usage.input) {
            // In the measure of the estimate, which all prefixes are kept in.
            let scale = to_number(traits.input) / to_number(input.max(1));
            let cached = to_number(usage.cached_input.unwrap_or(0)) * scale;
            profile.cache.learn(held.as_ref(), traits.input, cached);
        }
    }

    /// What a failed attempt cost, as a share of what the answer was expected to.
    fn share_sunk(&self, outcome: &AttemptOutcome, sunk_cost: Option<Sats>) -> f64 {
        let whole = self.expected_cost();
        match (sunk_cost, whole) {
            (Some(cost), Some(whole)) => ratio(cost.nanosats(), whole),
            _ if is_billed(outcome) => HALF,
            _ => 0.0,
        }
    }

    /// In nanosats; `None` where it is not known, or nothing.
    fn expected_cost(&self) -> Option<i128> {
        let rates = self.offer.rates.as_ref()?;
        let whole = quote(&self.expected, rates).total().nanosats();
        (whole > 0).then_some(whole)
    }

    /// What a broken answer probably cost, as a share of what it was expected to: its input, and what had come.
    fn share_of(&self, report: &Report) -> f64 {
        let (Some(rates), Some(bytes)) = (self.offer.rates, report.text_bytes) else {
            return HALF;
        };
        let came = report.usage.and_then(|usage| usage.output);
        let tokens = Tokens {
            output: came.unwrap_or(bytes / BYTES_PER_TOKEN),
            ..self.expected
        };
        let part = quote(&tokens, &rates).total().nanosats();
        self.expected_cost()
            .map_or(HALF, |whole| ratio(part, whole))
    }
}

/// What `usage` says, per choice and as far as it goes.
fn reported(
    traits: &RequestTraits,
    usage: &Usage,
    text: Option<u64>,
    implausible: bool,
) -> Reported {
    let choices = f64::from(traits.choices);
    let output = usage.output.filter(|_| traits.generates);
    let bound = match (output, traits.max_output_tokens) {
        (Some(output), Some(most)) => {
            match output.cmp(&most.saturating_mul(u64::from(traits.choices))) {
                Ordering::Less => Bound::Within,
                Ordering::Equal => Bound::Reached,
                Ordering::Greater => Bound::Passed,
            }
        }
        (None, Some(most)) if text.is_some_and(|bytes| bytes / LEAST_PER_TOKEN >= most) => {
            Bound::Reached
        }
        _ => Bound::Within,
    };
    Reported {
        output: output.map(|output| to_number(output) / choices),
        text: text
            .filter(|bytes| traits.generates && *bytes > 0)
            .map(|bytes| to_number(bytes) * thought(usage) / choices),
        input_ratio: usage
            .input
            .filter(|_| traits.input > 0)
            .map(|input| to_number(input) / to_number(traits.input)),
        bound,
        implausible,
    }
}

/// All output for each token of it that is to be seen. What is thought counts as if it were said: how much that is differs
/// from answer to answer as texts do, while the tokens of a text hardly differ from one to the next.
fn thought(usage: &Usage) -> f64 {
    let (Some(output), Some(reasoning)) = (usage.output, usage.reasoning) else {
        return 1.0;
    };
    match output.checked_sub(reasoning) {
        Some(visible) if visible > 0 => to_number(output) / to_number(visible),
        _ => 1.0,
    }
}

/// Whether an answer bills more output than it can have: more tokens than bytes came, or than the client allowed.
/// Reasoning is not counted, since neither limit need hold for it.
fn is_implausible(traits: &RequestTraits, report: &Report) -> bool {
    let Some(usage) = report.usage.filter(|_| traits.generates) else {
        return false;
    };
    let Some(output) = usage.output else {
        return false;
    };
    let visible = output.saturating_sub(usage.reasoning.unwrap_or(0));
    let allowed = traits
        .max_output_tokens
        .map(|most| most.saturating_mul(u64::from(traits.choices)));
    let exceeds = |most: Option<u64>| most.is_some_and(|most| visible > most);
    exceeds(allowed) || exceeds(report.text_bytes.map(|bytes| bytes.saturating_add(SLACK)))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn ratio(part: i128, whole: i128) -> f64 {
    part as f64 / whole as f64
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.offer.provider.lock();
            state.limit.leave();
            let transition = state.connections.on_return(&mut self.connections);
            transition
                .into_iter()
                .for_each(|transition| self.offer.provider.report(transition));
        }
        let mut state = self.offer.lock();
        let transition = state.answers.on_return(&mut self.answers);
        transition
            .into_iter()
            .for_each(|transition| self.offer.report(transition));
    }
}

/// Whether the provider had done its work, or some of it, by the time the attempt failed.
const fn is_billed(outcome: &AttemptOutcome) -> bool {
    matches!(
        outcome,
        AttemptOutcome::Cut
            | AttemptOutcome::Oversized
            | AttemptOutcome::Timeout(TimeoutKind::Response | TimeoutKind::Idle)
    )
}

/// What a failed answer is taken to cost where nothing tells, as a share of a whole one.
const HALF: f64 = 0.5;
/// English text; other scripts have fewer bytes a token.
const BYTES_PER_TOKEN: u64 = 4;
/// Where nobody counts tokens, a bound is taken to be reached with so many bytes for each.
const LEAST_PER_TOKEN: u64 = 3;
/// Tokens that stand for no text: the end of the answer, a role.
const SLACK: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thought_counts_as_said() {
        let cases = [
            (Some(100), None, 1.0),
            (Some(100), Some(0), 1.0),
            (Some(100), Some(75), 4.0),
            (Some(100), Some(100), 1.0),
            (Some(100), Some(300), 1.0),
            (None, Some(75), 1.0),
        ];
        for (output, reasoning, want) in cases {
            let mut usage = Usage::default();
            (usage.output, usage.reasoning) = (output, reasoning);
            assert_eq!(thought(&usage), want, "{usage:?}");
        }
    }
}
