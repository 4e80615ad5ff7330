//! Who is asked out of order to learn from it, and who is not again.

use super::*;
use crate::Rank;
use crate::learn::demand::is_one_in;

/// Sends one request through `market`, each attempt coming out as `answer` says. Who was asked, and why first.
fn send(
    market: &Market,
    facts: &Facts<'_>,
    now: Instant,
    answer: impl Fn(&str) -> (AttemptOutcome, Duration),
) -> (Vec<String>, Rank) {
    let plan = market.plan(facts, now).expect("a plan");
    let rank = plan.candidates[0].rank;
    let mut waterfall = Waterfall::new(plan, None);
    let (mut asked, mut at) = (Vec::new(), now);
    loop {
        match waterfall.next(at, 0) {
            Step::Attempt(attempt) => {
                asked.push(attempt.offer.provider().to_owned());
                let (outcome, took) = answer(attempt.offer.provider());
                at += took;
                if let Some(permit) = waterfall.on_outcome(attempt, outcome, at).permit {
                    let mut usage = Usage::default();
                    (usage.input, usage.output) = (Some(1000), Some(300));
                    let report = Report {
                        usage: Some(usage),
                        text_bytes: Some(1200),
                    };
                    permit.finish(PermitEnd::Complete, &report, at);
                }
            }
            Step::Wait(wait) => at += wait,
            Step::Finish(_) => return (asked, rank),
        }
    }
}

/// How many of `requests`, one every `pace`, ask `name` first.
fn count_first(
    market: &Market,
    name: &str,
    (requests, pace): (u32, Duration),
    answer: impl Fn(&str) -> (AttemptOutcome, Duration),
) -> usize {
    let mut now = start();
    let first = (0..requests).filter(|_| {
        now += pace;
        send(market, &facts("m"), now, &answer).0[0] == name
    });
    first.count()
}

const QUICK: Duration = Duration::from_millis(40);

/// A clock that requests of other policies move on too was in step with an agent that asked by turns.
#[test]
fn looks_keep_no_rhythm_that_requests_could_have() {
    let mut spec = spec(&["cold", "steady"]);
    spec.policies.rules.push(Rule {
        name: "fast".to_owned(),
        strategy: Some(Strategy::LowestLatency),
        ..Rule::default()
    });
    let market = build(spec);
    let mut now = start();
    let looks = (0..3200).filter(|request| {
        now += secs(1);
        let policy = (request % 2 == 0).then_some("fast");
        let facts = Facts {
            policy,
            ..facts("m")
        };
        let (_, rank) = send(&market, &facts, now, |_| (GOOD, QUICK));
        policy.is_some() && rank == Rank::TimeUnknown
    });
    assert!((25..=75).contains(&looks.count()));
}

#[test]
fn lowest_latency_does_not_wait_for_the_dead_again_and_again() {
    let mut spec = spec(&["dead", "steady"]);
    spec.policies.default_strategy = Strategy::LowestLatency;
    let waited = count_first(&build(spec), "dead", (3200, secs(2)), |name| match name {
        "dead" => (
            AttemptOutcome::Timeout(crate::TimeoutKind::FirstEvent),
            secs(12),
        ),
        _ => (GOOD, QUICK),
    });
    assert!(waited <= 5, "{waited}");
}

/// What it answers shows no time, so it was looked at again as soon as it could be, and its word was the client's.
#[test]
fn who_finds_fault_with_requests_is_not_looked_at_all_the_time() {
    for strategy in [Strategy::Cheapest, Strategy::LowestLatency] {
        let mut spec = spec(&["picky", "good"]);
        spec.providers[1].offers = spec.providers[0].offers.clone();
        spec.providers
            .swap(0, usize::from(strategy == Strategy::Cheapest));
        spec.policies.default_strategy = strategy;
        let refused = count_first(&build(spec), "picky", (3600, secs(1)), |name| match name {
            "picky" => (status(400), Duration::ZERO),
            _ => (GOOD, QUICK),
        });
        assert!(refused <= 3, "{strategy}: {refused}");
    }
}

/// Its one answer was forgotten after a while, and it was never asked before once more.
#[test]
fn who_was_asked_once_is_not_new_again() {
    let dearer = vec![offer("m", 300, 300)];
    let market = build(MarketSpec {
        providers: vec![
            provider("a", vec![offer("m", 100, 100)]),
            provider("dear", dearer),
        ],
        ..MarketSpec::default()
    });
    let trials = count_first(&market, "dear", (10_000, secs(1)), |_| (GOOD, QUICK));
    assert_eq!(trials, 1);
}

