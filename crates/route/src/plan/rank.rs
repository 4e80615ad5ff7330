//! The order of candidates: by cost, by time or in turn, and who is tried out of order.
//!
//! What is sorted is small: a candidate's place and what it is ranked by. Costs within one percent of each other are not
//! known to differ, so that among them the faster comes first.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use arbstr_price::{Quote, Sats};

use crate::candidate::{Candidate, Glance, Rank};
use crate::learn::explore::Trial;
use crate::policy::Strategy;

/// What a candidate is ranked by, and its place before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runner {
    pub(super) place: usize,
    pub(super) rank: Rank,
    cost: Option<Sats>,
    latency: Option<Duration>,
    /// How much one more answer would move the logarithm of its cost.
    news: f64,
    may_be_tried: bool,
    is_ready: bool,
    ruled_out: bool,
}

impl Runner {
    pub(super) fn new(
        place: usize,
        quote: Option<&Quote>,
        glance: &Glance,
        ruled_out: bool,
    ) -> Self {
        let is_ready = !ruled_out && glance.skip.is_none();
        let may_be_tried = is_ready && glance.may_be_tried;
        Self {
            place,
            rank: Rank::default(),
            cost: quote.map(Quote::total),
            latency: glance.latency,
            news: quote
                .filter(|_| may_be_tried)
                .map_or(0.0, |quote| news(quote, glance)),
            may_be_tried,
            is_ready,
            ruled_out,
        }
    }

    fn nanosats(&self) -> Option<f64> {
        self.cost.map(nanosats)
    }
}

/// Sorts `runners`, best first, and notes why each stands where it stands.
pub(super) fn rank(runners: &mut [Runner], strategy: Strategy, turn: usize) {
    match strategy {
        Strategy::Cheapest => {
            runners.sort_by(by_cost);
            faster_first(runners);
            explain_costs(runners);
        }
        // One that was never measured comes first: a single answer measures it.
        Strategy::LowestLatency => {
            runners.sort_by(|a, b| a.latency.cmp(&b.latency).then_with(|| by_cost(a, b)));
            runners
                .iter_mut()
                .for_each(|runner| runner.rank = Rank::ByLatency);
        }
        Strategy::RoundRobin => {
            runners.sort_by_key(|runner| runner.ruled_out);
            let allowed = runners.partition_point(|runner| !runner.ruled_out);
            if allowed > 0 {
                runners[..allowed].rotate_left(turn % allowed);
            }
            runners
                .iter_mut()
                .for_each(|runner| runner.rank = Rank::InTurn);
        }
    }
}

/// Puts a candidate in front of the best one, if it is worth finding out what it really charges.
pub(super) fn try_somebody(candidates: &[Candidate], runners: &mut [Runner], now: Instant) {
    let ready = |runner: &&Runner| runner.is_ready && runner.cost.is_some();
    let Some(best) = runners.iter().find(ready).copied() else {
        return;
    };
    let (Some(cost), Some(best_sats)) = (best.nanosats(), best.cost) else {
        return;
    };
    let demand = &candidates[best.place].offer.demand;
    let mut records = demand.lock();
    let others = runners.iter().enumerate();
    let trials = others.filter(|(_, runner)| runner.may_be_tried && runner.place != best.place);
    let places: Vec<(usize, Trial)> = trials
        .filter_map(|(place, runner)| {
            let trial = Trial {
                cost: runner.nanosats()?,
                news: runner.news,
            };
            Some((place, trial))
        })
        .collect();
    let trials = places.iter().map(|(place, trial)| (place, *trial));
    let chosen = records.account.choose(cost, trials).copied();
    let premium = chosen
        .and_then(|place| runners[place].cost?.checked_sub(best_sats))
        .unwrap_or(Sats::ZERO);
    records.account.note(cost, nanosats(premium).max(0.0));
    drop(records);
    if let Some(place) = chosen {
        candidates[runners[place].place].offer.note_trial(now);
        runners[place].rank = Rank::Tried { premium };
        runners[..=place].rotate_right(1);
    }
}

/// How much one more answer would move the logarithm of the cost: each part by its share.
fn news(quote: &Quote, glance: &Glance) -> f64 {
    let total = nanosats(quote.total());
    if total <= 0.0 {
        return 0.0;
    }
    let output = nanosats(quote.output) / total * f64::from(glance.effects.output_news);
    let input = nanosats(quote.input) / total * f64::from(glance.effects.input_news);
    output.hypot(input)
}

/// An unknown price ranks behind every known one.
fn by_cost(a: &Runner, b: &Runner) -> Ordering {
    match (a.cost, b.cost) {
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// Among those that cost hardly more than the cheapest of them, the faster comes first.
fn faster_first(mut runners: &mut [Runner]) {
    while let Some(first) = runners.first() {
        let most = first
            .cost
            .map(|cost| cost.nanosats().saturating_mul(101) / 100);
        let alike = |runner: &Runner| runner.cost.map(Sats::nanosats) <= most;
        let group = match most {
            Some(_) => runners.partition_point(alike),
            None => runners.len(),
        };
        let (tied, rest) = runners.split_at_mut(group.max(1));
        tied.sort_by_key(|runner| runner.latency.unwrap_or(Duration::MAX));
        runners = rest;
    }
}

fn explain_costs(runners: &mut [Runner]) {
    let allowed = runners.iter().filter(|runner| !runner.ruled_out);
    let least = allowed.filter_map(|runner| runner.cost).min();
    let mut least_behind: Option<Sats> = None;
    for runner in runners.iter_mut().rev() {
        runner.rank = match (runner.cost, least) {
            (None, _) => Rank::PriceUnknown,
            (Some(cost), _) if least_behind.is_some_and(|behind| behind < cost) => Rank::Faster,
            (Some(cost), Some(least)) if cost > least => Rank::Dearer {
                percent: 100.0 * (nanosats(cost) / nanosats(least) - 1.0),
            },
            _ => Rank::Cheapest,
        };
        if !runner.ruled_out {
            least_behind = match (least_behind, runner.cost) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn nanosats(sats: Sats) -> f64 {
    sats.nanosats() as f64
}
