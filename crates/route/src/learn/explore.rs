//! When it is worth asking somebody dearer, only to find out what it really charges.
//!
//! A trial costs what the candidate is expected to cost more than the best one. It gains if it shows that the candidate
//! is in truth the cheaper one, for all requests to come. Both can be reckoned: the knowledge gradient of a candidate
//! whose cost one more answer would move by so much. Only a trial whose gain outweighs its cost is made, and beyond
//! that all trials together are held to a small share of what was spent.
//!
//! That reckons with small errors. It does not with large ones: what is expected of requests may rest on one candidate
//! alone, and that one may bill three times what others would. Some who were never asked are therefore asked once, if not
//! too dear by their price.
//!
//! Among those that cost about the same the faster is to be asked, and what another charges matters only if it turns out
//! to be more than that apart. A trial of such a one would be free in sats, yet costs time: it has its turn now and then.

/// What was spent on requests for one model, and how much of it on trials; in nanosats, by expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ExplorationBudget {
    pub(crate) spent: f64,
    pub(crate) explored: f64,
    pub(crate) requests: f64,
}

/// A candidate as seen by whoever may try it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    /// Expected cost, in nanosats.
    pub(crate) cost: f64,
    /// Standard deviation by which one more answer would move the logarithm of that.
    pub(crate) news: f64,
    /// Its cost is about that of the best.
    pub(crate) tied: bool,
    /// It was never asked, and hardly anybody else was.
    pub(crate) unheard: bool,
}

impl ExplorationBudget {
    /// Notes a request that is expected to cost so much, of which `premium` is for a trial.
    pub(crate) fn note(&mut self, cost: f64, premium: f64) {
        self.spent += cost;
        self.explored += premium;
        self.requests += 1.0;
    }

    /// Which of `trials` is worth making instead of a request that costs `best`, if any.
    pub(crate) fn choose<T>(
        &self,
        best: f64,
        trials: impl Iterator<Item = (T, Trial)>,
    ) -> Option<T> {
        let usual = self.spent / self.requests;
        let allowance = self.allowance(usual);
        if self.requests < FIRST_TRIAL {
            return None;
        }
        let horizon = self.requests.min(LONGEST_HORIZON);
        let gains = trials.filter_map(|(candidate, trial)| {
            let premium = trial.premium(best);
            if trial.news <= 0.0 || premium > allowance || (trial.tied && !self.is_turn_of_tied()) {
                return None;
            }
            let first_look = if trial.unheard { FIRST_LOOK } else { 0.0 };
            // However near it is: most are ruled out by this alone.
            if horizon * usual * (trial.news * MOST_LOSS + first_look) <= premium {
                return None;
            }
            let unmasks = first_look * best / trial.cost;
            let gain = horizon * usual * (gain(best, trial) + unmasks) - premium;
            (gain > 0.0).then_some((candidate, gain))
        });
        gains
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(candidate, _)| candidate)
    }

    fn is_turn_of_tied(&self) -> bool {
        self.requests.rem_euclid(TIED_TURN) < 1.0
    }

    /// What may be spent on a trial now: a share of everything spent, and a few requests' worth to begin with.
    fn allowance(&self, usual: f64) -> f64 {
        self.spent * SHARE + usual * FREE_TRIALS - self.explored
    }
}

impl Trial {
    /// What it costs to ask it instead of the best.
    fn premium(&self, best: f64) -> f64 {
        if self.tied {
            best * TIED_PREMIUM
        } else {
            self.cost - best
        }
    }
}

/// What one answer is expected to save every later request, as a share of its cost.
fn gain(best: f64, trial: Trial) -> f64 {
    if trial.news <= 0.0 || best <= 0.0 || trial.cost <= 0.0 {
        return 0.0;
    }
    let distance = (trial.premium(best) / best).max(0.0).ln_1p() / trial.news;
    trial.news * normal_loss(distance)
}

/// The normal loss without a distance, rounded up.
const MOST_LOSS: f64 = 0.4;

