//! What one offer adds to a bill: more tokens for the same, failures that are paid for, cache hits that are not.
//!
//! Output tokens are a product of two effects that are told apart, because one is measured far better than the other:
//! how much text the offer gives, which differs from answer to answer, and how many tokens it bills for a byte of text,
//! which hardly does. Two answers are enough to find out who counts generously.

use std::time::{Duration, Instant};

use super::demand::{Clue, Expectation, Mean, Sample};
use super::factor::{Factor, Prior};
use super::faded;
use super::typical::{Logs, Voice};
use crate::estimate::to_number;

/// What experience says of one offer.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfferProfile {
    /// Bytes of text, relative to others.
    pub(crate) text: Factor,
    /// Output tokens billed per byte, relative to others.
    pub(crate) billing: Factor,
    /// Input tokens billed, relative to others.
    pub(crate) input: Factor,
    pub(crate) tally: Tally,
    pub(crate) cache: Cache,
    /// Whether answers that reach the client's bound bill more than it, from 0 to 1.
    pub(crate) overrun: Mean,
    /// Answers whose reported usage cannot be true.
    pub(crate) implausible: u32,
    /// Latest answers in a row that reported no usage.
    pub(crate) silent: u32,
    /// The demand's clock when it was last heard of.
    pub(crate) heard: u32,
    /// An answer is awaited that was asked for only to learn; not to be asked for another before.
    pub(crate) trying_until: Option<Instant>,
    /// The effects as they were reckoned last, and for when.
    pub(crate) reckoned: Option<(Effects, Logs, Instant, u32)>,
}

/// How attempts ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) good: f32,
    /// Failures that cost nothing.
    pub(crate) free: f32,
    /// Failures that were probably billed, in part or in full.
    pub(crate) billed: f32,
    /// Shares of the expected cost that those came to, added up.
    pub(crate) shares: f32,
    /// When it was last added to.
    pub(crate) at: Option<Instant>,
}

/// How much of a prefix that it should know an offer finds in its cache: by the prefix's size and age.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cache {
    pub(crate) hits: [[Mean; AGES.len()]; SIZES],
    /// Share of the input that comes from the cache though this offer was not seen to know it.
    pub(crate) ambient: Mean,
}

/// A prefix that an offer has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HeldPrefix {
    /// By the same estimate as the request's input.
    pub(crate) tokens: u64,
    pub(crate) age: Duration,
}

/// What one answer reports, as far as it can be believed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reported {
    /// Output tokens of one choice.
    pub(crate) output: Option<f64>,
    /// Bytes of one choice, where they were counted.
    pub(crate) text: Option<f64>,
    /// Input tokens per estimated one.
    pub(crate) input_ratio: Option<f64>,
    /// How the output stands to the client's bound.
    pub(crate) bound: Bound,
    /// It cannot be true.
    pub(crate) implausible: bool,
}

/// How an answer stands to the client's bound on its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Bound {
    /// There is none, or it was not reached.
    #[default]
    Within,
    /// It was reached, so that the answer would have been longer.
    Reached,
    /// More is billed than it allows.
    Passed,
}

/// The effects in force, for a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effects {
    /// Output tokens, times the expected ones.
    pub(crate) output: f64,
    /// Input tokens, likewise.
    pub(crate) input: f64,
    /// Standard deviations by which one more answer would move the logarithms of those two.
    pub(crate) output_news: f32,
    pub(crate) input_news: f32,
    /// What billed failures add, as a share of the cost.
    pub(crate) failure: f64,
    /// The client's bound does not bind its bills.
    pub(crate) overruns: bool,
    /// Attempts that succeed; `None` before any.
    pub(crate) success: Option<f32>,
}

impl OfferProfile {
    /// What `reported` says of the request alone, by what this offer is known to add.
    pub(crate) fn sample(&self, reported: &Reported) -> Sample {
        let log = |value: Option<f64>| value.map(|value| single(value.max(LEAST).ln()));
        let output = log(reported.output);
        let text = log(reported.text);
        let billing = match (output, text) {
            (Some(output), Some(text)) => Some(output - text),
            _ => None,
        };
        let clue = |log: Option<f32>, factor: &Factor, prior: &Prior| {
            log.map(|log| Clue {
                value: log - factor.log,
                weight: factor.clarity(prior),
            })
        };
        let input = log(reported.input_ratio);
        let billed = clue(output, &self.text, &TEXT).map(|clue| Clue {
            value: clue.value - self.billing.log,
            ..clue
        });
        // Where nobody says how many tokens a text was, it is taken to have the usual number, with a doubt.
        let guessed = clue(text, &self.text, &TEXT).map(|clue| Clue {
            value: clue.value + USUAL_BILLING,
            weight: clue.weight * GUESS_WEIGHT,
        });
        Sample {
            log_output: billed.or(guessed),
            log_text: clue(text, &self.text, &TEXT),
            log_billing: clue(billing, &self.billing, &BILLING),
            log_input: clue(input, &self.input, &INPUT),
        }
    }

