//! Every way to fail before the first event x {JSON, stream} x {one, several candidates}, a line each.

use std::thread;

use super::{MODES, Mode, ask_as, attempts};
use crate::harness::{
    Answer, Arbstr, DONE, Provider, ProviderConfig, Setup, chunk, completion, event,
};

/// What a client gets when the misbehaving provider is the only one.
#[derive(Clone, Copy, Debug)]
enum Sole {
    /// The provider's own status and body.
    Own,
    /// arbstr's own error, with one of these.
    Status(&'static [u16]),
}

/// One way to misbehave.
struct Case {
    name: &'static str,
    fault: Fault,
    modes: &'static [Mode],
    sole: Sole,
    /// Requests the sole provider sees when three attempts are allowed.
    asked: usize,
    /// Whether another candidate is asked.
    next: bool,
}

enum Fault {
    Refuses,
    Says(Answer),
}

fn says(name: &'static str, answer: Answer, sole: Sole, asked: usize) -> Case {
    Case {
        name,
        fault: Fault::Says(answer),
        modes: &MODES,
        sole,
        asked,
        next: true,
    }
}

fn streams(name: &'static str, answer: Answer, sole: &'static [u16]) -> Case {
    Case {
        modes: &[Mode::Stream],
        ..says(name, answer, Sole::Status(sole), 1)
    }
}

fn json(name: &'static str, answer: Answer) -> Case {
    Case {
        modes: &[Mode::Json],
        ..says(name, answer, Sole::Status(&[502]), 1)
    }
}

fn status(status: u16, asked: usize) -> Case {
    says(
        "status",
        Answer::fault(status, "provider_code"),
        Sole::Own,
        asked,
    )
}

fn returned(status: u16) -> Case {
    Case {
        next: false,
        ..self::status(status, 1)
    }
}

/// The outcome table, line by line.
#[expect(clippy::too_many_lines, reason = "one table, a line per case")]
fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case {
            name: "refused",
            fault: Fault::Refuses,
            modes: &MODES,
            sole: Sole::Status(&[503]),
            asked: 0,
            next: true,
        },
        says(
            "closed before head",
            Answer::bare().fin(),
            Sole::Status(&[503]),
            1,
        ),
        says(
            "reset before head",
            Answer::bare().reset(),
            Sole::Status(&[503]),
            1,
        ),
        says(
            "closed within head",
            Answer::bare().raw("HTTP/1.1 200 OK\r\ncontent-ty").fin(),
            Sole::Status(&[502, 503]),
            1,
        ),
        says(
            "no HTTP",
            Answer::bare().raw("SSH-2.0-OpenSSH_9.2\r\n\r\n").fin(),
            Sole::Status(&[502, 503]),
            1,
        ),
        says("silent", Answer::bare().stall(), Sole::Status(&[504]), 1),
        says(
            "redirect",
            Answer::new(302)
                .header("location", "http://127.0.0.1:1/")
                .with_length(),
            Sole::Status(&[502]),
            1,
        ),
        says("HTML with 200", html(200), Sole::Status(&[502]), 1),
        says(
            "JSON error with 200",
            Answer::fault(200, "odd"),
            Sole::Status(&[502]),
            1,
        ),
        says(
            "nothing with 200",
            Answer::json(200, ""),
            Sole::Status(&[502]),
            1,
        ),
        says(
            "context",
            Answer::fault(400, "context_length_exceeded"),
            Sole::Own,
            1,
        ),
        says(
            "cut by length",
            Answer::json(200, &completion(1, 1)).short_by(5),
            Sole::Status(&[502]),
            1,
        ),
        says(
            "cut in a chunk",
            Answer::new(200)
                .header("content-type", "application/json")
                .send(&completion(1, 1)[..50])
                .fin(),
            Sole::Status(&[502]),
            1,
        ),
        json("not JSON", Answer::json(200, &completion(1, 1)[1..])),
        json(
            "JSON of another shape",
            Answer::json(200, r#"{"status":"ok"}"#),
        ),
        json("no object", Answer::json(200, "[1]")),
        json(
            "empty chunked",
            Answer::new(200).header("content-type", "application/json"),
        ),
        streams(
            "error event first",
            Answer::sse()
                .send(event(r#"{"error":{"message":"no","code":"overloaded"}}"#))
                .send(DONE),
            &[502],
        ),
        streams(
            "error after comment",
            Answer::sse()
                .send(": wait\n\n")
                .send(event(r#"{"error":{"message":"no"}}"#)),
            &[502],
        ),
        streams(
            "error event of OpenRouter",
            Answer::sse().send(event(
                r#"{"id":"x","choices":[],"error":{"code":502,"message":"no"}}"#,
            )),
            &[502],
        ),
        streams("empty stream", Answer::sse(), &[502, 503]),
        streams("[DONE] alone", Answer::sse().send(DONE), &[502, 503]),
        streams(
            "comments alone",
            Answer::sse().send(": a\n\n: b\n\n"),
            &[502, 503],
        ),
        streams(
            "empty data then end",
            Answer::sse().send("data:\n\ndata: \n\n"),
            &[502, 503],
        ),
        streams(
            "cut before the first event",
            Answer::sse().send(": a\n\n").reset(),
            &[502, 503],
        ),
        streams(
            "cut within the first event",
            Answer::sse().send(&chunk("x")[..40]).fin(),
            &[502, 503],
        ),
        streams("silent after the head", Answer::sse().stall(), &[504]),
        streams(
            "empty stream by length",
            Answer::sse().with_length(),
            &[502, 503],
        ),
    ];
    cases.extend([408, 409, 429, 500, 502, 503, 504, 529].map(|code| status(code, 3)));
    cases.extend([401, 402, 403, 404].map(|code| status(code, 1)));
    cases.extend([400, 413, 415, 422].map(returned));
    cases
}

fn html(status: u16) -> Answer {
    Answer::new(status)
        .header("content-type", "text/html")
        .with_length()
        .send("<html><body>Bad gateway of the cloud</body></html>")
}

/// The misbehaving provider of one line of the table, in one mode.
struct Stand {
    label: String,
    model: String,
    mode: Mode,
    case: usize,
    bad: Provider,
    good: Provider,
}

fn stands(cases: &[Case]) -> Vec<Stand> {
    let mut stands = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        for &mode in case.modes {
            let bad = match &case.fault {
                Fault::Refuses => Provider::refusing(),
                Fault::Says(answer) => Provider::always(answer.clone()),
            };
            let label = format!("{} {mode:?} {:?}", case.name, bad.address());
            stands.push(Stand {
                label,
                model: format!("m{}", stands.len()),
                mode,
                case: at,
                bad,
                good: Provider::healthy(5, 3),
            });
        }
    }
    stands
}

fn quick(config: ProviderConfig) -> ProviderConfig {
    config.line("timeouts = { connect = 1, first_event = 1, response = 1, idle = 5 }")
}

/// Runs `check` on every stand, eight at a time, and tells of every line that failed.
fn for_each_stand(stands: &[Stand], check: impl Fn(&Stand) -> Result<(), String> + Sync) {
    let mut failures = Vec::new();
    for few in stands.chunks(8) {
        thread::scope(|scope| {
            let running: Vec<_> = few
                .iter()
                .map(|stand| (stand, scope.spawn(|| check(stand))))
                .collect();
            for (stand, thread) in running {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(told)) => failures.push(format!("{}: {told}", stand.label)),
                    Err(_) => failures.push(format!("{}: panicked", stand.label)),
                }
            }
        });
    }
    assert!(
        failures.is_empty(),
        "{} of {} lines:\n{}",
        failures.len(),
        stands.len(),
        failures.join("\n")
    );
}

fn expect(met: bool, told: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(told()) }
}

