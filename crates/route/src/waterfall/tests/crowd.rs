//! Many requests in one market, whatever happens to them.

use proptest::prelude::*;

use super::*;

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
