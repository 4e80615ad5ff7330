//! A market as it really is: who sells at which price, how each counts and fails, and what is going to be asked.
//!
//! All of it is drawn from the seed: the kinds of request and what tells them apart, prices, faults, arrivals. What a
//! router may see of it are the bodies of requests, the price cards, and what comes back.

use std::time::Duration;

use arbstr_price::{Rate, Rates, Sats, Tokens, quote};
use arbstr_wire::Usage;

use crate::dice::Dice;
use crate::talk::{Kind, Talk};

/// What a market is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Climate {
    /// Prices differ, everybody is honest and up.
    Static,
    /// Some bill more tokens than others for the same text, or give more text.
    Verbose,
    /// Some bill a multiple of what their text can have, and text may be cut short.
    Liars,
    /// Some fail, and bill half of what they did not finish.
    Flaky,
    /// Conversations, and prices for input that was seen before.
    Cached,
    /// More at once than the cheapest can take.
    Burst,
}

/// A seller.
#[derive(Debug, Clone)]
pub(crate) struct Seller {
    pub(crate) name: String,
    pub(crate) rates: Rates,
    /// Tokens it bills for what others call one.
    pub(crate) input_factor: f64,
    pub(crate) output_factor: f64,
    /// Text it gives where others give one.
    pub(crate) text_factor: f64,
    /// Bytes that it shows of an answer at most; it bills the others all the same.
    pub(crate) shows: u64,
    /// Chance to refuse, and to break off in the middle.
    pub(crate) refuses: f64,
    pub(crate) breaks: f64,
    /// When it is down.
    pub(crate) outages: Vec<(Duration, Duration)>,
    /// Requests at once; 0: any.
    pub(crate) capacity: usize,
    pub(crate) latency: Duration,
    /// How long it keeps a prefix, and the least it keeps.
    pub(crate) keeps: Duration,
    pub(crate) least_prefix: u64,
}

/// One request, and what it will take.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) at: Duration,
    pub(crate) body: Vec<u8>,
    /// Input tokens as an honest seller counts them.
    pub(crate) input: f64,
    /// Output tokens as an honest seller would give them, were there no bound.
    pub(crate) output: f64,
    /// What that is on average for such a request, its bound counted in.
    pub(crate) usual_output: f64,
    pub(crate) bytes_per_token: f64,
    pub(crate) bound: Option<u64>,
    /// The conversation, and the tokens of it that were there at the turn before.
    pub(crate) conversation: usize,
    pub(crate) known: f64,
    pub(crate) luck: u64,
}

/// A whole market.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) climate: Climate,
    pub(crate) sellers: Vec<Seller>,
    pub(crate) jobs: Vec<Job>,
}

/// What comes of asking a seller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    Refused,
    Broken,
}

impl Climate {
    pub(crate) const ALL: [Self; 6] = [
        Self::Static,
        Self::Verbose,
        Self::Liars,
        Self::Flaky,
        Self::Cached,
        Self::Burst,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Verbose => "verbose",
            Self::Liars => "liars",
            Self::Flaky => "flaky",
            Self::Cached => "cached",
            Self::Burst => "burst",
        }
    }

    /// The most regret that is allowed, in percent.
    pub(crate) fn bar(self) -> f64 {
        match self {
            Self::Static => 1.5,
            Self::Verbose | Self::Liars => 2.0,
            Self::Flaky => 5.0,
            Self::Cached => 12.0,
            Self::Burst => 10.0,
        }
    }
}

impl World {
    pub(crate) fn new(climate: Climate, seed: u64, requests: usize) -> Self {
        let mut dice = Dice::new(seed);
        let count = 5 + dice.below(14);
        let mut sellers: Vec<Seller> = (0..count)
            .map(|index| seller(index, climate, &mut dice))
            .collect();
        if climate == Climate::Liars && dice.chance(0.5) {
            let shows = dice.spread(10.0, 1000.0) as u64;
            sellers.iter_mut().for_each(|seller| seller.shows = shows);
        }
        let mut jobs = Vec::with_capacity(requests);
        let kinds: Vec<Kind> = (0..4 + dice.below(7))
            .map(|_| Kind::new(&mut dice))
            .collect();
        let weights: Vec<f64> = kinds.iter().map(|_| dice.spread(0.2, 3.0)).collect();
        let mut talk = Talk::new(climate == Climate::Cached);
        let busy = dice.between(5.0, 40.0);
        let mut at = Duration::ZERO;
        for _ in 0..requests {
            let kind = &kinds[draw(&weights, &mut dice)];
            at += gap(climate, busy, &mut dice);
            jobs.push(talk.job(kind, at, &mut dice));
        }
        for seller in &mut sellers {
            if climate == Climate::Flaky && dice.chance(0.3) {
                let mut from = Duration::ZERO;
                while from < at {
                    from += Duration::from_secs_f64(dice.spread(60.0, 2000.0));
                    let until = from + Duration::from_secs_f64(dice.spread(10.0, 400.0));
                    seller.outages.push((from, until));
                    from = until;
                }
            }
        }
        Self {
            climate,
            sellers,
            jobs,
        }
    }
}

