//! Requests walked through their attempts.

use proptest::prelude::*;

use super::wait::LONGEST_WAIT;
use super::*;
use crate::testing::*;
use crate::{
    Change, CircuitState, ErrorResponse, Health, Market, MarketSpec, PermitEnd, ProviderEvent,
    Scope, TimeoutKind,
};

/// One request on its way, with a clock that only moves when it waits.
struct Walk {
    waterfall: Waterfall,
    now: Instant,
    waited: Duration,
}

impl Walk {
    fn new(market: &Market, now: Instant) -> Self {
        Self::until(market, now, None)
    }

    fn until(market: &Market, now: Instant, deadline: Option<Instant>) -> Self {
        let plan = market.plan(&facts("m"), now).expect("a plan");
        Self {
            waterfall: Waterfall::new(plan, deadline),
            now,
            waited: Duration::ZERO,
        }
    }

    /// Waits as told until there is an attempt or an end.
    fn step(&mut self) -> Result<Attempt, Finish> {
        loop {
            match self
                .waterfall
                .next(self.now, self.waited.subsec_nanos().into())
            {
                Step::Attempt(attempt) => return Ok(attempt),
                Step::Finish(finish) => return Err(finish),
                Step::Wait(pause) => {
                    assert!(!pause.is_zero(), "waits for nothing");
                    self.waited += pause;
                    self.now += pause;
                    assert!(self.waited < secs(300), "waits for ever");
                }
            }
        }
    }

    /// Answers every attempt by `script` until the end; a good answer is read to its end.
    fn run(&mut self, mut script: impl FnMut(&str, u32) -> AttemptOutcome) -> Finish {
        loop {
            match self.step() {
                Err(finish) => return finish,
                Ok(attempt) => {
                    let outcome = script(attempt.offer.provider(), attempt.number);
                    let after = self.waterfall.on_outcome(attempt, outcome, self.now);
                    if let Some(permit) = after.permit {
                        permit.finish(PermitEnd::Complete, &crate::Report::default(), self.now);
                    }
                }
            }
        }
    }
}

fn walk(
    market: &Market,
    now: Instant,
    script: impl FnMut(&str, u32) -> AttemptOutcome,
) -> (Finish, String) {
    let mut walk = Walk::new(market, now);
    let finish = walk.run(script);
    (finish, walk.waterfall.attempts_header())
}

fn busy(status: u16, secs: u64) -> AttemptOutcome {
    AttemptOutcome::ErrorResponse(ErrorResponse {
        status,
        retry_after: Some(Duration::from_secs(secs)),
        ..ErrorResponse::default()
    })
}

fn coded(status: u16, code: &str) -> AttemptOutcome {
    AttemptOutcome::ErrorResponse(ErrorResponse {
        status,
        code: Some(code.to_owned()),
        ..ErrorResponse::default()
    })
}

/// Opens the circuit of `name` alone, however dear it is: the others say nothing that counts.
fn break_circuit(market: &Market, name: &str, now: Instant) {
    for _ in 0..3 {
        walk(market, now, |provider, _| match provider {
            provider if provider == name => AttemptOutcome::Empty,
            _ => coded(400, "context_length_exceeded"),
        });
    }
}

fn circuits(market: &Market, now: Instant) -> Vec<CircuitState> {
    market
        .snapshot(now)
        .iter()
        .map(|provider| provider.offers[0].circuit)
        .collect()
}

#[test]
fn the_next_candidate_takes_over_at_once() {
    let market = market(&["a", "b", "c"]);
    let mut walk = Walk::new(&market, start());
    let finish = walk.run(|provider, _| match provider {
        "a" => AttemptOutcome::Connect(crate::ConnectError::Refused),
        "b" => status(500),
        _ => GOOD,
    });
    assert_eq!(finish, Finish::Accepted);
    assert_eq!(
        walk.waterfall.attempts_header(),
        "a;error=connect, b;status=500, c;status=200"
    );
    assert_eq!(walk.waited, Duration::ZERO);
    assert_eq!(walk.waterfall.attempts().len(), 3);
}

