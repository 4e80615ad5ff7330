//! What the offers of a model add as a rule.
//!
//! Bills do not tell what every offer adds from what every request takes: were all offers twice as generous with tokens,
//! or all requests twice as long, they would be the same. So factors have a meaning beside one another only, and one of
//! which little is known is that of the others, not one. Without this, all that serve may come to stand at 0.7, and
//! whoever was not asked yet seems to be the dearer for it.

use super::factor::{Factor, Prior};

/// Logarithms of what an offer adds to text, to tokens for a byte of it, and to input.
pub(crate) type Logs = [f32; 3];

/// What one offer says of the rule: its factors, each as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Voice {
    logs: Logs,
    weights: Logs,
}

/// The mean of the factors of a model's offers, each weighed by how well it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Typical {
    pub(crate) sums: [f64; 3],
    pub(crate) weights: [f64; 3],
    /// The mean, as it was when it last moved by more than [`STEP`]: what was reckoned with it stays in force until then.
    logs: Logs,
}

impl Voice {
    pub(crate) fn of(factors: [(&Factor, &Prior); 3]) -> Self {
        let weights = factors.map(|(factor, prior)| 1.0 - factor.variance(prior) / prior.spread);
        Self {
            logs: factors.map(|(factor, _)| factor.log),
            weights,
        }
    }
}

impl Typical {
    /// What was saved.
    pub(crate) fn of(sums: [f64; 3], weights: [f64; 3]) -> Self {
        let mut typical = Self {
            sums,
            weights,
            ..Self::default()
        };
        typical.settle();
        typical
    }

    /// An offer that said `before` says `after` now.
    pub(crate) fn hear(&mut self, before: &Voice, after: &Voice) {
        for lane in 0..3 {
            let told = |voice: &Voice| f64::from(voice.logs[lane]) * f64::from(voice.weights[lane]);
            self.sums[lane] += told(after) - told(before);
            self.weights[lane] += f64::from(after.weights[lane]) - f64::from(before.weights[lane]);
        }
        self.settle();
    }

    /// What an offer adds of which nothing is known.
    pub(crate) const fn logs(&self) -> Logs {
        self.logs
    }

    fn settle(&mut self) {
        for lane in 0..3 {
            let mean = self.sums[lane] / self.weights[lane].max(LEAST_WEIGHT);
            let mean = single(mean).clamp(-LARGEST_LOG, LARGEST_LOG);
            if (mean - self.logs[lane]).abs() > STEP {
                self.logs[lane] = mean;
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an estimate")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// A fifth of a percent: less than what makes a tie.
const STEP: f32 = 0.002;
/// No offers add more than that, or less.
const LARGEST_LOG: f32 = 10.0;
/// What is left of sums when all offers are unknown is no mean.
const LEAST_WEIGHT: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior {
        spread: 0.1,
        noise: 0.1,
    };

    fn voice(log: f32, knowledge: f32) -> Voice {
        let factor = Factor {
            log,
            knowledge,
            ..Factor::default()
        };
        Voice::of([(&factor, &PRIOR); 3])
    }

    #[test]
    fn the_rule_is_what_the_known_add() {
        let (new, half, sure) = (voice(0.0, 0.0), voice(-0.3, 10.0), voice(0.3, 1e6));
        let mut typical = Typical::default();
        typical.hear(&Voice::default(), &new);
        assert_eq!(typical.logs(), [0.0; 3], "nobody is known");
        typical.hear(&new, &half);
        assert!((typical.logs()[0] + 0.3).abs() < 0.01, "{typical:?}");
        typical.hear(&Voice::default(), &sure);
        assert!((typical.logs()[0] - 0.1).abs() < 0.01, "{typical:?}");
        let saved = Typical::of(typical.sums, typical.weights);
        assert!((saved.logs()[0] - typical.logs()[0]).abs() <= STEP);
    }

    #[test]
    fn it_stands_still_while_little_changes() {
        let mut typical = Typical::default();
        typical.hear(&Voice::default(), &voice(0.3, 1e6));
        let before = typical.logs();
        typical.hear(&voice(0.3, 1e6), &voice(0.3005, 1e6));
        assert_eq!(typical.logs(), before);
    }
}