impl Seller {
    /// The usage it reports for a job whose prefix of so many honest tokens it has in its cache.
    pub(crate) fn usage(&self, job: &Job, cached: f64) -> Usage {
        let mut usage = Usage::default();
        usage.input = Some((job.input * self.input_factor).round() as u64);
        usage.cached_input = (cached > 0.0).then_some((cached * self.input_factor) as u64);
        usage.output = Some(self.output(job));
        usage
    }

    fn output(&self, job: &Job) -> u64 {
        let output = (job.output * self.text_factor * self.output_factor).round() as u64;
        output.max(1).min(job.bound.unwrap_or(u64::MAX))
    }

    /// Bytes of its answer.
    pub(crate) fn text(&self, job: &Job) -> u64 {
        let text = self.output(job) as f64 / self.output_factor * job.bytes_per_token;
        (text.ceil() as u64).min(self.shows)
    }

    pub(crate) fn cost(&self, usage: &Usage) -> Sats {
        let tokens = Tokens {
            input: usage.input.unwrap_or(0),
            cached_input: usage.cached_input.unwrap_or(0),
            output: usage.output.unwrap_or(0),
        };
        quote(&tokens, &self.rates).total()
    }

    /// What half an answer costs: all of the input and half of the output.
    pub(crate) fn half(&self, usage: &Usage) -> Usage {
        let mut half = *usage;
        half.output = usage.output.map(|output| output / 2);
        half
    }

    /// What a job usually costs here, by who knows everything but the draw of the output.
    pub(crate) fn usual_cost(&self, job: &Job, cached: f64) -> Sats {
        let mut usual = job.clone();
        usual.output = job.usual_output;
        self.cost(&self.usage(&usual, cached))
    }

    pub(crate) fn is_up(&self, at: Duration) -> bool {
        self.outages
            .iter()
            .all(|(from, until)| at < *from || at >= *until)
    }

    /// What comes of asking it for the job, the given time.
    pub(crate) fn fate(&self, job: &Job, index: usize, again: u64) -> Fate {
        let mut dice = Dice::new(job.luck ^ (index as u64) << 40 ^ again << 52);
        let chance = dice.unit();
        if chance < self.refuses {
            Fate::Refused
        } else if chance < self.refuses + self.breaks {
            Fate::Broken
        } else {
            Fate::Good
        }
    }
}

fn seller(index: usize, climate: Climate, dice: &mut Dice) -> Seller {
    // A price level, and around it a shape of one's own: dear input, dear output, a fee for each request.
    let level = dice.spread(0.6, 3.0);
    let input = level * dice.spread(2_000.0, 12_000.0);
    let output = level * dice.spread(8_000.0, 60_000.0);
    let fee = if dice.chance(0.4) {
        dice.spread(0.5, 15.0)
    } else {
        0.0
    };
    let cached = climate == Climate::Cached && dice.chance(0.6);
    let cached_share = dice.pick(&[0.1, 0.25, 0.5]);
    let verbose = climate == Climate::Verbose && dice.chance(0.5);
    let lies = climate == Climate::Liars && dice.chance(0.4);
    let flaky = climate == Climate::Flaky && dice.chance(0.5);
    let rate = |sats: f64| Rate::from_millisats_per_million((sats * 1000.0) as u64);
    Seller {
        name: format!("p{index}"),
        rates: Rates {
            input: rate(input),
            output: rate(output),
            cached_input: cached.then(|| rate(input * cached_share)),
            base_fee: Sats::from_nanosats((fee * 1e9) as i128),
        },
        input_factor: if verbose && dice.chance(0.5) || lies && dice.chance(0.3) {
            dice.between(1.0, if lies { 3.0 } else { 1.6 })
        } else {
            1.0
        },
        output_factor: match climate {
            Climate::Verbose if verbose => dice.spread(0.9, 2.2),
            Climate::Liars if lies => dice.spread(1.5, 10.0),
            _ => 1.0,
        },
        text_factor: if verbose && dice.chance(0.4) {
            dice.spread(0.9, 1.8)
        } else {
            1.0
        },
        shows: u64::MAX,
        refuses: if flaky { dice.between(0.0, 0.1) } else { 0.0 },
        breaks: if flaky { dice.between(0.02, 0.15) } else { 0.0 },
        outages: Vec::new(),
        capacity: if climate == Climate::Burst {
            1 + dice.below(8)
        } else {
            0
        },
        latency: Duration::from_secs_f64(dice.spread(0.1, 2.0)),
        keeps: Duration::from_secs_f64(dice.spread(120.0, 900.0)),
        least_prefix: *dice.pick(&[0, 128, 1024]),
    }
}

fn gap(climate: Climate, busy: f64, dice: &mut Dice) -> Duration {
    let secs = match climate {
        // Bursts of requests, and quiet between them.
        Climate::Burst if dice.chance(0.9) => 0.05,
        Climate::Burst => dice.spread(2.0, busy),
        _ => dice.spread(0.05, 4.0),
    };
    Duration::from_secs_f64(secs)
}

pub(crate) fn draw(weights: &[f64], dice: &mut Dice) -> usize {
    let mut left = dice.unit() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left <= 0.0 {
            return index;
        }
    }
    weights.len() - 1
}