#[test]
fn each_outcome_ends_a_request_as_it_should() {
    let alone = |failure| Finish::Transparent(failure);
    let failed = Finish::AllFailed { retry_after: None };
    let cases: Vec<(AttemptOutcome, u32, Finish, Finish)> = vec![
        (GOOD, 1, Finish::Accepted, Finish::Accepted),
        (status(400), 1, Finish::ReturnLast, Finish::ReturnLast),
        (status(422), 1, Finish::ReturnLast, Finish::ReturnLast),
        (
            coded(400, "context_length_exceeded"),
            1,
            Finish::ReturnLast,
            Finish::ReturnLast,
        ),
        (status(401), 1, alone(Failure::Answered), failed),
        (status(404), 1, alone(Failure::Answered), failed),
        (status(302), 1, alone(Failure::BadAnswer), failed),
        (status(409), 8, alone(Failure::Answered), failed),
        (status(429), 8, alone(Failure::Answered), failed),
        (status(500), 8, alone(Failure::Answered), failed),
        (
            coded(429, "insufficient_quota"),
            1,
            alone(Failure::Answered),
            failed,
        ),
        (
            AttemptOutcome::Timeout(TimeoutKind::FirstEvent),
            1,
            alone(Failure::TimedOut),
            failed,
        ),
        (
            AttemptOutcome::Timeout(TimeoutKind::Total),
            1,
            Finish::OutOfTime,
            Finish::OutOfTime,
        ),
        (AttemptOutcome::Closed, 1, alone(Failure::NoAnswer), failed),
        (AttemptOutcome::Cut, 1, alone(Failure::BadAnswer), failed),
        (AttemptOutcome::Empty, 1, alone(Failure::BadAnswer), failed),
        (
            AttemptOutcome::BadJson,
            1,
            alone(Failure::BadAnswer),
            failed,
        ),
        (
            AttemptOutcome::NoResult,
            1,
            alone(Failure::BadAnswer),
            failed,
        ),
        (
            AttemptOutcome::Oversized,
            1,
            alone(Failure::BadAnswer),
            failed,
        ),
        (
            AttemptOutcome::Cancelled,
            1,
            Finish::ClientGone,
            Finish::ClientGone,
        ),
    ];
    for (outcome, attempts, sole, several) in cases {
        let mut one = Walk::new(&market(&["a"]), start());
        assert_eq!(one.run(|_, _| outcome.clone()), sole, "{outcome:?}");
        assert_eq!(
            one.waterfall.attempts().len(),
            attempts as usize,
            "{outcome:?}"
        );
        let mut two = Walk::new(&market(&["a", "b"]), start());
        let finish = two.run(|_, _| outcome.clone());
        let matches = match (finish, several) {
            (Finish::AllFailed { .. }, Finish::AllFailed { .. }) => true,
            (got, want) => got == want,
        };
        assert!(matches, "{outcome:?}: {finish:?}");
    }
}

#[test]
fn every_candidate_comes_once_before_any_comes_twice() {
    let (finish, header) = walk(&market(&["a", "b", "c"]), start(), |_, number| {
        if number < 5 { status(503) } else { GOOD }
    });
    assert_eq!(finish, Finish::Accepted);
    let providers: Vec<&str> = header.split(", ").map(|item| &item[..1]).collect();
    assert_eq!(providers[..3], ["a", "b", "c"]);
    assert_eq!(providers.len(), 5);
    assert_ne!(providers[3], providers[4]);
}

#[test]
fn never_more_than_max_attempts() {
    for max_attempts in [0, 1, 2, 5, 8] {
        let mut spec = spec(&["a", "b", "c"]);
        spec.retry.max_attempts = max_attempts;
        spec.circuit.failures = 100;
        let mut walk = Walk::new(&build(spec), start());
        let finish = walk.run(|_, _| status(500));
        assert!(matches!(finish, Finish::AllFailed { .. }));
        assert_eq!(
            walk.waterfall.attempts().len(),
            max_attempts.max(1) as usize
        );
    }
}

#[test]
fn what_is_not_worth_a_second_try_gets_none() {
    let (finish, header) = walk(
        &market(&["a", "b"]),
        start(),
        |provider, _| match provider {
            "a" => AttemptOutcome::Closed,
            _ => status(403),
        },
    );
    assert_eq!(finish, Finish::AllFailed { retry_after: None });
    assert_eq!(header, "a;error=closed, b;status=403");
}

#[test]
fn retry_after_is_honoured_before_the_second_try() {
    let market = market(&["a", "b"]);
    let mut walk = Walk::new(&market, start());
    let finish = walk.run(|_, number| match number {
        1 => busy(429, 9),
        2 => busy(503, 4),
        _ => GOOD,
    });
    assert_eq!(finish, Finish::Accepted);
    assert_eq!(
        walk.waterfall.attempts_header(),
        "a;status=429, b;status=503, b;status=200"
    );
    assert!(
        walk.waited >= secs(4) && walk.waited < secs(5),
        "{:?}",
        walk.waited
    );
}