    /// Learns what this offer added, from what the request showed beyond what was `expected` of it.
    pub(crate) fn learn(&mut self, sample: &Sample, expected: &Expectation, reported: &Reported) {
        self.implausible = self
            .implausible
            .saturating_add(u32::from(reported.implausible));
        self.silent = match (reported.output, reported.input_ratio) {
            (None, None) => self.silent.saturating_add(1),
            _ => 0,
        };
        let is_whole = reported.bound != Bound::Reached;
        if reported.bound != Bound::Within {
            learn_recent(
                &mut self.overrun,
                f32::from(reported.bound == Bound::Passed),
            );
        }
        // A sample has this offer's effects taken out; they go back in, since they are what is learned here.
        if let (Some(seen), Some(usual)) = (sample.log_text, expected.log_text)
            && is_whole
        {
            let observed = seen.value + self.text.log - usual.value;
            self.text.learn(observed, usual.doubt, &TEXT);
            self.text.fade_unvouched(&usual, &TEXT);
        }
        match (sample.log_billing, expected.log_billing) {
            (Some(seen), Some(usual)) => {
                let observed = seen.value + self.billing.log - usual.value;
                self.billing.learn(observed, usual.doubt, &BILLING);
            }
            _ if is_whole && reported.output.is_some() => self.learn_output(sample, expected),
            _ => {}
        }
        if let (Some(seen), Some(usual)) = (sample.log_input, expected.log_input) {
            let observed = seen.value + self.input.log - usual.value;
            self.input.learn(observed, usual.doubt, &INPUT);
        }
    }

    /// Whether asking only to learn makes sense: no answer is awaited that was asked for so, and answers tell something.
    pub(crate) fn may_be_tried(&self, now: Instant) -> bool {
        self.trying_until.is_none_or(|until| until <= now) && self.silent < ENOUGH_SILENCE
    }

    /// As [`Self::effects`], reckoned anew only after a change, or when enough time has passed to tell.
    pub(crate) fn recent_effects(&mut self, typical: Logs, now: Instant, tick: u32) -> Effects {
        if let Some((effects, logs, at, then)) = self.reckoned
            && logs == typical
            && tick.wrapping_sub(then) < FRESH_TICKS
            && now.saturating_duration_since(at) < FRESH
        {
            return effects;
        }
        let effects = self.effects(typical, now, tick);
        self.reckoned = Some((effects, typical, now, tick));
        effects
    }

    /// The effects in force at `now`, when the demand's clock shows `tick`, where others add what is `typical`.
    pub(crate) fn effects(&self, typical: Logs, now: Instant, tick: u32) -> Effects {
        let idle = single(f64::from(tick.saturating_sub(self.heard)));
        let kept = (-idle / IDLE_TICKS).exp2();
        let news = |factor: &Factor, prior: &Prior| {
            let mut factor = *factor;
            factor.fade(kept);
            factor.news(prior)
        };
        let [text_log, billing_log, input_log] = typical;
        let output_log =
            self.text.effect(&TEXT, text_log) + self.billing.effect(&BILLING, billing_log);
        let (text, billing) = (news(&self.text, &TEXT), news(&self.billing, &BILLING));
        let tally = self.tally.faded(now, idle);
        Effects {
            output: f64::from(output_log).exp(),
            input: f64::from(self.input.effect(&INPUT, input_log)).exp(),
            output_news: (text * text + billing * billing).sqrt(),
            input_news: news(&self.input, &INPUT),
            failure: tally.failure(),
            overruns: self.overrun.value > 0.5,
            success: tally.success(),
        }
    }

    /// What this offer says of what offers add.
    pub(crate) fn voice(&self) -> Voice {
        Voice::of([
            (&self.text, &TEXT),
            (&self.billing, &BILLING),
            (&self.input, &INPUT),
        ])
    }

    /// An answer without a measure of its text teaches the billing, if coarsely.
    fn learn_output(&mut self, sample: &Sample, expected: &Expectation) {
        if let Some(seen) = sample.log_output {
            let observed = seen.value + self.billing.log - expected.log_output;
            self.billing.learn(observed, expected.doubt, &BILLING);
        }
    }
}

impl Tally {
    /// An attempt ended well.
    pub(crate) fn succeed(&mut self, now: Instant) {
        self.pass(now);
        self.good += 1.0;
    }

    /// An attempt failed; `share` of its expected cost was probably billed.
    pub(crate) fn fail(&mut self, share: f64, now: Instant) {
        self.pass(now);
        if share > 0.0 {
            self.billed += 1.0;
            self.shares += single(share.min(LARGEST_SHARE));
        } else {
            self.free += 1.0;
        }
    }

    /// Older attempts count less, by how many came since and by the time.
    fn pass(&mut self, now: Instant) {
        *self = self.faded(now, 0.0).times(TALLY_FADE);
        self.at = Some(now);
    }

