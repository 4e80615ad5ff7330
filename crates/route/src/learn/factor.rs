//! One multiplicative effect, learned from noisy evidence.
//!
//! A one-dimensional Kalman filter over the logarithm of the effect: without evidence it is 1 give or take the prior, and
//! each observation moves it by how certain it is against how noisy observations have turned out to be. Three things
//! keep it honest: a single step is bounded, so that one absurd report moves it little; evidence is worth less the
//! longer ago it was gathered; and when what comes in keeps falling to one side, the old evidence is let go.
//!
//! Most offers of a model add nothing beyond what others do, which no bell-shaped prior says. So an estimate is reckoned
//! with once it is a few times as likely as mere chance; until then the offer counts as a typical one.

use super::demand::Prediction;
use super::faded;

/// An effect as a natural logarithm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Factor {
    /// The estimate.
    pub(crate) log: f32,
    /// What is known: one over the variance of the estimate, without the prior.
    pub(crate) knowledge: f32,
    /// Variance of one observation, lately; 0 before any.
    pub(crate) noise: f32,
    /// Which way the latest observations fell, in standard deviations.
    pub(crate) drift: f32,
}

/// What is believed of a factor before anything was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prior {
    /// Variance between offers.
    pub(crate) spread: f32,
    /// Variance of one observation.
    pub(crate) noise: f32,
}

impl Factor {
    /// Takes one more observation in, whose variance is `doubt`.
    pub(crate) fn learn(&mut self, observed: f32, doubt: f32, prior: &Prior) {
        if !observed.is_finite() || !doubt.is_finite() {
            return;
        }
        let doubt = doubt.max(prior.noise * LEAST_NOISE);
        let variance = self.variance(prior);
        let width = (variance + doubt).sqrt();
        let surprise = (observed - self.log).clamp(-STEP * width, STEP * width);
        self.log = faded(self.log + surprise * variance / (width * width));
        let noise = self.noise(prior);
        self.noise = noise + (doubt - noise) * DRIFT_WEIGHT;
        self.knowledge = (self.knowledge + 1.0 / doubt).min(MEMORY / doubt);
        self.drift = faded(self.drift + (surprise / width - self.drift) * DRIFT_WEIGHT);
        if self.drift.abs() > DRIFT_LIMIT {
            self.drift = 0.0;
            self.knowledge = self.knowledge.min(AFTER_DRIFT / doubt);
        }
    }

    /// Lets go of what only the server's own answers vouch for: by as much as this one would have moved the estimate, had
    /// what was `usual` come from others. Where nobody else answers such requests, a factor and what is expected of
    /// them could trade places unnoticed, and a first wrong prediction would stay for ever.
    pub(crate) fn fade_unvouched(&mut self, usual: &Prediction, prior: &Prior) {
        let variance = self.variance(prior);
        let least = prior.noise * LEAST_NOISE;
        let gain = |doubt: f32| variance / (variance + doubt.max(least));
        let share = gain(usual.vouched) - gain(usual.doubt);
        if share > 0.0 {
            self.log = faded(self.log - self.log * share);
        }
    }

    /// What is known fades: what is left of it is `share`.
    pub(crate) fn fade(&mut self, share: f32) {
        self.knowledge *= share;
    }

    /// How uncertain the estimate is, as a variance.
    pub(crate) fn variance(&self, prior: &Prior) -> f32 {
        1.0 / (1.0 / prior.spread + self.knowledge)
    }

    /// How much an observation says of other things, whose measure this factor is part of: less while it is uncertain.
    pub(crate) fn clarity(&self, prior: &Prior) -> f32 {
        let noise = self.noise(prior);
        noise / (noise + self.variance(prior))
    }

    /// The logarithm to reckon with: the estimate, or what is `typical` while chance explains it almost as well.
    pub(crate) fn effect(&self, prior: &Prior, typical: f32) -> f32 {
        let variance = self.variance(prior);
        let most_by_chance = variance * (LIKELIER * LIKELIER * prior.spread / variance).ln();
        let apart = self.log - typical;
        if apart * apart > most_by_chance {
            self.log
        } else {
            typical
        }
    }

    /// The standard deviation by which one more observation would move the estimate.
    pub(crate) fn news(&self, prior: &Prior) -> f32 {
        let variance = self.variance(prior);
        variance / (variance + self.noise(prior)).sqrt()
    }