#[test]
fn a_retry_after_that_does_not_fit_is_told_instead_of_waited_for() {
    let now = start();
    let mut patient = Walk::new(&market(&["a", "b"]), now);
    let finish = patient.run(|_, _| busy(429, 40));
    assert_eq!(
        finish,
        Finish::AllFailed {
            retry_after: Some(secs(40))
        }
    );
    assert_eq!(patient.waited, Duration::ZERO);
    let mut hurried = Walk::until(&market(&["a", "b"]), now, Some(now + secs(5)));
    let finish = hurried.run(|_, _| busy(429, 6));
    assert_eq!(
        finish,
        Finish::AllFailed {
            retry_after: Some(secs(6))
        }
    );
    let mut sole = Walk::new(&market(&["a"]), now);
    assert_eq!(
        sole.run(|_, _| busy(429, 40)),
        Finish::Transparent(Failure::Answered)
    );
    assert_eq!(sole.waterfall.retry_after(now), Some(secs(40)));
}

#[test]
fn all_pauses_together_are_bounded() {
    let market = market(&["a"]);
    let mut walk = Walk::new(&market, start());
    let finish = walk.run(|_, _| busy(429, 12));
    assert_eq!(finish, Finish::Transparent(Failure::Answered));
    assert_eq!(walk.waterfall.attempts().len(), 3);
    assert_eq!(walk.waited, secs(24));
}

/// Requests paused before a second try that an open circuit then refused.
#[test]
fn nobody_waits_for_a_second_try_that_an_open_circuit_will_refuse() {
    let now = start();
    let market = market(&["a", "b"]);
    let request = |now| {
        let mut walk = Walk::new(&market, now);
        let finish = walk.run(|_, _| status(500));
        assert!(matches!(finish, Finish::AllFailed { .. }));
        (walk.waited, walk.waterfall.attempts().len())
    };
    let (waited, attempts) = request(now);
    assert!(!waited.is_zero() && attempts == 6, "closed: {attempts}");
    let is_open = |state: &CircuitState| matches!(state, CircuitState::Open { .. });
    assert!(circuits(&market, now + waited).iter().all(is_open));
    assert_eq!(request(now + waited), (Duration::ZERO, 2));
}

#[test]
fn too_long_a_request_is_returned_only_when_it_is_too_long_for_all() {
    let long = || coded(400, "context_length_exceeded");
    let (finish, header) = walk(&market(&["a", "b"]), start(), |_, _| long());
    assert_eq!(finish, Finish::ReturnLast);
    assert_eq!(header, "a;status=400, b;status=400");
    let (finish, _) = walk(&market(&["a", "b"]), start(), |provider, _| {
        if provider == "a" { long() } else { GOOD }
    });
    assert_eq!(finish, Finish::Accepted);
    let (finish, _) = walk(&market(&["a", "b"]), start(), |provider, _| {
        if provider == "a" {
            long()
        } else {
            AttemptOutcome::Closed
        }
    });
    assert!(matches!(finish, Finish::AllFailed { .. }));
}

#[test]
fn a_provider_that_turns_stream_options_down_is_asked_without_and_remembered() {
    let market = market(&["a", "b"]);
    let refusal = || {
        AttemptOutcome::ErrorResponse(ErrorResponse {
            status: 400,
            param: Some("stream_options".to_owned()),
            injected_stream_options: true,
            ..ErrorResponse::default()
        })
    };
    let mut walk = Walk::new(&market, start());
    let first = walk.step().unwrap();
    assert!(!first.omit_stream_options);
    walk.waterfall.on_outcome(first, refusal(), walk.now);
    let second = walk.step().unwrap();
    assert_eq!(
        (
            second.offer.provider(),
            second.omit_stream_options,
            second.number
        ),
        ("a", true, 2)
    );
    walk.waterfall.on_outcome(second, GOOD, walk.now);
    assert_eq!(walk.waited, Duration::ZERO);
    assert!(
        Walk::new(&market, start())
            .step()
            .unwrap()
            .omit_stream_options
    );
    assert_eq!(market.health(walk.now), Health::Ok);
}

#[test]
fn out_of_attempts_the_refusal_of_stream_options_is_returned() {
    let mut spec = spec(&["a", "b"]);
    spec.retry.max_attempts = 1;
    let (finish, _) = walk(&build(spec), start(), |_, _| {
        AttemptOutcome::ErrorResponse(ErrorResponse {
            status: 400,
            message: Some("unknown field stream_options".to_owned()),
            injected_stream_options: true,
            ..ErrorResponse::default()
        })
    });
    assert_eq!(finish, Finish::ReturnLast);
}

