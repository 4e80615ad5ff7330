//! What requests under one key gave, and what one more answer changes in it.
//!
//! Four logarithms are learned of each answer in the same way, so they lie side by side: whatever is reckoned of one is
//! reckoned of all four at once, by vector instructions where the machine has them.

use std::array::from_fn;

use crate::learn::faded;

/// One number for each of what is learned: [`OUTPUT`], [`TEXT`], [`BILLING`], [`INPUT`].
pub(crate) type Lanes = [f32; 4];

/// Output tokens of one choice.
pub(crate) const OUTPUT: usize = 0;
/// Bytes of one choice.
pub(crate) const TEXT: usize = 1;
/// Tokens per byte.
pub(crate) const BILLING: usize = 2;
/// Reported per estimated input tokens.
pub(crate) const INPUT: usize = 3;

/// What requests under one key gave; logarithms are natural ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Node {
    /// Fading means of the logarithms.
    pub(crate) value: Lanes,
    /// Answers behind each, up to [`MEMORY`].
    pub(crate) count: Lanes,
    /// Mean squares of how far off each was from the next.
    pub(crate) error: Lanes,
    /// Output tokens of one choice.
    pub(crate) tokens: f32,
    /// Which way the latest outputs fell, in standard deviations.
    pub(crate) drift: f32,
    /// Who served most of them, and the share that others served.
    pub(crate) server: u32,
    pub(crate) others: f32,
    /// When it was last learned from, by the shared clock.
    pub(crate) used: u32,
}

/// What an answer shows: each value, and how much it says, from 0 to 1; nothing where it is silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) value: Lanes,
    pub(crate) weight: Lanes,
    /// One where there is a value.
    told: Lanes,
    /// The exponential of the output's value.
    pub(crate) tokens: f32,
}

/// A fading mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mean {
    pub(crate) value: f32,
    pub(crate) count: f32,
    /// Mean square of how far off it was from the next value.
    pub(crate) error: f32,
}

/// How well the keys of one level have predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    pub(crate) error: f32,
    pub(crate) count: f32,
}

/// A value, and how much it says: less where the server's own part in it is uncertain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clue {
    pub(crate) value: f32,
    /// From 0 to 1.
    pub(crate) weight: f32,
}

impl Clue {
    /// A value with nobody's part in it.
    pub(crate) const fn sure(value: f32) -> Self {
        Self { value, weight: 1.0 }
    }

    /// Whether it says something of a count.
    fn is_sound(&self) -> bool {
        self.value.abs() <= LARGEST_LOG && self.weight > 0.0
    }
}

impl Evidence {
    /// What `clues` show; the logarithm of what no answer can have shows nothing.
    pub(crate) fn of(clues: [Option<Clue>; 4]) -> Self {
        let clues = clues.map(|clue| clue.filter(Clue::is_sound));
        let value = clues.map(|clue| clue.map_or(0.0, |clue| clue.value));
        Self {
            value,
            weight: clues.map(|clue| clue.map_or(0.0, |clue| clue.weight)),
            told: clues.map(|clue| f32::from(clue.is_some())),
            tokens: value[OUTPUT].exp(),
        }
    }
}

