//! The table of outcomes, row by row.

use super::*;

fn answer(status: u16) -> ErrorResponse {
    ErrorResponse {
        status,
        ..ErrorResponse::default()
    }
}

fn coded(status: u16, code: &str) -> AttemptOutcome {
    AttemptOutcome::ErrorResponse(ErrorResponse {
        code: Some(code.to_owned()),
        ..answer(status)
    })
}

fn in_band(code: &str) -> AttemptOutcome {
    AttemptOutcome::ErrorEvent(ErrorEvent {
        code: Some(code.to_owned()),
        ..ErrorEvent::default()
    })
}

#[test]
fn every_status_has_its_row() {
    use Action::{Next, ReturnAsIs};
    use Blame::{Nobody, Offer};
    use Retryable::{Never, WhenAlone};
    type Row = (&'static [u16], Action, Blame, Retryable, Option<Scope>);
    let rows: [Row; 9] = [
        (
            &[408, 500, 501, 502, 503, 504, 520, 529, 599],
            Next,
            Offer,
            WhenAlone,
            None,
        ),
        (&[409, 429], Next, Nobody, WhenAlone, None),
        (&[401, 402], Next, Nobody, Never, Some(Scope::Provider)),
        (&[403, 404], Next, Nobody, Never, Some(Scope::Offer)),
        (&[400, 413, 415, 422], ReturnAsIs, Nobody, Never, None),
        (&[301, 302, 307, 308, 304], Next, Nobody, Never, None),
        (
            &[405, 406, 410, 418, 421, 426, 451, 498],
            Next,
            Nobody,
            Never,
            None,
        ),
        (&[100, 101, 199], Next, Nobody, Never, None),
        (&[600, 999], Next, Nobody, Never, None),
    ];
    for (statuses, action, blame, retryable, suspend) in rows {
        for status in statuses {
            let got = Verdict::of(&AttemptOutcome::ErrorResponse(answer(*status)));
            let want = (action, blame, retryable, suspend);
            assert_eq!(
                (got.action, got.blame, got.retryable, got.suspend),
                want,
                "{status}"
            );
            let operator = matches!(status, 300..=399 | 401..=404);
            assert_eq!(got.operator, operator, "{status}");
            assert_eq!(got.congested, *status == 429, "{status}");
            assert_eq!(got.quick, *status == 500, "{status}");
        }
    }
}

#[test]
fn faults_without_a_status_have_theirs() {
    use Action::{Accept, Next, Stop};
    use Blame::{Nobody, Offer, Provider};
    let rows = [
        (AttemptOutcome::Good { status: 200 }, Accept, Nobody),
        (
            AttemptOutcome::Connect(ConnectError::Refused),
            Next,
            Provider,
        ),
        (AttemptOutcome::Connect(ConnectError::Tls), Next, Provider),
        (AttemptOutcome::Connect(ConnectError::Dns), Next, Provider),
        (
            AttemptOutcome::Connect(ConnectError::Timeout),
            Next,
            Provider,
        ),
        (
            AttemptOutcome::Timeout(TimeoutKind::FirstEvent),
            Next,
            Offer,
        ),
        (AttemptOutcome::Timeout(TimeoutKind::Response), Next, Offer),
        (AttemptOutcome::Timeout(TimeoutKind::Idle), Next, Offer),
        (AttemptOutcome::Timeout(TimeoutKind::Total), Stop, Nobody),
        (AttemptOutcome::Closed, Next, Offer),
        (AttemptOutcome::Cut, Next, Offer),
        (AttemptOutcome::Empty, Next, Offer),
        (AttemptOutcome::NotSse, Next, Offer),
        (AttemptOutcome::BadJson, Next, Offer),
        (AttemptOutcome::NoResult, Next, Offer),
        (
            AttemptOutcome::ErrorEvent(ErrorEvent::default()),
            Next,
            Offer,
        ),
        (AttemptOutcome::Oversized, Next, Nobody),
        (AttemptOutcome::Cancelled, Stop, Nobody),
    ];
    for (outcome, action, blame) in rows {
        let got = Verdict::of(&outcome);
        assert_eq!((got.action, got.blame), (action, blame), "{outcome:?}");
        assert_eq!(got.retryable, Retryable::Never, "{outcome:?}");
        assert_eq!(got.suspend, None, "{outcome:?}");
    }
}

#[test]
fn a_shortage_of_this_machine_is_nobodys_fault_and_may_pass() {
    let verdict = Verdict::of(&AttemptOutcome::Connect(ConnectError::NoSocket));
    assert_eq!(
        (verdict.action, verdict.blame),
        (Action::Next, Blame::ThisMachine)
    );
    assert_eq!(verdict.retryable, Retryable::WhenAlone);
}

#[test]
fn a_request_that_is_too_long_may_fit_elsewhere() {
    let by_code = coded(400, "context_length_exceeded");
    let by_type = AttemptOutcome::ErrorResponse(ErrorResponse {
        kind: Some("exceed_context_size_error".to_owned()),
        ..answer(400)
    });
    let by_message = |message: &str| {
        AttemptOutcome::ErrorResponse(ErrorResponse {
            message: Some(message.to_owned()),
            ..answer(400)
        })
    };
    for outcome in [
        by_code,
        by_type,
        by_message("This model's maximum context length is 8192 tokens"),
        by_message("prompt is too long: 210000 tokens > 200000 maximum"),
    ] {
        assert!(outcome.is_context_overflow());
        let verdict = Verdict::of(&outcome);
        assert_eq!(
            (verdict.action, verdict.blame),
            (Action::Next, Blame::Nobody)
        );
    }
    assert!(!coded(500, "context_length_exceeded").is_context_overflow());
    assert_eq!(
        Verdict::of(&coded(422, "context_length_exceeded")).action,
        Action::ReturnAsIs
    );
}

#[test]
fn a_bad_request_may_mean_what_another_status_says() {
    let typed = AttemptOutcome::ErrorResponse(ErrorResponse {
        kind: Some("invalid_model".to_owned()),
        ..answer(400)
    });
    for denied in [coded(400, "model_not_found"), typed] {
        assert_eq!(
            Verdict::of(&denied),
            Verdict::of(&coded(404, "")),
            "{denied:?}"
        );
    }
    let throttled = Verdict::of(&coded(413, "rate_limit_exceeded"));
    assert_eq!(throttled, Verdict::of(&coded(429, "rate_limit_exceeded")));
    for (status, code) in [
        (422, "model_not_found"),
        (400, "rate_limit_exceeded"),
        (413, "too_large"),
    ] {
        let verdict = Verdict::of(&coded(status, code));
        assert_eq!(verdict.action, Action::ReturnAsIs, "{status} {code}");
    }
}

#[test]
fn stream_options_are_only_dropped_when_arbstr_put_them_there() {
    let cases = [
        (
            400,
            Some("stream_options"),
            None,
            true,
            Action::WithoutStreamOptions,
        ),
        (
            400,
            None,
            Some("Unrecognized request argument supplied: stream_options"),
            true,
            Action::WithoutStreamOptions,
        ),
        (
            422,
            Some("body.stream_options.include_usage"),
            None,
            true,
            Action::WithoutStreamOptions,
        ),
        (400, Some("stream_options"), None, false, Action::ReturnAsIs),
        (400, Some("messages"), None, true, Action::ReturnAsIs),
        (500, Some("stream_options"), None, true, Action::Next),
    ];
    for (status, param, message, injected_stream_options, action) in cases {
        let outcome = AttemptOutcome::ErrorResponse(ErrorResponse {
            param: param.map(str::to_owned),
            message: message.map(str::to_owned),
            injected_stream_options,
            ..answer(status)
        });
        assert_eq!(Verdict::of(&outcome).action, action, "{outcome:?}");
    }
}

#[test]
fn an_empty_purse_is_no_rush_hour() {
    let verdict = Verdict::of(&coded(429, "insufficient_quota"));
    assert_eq!(verdict.suspend, Some(Scope::Provider));
    assert!(verdict.operator && !verdict.congested);
    assert_eq!(verdict.retryable, Retryable::Never);
}

#[test]
fn retry_after_cools_down_on_429_and_503_only() {
    let cases = [
        (429, 30, true, false),
        (503, 2, true, true),
        (429, 3, true, true),
        (500, 30, false, true),
        (502, 1, false, false),
    ];
    for (status, secs, cools, quick) in cases {
        let wait = Duration::from_secs(secs);
        let verdict = Verdict::of(&AttemptOutcome::ErrorResponse(ErrorResponse {
            retry_after: Some(wait),
            ..answer(status)
        }));
        assert_eq!(verdict.cooldown, cools.then_some(wait), "{status}");
        assert_eq!(verdict.quick, quick, "{status}");
    }
}

#[test]
fn an_error_inside_a_success_means_what_its_code_says() {
    use Blame::{Nobody, Offer};
    let cases = [
        ("500", Offer, None, false),
        ("server_error", Offer, None, false),
        ("429", Nobody, None, true),
        ("rate_limit_exceeded", Nobody, None, true),
        ("insufficient_quota", Nobody, Some(Scope::Provider), false),
        ("402", Nobody, Some(Scope::Provider), false),
        ("404", Nobody, Some(Scope::Offer), false),
        ("context_length_exceeded", Nobody, None, false),
        ("400", Nobody, None, false),
    ];
    for (code, blame, suspend, congested) in cases {
        let got = Verdict::of(&in_band(code));
        assert_eq!(got.action, Action::Next, "{code}");
        assert_eq!(
            (got.blame, got.suspend, got.congested),
            (blame, suspend, congested),
            "{code}"
        );
    }
}

#[test]
fn an_outcome_is_told_in_header_and_words() {
    let cases = [
        (
            AttemptOutcome::Good { status: 200 },
            "status=200",
            "answered 200",
        ),
        (
            coded(429, "rate_limit_exceeded"),
            "status=429",
            "answered 429 (rate_limit_exceeded)",
        ),
        (coded(429, "no\r\nway"), "status=429", "answered 429"),
        (
            AttemptOutcome::Timeout(TimeoutKind::FirstEvent),
            "error=timeout",
            "sent no first event in time",
        ),
        (
            AttemptOutcome::Connect(ConnectError::Dns),
            "error=dns",
            "its host name has no address",
        ),
        (
            in_band("oops"),
            "error=error_event",
            "answered with an error (oops)",
        ),
    ];
    for (outcome, header, reason) in cases {
        assert_eq!(outcome.to_string(), header);
        assert_eq!(outcome.reason(), reason);
    }
}

#[test]
fn a_sole_candidate_fails_in_one_of_four_ways() {
    let cases = [
        (
            AttemptOutcome::ErrorResponse(answer(429)),
            Failure::Answered,
        ),
        (
            AttemptOutcome::ErrorResponse(answer(302)),
            Failure::BadAnswer,
        ),
        (
            AttemptOutcome::Connect(ConnectError::Refused),
            Failure::NoAnswer,
        ),
        (
            AttemptOutcome::Connect(ConnectError::Timeout),
            Failure::TimedOut,
        ),
        (
            AttemptOutcome::Timeout(TimeoutKind::Response),
            Failure::TimedOut,
        ),
        (AttemptOutcome::Closed, Failure::NoAnswer),
        (AttemptOutcome::Cut, Failure::BadAnswer),
        (AttemptOutcome::BadJson, Failure::BadAnswer),
        (AttemptOutcome::NoResult, Failure::BadAnswer),
        (
            AttemptOutcome::ErrorEvent(ErrorEvent::default()),
            Failure::BadAnswer,
        ),
        (AttemptOutcome::Empty, Failure::BadAnswer),
    ];
    for (outcome, want) in cases {
        assert_eq!(outcome.failure(), want, "{outcome:?}");
    }
}
