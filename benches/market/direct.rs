//! Drives the router itself through a market, without a socket, in virtual time; and the oracle and simple policies
//! through the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arbstr_price::Sats;
use arbstr_route::{
    AttemptOutcome, ErrorResponse, Facts, Market, MarketSpec, OfferSpec, Permit, PermitEnd,
    ProviderSpec, Report, Step, Waterfall,
};
use arbstr_wire::{Endpoint, Request, Usage};

use crate::dice::Dice;
use crate::world::{Climate, Fate, Job, Seller, World};

/// What a simple policy orders sellers by.
type Key = Box<dyn FnMut(&Seller) -> f64>;

/// The regret of arbstr and of each simple policy, in percent of what the oracle pays, after warm-up.
pub(crate) fn compare(world: &World, why: bool) -> Vec<(&'static str, f64)> {
    let oracle = oracle(world);
    let regret = |costs: &[Sats]| regret_over(&oracle, costs);
    let arbstr = Run::new(world).all(why, &oracle);
    let informed = knowing_kinds(world);
    let mut dice = Dice::new(7);
    let simple: [(&'static str, Key); 4] = [
        (
            "output rate",
            Box::new(|seller| seller.rates.output.millisats_per_million() as f64),
        ),
        (
            "sum of rates",
            Box::new(|seller| {
                (seller.rates.output.millisats_per_million()
                    + seller.rates.input.millisats_per_million()) as f64
            }),
        ),
        ("random", Box::new(move |_| dice.unit())),
        ("first", Box::new(|_| 0.0)),
    ];
    let mut results = vec![
        ("arbstr", regret(&arbstr)),
        ("knows kinds", regret(&informed)),
    ];
    for (name, key) in simple {
        results.push((name, regret(&ordered(world, key))));
    }
    results
}

/// The regret of whoever paid these costs.
pub(crate) fn regret(world: &World, costs: &[Sats]) -> f64 {
    regret_over(&oracle(world), costs)
}

/// In percent, after warm-up.
fn regret_over(oracle: &[Sats], costs: &[Sats]) -> f64 {
    let warm = oracle.len() / 2;
    let sum = |costs: &[Sats]| costs[warm..].iter().sum::<Sats>().nanosats() as f64;
    100.0 * (sum(costs) / sum(oracle) - 1.0)
}

/// What has happened to the sellers under one way of choosing.
#[derive(Debug)]
pub(crate) struct Past {
    caches: HashMap<(usize, usize), (f64, Duration)>,
    /// When each request in flight ends.
    busy: Vec<Vec<Duration>>,
}

impl Past {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            caches: HashMap::new(),
            busy: world.sellers.iter().map(|_| Vec::new()).collect(),
        }
    }

    fn is_full(&mut self, world: &World, seller: usize, at: Duration) -> bool {
        let capacity = world.sellers[seller].capacity;
        self.busy[seller].retain(|until| *until > at);
        capacity > 0 && self.busy[seller].len() >= capacity
    }

    pub(crate) fn bill(&self, world: &World, seller: usize, job: &Job, at: Duration) -> Usage {
        let cached = self.cached(world, seller, job, at);
        world.sellers[seller].usage(job, cached)
    }

    fn cached(&self, world: &World, seller: usize, job: &Job, at: Duration) -> f64 {
        let one = &world.sellers[seller];
        let known = self.caches.get(&(seller, job.conversation));
        match known {
            Some((tokens, seen)) if one.rates.cached_input.is_some() && at - *seen < one.keeps => {
                let found = tokens.min(job.known);
                if found >= one.least_prefix as f64 {
                    (found / 64.0).floor() * 64.0
                } else {
                    0.0
                }
            }
            _ => 0.0,
        }
    }

    pub(crate) fn serve(&mut self, world: &World, seller: usize, job: &Job, at: Duration) {
        self.caches
            .insert((seller, job.conversation), (job.input, at));
        if world.climate == Climate::Burst {
            self.busy[seller].push(at + service(&world.sellers[seller], job));
        }
    }
}

pub(crate) fn service(seller: &Seller, job: &Job) -> Duration {
    seller.latency + Duration::from_secs_f64(job.output.min(2000.0) / 200.0)
}

/// The least that each job could have cost, chosen one after the other by who knows everything but the future.
fn oracle(world: &World) -> Vec<Sats> {
    foreseeing(world, |past, index, job| {
        world.sellers[index].cost(&past.bill(world, index, job, job.at))
    })
}

/// What is paid by who knows all but how much will be said this time: no router can do better but by luck.
fn knowing_kinds(world: &World) -> Vec<Sats> {
    foreseeing(world, |past, index, job| {
        let cached = past.cached(world, index, job, job.at);
        world.sellers[index].usual_cost(job, cached)
    })
}