impl Node {
    /// Takes an answer in; `trust` is what [`Self::trust`] says before it.
    pub(crate) fn learn(&mut self, evidence: &Evidence, trust: &Lanes, level: &mut Level) {
        let narrowness = trust.map(f32::sqrt);
        // Infinite where nothing is known, so that the first answer is taken as it is.
        let width = narrowness.map(f32::recip);
        let bounded: Lanes = from_fn(|lane| {
            let reach = STEP * width[lane];
            let most = least(evidence.value[lane], self.value[lane] + reach);
            greatest(most, self.value[lane] - reach)
        });
        let miss: Lanes = from_fn(|lane| bounded[lane] - self.value[lane]);
        let count: Lanes = from_fn(|lane| self.count[lane] + evidence.weight[lane]);
        // What is divided by one of these is multiplied with the other two and divided by all: one division for three.
        let one_more = self.count.map(|count| count + 1.0);
        let before = self.count.map(|count| greatest(count, 1.0));
        let after = count.map(|count| greatest(count, LEAST_COUNT));
        let all: Lanes = from_fn(|lane| 1.0 / (one_more[lane] * before[lane] * after[lane]));
        let error: Lanes = from_fn(|lane| {
            let known = self.count[lane] * (all[lane] * before[lane] * after[lane]);
            miss[lane] * miss[lane] * known
        });
        let share: Lanes =
            from_fn(|lane| evidence.weight[lane] * (all[lane] * one_more[lane] * before[lane]));
        self.error = from_fn(|lane| {
            let part = all[lane] * one_more[lane] * after[lane];
            let moved = (error[lane] - self.error[lane]) * part;
            faded(self.error[lane] + evidence.told[lane] * moved)
        });
        if self.count[OUTPUT] > 0.0 && evidence.told[OUTPUT] > 0.0 {
            level.learn(error[OUTPUT]);
            self.follow(miss[OUTPUT] * narrowness[OUTPUT]);
        }
        self.value = from_fn(|lane| faded(self.value[lane] + miss[lane] * share[lane]));
        self.count = count.map(|count| least(count, MEMORY));
        let tokens = if bounded[OUTPUT].to_bits() == evidence.value[OUTPUT].to_bits() {
            evidence.tokens
        } else {
            bounded[OUTPUT].exp()
        };
        self.tokens += (tokens - self.tokens) * share[OUTPUT];
    }

    /// Lets most of what is known go once the outputs keep falling to one side.
    fn follow(&mut self, miss: f32) {
        self.drift = faded(self.drift + (miss - self.drift) * DRIFT_WEIGHT);
        if self.drift.abs() > DRIFT_LIMIT && self.count[OUTPUT] > AFTER_DRIFT {
            self.drift = 0.0;
            self.count[OUTPUT] = AFTER_DRIFT;
        }
    }

    /// Keeps who served most, and what share the others did, as fading as everything else.
    pub(crate) fn note_server(&mut self, server: u32) {
        let count = self.count[OUTPUT];
        if count == 0.0 {
            self.server = server;
        }
        let other = f32::from(self.server != server);
        self.others = faded(self.others + (other - self.others) * (1.0 / (count + 1.0)));
        if self.others > 0.5 {
            self.server = server;
            self.others = 1.0 - self.others;
        }
    }

    /// For how long it has not been learned from, by the shared clock.
    pub(crate) const fn age(&self, now: u32) -> u32 {
        now.wrapping_sub(self.used)
    }

    /// The share of what it knows that does not come from `server`.
    pub(crate) fn share_apart(&self, server: u32) -> f32 {
        if server == self.server {
            self.others
        } else {
            1.0 - self.others
        }
    }

    /// How far predictions by this key can be trusted: one over their variances; nothing where it knows nothing.
    ///
    /// ```text
    ///   variance = max(mean of error and prior, least error) · (1 + 1/count)
    /// ```
    pub(crate) fn trust(&self, level: &Level) -> Lanes {
        let prior = [level.error, TEXT_ERROR, RATIO_ERROR, RATIO_ERROR];
        from_fn(|lane| {
            let (count, weight) = (self.count[lane], PRIOR_WEIGHTS[lane]);
            let all = count + weight;
            let errors = self.error[lane] * count + prior[lane] * weight;
            let errors = greatest(errors, LEAST_ERRORS[lane] * all);
            (all * count) / (errors * (count + 1.0))
        })
    }
}

impl Mean {
    /// Takes one more value in, if there is one.
    pub(crate) fn learn(&mut self, clue: Option<Clue>, prior_error: f32) {
        let Some(Clue { value, weight }) = clue.filter(|clue| clue.value.is_finite()) else {
            return;
        };
        let mut bounded = value;
        if self.count > 0.0 {
            let reach = STEP * self.doubt(prior_error).sqrt();
            bounded = value.clamp(self.value - reach, self.value + reach);
            let miss = bounded - self.value;
            let error = miss * miss * self.count / (self.count + 1.0);
            self.error = faded(self.error + (error - self.error) / self.count.max(1.0));
        }
        self.value = faded(self.value + (bounded - self.value) * weight / (self.count + weight));
        self.count = (self.count + weight).min(MEMORY);
    }