    fn noise(&self, prior: &Prior) -> f32 {
        if self.noise > 0.0 {
            self.noise
        } else {
            prior.noise
        }
    }
}

/// Standard deviations that a single observation counts for at most.
const STEP: f32 = 4.0;
/// Observations that are remembered.
const MEMORY: f32 = 150.0;
/// No observation is surer than this share of the prior's noise, so that certainty stays finite.
const LEAST_NOISE: f32 = 0.05;
/// The drift looks back some sixteen observations; unbiased ones hold it within a fifth of a standard deviation.
const DRIFT_WEIGHT: f32 = 1.0 / 16.0;
const DRIFT_LIMIT: f32 = 0.8;
/// So many times as likely as chance an effect has to be.
const LIKELIER: f32 = 3.0;
/// What is left of the evidence once it was found to be out of date.
const AFTER_DRIFT: f32 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIOR: Prior = Prior {
        spread: 0.1,
        noise: 0.5,
    };

    fn after(observations: impl IntoIterator<Item = f32>) -> Factor {
        let mut factor = Factor::default();
        for observed in observations {
            factor.learn(observed, PRIOR.noise, &PRIOR);
        }
        factor
    }

    /// Zero on average, with the noise of the prior.
    fn noise(index: u32) -> f32 {
        [0.9, -0.4, -0.9, 0.4, 0.1, -0.1, 0.7, -0.7][index as usize % 8]
    }

    #[test]
    fn little_evidence_moves_it_little_and_much_of_it_all_the_way() {
        assert!(after([0.7]).log < 0.2);
        let sure = after((0..150).map(|index| 0.7 + noise(index)));
        assert!((sure.log - 0.7).abs() < 0.1, "{sure:?}");
        assert!(sure.variance(&PRIOR) < 0.01);
        assert!(sure.news(&PRIOR) < after([0.7]).news(&PRIOR));
    }

    /// Each of ten sellers of one price seemed a little cheaper or dearer than the others, and ties were none.
    #[test]
    fn what_may_be_chance_is_no_effect() {
        for (effect, count, counts) in [
            (0.0, 8, false),
            (0.0, 150, false),
            (0.1, 8, false),
            (0.7, 3, false),
            (0.7, 40, true),
            (-0.7, 40, true),
            (0.3, 150, true),
        ] {
            let factor = after((0..count).map(|index| effect + noise(index)));
            let want = if counts { factor.log } else { 0.0 };
            assert_eq!(
                factor.effect(&PRIOR, 0.0),
                want,
                "{effect} {count} {factor:?}"
            );
        }
    }

    #[test]
    fn one_absurd_report_moves_it_little() {
        let mut factor = after((0..50).map(noise));
        factor.learn(14.0, PRIOR.noise, &PRIOR);
        factor.learn(f32::NAN, 0.0, &PRIOR);
        assert!(factor.log.abs() < 0.15, "{factor:?}");
    }

    #[test]
    fn a_changed_habit_is_noticed_soon() {
        let mut factor = after((0..150).map(|index| 0.7 + noise(index)));
        for index in 0..60 {
            factor.learn(-0.7 + noise(index), PRIOR.noise, &PRIOR);
        }
        assert!((factor.log + 0.7).abs() < 0.25, "{factor:?}");
    }

    #[test]
    fn what_nobody_else_vouches_for_fades() {
        let after_fading = |doubt: f32| {
            let mut factor = after((0..150).map(|index| 0.7 + noise(index)));
            let usual = Prediction {
                value: 0.0,
                doubt,
                vouched: PRIOR.noise,
            };
            for _ in 0..500 {
                factor.fade_unvouched(&usual, &PRIOR);
            }
            factor.log
        };
        assert!(after_fading(20.0 * PRIOR.noise).abs() < 0.1);
        assert!(after_fading(f32::INFINITY).abs() < 0.1);
        assert!((after_fading(PRIOR.noise) - 0.7).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn no_observation_breaks_it(observations in prop::collection::vec((any::<f32>(), 0.0..1e6_f32), 0..100)) {
            let mut factor = Factor::default();
            for (observed, doubt) in observations {
                factor.learn(observed, doubt, &PRIOR);
                prop_assert!(factor.log.is_finite() && factor.noise >= 0.0 && factor.knowledge >= 0.0);
                prop_assert!(factor.variance(&PRIOR) > 0.0);
            }
        }
    }
}
