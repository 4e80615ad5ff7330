//! Who is passed over, for how long, and who finds out whether they are back.

use super::*;

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
