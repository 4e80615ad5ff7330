//! The table of outcomes, row by row.

use super::*;

fn answer(status: u16) -> Answer {
    Answer {
        status,
        ..Answer::default()
    }
}

fn coded(status: u16, code: &str) -> Outcome {
    Outcome::Answer(Answer {
        code: Some(code.to_owned()),
        ..answer(status)
    })
}

fn in_band(code: &str) -> Outcome {
    Outcome::ErrorEvent(InBand {
        code: Some(code.to_owned()),
        ..InBand::default()
    })
}

#[test]
fn every_status_has_its_row() {
    use Again::{Never, WhenAlone};
    use Blame::{Nobody, Offer};
    use Then::{Next, ReturnAsIs};
    type Row = (&'static [u16], Then, Blame, Again, Option<Scope>);
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
    for (statuses, then, blame, again, suspend) in rows {
        for status in statuses {
            let got = Verdict::of(&Outcome::Answer(answer(*status)));
            let want = (then, blame, again, suspend);
            assert_eq!(
                (got.then, got.blame, got.again, got.suspend),
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
    use Blame::{Nobody, Offer, Provider};
    use Then::{Accept, Next, Stop};
    let rows = [
        (Outcome::Good { status: 200 }, Accept, Nobody),
        (Outcome::Connect(ConnectError::Refused), Next, Provider),
        (Outcome::Connect(ConnectError::Tls), Next, Provider),
        (Outcome::Connect(ConnectError::Dns), Next, Provider),
        (Outcome::Connect(ConnectError::Timeout), Next, Provider),
        (Outcome::Timeout(TimeoutKind::FirstEvent), Next, Offer),
        (Outcome::Timeout(TimeoutKind::Response), Next, Offer),
        (Outcome::Timeout(TimeoutKind::Idle), Next, Offer),
        (Outcome::Timeout(TimeoutKind::Total), Stop, Nobody),
        (Outcome::Closed, Next, Offer),
        (Outcome::Cut, Next, Offer),
        (Outcome::Empty, Next, Offer),
        (Outcome::NotSse, Next, Offer),
        (Outcome::BadJson, Next, Offer),
        (Outcome::NoResult, Next, Offer),
        (Outcome::ErrorEvent(InBand::default()), Next, Offer),
        (Outcome::Oversized, Next, Nobody),
        (Outcome::Cancelled, Stop, Nobody),
    ];
    for (outcome, then, blame) in rows {
        let got = Verdict::of(&outcome);
        assert_eq!((got.then, got.blame), (then, blame), "{outcome:?}");
        assert_eq!(got.again, Again::Never, "{outcome:?}");
        assert_eq!(got.suspend, None, "{outcome:?}");
    }
}

#[test]
fn a_request_that_is_too_long_may_fit_elsewhere() {
    let by_code = coded(400, "context_length_exceeded");
    let by_message = Outcome::Answer(Answer {
        message: Some("This model's maximum context length is 8192 tokens".to_owned()),
        ..answer(400)
    });
    for outcome in [by_code, by_message] {
        assert!(outcome.is_context_overflow());
        let verdict = Verdict::of(&outcome);
        assert_eq!((verdict.then, verdict.blame), (Then::Next, Blame::Nobody));
    }
    assert!(!coded(500, "context_length_exceeded").is_context_overflow());
    assert_eq!(
        Verdict::of(&coded(422, "context_length_exceeded")).then,
        Then::ReturnAsIs
    );
}

#[test]
fn stream_options_are_only_dropped_when_arbstr_put_them_there() {
    let cases = [
        (
            400,
            Some("stream_options"),
            None,
            true,
            Then::WithoutStreamOptions,
        ),
        (
            400,
            None,
            Some("Unrecognized request argument supplied: stream_options"),
            true,
            Then::WithoutStreamOptions,
        ),
        (
            422,
            Some("body.stream_options.include_usage"),
            None,
            true,
            Then::WithoutStreamOptions,
        ),
        (400, Some("stream_options"), None, false, Then::ReturnAsIs),
        (400, Some("messages"), None, true, Then::ReturnAsIs),
        (500, Some("stream_options"), None, true, Then::Next),
    ];
    for (status, param, message, injected_stream_options, then) in cases {
        let outcome = Outcome::Answer(Answer {
            param: param.map(str::to_owned),
            message: message.map(str::to_owned),
            injected_stream_options,
            ..answer(status)
        });
        assert_eq!(Verdict::of(&outcome).then, then, "{outcome:?}");
    }
}

#[test]
fn an_empty_purse_is_no_rush_hour() {
    let verdict = Verdict::of(&coded(429, "insufficient_quota"));
    assert_eq!(verdict.suspend, Some(Scope::Provider));
    assert!(verdict.operator && !verdict.congested);
    assert_eq!(verdict.again, Again::Never);
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
        let verdict = Verdict::of(&Outcome::Answer(Answer {
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
        assert_eq!(got.then, Then::Next, "{code}");
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
        (Outcome::Good { status: 200 }, "status=200", "answered 200"),
        (
            coded(429, "rate_limit_exceeded"),
            "status=429",
            "answered 429 (rate_limit_exceeded)",
        ),
        (coded(429, "no\r\nway"), "status=429", "answered 429"),
        (
            Outcome::Timeout(TimeoutKind::FirstEvent),
            "error=timeout",
            "sent no first event in time",
        ),
        (
            Outcome::Connect(ConnectError::Dns),
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
        (Outcome::Answer(answer(429)), Failure::Answered),
        (Outcome::Answer(answer(302)), Failure::BadAnswer),
        (Outcome::Connect(ConnectError::Refused), Failure::NoAnswer),
        (Outcome::Connect(ConnectError::Timeout), Failure::TimedOut),
        (Outcome::Timeout(TimeoutKind::Response), Failure::TimedOut),
        (Outcome::Closed, Failure::NoAnswer),
        (Outcome::Cut, Failure::BadAnswer),
        (Outcome::BadJson, Failure::BadAnswer),
        (Outcome::NoResult, Failure::BadAnswer),
        (Outcome::ErrorEvent(InBand::default()), Failure::BadAnswer),
        (Outcome::Empty, Failure::BadAnswer),
    ];
    for (outcome, want) in cases {
        assert_eq!(outcome.failure(), want, "{outcome:?}");
    }
}
