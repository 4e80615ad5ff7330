//! What an answer reports of itself, and what is learned from it.
//!
//! A report is somebody else's word: what cannot be true is told apart from what is merely unusual, and an answer that
//! broke off, or reports nothing, teaches at least what it probably cost.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use arbstr_price::{Sats, Tokens, quote};
use arbstr_wire::Usage;

use super::Permit;
use crate::estimate::to_number;
use crate::learn::demand::Sample;
use crate::learn::prefix::Prefixes;
use crate::learn::profile::{Bound, Reported};
use crate::shape::{Keys, Prefix};
use crate::verdict::{AttemptOutcome, TimeoutKind};

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

impl Permit {
    /// Teaches the model's demand, the offer's profile and the known prefixes what an answer took.
    pub(super) fn learn(&self, usage: &Usage, reported: &Reported, sample: &Sample, now: Instant) {
        let traits = &*self.traits;
        let demand = &self.offer.demand;
        let server = self.offer.short_name();
        let (expected, tick) = demand.learn(&traits.keys, sample, server);
        let held = traits.memory.note(&traits.prefixes, self.offer.name, now);
        let mut state = self.offer.lock();
        let profile = &mut state.profile;
        profile.heard = tick;
        profile.trying_until = None;
        profile.reckoned = None;
        let before = profile.voice();
        profile.learn(sample, &expected, reported);
        let after = profile.voice();
        if let (true, Some(input)) = (self.offer.prices_cache(), usage.input) {
            // In the measure of the estimate, which all prefixes are kept in.
            let scale = to_number(traits.input) / to_number(input.max(1));
            let cached = to_number(usage.cached_input.unwrap_or(0)) * scale;
            profile.cache.learn(held.as_ref(), traits.input, cached);
        }
        drop(state);
        demand.lock().typical.hear(&before, &after);
    }

    /// What a failed attempt cost, as a share of what the answer was expected to.
    pub(super) fn share_sunk(&self, outcome: &AttemptOutcome, sunk_cost: Option<Sats>) -> f64 {
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
    pub(super) fn share_of(&self, report: &Report) -> f64 {
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
pub(super) fn reported(
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
pub(super) fn is_implausible(traits: &RequestTraits, report: &Report) -> bool {
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