/// What is paid by who knows which sellers are able to serve, and takes the one with the least `price`.
fn foreseeing(world: &World, price: impl Fn(&Past, usize, &Job) -> Sats) -> Vec<Sats> {
    let mut past = Past::new(world);
    let mut costs = Vec::new();
    for job in &world.jobs {
        let mut best: Option<(Sats, usize)> = None;
        for (index, seller) in world.sellers.iter().enumerate() {
            let able = seller.is_up(job.at)
                && seller.fate(job, index, 0) == Fate::Good
                && !past.is_full(world, index, job.at);
            let price = price(&past, index, job);
            if able && best.is_none_or(|(least, _)| price < least) {
                best = Some((price, index));
            }
        }
        let index = best.map_or(0, |(_, index)| index);
        let usage = past.bill(world, index, job, job.at);
        past.serve(world, index, job, job.at);
        costs.push(world.sellers[index].cost(&usage));
    }
    costs
}

/// What is paid by who asks the sellers in the order of a key, the next one when one fails.
fn ordered(world: &World, mut key: impl FnMut(&Seller) -> f64) -> Vec<Sats> {
    let mut past = Past::new(world);
    let mut costs = Vec::new();
    for job in &world.jobs {
        let mut order: Vec<(f64, usize)> = world
            .sellers
            .iter()
            .enumerate()
            .map(|(index, seller)| (key(seller), index))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut paid = Sats::ZERO;
        'job: for again in 0..100 {
            let at = job.at + Duration::from_millis(100 * again);
            for (_, index) in &order {
                let seller = &world.sellers[*index];
                if !seller.is_up(at) || past.is_full(world, *index, at) {
                    continue;
                }
                let usage = past.bill(world, *index, job, at);
                match seller.fate(job, *index, again) {
                    Fate::Refused => {}
                    Fate::Broken => {
                        paid = add(paid, seller.cost(&seller.half(&usage)));
                        continue 'job;
                    }
                    Fate::Good => {
                        past.serve(world, *index, job, at);
                        paid = add(paid, seller.cost(&usage));
                        break 'job;
                    }
                }
            }
        }
        costs.push(paid);
    }
    costs
}

/// arbstr in the market.
struct Run<'a> {
    world: &'a World,
    market: Market,
    past: Past,
    start: Instant,
    dice: Dice,
    pending: Vec<(Duration, Permit, Report)>,
}

impl<'a> Run<'a> {
    fn new(world: &'a World) -> Self {
        let providers = world.sellers.iter().map(|seller| ProviderSpec {
            name: seller.name.clone(),
            offers: vec![OfferSpec {
                model: "m".to_owned(),
                upstream_model: "m".to_owned(),
                rates: Some(seller.rates),
                ..OfferSpec::default()
            }],
            ..ProviderSpec::default()
        });
        let spec = MarketSpec {
            providers: providers.collect(),
            ..MarketSpec::default()
        };
        #[expect(clippy::disallowed_methods, reason = "a bench may look at the clock")]
        let start = Instant::now();
        Self {
            world,
            market: Market::build(spec, None).expect("a sound market"),
            past: Past::new(world),
            start,
            dice: Dice::new(11),
            pending: Vec::new(),
        }
    }

    fn all(mut self, why: bool, oracle: &[Sats]) -> Vec<Sats> {
        let world = self.world;
        let mut costs = Vec::new();
        let mut chosen: HashMap<(usize, bool), (u32, f64)> = HashMap::new();
        for (number, job) in world.jobs.iter().enumerate() {
            let (cost, winner, tried) = self.one(job);
            if number >= world.jobs.len() / 2 {
                let entry = chosen.entry((winner, tried)).or_default();
                entry.0 += 1;
                entry.1 += (cost.nanosats() - oracle[number].nanosats()) as f64 / 1e9;
            }
            costs.push(cost);
        }
        if why {
            let total: f64 = oracle[world.jobs.len() / 2..]
                .iter()
                .map(|cost| cost.nanosats() as f64 / 1e9)
                .sum();
            let mut rows: Vec<_> = chosen.into_iter().collect();
            rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
            for ((winner, tried), (count, lost)) in rows {
                let seller = &world.sellers[winner];
                println!(
                    "   {} x{count} {} lost {:.3} % in {:.2} text {:.2} out {:.2} breaks {:.2} rates {} {} {:?} fee {}",
                    seller.name,
                    if tried { "TRIED" } else { "" },
                    100.0 * lost / total,
                    seller.input_factor,
                    seller.text_factor,
                    seller.output_factor,
                    seller.breaks,
                    seller.rates.input,
                    seller.rates.output,
                    seller.rates.cached_input.map(|rate| rate.to_string()),
                    seller.rates.base_fee,
                );
            }
            for provider in self.market.snapshot(self.start) {
                println!(
                    "   {} limit {:?} {:?}",
                    provider.name, provider.limit, provider.offers[0].experience
                );
            }
        }
        costs
    }