/// How far a standard normal variable is beyond `distance` on average, counting nothing where it is not.
fn normal_loss(distance: f64) -> f64 {
    if distance > 6.0 {
        return 0.0;
    }
    let density = (-distance * distance / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    // Mills' ratio by Bryc's rational function, exact to three digits, which is more than any input here.
    let x = distance;
    let upper = x * x + 5.575_192_695 * x + 12.774_363_24;
    let lower = x * x * x * (2.0 * std::f64::consts::PI).sqrt()
        + 14.387_188_147 * x * x
        + 31.535_319_77 * x
        + 2.0 * 12.774_363_24;
    let tail = upper / lower * (-x * x / 2.0).exp();
    (density - distance * tail).max(0.0)
}

/// Share of all spending that goes to trials at most.
const SHARE: f64 = 0.004;
/// What may be spent on them before anything was, in requests.
const FREE_TRIALS: f64 = 6.0;
/// What the first answer of somebody as dear as the best may save each later request, as a share of its cost: one
/// candidate in thirty or so bills a multiple of what others do.
const FIRST_LOOK: f64 = 0.03;
/// What the time is taken to cost that a trial among equals takes longer, as a share of a request's cost.
const TIED_PREMIUM: f64 = 0.01;
/// In so many requests there is one such trial at most.
const TIED_TURN: f64 = 16.0;
/// Requests before the first trial: who sends a few expects the cheapest.
const FIRST_TRIAL: f64 = 30.0;
/// Requests that a finding is taken to serve: as many as there were, up to these.
const LONGEST_HORIZON: f64 = 500.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_loss_is_what_tables_say() {
        for (distance, want) in [
            (0.0, 0.3989),
            (0.5, 0.1978),
            (1.0, 0.0833),
            (2.0, 0.0085),
            (3.0, 0.0004),
        ] {
            let got = normal_loss(distance);
            assert!((got - want).abs() < 0.0005, "{distance}: {got}");
        }
    }

    fn busy() -> ExplorationBudget {
        ExplorationBudget {
            spent: 1000.0,
            explored: 0.0,
            requests: 500.0,
        }
    }

    fn chosen(budget: &ExplorationBudget, trials: &[(&str, Trial)]) -> Option<String> {
        let trials = trials.iter().map(|(name, trial)| (name, *trial));
        budget.choose(1.0, trials).map(|name| (*name).to_owned())
    }

    #[test]
    fn the_unknown_are_tried_and_the_known_are_not() {
        let trial = |cost, news| Trial {
            cost,
            news,
            tied: false,
            unheard: false,
        };
        let cases = [
            (vec![("a", trial(1.2, 0.3))], Some("a")),
            (vec![("a", trial(1.2, 0.01))], None),
            (vec![("a", trial(4.0, 0.3))], None),
            (
                vec![("a", trial(1.2, 0.2)), ("b", trial(1.2, 0.4))],
                Some("b"),
            ),
            (vec![("a", trial(1.2, 0.0))], None),
        ];
        for (trials, want) in cases {
            assert_eq!(chosen(&busy(), &trials).as_deref(), want, "{trials:?}");
        }
    }

    /// All that was known rested on one candidate, and that one billed three times what the other would.
    #[test]
    fn who_was_never_asked_is_asked_once_if_not_too_dear() {
        for (cost, want) in [(1.5, true), (3.0, true), (6.0, false)] {
            let trial = Trial {
                cost,
                news: 0.05,
                tied: false,
                unheard: true,
            };
            let asked = chosen(&busy(), &[("a", trial)]).is_some();
            assert_eq!(asked, want, "{cost}");
            let trial = Trial {
                unheard: false,
                ..trial
            };
            assert_eq!(chosen(&busy(), &[("a", trial)]), None, "{cost}");
        }
    }

    /// They cost nothing, and were made at every request.
    #[test]
    fn among_equals_the_unknown_are_tried_now_and_then_and_the_known_are_not() {
        for (cost, news, want) in [
            (1.0, 0.3, 400..=625),
            (0.995, 0.3, 400..=625),
            (1.0, 0.002, 0..=0),
        ] {
            let mut budget = ExplorationBudget::default();
            let trials = (0..10_000).filter(|_| {
                let trial = Trial {
                    cost,
                    news,
                    tied: true,
                    unheard: false,
                };
                let tried = chosen(&budget, &[("a", trial)]).is_some();
                budget.note(1.0, 0.0);
                tried
            });
            let trials = trials.count();
            assert!(want.contains(&trials), "{cost} {news}: {trials}");
        }
    }

    #[test]
    fn trials_together_keep_to_their_share() {
        let mut budget = ExplorationBudget::default();
        for _ in 0..10_000 {
            let trial = Trial {
                cost: 1.5,
                news: 0.5,
                tied: false,
                unheard: false,
            };
            let tried = chosen(&budget, &[("a", trial)]).is_some();
            let premium = if tried { 0.5 } else { 0.0 };
            budget.note(1.0 + premium, premium);
        }
        assert!(budget.explored > 10.0, "{budget:?}");
        assert!(
            budget.explored <= budget.spent * SHARE + FREE_TRIALS,
            "{budget:?}"
        );
    }
}
