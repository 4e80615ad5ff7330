//! Requests walked through their attempts.

use super::wait::LONGEST_WAIT;
use super::*;
use crate::testing::*;
use crate::{
    Change, CircuitState, ErrorResponse, Health, Market, MarketSpec, PermitEnd, ProviderEvent,
    Scope, TimeoutKind,
};

mod circuits;
mod crowd;
mod places;

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