    fn one(&mut self, job: &Job) -> (Sats, usize, bool) {
        let request = Request::parse(Endpoint::Chat, &job.body).expect("a sound body");
        let mut paid = Sats::ZERO;
        let mut at = job.at;
        for again in 0..100 {
            let (cost, done, tried) = self.ask(job, &request, &mut at, again);
            paid = add(paid, cost);
            if let Some(winner) = done {
                return (paid, winner, tried);
            }
        }
        (paid, 0, false)
    }

    /// One request of the client's; whether it came to its end.
    fn ask(
        &mut self,
        job: &Job,
        request: &Request<'_>,
        at: &mut Duration,
        again: u64,
    ) -> (Sats, Option<usize>, bool) {
        self.settle(*at);
        let now = |at: Duration, start: Instant| start + at;
        let facts = Facts::of(request, None);
        let plan = self
            .market
            .plan(&facts, now(*at, self.start))
            .expect("a plan");
        let mut waterfall = Waterfall::new(plan, None);
        loop {
            let attempt = match waterfall.next(now(*at, self.start), self.dice.roll()) {
                Step::Attempt(attempt) => attempt,
                Step::Wait(pause) => {
                    *at += pause;
                    self.settle(*at);
                    continue;
                }
                Step::Finish(_) => {
                    *at += Duration::from_secs(1);
                    return (Sats::ZERO, None, false);
                }
            };
            let index = attempt.offer.provider_index();
            let rank = &waterfall.plan().candidates[attempt.candidate].rank;
            let tried = matches!(rank, arbstr_route::Rank::Tried { .. });
            let fate = self.world.sellers[index].fate(job, index, again);
            if let Some(status) = self.refusal(index, fate, *at) {
                let outcome = AttemptOutcome::ErrorResponse(ErrorResponse {
                    status,
                    ..ErrorResponse::default()
                });
                waterfall.on_outcome(attempt, outcome, now(*at, self.start));
                continue;
            }
            let begun = now(*at, self.start) + self.world.sellers[index].latency;
            let good = AttemptOutcome::Good { status: 200 };
            let settled = waterfall.on_outcome(attempt, good, begun);
            let permit = settled.permit.expect("accepted");
            let (cost, winner) = self.answer(job, index, fate, permit, *at);
            return (cost, winner, tried);
        }
    }

    /// The status with which a seller turns a request down, if it does.
    fn refusal(&mut self, index: usize, fate: Fate, at: Duration) -> Option<u16> {
        let full = self.past.is_full(self.world, index, at);
        let is_refused = full || fate == Fate::Refused || !self.world.sellers[index].is_up(at);
        is_refused.then_some(if full { 429 } else { 503 })
    }

    /// Brings an answer that has begun to its end: what it cost, and whose it is if it is whole.
    fn answer(
        &mut self,
        job: &Job,
        index: usize,
        fate: Fate,
        permit: Permit,
        at: Duration,
    ) -> (Sats, Option<usize>) {
        let seller = &self.world.sellers[index];
        let begun = self.start + at + seller.latency;
        let usage = self.past.bill(self.world, index, job, at);
        let mut report = Report {
            usage: Some(usage),
            text_bytes: Some(seller.text(job)),
        };
        if fate == Fate::Broken {
            report.usage = None;
            report.text_bytes = Some(seller.text(job) / 2);
            permit.finish(PermitEnd::Broken, &report, begun);
            return (seller.cost(&seller.half(&usage)), None);
        }
        self.past.serve(self.world, index, job, at);
        if self.world.climate == Climate::Burst {
            self.pending
                .push((at + service(seller, job), permit, report));
        } else {
            permit.finish(PermitEnd::Complete, &report, begun);
        }
        (seller.cost(&usage), Some(index))
    }

    /// Ends the answers that are through by then.
    fn settle(&mut self, at: Duration) {
        self.pending.sort_by_key(|(until, ..)| *until);
        while self.pending.first().is_some_and(|(until, ..)| *until <= at) {
            let (until, permit, report) = self.pending.remove(0);
            permit.finish(PermitEnd::Complete, &report, self.start + until);
        }
    }
}

fn add(a: Sats, b: Sats) -> Sats {
    a.checked_add(b).expect("no such sum")
}