    fn faded(&self, now: Instant, idle: f32) -> Self {
        let age = self
            .at
            .map(|at| now.saturating_duration_since(at).as_secs_f32());
        let halvings = age.unwrap_or(0.0) / TALLY_SECS + idle / TALLY_TICKS;
        self.times((-halvings).exp2())
    }

    fn times(&self, share: f32) -> Self {
        Self {
            good: faded(self.good * share),
            free: faded(self.free * share),
            billed: faded(self.billed * share),
            shares: faded(self.shares * share),
            at: self.at,
        }
    }

    /// Trying until it succeeds costs this share more than one success: the odds of a billed failure, times what one
    /// costs. Failures that cost nothing do not count, since the next candidate is only a step away.
    fn failure(&self) -> f64 {
        if self.billed <= 0.0 {
            return 0.0;
        }
        let odds = f64::from(self.billed) / f64::from(self.good + PRIOR_GOOD);
        odds * f64::from(self.shares / self.billed)
    }

    fn success(&self) -> Option<f32> {
        let all = self.good + self.free + self.billed;
        (all >= 0.5).then(|| self.good / all)
    }
}

impl Cache {
    /// How many of the `input` tokens of a request will come from the cache of an offer that has seen `held` of them.
    pub(crate) fn expect(&self, held: Option<&HeldPrefix>, input: u64) -> f64 {
        let input = to_number(input);
        let ambient = blended(&self.ambient, 0.0, AMBIENT_WEIGHT) * input;
        let Some(held) = held else {
            return ambient;
        };
        let (size, age) = slot(held);
        let hit = blended(&self.hits[size][age], PRIOR_HITS[size], HIT_WEIGHT);
        ambient.max(hit * to_number(held.tokens))
    }

    /// Learns from a report of `cached` tokens, all counts by the same measure.
    pub(crate) fn learn(&mut self, held: Option<&HeldPrefix>, input: u64, cached: f64) {
        let share = |of: u64| single((cached / to_number(of.max(1))).min(1.2));
        match held {
            Some(held) => {
                let (size, age) = slot(held);
                learn_recent(&mut self.hits[size][age], share(held.tokens));
            }
            None => learn_recent(&mut self.ambient, share(input)),
        }
    }
}

/// A cache may change its mind: the memory is short.
fn learn_recent(mean: &mut Mean, value: f32) {
    mean.count = mean.count.min(CACHE_MEMORY);
    mean.learn(Some(Clue::sure(value)), CACHE_ERROR);
}

fn blended(mean: &Mean, prior: f32, weight: f32) -> f64 {
    f64::from((mean.value * mean.count + prior * weight) / (mean.count + weight))
}

fn slot(held: &HeldPrefix) -> (usize, usize) {
    let size = usize::from(held.tokens >= LARGE_PREFIX);
    let age = AGES.iter().take_while(|age| held.age > **age).count();
    (size, age.min(AGES.len() - 1))
}

#[expect(clippy::cast_possible_truncation, reason = "an estimate")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// How much text offers of one model give, relative to one another: about the same, as the model is.
const TEXT: Prior = Prior {
    spread: 0.06,
    noise: 0.4,
};
/// How they count it: tokenisers differ, and so does honesty.
const BILLING: Prior = Prior {
    spread: 0.12,
    noise: 0.03,
};
const INPUT: Prior = Prior {
    spread: 0.06,
    noise: 0.01,
};
/// Tokens for a byte of text where nobody counts them, as a logarithm: one for four.
const USUAL_BILLING: f32 = -1.386;
/// What that is worth beside a count.
const GUESS_WEIGHT: f32 = 0.3;
/// Answers without usage after which nobody is asked only for his.
const ENOUGH_SILENCE: u32 = 3;
/// No text, or no token, has no logarithm.
const LEAST: f64 = 1e-3;
/// How long effects stay as they were reckoned.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_TICKS: u32 = 32;
/// Requests after which evidence about an offer that got none of them is worth half.
const IDLE_TICKS: f32 = 2000.0;
/// The same for its failures, which pass more quickly; also by the clock, in seconds.
const TALLY_TICKS: f32 = 400.0;
const TALLY_SECS: f32 = 1200.0;
/// What is left of earlier attempts after one more.
const TALLY_FADE: f32 = 1.0 - 1.0 / 100.0;
/// Good attempts that a new offer is credited with.
const PRIOR_GOOD: f32 = 6.0;
/// A failure costs no more than this times the whole answer.
const LARGEST_SHARE: f64 = 2.0;
/// Up to which age a prefix falls into which group; anything older into the last.
pub(crate) const AGES: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(3600),
];
pub(crate) const SIZES: usize = 2;
/// Most providers cache no prefix that is shorter, in tokens.
const LARGE_PREFIX: u64 = 1024;
/// Share of a small and of a large prefix that is found before anybody knows better.
const PRIOR_HITS: [f32; SIZES] = [0.5, 0.7];
const HIT_WEIGHT: f32 = 2.0;
const AMBIENT_WEIGHT: f32 = 8.0;
const CACHE_MEMORY: f32 = 40.0;
const CACHE_ERROR: f32 = 0.3;