/// A free one was never left, a dear one was as often looked at as any, and what that cost stood nowhere.
#[test]
fn looks_under_lowest_latency_are_the_rarer_the_dearer_and_their_price_is_told() {
    for (price, rate, looks) in [(0, 100, 1..=6), (100, 100, 80..=120), (100, 400, 15..=35)] {
        let mut spec = MarketSpec {
            providers: vec![
                provider("fast", vec![offer("m", price, price)]),
                provider("other", vec![offer("m", rate, rate)]),
            ],
            ..MarketSpec::default()
        };
        spec.policies.default_strategy = Strategy::LowestLatency;
        let market = build(spec);
        let others = count_first(&market, "other", (3200, secs(2)), |name| match name {
            "fast" => (GOOD, QUICK),
            _ => (GOOD, 2 * QUICK),
        });
        assert!(looks.contains(&others), "{price} {rate}: {others}");
        let told = market.explored() > Sats::default();
        assert_eq!(told, rate > price, "{price} {rate}");
    }
}

/// It was always the one that was not heard of for longest, and let its turns pass.
#[test]
fn a_dear_one_keeps_no_other_from_being_looked_at() {
    let offers = [("fast", 10), ("dear", 600), ("other", 10)];
    let mut spec = MarketSpec {
        providers: offers
            .map(|(name, rate)| provider(name, vec![offer("m", rate, rate)]))
            .into(),
        ..MarketSpec::default()
    };
    spec.policies.default_strategy = Strategy::LowestLatency;
    let others = count_first(&build(spec), "other", (3200, secs(2)), |name| match name {
        "fast" => (GOOD, QUICK),
        _ => (GOOD, 2 * QUICK),
    });
    assert!((70..=110).contains(&others), "{others}");
}

/// The clock of the model was read anew, and showed what requests planned at the same time had made of it.
#[test]
fn a_request_is_a_look_by_its_own_turn() {
    let mut spec = spec(&["a", "b"]);
    spec.providers[1].offers = spec.providers[0].offers.clone();
    spec.policies.default_strategy = Strategy::LowestLatency;
    let market = build(spec);
    count_first(&market, "a", (40, secs(1)), |_| (GOOD, QUICK));
    let is_look = |_: &u32| planned(&market, &facts("m")).candidates[0].rank == Rank::TimeUnknown;
    let looks: usize = std::thread::scope(|scope| {
        let plan = || (0..1600).filter(is_look).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(plan)).collect();
        let looks = threads.into_iter().map(|thread| thread.join());
        looks.map(|looks| looks.expect("a count")).sum()
    });
    let turns = (41..=6440).filter(|tick| is_one_in(32, *tick));
    assert_eq!(looks, turns.count());
}

#[test]
fn a_shortage_of_this_machine_leaves_no_mark() {
    let market = market(&["a", "b"]);
    count_first(&market, "a", (20, secs(1)), |_| (GOOD, QUICK));
    let shortage = AttemptOutcome::Connect(crate::ConnectError::NoSocket);
    count_first(&market, "a", (40, secs(1)), |_| (shortage.clone(), QUICK));
    let plan = planned(&market, &facts("m"));
    assert_eq!(plan.candidates[0].success, Some(1.0));
}

/// Each seemed to give a little more or less than the others, by chance, so that a tie was none for long.
#[test]
fn the_fastest_of_equals_serves_however_answers_differ() {
    let names = ["a", "b", "fast", "d", "e", "f"];
    let mut spec = spec(&names);
    let offers = spec.providers[0].offers.clone();
    for provider in &mut spec.providers {
        provider.offers.clone_from(&offers);
    }
    let market = build(spec);
    let facts = facts("m");
    let mut asked = Vec::new();
    for number in 0..600_u64 {
        let now = start() + secs(number);
        let mut waterfall = Waterfall::new(market.plan(&facts, now).expect("a plan"), None);
        let Step::Attempt(attempt) = waterfall.next(now, 0) else {
            panic!("nobody to ask")
        };
        let name = attempt.offer.provider().to_owned();
        let took = if name == "fast" { QUICK } else { 2 * QUICK };
        let permit = waterfall.on_outcome(attempt, GOOD, now + took).permit;
        let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let length = 100 + (dice ^ dice >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) % 600;
        let mut usage = Usage::default();
        (usage.input, usage.output) = (Some(1000), Some(length));
        let report = Report {
            usage: Some(usage),
            text_bytes: Some(4 * length),
        };
        permit
            .expect("accepted")
            .finish(PermitEnd::Complete, &report, now + took);
        asked.push(name);
    }
    let fast = asked.iter().filter(|name| *name == "fast").count();
    assert!(fast > 520, "{fast}");
}
