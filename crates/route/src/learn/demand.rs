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

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::explore::Account;
use crate::shape::{Keys, LEVELS};

/// What requests for one model gave so far.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    records: Mutex<Records>,
    /// What requests for any model gave, for a model that has not seen enough itself.
    common: Option<Arc<Self>>,
}

/// The part behind the lock.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) nodes: HashMap<u64, Node, BuildHasherDefault<KeyHasher>>,
    pub(crate) levels: [Level; LEVELS],
    /// Counts the requests planned, as a clock of what happens here.
    pub(crate) ticks: u32,
    pub(crate) account: Account,
    /// Share of answers whose usage looks as if it could not be true.
    pub(crate) implausible: Mean,
}

/// What requests under one key gave; logarithms are natural ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Node {
    /// Answers seen, up to [`MEMORY`].
    pub(crate) count: f32,
    /// Output tokens of one choice.
    pub(crate) tokens: f32,
    /// Their logarithm.
    pub(crate) log_tokens: f32,
    /// Mean square of how far off predictions of that logarithm were.
    pub(crate) error: f32,
    /// Which way the latest ones fell, in standard deviations.
    pub(crate) drift: f32,
    /// Logarithm of the bytes of one choice.
    pub(crate) text: Mean,
    /// Logarithm of tokens per byte.
    pub(crate) billing: Mean,
    /// Logarithm of reported per estimated input tokens.
    pub(crate) input: Mean,
    /// Who served most of them, and the share that others served.
    pub(crate) server: u32,
    pub(crate) others: f32,
    /// When it was last learned from.
    pub(crate) used: u32,
}

/// A fading mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mean {
    pub(crate) value: f32,
    pub(crate) count: f32,
    /// Mean square of how far off it was from the next value.
    pub(crate) error: f32,
}

/// A prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Guess {
    pub(crate) value: f32,
    /// How far off it is likely to be, as a variance.
    pub(crate) doubt: f32,
}

/// How well the keys of one level have predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    pub(crate) error: f32,
    pub(crate) count: f32,
}

/// What is expected of one request, whoever serves it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expectation {
    /// Output tokens of one choice.
    pub(crate) output: f32,
    /// Their logarithm, for comparison with what comes.
    pub(crate) log_output: f32,
    /// Variance of that.
    pub(crate) doubt: f32,
    /// Logarithm of the bytes of one choice, if some were counted.
    pub(crate) log_text: Option<Guess>,
    /// Logarithm of tokens per byte.
    pub(crate) log_billing: Option<Guess>,
    /// Logarithm of reported per estimated input tokens.
    pub(crate) log_input: Option<Guess>,
}

/// What one answer shows, less what its server added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Lesson {
    pub(crate) log_output: Option<Clue>,
    pub(crate) log_text: Option<Clue>,
    pub(crate) log_billing: Option<Clue>,
    pub(crate) log_input: Option<Clue>,
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
}

impl Demand {
    /// Nothing learned yet; `common` is what helps out.
    pub(crate) fn new(common: Arc<Self>) -> Self {
        Self {
            records: Mutex::default(),
            common: Some(common),
        }
    }

    /// What a request with these keys may be expected to take, and the clock of requests, which is moved on if this one
    /// `counts`.
    pub(crate) fn expect(&self, keys: &Keys, counts: bool) -> (Expectation, u32) {
        self.expect_apart(keys, counts, None)
    }

    /// As [`Self::expect`], and doubted as far as it rests on what `server` itself has shown: nobody is measured against
    /// himself.
    pub(crate) fn expect_apart(
        &self,
        keys: &Keys,
        counts: bool,
        server: Option<u32>,
    ) -> (Expectation, u32) {
        let mut records = self.lock();
        records.ticks = records.ticks.wrapping_add(u32::from(counts));
        let ticks = records.ticks;
        let mut blend = records.blend(keys, server);
        let known = records.known();
        drop(records);
        if let Some(common) = self.common.as_ref().filter(|_| known < ENOUGH) {
            blend.add_hint(&common.lock().blend(keys, None));
        }
        (blend.finish(), ticks)
    }