#[test]
fn every_failure_before_the_first_event_goes_to_the_next_candidate() {
    let cases = cases();
    let stands = stands(&cases);
    let mut setup = Setup::new();
    for (at, stand) in stands.iter().enumerate() {
        setup = setup
            .provider(quick(
                ProviderConfig::new(&format!("bad{at}"), &stand.bad)
                    .models(&[&stand.model])
                    .rates("1", "1"),
            ))
            .provider(
                ProviderConfig::new(&format!("good{at}"), &stand.good).models(&[&stand.model]),
            );
    }
    let arbstr = setup.start();
    for_each_stand(&stands, |stand| {
        check_with_another(&arbstr, stand, &cases[stand.case])
    });
}

fn check_with_another(arbstr: &Arbstr, stand: &Stand, case: &Case) -> Result<(), String> {
    let mut reply = arbstr.chat(&ask_as(stand.mode, &stand.model));
    let body = reply.drain();
    let told = || format!("{}{body}", reply.head);
    let row = arbstr.row(&reply.id());
    if !case.next {
        let Fault::Says(answer) = &case.fault else {
            return Err("no answer to return".into());
        };
        expect(body.as_bytes() == answer.body(), told)?;
        expect(stand.bad.count() == 1 && stand.good.count() == 0, || {
            format!("asked {} and {}", stand.bad.count(), stand.good.count())
        })?;
        expect(!row.verdict().0, || format!("{row:?}"))?;
        expect(row.int("error_status") == Some(reply.status.into()), || {
            format!("{row:?}")
        })?;
        return expect(reply.status >= 400, told);
    }
    expect(reply.status == 200 && body.contains("Hel"), told)?;
    expect(stand.good.count() == 1, || {
        format!("the good one was asked {} times", stand.good.count())
    })?;
    expect(stand.bad.count() == case.asked.min(1), || {
        format!("the bad one was asked {} times", stand.bad.count())
    })?;
    expect(reply.header("x-arbstr-retries") == Some("1"), told)?;
    let list = attempts(&reply);
    expect(
        list.len() == 2 && list[1].1 == "status" && list[1].2 == "200",
        told,
    )?;
    let named = match &case.fault {
        Fault::Says(answer) if matches!(case.sole, Sole::Own) => {
            let status = answer.head_bytes()[9..12].escape_ascii().to_string();
            list[0].1 == "status" && list[0].2 == status
        }
        // A status of its own that is no success tells as much as a word does.
        _ => list[0].1 == "error" || list[0].2 != "200",
    };
    expect(named, told)?;
    expect(
        row.verdict() == (true, None) && row.int("attempts") == Some(2),
        || format!("{row:?}"),
    )?;
    expect(arbstr.attempts(&reply.id()).len() == 2, || {
        "two rows of attempts expected".into()
    })
}

