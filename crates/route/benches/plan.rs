//! What a plan costs: among 20 candidates at most 5 us, among 200 at most 40 us, with everything learned looked up.
//!
//! `cargo bench -p arbstr-route`. The figure is the median of many rounds, the least beside it: a busy machine adds to the
//! one, hardly to the other.

use std::hint::black_box;
use std::time::{Duration, Instant};

use arbstr_price::Rate;
use arbstr_route::{
    AttemptOutcome, Facts, Market, MarketSpec, OfferSpec, PermitEnd, ProviderSpec, Report, Step,
    Waterfall,
};
use arbstr_wire::{Endpoint, Request, Usage};

const ROUNDS: usize = 2001;
const BODY: &str = r#"{"model":"m","max_tokens":500,"messages":[{"role":"system","content":"You are terse."},
{"role":"user","content":"Summarise this: the river keeps what the stone and the people leave behind."}]}"#;

fn main() {
    for (candidates, bar) in [(20, 5.0), (200, 40.0)] {
        for cached in [false, true] {
            let market = market(candidates, cached);
            let request = Request::parse(Endpoint::Chat, BODY.as_bytes()).expect("a sound body");
            let facts = Facts::of(&request, None);
            let start = now();
            (0..300).for_each(|_| serve(&market, &facts, start));
            let (median, least) = time(|| {
                let plan = market.plan(&facts, start).expect("a plan");
                assert_eq!(black_box(&plan).candidates.len(), candidates);
                plan
            });
            let kind = if cached {
                "cached prefixes priced"
            } else {
                "plain"
            };
            let verdict = if median <= bar { "met" } else { "MISSED" };
            println!(
                "{candidates:>4} candidates, {kind:<23} {median:>6.2} us (least {least:.2}), bar {bar} us {verdict}"
            );
        }
    }
}

fn market(candidates: usize, cached: bool) -> Market {
    let providers = (0..candidates).map(|index| {
        let mut offer = OfferSpec {
            model: "m".to_owned(),
            upstream_model: "m".to_owned(),
            rates: Some(arbstr_price::Rates::default()),
            ..OfferSpec::default()
        };
        if let Some(rates) = &mut offer.rates {
            // Neighbours differ by less than the tie, the ends by much more.
            let level = 1_000_000 + 7_919 * ((index as u64 * 61) % candidates as u64);
            rates.input = Rate::from_millisats_per_million(level);
            rates.output = Rate::from_millisats_per_million(3 * level);
            rates.cached_input = cached.then(|| Rate::from_millisats_per_million(level / 10));
        }
        ProviderSpec {
            name: format!("p{index}"),
            offers: vec![offer],
            ..ProviderSpec::default()
        }
    });
    let spec = MarketSpec {
        providers: providers.collect(),
        ..MarketSpec::default()
    };
    Market::build(spec, None).expect("a sound market")
}

fn serve(market: &Market, facts: &Facts<'_>, now: Instant) {
    let mut waterfall = Waterfall::new(market.plan(facts, now).expect("a plan"), None);
    let Step::Attempt(attempt) = waterfall.next(now, 1) else {
        unreachable!("everybody is up")
    };
    let mut usage = Usage::default();
    (usage.input, usage.output) = (Some(40), Some(120));
    let report = Report {
        usage: Some(usage),
        text_bytes: Some(480),
    };
    let good = AttemptOutcome::Good { status: 200 };
    let permit = waterfall.on_outcome(attempt, good, now).permit;
    permit
        .expect("accepted")
        .finish(PermitEnd::Complete, &report, now);
}

/// Median and least time of a call, in microseconds; dropping what it gives is not counted.
fn time<T>(mut call: impl FnMut() -> T) -> (f64, f64) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = now();
            let given = black_box(call());
            let took = begun.elapsed();
            drop(given);
            took
        })
        .collect();
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    (us(times[ROUNDS / 2]), us(times[0]))
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn now() -> Instant {
    Instant::now()
}