    /// Takes an answer to a request with these keys into account.
    ///
    /// One that is not `plausible` says nothing of requests, unless most answers of this model are like it: then it is
    /// the model that bills what nobody sees, such as hidden reasoning, and no provider that lies.
    pub(crate) fn learn(&self, keys: &Keys, lesson: &Lesson, server: u32, plausible: bool) {
        for demand in std::iter::once(self).chain(self.common.as_deref()) {
            let mut records = demand.lock();
            let unlikely = Clue::sure(f32::from(!plausible));
            records.implausible.learn(Some(unlikely), RATIO_ERROR);
            if plausible || records.implausible.value > 0.5 {
                records.learn(keys, lesson, server);
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Records {
    fn default() -> Self {
        Self {
            nodes: HashMap::default(),
            levels: [Level {
                error: PRIOR_ERROR,
                count: 0.0,
            }; LEVELS],
            ticks: 0,
            account: Account::default(),
            implausible: Mean::default(),
        }
    }
}

impl Records {
    /// Answers behind the most general key.
    fn known(&self) -> f32 {
        self.levels[0].count
    }

    fn blend(&self, keys: &Keys, server: Option<u32>) -> Blend {
        let mut blend = Blend {
            server,
            ..Blend::default()
        };
        for (key, level) in keys.iter().zip(&self.levels) {
            if let Some(node) = self.nodes.get(key) {
                blend.add(node, node.doubt(level));
            }
        }
        blend
    }

    fn learn(&mut self, keys: &Keys, lesson: &Lesson, server: u32) {
        if self.nodes.len() + LEVELS > MOST_NODES {
            self.forget();
        }
        for (key, level) in keys.iter().zip(&mut self.levels) {
            let node = self.nodes.entry(*key).or_default();
            node.used = self.ticks;
            node.note_server(server);
            node.text.learn(lesson.log_text, TEXT_ERROR);
            node.billing.learn(lesson.log_billing, RATIO_ERROR);
            node.input.learn(lesson.log_input, RATIO_ERROR);
            if let Some(log_output) = lesson.log_output {
                node.learn_output(log_output, level);
            }
        }
    }

    /// Lets the half go that was not used for longest.
    fn forget(&mut self) {
        let ages = self
            .nodes
            .values()
            .map(|node| self.ticks.wrapping_sub(node.used));
        let mut ages: Vec<u32> = ages.collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let (median, ticks) = (*median, self.ticks);
        let mut room = MOST_NODES / 2;
        self.nodes.retain(|_, node| {
            let keep = ticks.wrapping_sub(node.used) <= median && room > 0;
            room -= usize::from(keep);
            keep
        });
    }
}

impl Node {
    /// Keeps who served most, and what share the others did, as fading as everything else.
    fn note_server(&mut self, server: u32) {
        let share = 1.0 / (self.count + 1.0);
        if self.count == 0.0 {
            self.server = server;
        }
        let other = f32::from(self.server != server);
        self.others += (other - self.others) * share;
        if self.others > 0.5 {
            self.server = server;
            self.others = 1.0 - self.others;
        }
    }

    /// The share of what it knows that does not come from `server`.
    fn share_apart(&self, server: Option<u32>) -> f32 {
        match server {
            None => 1.0,
            Some(server) if server == self.server => self.others,
            Some(_) => 1.0 - self.others,
        }
    }

    /// Variance of a prediction by this key.
    fn doubt(&self, level: &Level) -> f32 {
        if self.count <= 0.0 {
            return f32::INFINITY;
        }
        let error =
            (self.error * self.count + level.error * LEVEL_WEIGHT) / (self.count + LEVEL_WEIGHT);
        error.max(LEAST_ERROR) * (1.0 + 1.0 / self.count)
    }

    fn learn_output(&mut self, clue: Clue, level: &mut Level) {
        let log = clue.value;
        if !log.is_finite() {
            return;
        }
        let mut bounded = log;
        if self.count > 0.0 {
            let width = self.doubt(level).sqrt();
            let reach = STEP * width;
            bounded = log.clamp(self.log_tokens - reach, self.log_tokens + reach);
            let miss = bounded - self.log_tokens;
            let error = miss * miss * self.count / (self.count + 1.0);
            self.error += (error - self.error) / self.count.max(1.0);
            level.learn(error);
            self.drift += (miss / width - self.drift) * DRIFT_WEIGHT;
            if self.drift.abs() > DRIFT_LIMIT && self.count > AFTER_DRIFT {
                self.drift = 0.0;
                self.count = AFTER_DRIFT;
            }
        }
        let weight = clue.weight / (self.count + clue.weight);
        self.log_tokens += (bounded - self.log_tokens) * weight;
        self.tokens += (bounded.exp() - self.tokens) * weight;
        self.count = (self.count + clue.weight).min(MEMORY);
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
            self.error += (error - self.error) / self.count.max(1.0);
        }
        self.value += (bounded - self.value) * weight / (self.count + weight);
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
        self.error += (error - self.error) * weight;
        self.count = (self.count + 1.0).min(MEMORY);
    }
}

/// A weighted mean of predictions.
#[derive(Debug, Clone, Copy, Default)]
struct Blend {
    /// Whose own part in the evidence is not counted.
    server: Option<u32>,
    weight: f32,
    output: f32,
    log_output: f32,
    doubt: f32,
    text: Weighed,
    billing: Weighed,
    input: Weighed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Weighed {
    sum: f32,
    weight: f32,
    doubt: f32,
}

impl Blend {
    fn add(&mut self, node: &Node, doubt: f32) {
        let weight = doubt.powi(-SHARPNESS);
        self.weight += weight;
        self.output += weight * node.tokens;
        self.log_output += weight * node.log_tokens;
        // Infinite doubt weighs nothing.
        let apart = node.share_apart(self.server);
        if weight > 0.0 {
            self.doubt += weight * doubt * apart_from(node.count, apart);
        }
        self.text.add(&node.text, apart, TEXT_ERROR);
        self.billing.add(&node.billing, apart, RATIO_ERROR);
        self.input.add(&node.input, apart, RATIO_ERROR);
    }

    /// What another model's requests gave counts as one doubtful key more.
    fn add_hint(&mut self, hint: &Self) {
        if hint.weight <= 0.0 {
            return;
        }
        let doubt = HINT_DOUBT * hint.doubt / hint.weight;
        let node = Node {
            count: 1.0,
            tokens: hint.output / hint.weight,
            log_tokens: hint.log_output / hint.weight,
            text: hint.text.as_mean(),
            billing: hint.billing.as_mean(),
            input: hint.input.as_mean(),
            ..Node::default()
        };
        self.add(&node, doubt);
    }

    fn finish(mut self) -> Expectation {
        // A guess without evidence is nothing to measure anybody against.
        let no_measure = self.server.is_some() && self.weight <= 0.0;
        let prior = Node {
            tokens: PRIOR_OUTPUT,
            log_tokens: PRIOR_OUTPUT.ln(),
            ..Node::default()
        };
        self.add(&prior, PRIOR_DOUBT);
        let share = 1.0 / self.weight;
        Expectation {
            output: self.output * share,
            log_output: self.log_output * share,
            doubt: if no_measure {
                f32::INFINITY
            } else {
                self.doubt * share
            },
            log_text: self.text.guess(),
            log_billing: self.billing.guess(),
            log_input: self.input.guess(),
        }
    }
}

impl Weighed {
    fn add(&mut self, mean: &Mean, apart: f32, prior_error: f32) {
        if mean.count > 0.0 {
            let doubt = mean.doubt(prior_error);
            let weight = doubt.powi(-SHARPNESS);
            self.sum += weight * mean.value;
            self.weight += weight;
            self.doubt += weight * doubt * apart_from(mean.count, apart);
        }
    }

    fn guess(&self) -> Option<Guess> {
        (self.weight > 0.0).then(|| Guess {
            value: self.sum / self.weight,
            doubt: self.doubt / self.weight,
        })
    }

    fn as_mean(&self) -> Mean {
        self.guess().map_or_else(Mean::default, |guess| Mean {
            value: guess.value,
            count: 1.0,
            error: guess.doubt,
        })
    }
}

/// How much larger the variance of a mean of `count` values is when only a share of them counts.
fn apart_from(count: f32, share: f32) -> f32 {
    let left = (count * share).max(LEAST_EVIDENCE);
    (1.0 + 1.0 / left) / (1.0 + 1.0 / count.max(LEAST_EVIDENCE))
}

/// Keys are well spread already.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Output tokens of a request about which nothing is known.
const PRIOR_OUTPUT: f32 = 300.0;
/// Mean square error of a prediction about which nothing is known: off by a factor of some three.
const PRIOR_ERROR: f32 = 1.0;
const PRIOR_DOUBT: f32 = 2.5;
/// Answers that a level's error counts for in the error of one of its keys.
const LEVEL_WEIGHT: f32 = 4.0;
/// Nothing is predicted better than by some five percent.
const LEAST_ERROR: f32 = 0.003;
/// How strongly the better predictor is preferred.
const SHARPNESS: i32 = 4;
/// Answers after which other models' requests are not asked any more.
const ENOUGH: f32 = 30.0;
/// How much less another model's requests tell.
const HINT_DOUBT: f32 = 2.0;
/// Answers that a key remembers.
const MEMORY: f32 = 300.0;
/// Standard deviations that one answer counts for at most.
const STEP: f32 = 3.0;
/// Mean square errors of the logarithms of bytes and of ratios before better is known.
const TEXT_ERROR: f32 = 1.0;
const RATIO_ERROR: f32 = 0.05;
/// What evidence of one's own making is worth, in answers.
const LEAST_EVIDENCE: f32 = 0.05;
/// Values that those count for.
const PRIOR_WEIGHT: f32 = 2.0;
const DRIFT_WEIGHT: f32 = 1.0 / 16.0;
const DRIFT_LIMIT: f32 = 0.9;
const AFTER_DRIFT: f32 = 8.0;
/// Keys kept of one model: a tenth of a megabyte.
pub(crate) const MOST_NODES: usize = 4096;
