//! The order of candidates: by cost, by time or in turn, and who is tried out of order.
//!
//! What is sorted is small: a candidate's place and what it is ranked by. Costs within one percent of each other are not
//! known to differ, so that among them the faster comes first.

use std::time::Instant;

use arbstr_price::Sats;

use crate::candidate::{Candidate, OfferView, Rank};
use crate::estimate::{to_count, to_number};
use crate::learn::demand::is_one_in;
use crate::learn::explore::Trial;
use crate::policy::Strategy;

/// What a candidate is ranked by, and its place before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranking {
    /// In nanosats; infinite when the price is not known. Up to nine million sats this is exact.
    cost: f64,
    /// In nanoseconds; the largest number before the first answer.
    latency: u64,
    /// How much one more answer would move the logarithm of its cost; nothing where it may not be tried.
    news: f32,
    pub(super) place: u32,
    /// What its model's clock shows for this request.
    tick: u32,
    is_ready: bool,
    /// It was never asked.
    unheard: bool,
    /// Nobody knows how fast it is, and asking it would probably show.
    shows_time: bool,
    /// Most that it was asked failed.
    fails: bool,
    /// It may be asked only to learn from it.
    may_be_tried: bool,
    ruled_out: bool,
}

impl Ranking {
    pub(super) fn new(place: u32, candidate: &Candidate, view: &OfferView, tick: u32) -> Self {
        let quote = candidate.quote.as_ref();
        let cost = quote.map_or(f64::INFINITY, |quote| nanosats(quote.total()));
        let ruled_out = candidate.is_ruled_out();
        let is_ready = !ruled_out && view.skip.is_none();
        let may_be_tried = is_ready && view.may_be_tried;
        Self {
            cost,
            latency: view.latency.map_or(u64::MAX, |latency| {
                u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX - 1)
            }),
            news: if may_be_tried && cost > 0.0 && cost.is_finite() {
                news(candidate, cost, view)
            } else {
                0.0
            },
            place,
            tick,
            is_ready,
            unheard: view.unheard,
            shows_time: view.shows_time,
            fails: view.effects.success.is_some_and(|share| share < 0.5),
            may_be_tried,
            ruled_out,
        }
    }

    /// Whether it costs hardly more than `best`.
    fn is_tied(&self, best: &Self) -> bool {
        self.cost <= best.cost * HARDLY_MORE
    }

    /// In how many turns for looks one is for this, while `best` is the fastest.
    fn rarity(&self, best: &Self) -> f64 {
        let slower = to_number(self.latency) / to_number(best.latency.max(1)) / MUCH_SLOWER;
        // Where the best costs nothing, this is as much dearer as can be.
        let dearer = self.cost / best.cost;
        slower.max(dearer).clamp(1.0, MOST_TURNS)
    }

    fn is_worth_timing(&self) -> bool {
        self.may_be_tried && self.shows_time && !self.fails
    }

    fn is_timed(&self) -> bool {
        self.latency < u64::MAX
    }
}

/// Sorts `rankings`, best first.
pub(super) fn rank(rankings: &mut [Ranking], strategy: Strategy, turn: usize) {
    match strategy {
        Strategy::Cheapest => {
            rankings.sort_by(|a, b| a.cost.total_cmp(&b.cost));
            faster_first(rankings);
        }
        // One that was never measured comes first: a single answer measures it.
        Strategy::LowestLatency => rankings.sort_by(|a, b| {
            let time = |ranking: &Ranking| {
                if ranking.shows_time {
                    0
                } else {
                    ranking.latency
                }
            };
            time(a)
                .cmp(&time(b))
                .then_with(|| a.cost.total_cmp(&b.cost))
        }),
        Strategy::RoundRobin => {
            rankings.sort_by_key(|ranking| ranking.ruled_out);
            let allowed = rankings.partition_point(|ranking| !ranking.ruled_out);
            if allowed > 0 {
                rankings[..allowed].rotate_left(turn % allowed);
            }
        }
    }
}

/// Puts a candidate in front of the others, if it is worth finding out how fast it is or what it really charges; says
/// which. `candidates` are in the order of their places.
pub(super) fn try_somebody(
    candidates: &[Candidate],
    rankings: &mut [Ranking],
    now: Instant,
) -> Option<Rank> {
    let ready = |ranking: &&Ranking| ranking.is_ready && ranking.cost.is_finite();
    let best = *rankings.iter().find(ready)?;
    let at = |ranking: &Ranking| &candidates[ranking.place as usize];
    let mut state = at(&best).offer.demand.lock();
    let others = rankings.iter().enumerate();
    let others = others.filter(|(_, ranking)| ranking.place != best.place);
    // Among equals the faster is to be asked: a single answer shows which that is.
    let untimed = others
        .clone()
        .find(|(_, ranking)| best.is_timed() && ranking.is_worth_timing() && ranking.is_tied(&best))
        .map(|(place, _)| place);
    let heard = others.clone().filter(|(_, ranking)| !ranking.unheard);
    // With several to compare, who bills more than others shows by itself.
    let few_are_heard = heard.count() < ENOUGH_HEARD;
    let trials = others
        .filter(|(_, ranking)| ranking.news > 0.0)
        .map(|(place, ranking)| {
            let trial = Trial {
                cost: ranking.cost,
                news: f64::from(ranking.news),
                tied: ranking.is_tied(&best),
                unheard: ranking.unheard && few_are_heard,
            };
            (place, trial)
        });
    let chosen = untimed.or_else(|| state.budget.choose(best.cost, trials));
    let premium = chosen.map(|place| premium(candidates, &rankings[place], &best));
    state.budget.note(best.cost, premium.map_or(0.0, nanosats));
    drop(state);
    let place = chosen?;
    at(&best).offer.demand.shared().note_trial(premium?);
    at(&rankings[place]).offer.note_trial(now);
    rankings[..=place].rotate_right(1);
    Some(match untimed {
        Some(_) => Rank::TimeUnknown,
        None => Rank::Tried { premium: premium? },
    })
}