#[test]
fn the_same_provider_comes_first_when_the_operator_wants_it() {
    let cases = [
        (
            status(500),
            "a;status=500, a;status=500, a;status=500, b;status=200",
        ),
        (
            AttemptOutcome::Closed,
            "a;error=closed, a;error=closed, a;error=closed, b;status=200",
        ),
        (
            busy(429, 3),
            "a;status=429, a;status=429, a;status=429, b;status=200",
        ),
        (busy(429, 4), "a;status=429, b;status=200"),
        (status(502), "a;status=502, b;status=200"),
        (AttemptOutcome::Empty, "a;error=empty, b;status=200"),
    ];
    for (outcome, header) in cases {
        let mut spec = spec(&["a", "b"]);
        spec.retry.same_provider_first = 2;
        let mut walk = Walk::new(&build(spec), start());
        walk.run(|provider, _| {
            if provider == "a" {
                outcome.clone()
            } else {
                GOOD
            }
        });
        assert_eq!(walk.waterfall.attempts_header(), header);
    }
}

#[test]
fn a_client_that_left_stops_it() {
    let now = start();
    let market = market(&["a", "b"]);
    let mut walk = Walk::new(&market, now);
    let attempt = walk.step().unwrap();
    walk.waterfall.on_client_gone();
    let after = walk.waterfall.on_outcome(attempt, status(500), now);
    assert_eq!(after.verdict.action, Action::Next);
    assert_eq!(walk.step().unwrap_err(), Finish::ClientGone);
    assert_eq!(walk.waterfall.attempts().len(), 1);
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let now = start();
    let mut walk = Walk::until(&market(&["a", "b"]), now, Some(now + secs(5)));
    let attempt = walk.step().unwrap();
    walk.now += secs(5);
    walk.waterfall
        .on_outcome(attempt, AttemptOutcome::Closed, walk.now);
    assert_eq!(walk.step().unwrap_err(), Finish::OutOfTime);
}

#[test]
fn an_attempt_dropped_without_a_word_counts_but_blocks_nothing() {
    let market = market(&["a", "b"]);
    let mut walk = Walk::new(&market, start());
    drop(walk.step().unwrap());
    assert_eq!(walk.step().unwrap().offer.provider(), "b");
    assert!(matches!(walk.step(), Err(Finish::AllFailed { .. })));
    assert!(
        market
            .snapshot(walk.now)
            .iter()
            .all(|provider| provider.in_flight == 0)
    );
}

#[test]
fn the_last_one_is_told_so() {
    let now = start();
    let market = market(&["a", "b", "c"]);
    break_circuit(&market, "c", now);
    let mut walk = Walk::new(&market, now);
    let mut lasts = Vec::new();
    while let Ok(attempt) = walk.step() {
        lasts.push((attempt.offer.provider().to_owned(), attempt.last));
        walk.waterfall
            .on_outcome(attempt, AttemptOutcome::Closed, now);
    }
    let want = [("a", false), ("b", true), ("c", true)].map(|(name, last)| (name.to_owned(), last));
    assert_eq!(lasts, want);
}

#[test]
fn an_open_circuit_is_passed_over_until_a_probe_is_due() {
    let now = start();
    let market = market(&["a", "b"]);
    break_circuit(&market, "a", now);
    assert_eq!(
        circuits(&market, now),
        [
            CircuitState::Open { due_in: secs(30) },
            CircuitState::Closed
        ]
    );
    let plan = market.plan(&facts("m"), now).unwrap();
    assert_eq!(
        plan.candidates[0].skipped,
        Some(Skip::CircuitOpen { due_in: secs(30) })
    );
    assert_eq!(walk(&market, now + secs(29), |_, _| GOOD).1, "b;status=200");
    let due = now + secs(30);
    let mut probe = Walk::new(&market, due);
    let attempt = probe.step().unwrap();
    assert_eq!(attempt.offer.provider(), "a");
    assert_eq!(
        walk(&market, due, |_, _| GOOD).1,
        "b;status=200",
        "one probe at a time"
    );
    let permit = probe
        .waterfall
        .on_outcome(attempt, GOOD, due)
        .permit
        .unwrap();
    assert_eq!(circuits(&market, due)[0], CircuitState::Closed);
    assert_eq!(
        walk(&market, due, |_, _| GOOD).1,
        "a;status=200",
        "before the probe's stream is over"
    );
    permit.finish(PermitEnd::Complete, &crate::Report::default(), due);
}

#[test]
fn a_failed_probe_opens_it_again_and_a_lost_one_does_not_matter() {
    let now = start();
    let market = market(&["a", "b"]);
    break_circuit(&market, "a", now);
    let due = now + secs(30);
    drop(Walk::new(&market, due).step().unwrap());
    let header = walk(&market, due, |provider, _| {
        if provider == "a" {
            AttemptOutcome::Empty
        } else {
            GOOD
        }
    })
    .1;
    assert_eq!(header, "a;error=empty, b;status=200");
    assert_eq!(
        circuits(&market, due)[0],
        CircuitState::Open { due_in: secs(30) }
    );
}