    /// Variance of the next value around this one.
    fn doubt(&self, prior_error: f32) -> f32 {
        let error =
            (self.error * self.count + prior_error * PRIOR_WEIGHT) / (self.count + PRIOR_WEIGHT);
        error * (1.0 + 1.0 / self.count)
    }
}

impl Level {
    fn learn(&mut self, error: f32) {
        let weight = 1.0 / (self.count + LEVEL_WEIGHT);
        self.error = faded(self.error + (error - self.error) * weight);
        self.count = (self.count + 1.0).min(MEMORY);
    }
}

impl Default for Level {
    fn default() -> Self {
        Self {
            error: PRIOR_ERROR,
            count: 0.0,
        }
    }
}

/// As `f32::min` for numbers: one instruction, where that also looks for what is none.
const fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// As `f32::max`, likewise.
const fn greatest(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Mean square error of a prediction about which nothing is known: off by a factor of some three.
const PRIOR_ERROR: f32 = 1.0;
/// Answers that a level's error counts for in the error of one of its keys.
const LEVEL_WEIGHT: f32 = 4.0;
/// The same for what is known of means beforehand.
const PRIOR_WEIGHT: f32 = 2.0;
const PRIOR_WEIGHTS: Lanes = [LEVEL_WEIGHT, PRIOR_WEIGHT, PRIOR_WEIGHT, PRIOR_WEIGHT];
/// No output is predicted better than by some five percent.
const LEAST_ERRORS: Lanes = [0.003, 0.0, 0.0, 0.0];
/// Mean square errors of the logarithms of bytes and of ratios before better is known.
const TEXT_ERROR: f32 = 1.0;
const RATIO_ERROR: f32 = 0.05;
/// Answers that a key remembers.
pub(crate) const MEMORY: f32 = 300.0;
/// Stands for a count of nothing where something is divided by it.
const LEAST_COUNT: f32 = 1e-12;
/// Standard deviations that one answer counts for at most.
const STEP: f32 = 3.0;
/// Counts go up to 2^64, and nobody bills so many times what others do.
const LARGEST_LOG: f32 = 60.0;
const DRIFT_WEIGHT: f32 = 1.0 / 16.0;
const DRIFT_LIMIT: f32 = 0.9;
const AFTER_DRIFT: f32 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clue() -> impl Strategy<Value = Option<Clue>> {
        let clue =
            (-12.0..12.0_f32, 0.01..1.0_f32).prop_map(|(value, weight)| Clue { value, weight });
        prop::option::weighted(0.8, clue)
    }

    proptest! {
        #[test]
        fn each_lane_is_a_mean_of_its_own(answers in prop::collection::vec([clue(), clue(), clue(), clue()], 0..80)) {
            let (mut node, mut level) = (Node::default(), Level::default());
            let mut means = [Mean::default(); 4];
            for clues in answers {
                let trust = node.trust(&level);
                node.learn(&Evidence::of(clues), &trust, &mut level);
                for (lane, prior) in [(TEXT, TEXT_ERROR), (BILLING, RATIO_ERROR), (INPUT, RATIO_ERROR)] {
                    means[lane].learn(clues[lane], prior);
                    let close = |a: f32, b: f32| (a - b).abs() <= 1e-3 * b.abs().max(1.0);
                    prop_assert!(close(node.value[lane], means[lane].value), "{node:?} {means:?}");
                    prop_assert!(close(node.count[lane], means[lane].count), "{node:?} {means:?}");
                    prop_assert!(close(node.error[lane], means[lane].error), "{node:?} {means:?}");
                }
            }
        }

        #[test]
        fn no_answer_breaks_it(answers in prop::collection::vec((any::<f32>(), 0.0..1.0_f32), 0..80)) {
            let (mut node, mut level) = (Node::default(), Level::default());
            for (value, weight) in answers {
                let trust = node.trust(&level);
                node.learn(&Evidence::of([Some(Clue { value, weight }); 4]), &trust, &mut level);
                let all = [node.value, node.count, node.error].concat();
                prop_assert!(all.iter().all(|number| number.is_finite()), "{node:?}");
            }
        }
    }
}