/// Under `lowest_latency`, puts a candidate in front, once in [`LOOK_TURN`] requests and the less often the slower or the
/// dearer it is: a time once measured would else stand for ever. Of those whose turn it is, that is who was not heard of for
/// longest. `candidates` are in the order of their places.
pub(super) fn look_again(candidates: &[Candidate], rankings: &mut [Ranking]) -> Option<Rank> {
    let best = *rankings.iter().find(|ranking| ranking.is_ready)?;
    if !is_one_in(to_count(LOOK_TURN), best.tick) {
        return None;
    }
    let offer = |ranking: &Ranking| &candidates[ranking.place as usize].offer;
    let others = rankings.iter().enumerate();
    let (place, other) = others
        .filter(|(_, ranking)| ranking.is_ready && ranking.place != best.place && !ranking.fails)
        .filter(|(_, ranking)| is_one_in(to_count(LOOK_TURN * ranking.rarity(&best)), best.tick))
        .min_by_key(|(_, ranking)| offer(ranking).lock().profile.tally.at)?;
    let premium = premium(candidates, other, &best);
    offer(&best).demand.shared().note_trial(premium);
    rankings[..=place].rotate_right(1);
    Some(Rank::TimeUnknown)
}

/// What it is expected to cost more to ask `dearer`, in whose place `cheaper` would be asked; among equals it may be the
/// cheaper of the two.
fn premium(candidates: &[Candidate], dearer: &Ranking, cheaper: &Ranking) -> Sats {
    let cost = |ranking: &Ranking| candidates[ranking.place as usize].expected_cost();
    let premium = cost(dearer)
        .unwrap_or_default()
        .checked_sub(cost(cheaper).unwrap_or_default());
    premium.unwrap_or_default().max(Sats::default())
}

/// Notes why each candidate stands where it stands; `rankings` are in the same order, and `tried` is why the first is
/// there, if that is out of order.
pub(super) fn explain(
    candidates: &mut [Candidate],
    rankings: &[Ranking],
    strategy: Strategy,
    tried: Option<Rank>,
) {
    let allowed = rankings.iter().filter(|ranking| !ranking.ruled_out);
    let least = allowed.fold(f64::INFINITY, |least, ranking| least.min(ranking.cost));
    let mut least_behind = f64::INFINITY;
    for (candidate, ranking) in candidates.iter_mut().zip(rankings).rev() {
        candidate.rank = match strategy {
            Strategy::LowestLatency => Rank::ByLatency,
            Strategy::RoundRobin => Rank::InTurn,
            Strategy::Cheapest if ranking.cost.is_infinite() => Rank::PriceUnknown,
            Strategy::Cheapest if least_behind < ranking.cost => Rank::Faster,
            Strategy::Cheapest if ranking.cost > least => Rank::Dearer {
                percent: 100.0 * (ranking.cost / least - 1.0),
            },
            Strategy::Cheapest => Rank::Cheapest,
        };
        if !ranking.ruled_out {
            least_behind = least_behind.min(ranking.cost);
        }
    }
    if let (Some(rank), Some(first)) = (tried, candidates.first_mut()) {
        first.rank = rank;
    }
}

/// How much one more answer would move the logarithm of the cost: each part by its share.
fn news(candidate: &Candidate, cost: f64, view: &OfferView) -> f32 {
    let Some(rates) = &candidate.offer.rates else {
        return 0.0;
    };
    let tokens = &candidate.tokens;
    let share = |rate: arbstr_price::Rate, tokens: u64| {
        to_number(rate.millisats_per_million()) * to_number(tokens) / cost
    };
    let output = single(share(rates.output, tokens.output)) * view.effects.output_news;
    let fresh = tokens.input - tokens.cached_input;
    let input = single(share(rates.input, fresh)) * view.effects.input_news;
    (output * output + input * input).sqrt()
}

/// Among those that cost hardly more than the cheapest of them, the faster comes first.
fn faster_first(mut rankings: &mut [Ranking]) {
    while let Some(first) = rankings.first() {
        let most = first.cost * HARDLY_MORE;
        let group = rankings.iter().take_while(|ranking| ranking.cost <= most);
        let (tied, rest) = rankings.split_at_mut(group.count().max(1));
        tied.sort_by_key(|ranking| ranking.latency);
        rankings = rest;
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
/// In so many requests under `lowest_latency` one goes to somebody else.
const LOOK_TURN: f64 = 32.0;
/// Who takes more than so many times as long is looked at more rarely, in proportion; so is who costs more at all.
const MUCH_SLOWER: f64 = 8.0;
/// At least once in so many of those turns.
const MOST_TURNS: f64 = 64.0;
/// So many beside the best make it plain what an answer takes.
const ENOUGH_HEARD: usize = 2;