#[test]
fn a_lost_probe_of_the_connections_does_not_matter_either() {
    let now = start();
    let market = market(&["a", "b"]);
    let refused = |provider: &str, _| {
        if provider == "a" {
            AttemptOutcome::Connect(crate::ConnectError::Refused)
        } else {
            GOOD
        }
    };
    for _ in 0..3 {
        walk(&market, now, refused);
    }
    let connections = |now| market.snapshot(now)[0].connections;
    assert_ne!(connections(now), CircuitState::Closed);
    let due = now + secs(30);
    let lost = Walk::new(&market, due).step().unwrap();
    assert_eq!(connections(due), CircuitState::HalfOpen);
    drop(lost);
    assert_eq!(
        connections(due),
        CircuitState::Open {
            due_in: Duration::ZERO
        }
    );
    assert_eq!(
        walk(&market, due, |_, _| status(401)).1,
        "a;status=401, b;status=401"
    );
    assert_eq!(
        connections(due),
        CircuitState::Closed,
        "it could be reached"
    );
}

#[test]
fn a_suspension_that_goes_on_is_told_once() {
    let now = start();
    let market = market(&["a"]);
    for after in [0, 10, 20] {
        walk(&market, now + secs(after), |_, _| status(401));
    }
    assert_eq!(market.take_changes().len(), 1);
    walk(&market, now + secs(80), |_, _| status(401));
    assert_eq!(market.take_changes().len(), 1);
}

#[test]
fn a_stream_that_breaks_counts_against_the_circuit() {
    let now = start();
    let market = market(&["a", "b"]);
    for _ in 0..3 {
        assert_eq!(circuits(&market, now)[0], CircuitState::Closed);
        let mut walk = Walk::new(&market, now);
        let attempt = walk.step().unwrap();
        walk.waterfall
            .on_outcome(attempt, GOOD, now)
            .permit
            .unwrap()
            .finish(PermitEnd::Broken, &crate::Report::default(), now);
    }
    assert_ne!(circuits(&market, now)[0], CircuitState::Closed);
}

#[test]
fn when_all_are_open_the_one_due_soonest_is_probed() {
    let now = start();
    let market = market(&["a", "b"]);
    break_circuit(&market, "b", now);
    break_circuit(&market, "a", now + secs(1));
    let later = now + secs(2);
    let mut first = Walk::new(&market, later);
    let on_b = first.step().unwrap();
    assert_eq!(on_b.offer.provider(), "b");
    // While that probe is out nobody else is probed: it is waited for a moment, then the client is told when to return.
    let finish = Walk::new(&market, later).step().unwrap_err();
    let retry_after = Some(secs(1));
    assert_eq!(finish, Finish::AllFailed { retry_after });
    drop(on_b);
    assert_eq!(walk(&market, later, |_, _| GOOD).0, Finish::Accepted);
}

#[test]
fn a_probe_that_cannot_connect_keeps_its_circuit_open() {
    let now = start();
    let market = market(&["a", "b"]);
    break_circuit(&market, "a", now);
    let due = now + secs(31);
    let mut walk = Walk::new(&market, due);
    let probe = walk.step().unwrap();
    assert_eq!(probe.offer.provider(), "a");
    let refused = AttemptOutcome::Connect(crate::ConnectError::Refused);
    walk.waterfall.on_outcome(probe, refused, due);
    assert!(matches!(circuits(&market, due)[0], CircuitState::Open { due_in } if due_in > secs(1)));
}

#[test]
fn a_request_that_waits_for_a_probe_goes_on_when_it_comes_back() {
    let now = start();
    let later = now + secs(2);
    for (comes_back, expected) in [(status(500), "a"), (GOOD, "b")] {
        let market = market(&["a", "b"]);
        break_circuit(&market, "b", now);
        break_circuit(&market, "a", now + secs(1));
        let mut prober = Walk::new(&market, later);
        let probe = prober.step().unwrap();
        let plan = market.plan(&facts("m"), later).unwrap();
        let mut waiting = Waterfall::new(plan, None);
        let Step::Wait(pause) = waiting.next(later, 1) else {
            panic!("waits for the probe");
        };
        assert!(pause <= Duration::from_millis(100));
        prober.waterfall.on_outcome(probe, comes_back, later);
        let Step::Attempt(attempt) = waiting.next(later + pause, 2) else {
            panic!("goes on");
        };
        assert_eq!(attempt.offer.provider(), expected);
        drop(attempt);
    }
}

