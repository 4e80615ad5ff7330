//! Houses that are full.

use super::*;

#[test]
fn overflow_goes_to_the_next_at_once() {
    let now = start();
    let mut spec = spec(&["a", "b"]);
    spec.providers[0].max_concurrency = 2;
    let market = build(spec);
    let attempts: Vec<Attempt> = (0..3)
        .map(|_| Walk::new(&market, now).step().unwrap())
        .collect();
    let providers: Vec<&str> = attempts
        .iter()
        .map(|attempt| attempt.offer.provider())
        .collect();
    assert_eq!(providers, ["a", "a", "b"]);
    let plan = market.plan(&facts("m"), now).unwrap();
    assert_eq!(
        plan.candidates[0].skipped,
        Some(Skip::AtCapacity { limit: 2 })
    );
    drop(attempts);
    assert_eq!(walk(&market, now, |_, _| GOOD).1, "a;status=200");
}

#[test]
fn a_full_house_is_waited_for_when_nobody_else_can_serve() {
    let now = start();
    let mut spec = spec(&["a"]);
    spec.providers[0].max_concurrency = 1;
    let market = build(spec);
    let taken = Walk::new(&market, now).step().unwrap();
    let mut waiting = Walk::new(&market, now);
    assert!(matches!(waiting.waterfall.next(now, 1), Step::Wait(_)));
    drop(taken);
    let taken = waiting.step().unwrap();
    let mut in_vain = Walk::new(&market, now);
    assert_eq!(
        in_vain.step().unwrap_err(),
        Finish::AllFailed {
            retry_after: Some(SOON)
        }
    );
    assert!(in_vain.waited >= LONGEST_WAIT && in_vain.waited < LONGEST_WAIT + secs(1));
    drop(taken);
}

#[test]
fn a_learned_limit_sends_overflow_elsewhere_but_is_no_wall() {
    let now = start();
    let market = market(&["a"]);
    let refused = |market: &Market| {
        let mut walk = Walk::new(market, now);
        let attempt = walk.step().unwrap();
        walk.waterfall.on_outcome(attempt, status(429), now);
    };
    refused(&market);
    assert_eq!(market.snapshot(now)[0].limit, Some(1));
    let taken = Walk::new(&market, now).step().unwrap();
    let mut second = Walk::new(&market, now);
    let attempt = second.step().unwrap();
    assert!(second.waited >= LONGEST_WAIT);
    second
        .waterfall
        .on_outcome(attempt, GOOD, now)
        .permit
        .unwrap()
        .finish(PermitEnd::Complete, &crate::Report::default(), now);
    assert_eq!(market.snapshot(now)[0].limit, Some(2));
    drop(taken);
}