#[test]
fn a_sole_provider_shows_through() {
    let cases = cases();
    let stands = stands(&cases);
    let mut setup = Setup::new()
        .set("retry", "max_attempts = 3")
        .set("circuit", "failures = 100");
    for (at, stand) in stands.iter().enumerate() {
        setup = setup.provider(quick(
            ProviderConfig::new(&format!("sole{at}"), &stand.bad).models(&[&stand.model]),
        ));
    }
    let arbstr = setup.start();
    for_each_stand(&stands, |stand| {
        check_alone(&arbstr, stand, &cases[stand.case])
    });
}

fn check_alone(arbstr: &Arbstr, stand: &Stand, case: &Case) -> Result<(), String> {
    let mut reply = arbstr.chat(&ask_as(stand.mode, &stand.model));
    let body = reply.drain();
    let told = || format!("{}{body}", reply.head);
    match (case.sole, &case.fault) {
        (Sole::Own, Fault::Says(answer)) => {
            let own = answer.head_bytes()[9..12].escape_ascii().to_string();
            expect(
                reply.status.to_string() == own && body.as_bytes() == answer.body(),
                told,
            )?;
        }
        (Sole::Status(statuses), _) => expect(statuses.contains(&reply.status), told)?,
        (Sole::Own, Fault::Refuses) => return Err("nothing to show".into()),
    }
    let json: serde_json::Value =
        serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    expect(json["error"]["message"].is_string(), told)?;
    expect(
        reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json")),
        told,
    )?;
    expect(
        reply
            .header("x-arbstr-provider")
            .is_some_and(|name| name.starts_with("sole")),
        told,
    )?;
    expect(stand.bad.count() == case.asked, || {
        format!(
            "asked {} times instead of {}",
            stand.bad.count(),
            case.asked
        )
    })?;
    let row = arbstr.row(&reply.id());
    expect(!row.verdict().0, || format!("{row:?}"))?;
    expect(row.int("error_status") == Some(reply.status.into()), || {
        format!("{row:?}")
    })?;
    let message = row.text("error_message").unwrap_or_default();
    expect(!message.is_empty() && message != "in_progress", || {
        format!("{row:?}")
    })?;
    expect(
        row.int("cost_nanosats").is_none() && row.int("input_tokens").is_none(),
        || format!("{row:?}"),
    )
}