#[test]
fn a_sole_candidate_is_never_passed_over() {
    let now = start();
    let market = market(&["a"]);
    for (index, outcome) in [status(401), busy(429, 600), status(404)]
        .into_iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        let plan = market.plan(&facts("m"), now).unwrap();
        assert_eq!(plan.candidates[0].skipped, None);
        assert_eq!(
            walk(&market, now, |_, _| outcome.clone()).0,
            Finish::Transparent(Failure::Answered),
            "{index}"
        );
    }
    for _ in 0..4 {
        walk(&market, now, |_, _| AttemptOutcome::Empty);
    }
    assert_eq!(
        circuits(&market, now),
        [CircuitState::Open { due_in: secs(30) }]
    );
    let due = now + secs(30);
    let probe = Walk::new(&market, due).step().unwrap();
    assert_eq!(circuits(&market, due), [CircuitState::HalfOpen]);
    assert_eq!(
        walk(&market, due, |_, _| GOOD).0,
        Finish::Accepted,
        "beside the probe"
    );
    drop(probe);
}

#[test]
fn a_bad_connection_is_the_providers_and_a_bad_answer_the_models() {
    let now = start();
    let cases = [
        (AttemptOutcome::Connect(crate::ConnectError::Dns), true),
        (status(500), false),
        (AttemptOutcome::Closed, false),
        (AttemptOutcome::Timeout(TimeoutKind::FirstEvent), false),
    ];
    for (outcome, reaches_other_models) in cases {
        let mut spec = spec(&["a", "b"]);
        spec.providers[0].offers.push(offer("n", 1, 1));
        spec.providers[1].offers.push(offer("n", 2, 2));
        let market = build(spec);
        for _ in 0..3 {
            walk(&market, now, |provider, _| {
                if provider == "a" {
                    outcome.clone()
                } else {
                    GOOD
                }
            });
        }
        let skipped = |model: &str| {
            let plan = market.plan(&facts(model), now).unwrap();
            let of_a = plan
                .candidates
                .iter()
                .find(|candidate| candidate.offer.provider() == "a");
            of_a.unwrap().skipped.is_some()
        };
        assert!(skipped("m"), "{outcome:?}");
        assert_eq!(skipped("n"), reaches_other_models, "{outcome:?}");
    }
}

#[test]
fn a_suspended_provider_serves_again_when_nobody_else_can() {
    let now = start();
    let cases = [
        (status(401), Scope::Provider),
        (status(404), Scope::Offer),
        (coded(429, "insufficient_quota"), Scope::Provider),
    ];
    for (outcome, scope) in cases {
        let market = market(&["a", "b"]);
        assert_eq!(Verdict::of(&outcome).suspend, Some(scope));
        walk(&market, now, |provider, _| {
            if provider == "a" {
                outcome.clone()
            } else {
                GOOD
            }
        });
        assert_eq!(walk(&market, now + secs(59), |_, _| GOOD).1, "b;status=200");
        let header = walk(&market, now + secs(59), |provider, _| {
            if provider == "b" {
                AttemptOutcome::Closed
            } else {
                GOOD
            }
        })
        .1;
        assert_eq!(header, "b;error=closed, a;status=200");
        assert_eq!(
            walk(&market, now + secs(59), |_, _| GOOD).1,
            "a;status=200",
            "a good answer ends it"
        );
    }
}

#[test]
fn a_provider_that_asks_to_be_left_alone_is_left_alone() {
    let now = start();
    let market = market(&["a", "b"]);
    walk(&market, now, |provider, _| {
        if provider == "a" { busy(429, 20) } else { GOOD }
    });
    assert_eq!(walk(&market, now + secs(19), |_, _| GOOD).1, "b;status=200");
    assert_eq!(walk(&market, now + secs(20), |_, _| GOOD).1, "a;status=200");
}

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

#[test]
fn a_slow_thinker_gets_more_time_for_its_first_event() {
    let now = start();
    let market = market(&["a"]);
    let limit = || Walk::new(&market, now).step().unwrap().first_event_auto();
    assert_eq!(limit(), secs(12));
    for outcome in [AttemptOutcome::Timeout(TimeoutKind::FirstEvent), GOOD, GOOD] {
        let mut walk = Walk::new(&market, now);
        let attempt = walk.step().unwrap();
        walk.waterfall.on_outcome(attempt, outcome, now + secs(12));
    }
    assert!(limit() >= secs(72), "{:?}", limit());
}

