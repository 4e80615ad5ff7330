//! The order of candidates: by cost, by time or in turn, and who is tried out of order.
//!
//! What is sorted is small: a candidate's place and what it is ranked by. Costs within one percent of each other are not
//! known to differ, so that among them the faster comes first.

use std::time::Instant;

use arbstr_price::{Quote, Sats, Tokens};

use crate::candidate::{Candidate, Glance, Offer, Rank};
use crate::estimate::to_number;
use crate::learn::explore::Trial;
use crate::policy::Strategy;

/// What a candidate is ranked by, and its place before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runner {
    /// In nanosats; infinite when the price is not known. Up to nine million sats this is exact.
    cost: f64,
    /// In nanoseconds; the largest number before the first answer.
    latency: u64,
    /// How much one more answer would move the logarithm of its cost; nothing where it may not be tried.
    news: f32,
    pub(super) place: u32,
    is_ready: bool,
    ruled_out: bool,
}

impl Runner {
    pub(super) fn new(
        place: u32,
        offer: &Offer,
        (tokens, quote): (&Tokens, Option<&Quote>),
        glance: &Glance,
        ruled_out: bool,
    ) -> Self {
        let cost = quote.map_or(f64::INFINITY, |quote| nanosats(quote.total()));
        let is_ready = !ruled_out && glance.skip.is_none();
        let may_be_tried = is_ready && glance.may_be_tried && cost > 0.0 && cost.is_finite();
        Self {
            cost,
            latency: glance.latency.map_or(u64::MAX, |latency| {
                u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX - 1)
            }),
            news: if may_be_tried {
                news(offer, tokens, cost, glance)
            } else {
                0.0
            },
            place,
            is_ready,
            ruled_out,
        }
    }
}

/// Sorts `runners`, best first.
pub(super) fn rank(runners: &mut [Runner], strategy: Strategy, turn: usize) {
    match strategy {
        Strategy::Cheapest => {
            runners.sort_by(|a, b| a.cost.total_cmp(&b.cost));
            faster_first(runners);
        }
        // One that was never measured comes first: a single answer measures it.
        Strategy::LowestLatency => runners.sort_by(|a, b| {
            let measured = |runner: &Runner| runner.latency.wrapping_add(1);
            measured(a)
                .cmp(&measured(b))
                .then_with(|| a.cost.total_cmp(&b.cost))
        }),
        Strategy::RoundRobin => {
            runners.sort_by_key(|runner| runner.ruled_out);
            let allowed = runners.partition_point(|runner| !runner.ruled_out);
            if allowed > 0 {
                runners[..allowed].rotate_left(turn % allowed);
            }
        }
    }
}

/// Puts a candidate in front of the others, if it is worth finding out what it really charges; what that costs more.
/// `candidates` are in the order of their places.
pub(super) fn try_somebody(
    candidates: &[Candidate],
    runners: &mut [Runner],
    now: Instant,
) -> Option<Sats> {
    let ready = |runner: &&Runner| runner.is_ready && runner.cost.is_finite();
    let best = *runners.iter().find(ready)?;
    let at = |runner: &Runner| &candidates[runner.place as usize];
    let mut records = at(&best).offer.demand.lock();
    let others = runners.iter().enumerate();
    let chosen = records.account.choose(
        best.cost,
        others
            .filter(|(_, runner)| runner.news > 0.0 && runner.place != best.place)
            .map(|(place, runner)| {
                let trial = Trial {
                    cost: runner.cost,
                    news: f64::from(runner.news),
                };
                (place, trial)
            }),
    );
    let premium = chosen.map(|place| {
        let dearer = at(&runners[place]).expected_cost().unwrap_or_default();
        let cheaper = at(&best).expected_cost().unwrap_or_default();
        dearer.checked_sub(cheaper).unwrap_or_default()
    });
    records
        .account
        .note(best.cost, premium.map_or(0.0, nanosats).max(0.0));
    drop(records);
    let place = chosen?;
    at(&best).offer.demand.library().note_trial(premium?);
    at(&runners[place]).offer.note_trial(now);
    runners[..=place].rotate_right(1);
    premium
}

/// Notes why each candidate stands where it stands; `runners` are in the same order, and `tried` is what it costs more
/// to have the first of them there.
pub(super) fn explain(
    candidates: &mut [Candidate],
    runners: &[Runner],
    strategy: Strategy,
    tried: Option<Sats>,
) {
    let allowed = runners.iter().filter(|runner| !runner.ruled_out);
    let least = allowed.fold(f64::INFINITY, |least, runner| least.min(runner.cost));
    let mut least_behind = f64::INFINITY;
    for (candidate, runner) in candidates.iter_mut().zip(runners).rev() {
        candidate.rank = match strategy {
            Strategy::LowestLatency => Rank::ByLatency,
            Strategy::RoundRobin => Rank::InTurn,
            Strategy::Cheapest if runner.cost.is_infinite() => Rank::PriceUnknown,
            Strategy::Cheapest if least_behind < runner.cost => Rank::Faster,
            Strategy::Cheapest if runner.cost > least => Rank::Dearer {
                percent: 100.0 * (runner.cost / least - 1.0),
            },
            Strategy::Cheapest => Rank::Cheapest,
        };
        if !runner.ruled_out {
            least_behind = least_behind.min(runner.cost);
        }
    }
    if let (Some(premium), Some(first)) = (tried, candidates.first_mut()) {
        first.rank = Rank::Tried { premium };
    }
}

/// How much one more answer would move the logarithm of the cost: each part by its share.
fn news(offer: &Offer, tokens: &Tokens, cost: f64, glance: &Glance) -> f32 {
    let Some(rates) = &offer.rates else {
        return 0.0;
    };
    let share = |rate: arbstr_price::Rate, tokens: u64| {
        to_number(rate.millisats_per_million()) * to_number(tokens) / cost
    };
    let output = single(share(rates.output, tokens.output)) * glance.effects.output_news;
    let fresh = tokens.input - tokens.cached_input;
    let input = single(share(rates.input, fresh)) * glance.effects.input_news;
    (output * output + input * input).sqrt()
}

/// Among those that cost hardly more than the cheapest of them, the faster comes first.
fn faster_first(mut runners: &mut [Runner]) {
    while let Some(first) = runners.first() {
        let most = first.cost * HARDLY_MORE;
        let group = runners.iter().take_while(|runner| runner.cost <= most);
        let (tied, rest) = runners.split_at_mut(group.count().max(1));
        tied.sort_by_key(|runner| runner.latency);
        runners = rest;
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn nanosats(sats: Sats) -> f64 {
    match i64::try_from(sats.nanosats()) {
        // Nearly always: one instruction in place of a call.
        Ok(small) => small as f64,
        Err(_) => sats.nanosats() as f64,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an estimate")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// Costs that differ by no more are not known to differ.
const HARDLY_MORE: f64 = 1.01;