#[test]
fn who_lets_clients_wait_in_vain_comes_after_the_others_for_longer_each_time() {
    let now = start();
    let market = market(&["a", "b"]);
    let first = |now| order(&Walk::new(&market, now).waterfall.plan)[0].to_owned();
    let asked = |now| Walk::new(&market, now).step().unwrap();
    asked(now).on_client_gone(secs(11), now);
    assert_eq!(asked(now).offer.provider(), "a", "not unusual yet");
    let mut at = now;
    for length in [60, 120, 240, 480, 480] {
        asked(at).on_client_gone(secs(13), at);
        assert_eq!(first(at), "a", "it is as cheap as before");
        assert_eq!(asked(at + secs(length - 1)).offer.provider(), "b");
        at += secs(length);
        assert_eq!(asked(at).offer.provider(), "a");
    }
    let mut walk = Walk::new(&market, at);
    let attempt = walk.step().unwrap();
    attempt.on_client_gone(secs(13), at);
    walk.waterfall.on_outcome(attempt, GOOD, at + secs(20));
    assert_eq!(asked(at + secs(20)).offer.provider(), "a", "it did answer");
    asked(at + secs(20)).on_client_gone(secs(13), at + secs(20));
    assert_eq!(
        asked(at + secs(20)).offer.provider(),
        "a",
        "20 s are usual by now"
    );
    asked(at + secs(20)).on_client_gone(secs(90), at + secs(20));
    assert_eq!(asked(at + secs(79)).offer.provider(), "b");
    assert_eq!(
        asked(at + secs(80)).offer.provider(),
        "a",
        "from the beginning"
    );
}

#[test]
fn a_sole_provider_is_asked_however_long_clients_waited_for_it() {
    let now = start();
    let market = market(&["a"]);
    let asked = || Walk::new(&market, now).step().unwrap();
    asked().on_client_gone(secs(300), now);
    assert_eq!(asked().offer.provider(), "a");
}

#[test]
fn each_change_is_told_once() {
    let now = start();
    let market = market(&["a", "b"]);
    break_circuit(&market, "a", now);
    for _ in 0..5 {
        walk(&market, now, |_, _| GOOD);
    }
    walk(&market, now + secs(30), |_, _| GOOD);
    let events: Vec<(Option<String>, ProviderEvent)> = market
        .take_changes()
        .into_iter()
        .map(|Change { model, event, .. }| (model.map(|model| model.to_string()), event))
        .collect();
    let of_model = |event| (Some("m".to_owned()), event);
    assert_eq!(
        events,
        [
            of_model(ProviderEvent::Opened),
            of_model(ProviderEvent::Probing),
            of_model(ProviderEvent::Closed)
        ]
    );
    for _ in 0..3 {
        walk(&market, now, |provider, _| {
            if provider == "a" { status(401) } else { GOOD }
        });
    }
    let length = crate::SUSPENSION;
    let told: Vec<ProviderEvent> = market
        .take_changes()
        .into_iter()
        .map(|change| change.event)
        .collect();
    assert_eq!(told, [ProviderEvent::Suspended { length }]);
}

/// One thing that happens to one of several requests.
#[derive(Debug, Clone)]
enum Happening {
    Step { request: usize, dice: u64 },
    Outcome { request: usize, which: u8 },
    DropAttempt { request: usize },
    EndStream { end: u8 },
    ClientLeaves { request: usize },
    Time { ms: u64 },
    Begin { request: usize },
}

fn happenings() -> impl Strategy<Value = Happening> {
    let request = || 0..4_usize;
    prop_oneof![
        6 => (request(), any::<u64>()).prop_map(|(request, dice)| Happening::Step { request, dice }),
        6 => (request(), 0..20_u8).prop_map(|(request, which)| Happening::Outcome { request, which }),
        1 => request().prop_map(|request| Happening::DropAttempt { request }),
        2 => (0..4_u8).prop_map(|end| Happening::EndStream { end }),
        1 => request().prop_map(|request| Happening::ClientLeaves { request }),
        2 => (0..40_000_u64).prop_map(|ms| Happening::Time { ms }),
        3 => request().prop_map(|request| Happening::Begin { request }),
    ]
}

fn outcome(which: u8) -> AttemptOutcome {
    match which {
        0..=3 => GOOD,
        4 => status(401),
        5 => status(404),
        6 => busy(429, 1),
        7 => busy(503, 50),
        8..=9 => status(500),
        10 => status(400),
        11 => coded(400, "context_length_exceeded"),
        12 => AttemptOutcome::Connect(crate::ConnectError::Refused),
        13 => AttemptOutcome::Timeout(TimeoutKind::FirstEvent),
        14 => AttemptOutcome::Timeout(TimeoutKind::Total),
        15 => AttemptOutcome::Cancelled,
        16 => status(429),
        17 => AttemptOutcome::ErrorResponse(ErrorResponse {
            status: 400,
            param: Some("stream_options".to_owned()),
            injected_stream_options: true,
            ..ErrorResponse::default()
        }),
        _ => AttemptOutcome::Empty,
    }
}

/// Requests that live at the same time in one market.
struct Crowd {
    market: Market,
    max_attempts: usize,
    now: Instant,
    requests: [Option<(Waterfall, Option<Attempt>)>; 4],
    streams: Vec<Permit>,
}

impl Crowd {
    fn new(spec: MarketSpec) -> Self {
        let max_attempts = spec.retry.max_attempts as usize;
        Self {
            market: build(spec),
            max_attempts,
            now: start(),
            requests: Default::default(),
            streams: Vec::new(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Begin { request } => {
                let plan = self.market.plan(&facts("m"), now).expect("a plan");
                self.requests[request] = Some((Waterfall::new(plan, Some(now + secs(60))), None));
            }
            Happening::Step { request, dice } => {
                let Some((waterfall, attempt)) = &mut self.requests[request] else {
                    return;
                };
                if attempt.is_none() {
                    match waterfall.next(now, dice) {
                        Step::Attempt(next) => *attempt = Some(next),
                        Step::Wait(pause) => assert!(!pause.is_zero()),
                        Step::Finish(_) => self.requests[request] = None,
                    }
                }
            }
            Happening::Outcome { request, which } => {
                let Some((waterfall, attempt)) = &mut self.requests[request] else {
                    return;
                };
                let Some(attempt) = attempt.take() else {
                    return;
                };
                assert!(attempt.number as usize <= self.max_attempts);
                let after = waterfall.on_outcome(attempt, outcome(which), now);
                self.streams.extend(after.permit);
                let firsts = waterfall.attempts().iter().map(|tried| tried.candidate);
                assert!(firsts.count() <= self.max_attempts);
            }
            Happening::DropAttempt { request } => {
                if let Some((_, attempt)) = &mut self.requests[request] {
                    *attempt = None;
                }
            }
            Happening::EndStream { end } => {
                let Some(permit) = self.streams.pop() else {
                    return;
                };
                match end {
                    0 => drop(permit.finish(PermitEnd::Complete, &crate::Report::default(), now)),
                    1 => drop(permit.finish(PermitEnd::Broken, &crate::Report::default(), now)),
                    2 => drop(permit.finish(PermitEnd::ClientGone, &crate::Report::default(), now)),
                    _ => drop(permit),
                }
            }
            Happening::ClientLeaves { request } => {
                if let Some((waterfall, _)) = &mut self.requests[request] {
                    waterfall.on_client_gone();
                }
            }
            Happening::Time { ms } => self.now += Duration::from_millis(ms),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_leaked(
        happenings in prop::collection::vec(happenings(), 0..300),
        max_attempts in 1..6_u32, same_provider_first in 0..3_u32, max_concurrency in 0..3_u32, providers in 1..4_usize,
    ) {
        let mut spec = spec(&["a", "b", "c"][..providers]);
        spec.retry = Retry { max_attempts, same_provider_first, ..Retry::default() };
        spec.providers[0].max_concurrency = max_concurrency;
        let mut crowd = Crowd::new(spec);
        for happening in happenings {
            crowd.happen(happening);
        }
        let Crowd { market, now, requests, streams, .. } = crowd;
        drop((requests, streams));
        for provider in market.snapshot(now) {
            prop_assert_eq!(provider.in_flight, 0);
            prop_assert_ne!(provider.connections, CircuitState::HalfOpen);
            prop_assert_ne!(provider.offers[0].circuit, CircuitState::HalfOpen);
        }
        let (finish, _) = walk(&market, now + secs(3600), |_, _| GOOD);
        prop_assert_eq!(finish, Finish::Accepted);
    }

    /// Whoever is down for good, a request is served at once as long as one provider is up.
    #[test]
    fn one_provider_that_is_up_is_enough(down in prop::collection::vec(0..20_u8, 3), up in 0..4_usize, rounds in 1..12_u32) {
        let names = ["a", "b", "c", "d"];
        let market = market(&names);
        let mut now = start();
        for _ in 0..rounds {
            let mut walk = Walk::new(&market, now);
            let finish = walk.run(|provider, _| {
                let index = names.iter().position(|name| *name == provider).expect("a known name");
                let fault = outcome(down[index.min(2)]);
                let fails = Verdict::of(&fault).action == Action::Next;
                if index == up || !fails { GOOD } else { fault }
            });
            prop_assert_eq!(finish, Finish::Accepted);
            prop_assert_eq!(walk.waited, Duration::ZERO);
            now += secs(u64::from(rounds));
        }
    }
}
