//! The waterfall: which failures reach a client, which provider is asked next, and what is remembered of it.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Answer, Arbstr, DONE, Gate, House, Provider, Reply, Seller, ask, ask_stream, chunk, completion,
    event, finish, wait_until,
};

/// `x-arbstr-attempts` taken apart: provider, `status` or `error`, value.
#[track_caller]
fn attempts(reply: &Reply) -> Vec<(String, String, String)> {
    let list = reply.needs("x-arbstr-attempts");
    list.split(',')
        .map(|item| {
            let (provider, outcome) = item
                .trim()
                .split_once(';')
                .unwrap_or_else(|| panic!("{item:?} in {list:?}"));
            let (key, value) = outcome
                .trim()
                .split_once('=')
                .unwrap_or_else(|| panic!("{item:?} in {list:?}"));
            assert!(key == "status" || key == "error", "{list}");
            (provider.to_owned(), key.to_owned(), value.to_owned())
        })
        .collect()
}

#[track_caller]
fn tried(reply: &Reply) -> Vec<String> {
    attempts(reply)
        .into_iter()
        .map(|(provider, ..)| provider)
        .collect()
}

fn ask_as(mode: Mode, model: &str) -> String {
    match mode {
        Mode::Json => ask(model),
        Mode::Stream => ask_stream(model),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Json,
    Stream,
}

const MODES: [Mode; 2] = [Mode::Json, Mode::Stream];

/// A cheap provider that misbehaves in front of a dear one that does not.
fn pair(bad: &Provider, good: &Provider) -> House {
    House::new()
        .seller(Seller::new("bad", bad).rates("1", "1"))
        .seller(Seller::new("good", good))
}

#[track_caller]
fn assert_answer_of(reply: &mut Reply, provider: &str, mode: Mode) {
    let body = reply.finish();
    assert_eq!(reply.status, 200, "{}{body}", reply.head);
    assert_eq!(reply.needs("x-arbstr-provider"), provider);
    match mode {
        Mode::Json => assert!(body.contains(r#""content":"Hello""#), "{body}"),
        Mode::Stream => assert!(
            body.contains("Hel") && body.ends_with(DONE) && !body.contains("error"),
            "{body}"
        ),
    }
}

#[test]
fn third_provider_answers_when_the_cheapest_is_down_and_the_second_says_500() {
    for mode in MODES {
        let (alpha, beta) = (
            Provider::refusing(),
            Provider::always(Answer::fault(500, "oops")),
        );
        let gamma = Provider::healthy(11, 7);
        let arbstr = House::new()
            .seller(Seller::new("gamma", &gamma).rates("3000", "6000"))
            .seller(Seller::new("alpha", &alpha).rates("1000", "2000"))
            .seller(Seller::new("beta", &beta).rates("2000", "4000"))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "gamma", mode);
        assert_eq!(reply.needs("x-arbstr-retries"), "2");
        let list = attempts(&reply);
        assert_eq!((list[0].0.as_str(), list[0].1.as_str()), ("alpha", "error"));
        assert_eq!(
            reply
                .needs("x-arbstr-attempts")
                .split(", ")
                .skip(1)
                .collect::<Vec<_>>(),
            ["beta;status=500", "gamma;status=200"]
        );
        assert!(reply.needs("x-arbstr-latency-ms").parse::<u64>().is_ok());
        let row = arbstr.row(&reply.id());
        row.assert_success();
        assert_eq!(row.text("provider").as_deref(), Some("gamma"));
        assert_eq!(
            (
                row.int("input_tokens"),
                row.int("output_tokens"),
                row.int("attempts")
            ),
            (Some(11), Some(7), Some(3))
        );
        let rows = arbstr.attempts(&reply.id());
        let providers: Vec<_> = rows
            .iter()
            .map(|row| row.text("provider").unwrap())
            .collect();
        assert_eq!(providers, ["alpha", "beta", "gamma"], "{rows:?}");
        assert_eq!(rows[1].int("status"), Some(500));
    }
}

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

/// Section 5, line by line.
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
        json(
            "cut by length",
            Answer::json(200, &completion(1, 1)).short_by(5),
        ),
        json(
            "cut in a chunk",
            Answer::new(200)
                .header("content-type", "application/json")
                .send(&completion(1, 1)[..50])
                .fin(),
        ),
        json("not JSON", Answer::json(200, &completion(1, 1)[1..])),
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

fn quick(seller: Seller) -> Seller {
    seller.line("timeouts = { connect = 1, first_event = 1, response = 1, idle = 5 }")
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
    let mut house = House::new();
    for (at, stand) in stands.iter().enumerate() {
        house = house
            .seller(quick(
                Seller::new(&format!("bad{at}"), &stand.bad)
                    .models(&[&stand.model])
                    .rates("1", "1"),
            ))
            .seller(Seller::new(&format!("good{at}"), &stand.good).models(&[&stand.model]));
    }
    let arbstr = house.start();
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
    let mut house = House::new()
        .set("retry", "max_attempts = 3")
        .set("circuit", "failures = 100");
    for (at, stand) in stands.iter().enumerate() {
        house = house.seller(quick(
            Seller::new(&format!("sole{at}"), &stand.bad).models(&[&stand.model]),
        ));
    }
    let arbstr = house.start();
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

#[test]
fn all_failed_is_one_503_that_names_every_attempt() {
    for mode in MODES {
        let (alpha, beta) = (
            Provider::refusing(),
            Provider::always(Answer::fault(500, "x")),
        );
        let gamma =
            Provider::always(Answer::fault(429, "rate_limit_exceeded").header("retry-after", "7"));
        let arbstr = House::new()
            .set("retry", "max_attempts = 3")
            .seller(Seller::new("alpha", &alpha).rates("1", "1"))
            .seller(Seller::new("beta", &beta).rates("2", "2"))
            .seller(Seller::new("gamma", &gamma).rates("3", "3"))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        let error = reply.json();
        assert_eq!(reply.status, 503, "{error}");
        assert!(reply.needs("content-type").starts_with("application/json"));
        assert_eq!(error["error"]["code"], "all_providers_failed");
        let all = error.to_string();
        for word in ["alpha", "beta", "gamma", "500", "429"] {
            assert!(all.contains(word), "{word} in {all}");
        }
        assert_eq!(tried(&reply), ["alpha", "beta", "gamma"]);
        assert_eq!(reply.needs("x-arbstr-provider"), "gamma");
        assert_eq!(reply.needs("x-arbstr-retries"), "2");
        let after: u64 = reply.needs("retry-after").parse().unwrap();
        assert!((1..=7).contains(&after), "{after}");
        let row = arbstr.row(&reply.id());
        assert!(!row.verdict().0, "{row:?}");
        assert_eq!(
            (
                row.int("error_status"),
                row.int("attempts"),
                row.int("cost_nanosats")
            ),
            (Some(503), Some(3), None)
        );
        assert_eq!(arbstr.attempts(&reply.id()).len(), 3);
    }
}

#[test]
fn all_saying_that_the_context_is_too_long_is_returned_as_it_is() {
    let faults = [
        Answer::fault(400, "context_length_exceeded"),
        Answer::fault(400, "context_length_exceeded"),
    ];
    let providers = faults.clone().map(Provider::always);
    let arbstr = pair(&providers[0], &providers[1]).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_eq!(
        (reply.finish().into_bytes(), reply.status),
        (faults[1].body(), 400)
    );
    assert_eq!(providers.map(|provider| provider.count()), [1, 1]);
}

#[test]
fn no_more_attempts_than_allowed_and_nobody_twice_before_everybody_once() {
    let providers: Vec<_> = (0..10)
        .map(|_| Provider::always(Answer::fault(500, "x")))
        .collect();
    let mut house = House::new().set("retry", "max_attempts = 8");
    for (at, provider) in providers.iter().enumerate() {
        house = house
            .seller(Seller::new(&format!("p{at}"), provider).rates(&format!("{}", at + 1), "1"));
    }
    let arbstr = house.start();
    let reply = arbstr.chat(&ask("model-a"));
    assert_eq!(reply.status, 503);
    assert_eq!(
        tried(&reply),
        (0..8).map(|at| format!("p{at}")).collect::<Vec<_>>()
    );
    let asked: Vec<_> = providers.iter().map(Provider::count).collect();
    assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn a_busy_provider_is_tried_again_when_no_other_is_left() {
    for mode in MODES {
        let good = if mode == Mode::Json {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::stream(1, 1)
        };
        let bad = Provider::always(Answer::fault(404, "no_such_model"));
        let busy =
            Provider::answering([Answer::fault(503, "busy"), Answer::fault(429, "busy"), good]);
        let arbstr = House::new()
            .seller(Seller::new("bad", &bad).rates("1", "1"))
            .seller(Seller::new("busy", &busy))
            .start();
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "busy", mode);
        assert_eq!(tried(&reply), ["bad", "busy", "busy", "busy"]);
        assert_eq!((bad.count(), busy.count()), (1, 3));
    }
}

#[test]
fn same_provider_first_gives_a_hiccup_a_second_chance() {
    let bad = Provider::answering([
        Answer::fault(500, "hiccup"),
        Answer::json(200, &completion(1, 1)),
    ]);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("retry", "same_provider_first = 1")
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_answer_of(&mut reply, "bad", Mode::Json);
    assert_eq!(
        reply.needs("x-arbstr-attempts"),
        "bad;status=500, bad;status=200"
    );
    assert_eq!(good.count(), 0);
}

#[test]
fn a_reset_of_a_reused_connection_is_no_attempt() {
    for mode in MODES {
        let good = if mode == Mode::Json {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::stream(1, 1)
        };
        let provider = Provider::by(move |seen, nth| {
            if nth > 0 && seen.connection == 0 {
                Answer::bare().reset()
            } else {
                good.clone()
            }
        });
        let arbstr = House::of(&provider).start();
        assert_answer_of(&mut arbstr.chat(&ask_as(mode, "model-a")), "alpha", mode);
        // The connection has to be back in the pool before it can be used again.
        thread::sleep(Duration::from_millis(100));
        let mut reply = arbstr.chat(&ask_as(mode, "model-a"));
        assert_answer_of(&mut reply, "alpha", mode);
        let connections: Vec<_> = provider.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(
            connections,
            [0, 0, 1],
            "kept alive, reused, then a fresh one"
        );
        assert_eq!(reply.needs("x-arbstr-retries"), "0");
        assert_eq!(reply.needs("x-arbstr-attempts"), "alpha;status=200");
    }
}

#[test]
fn nothing_is_committed_before_the_first_event() {
    let gate = Gate::new();
    let role = event(
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    );
    let answer = Answer::sse()
        .send(": keep-alive\n\n")
        .wait_for(&gate)
        .send(&role)
        .stall();
    let provider = Provider::always(answer);
    let arbstr = House::of(&provider).start();
    let mut client = arbstr.client();
    client.request(
        "POST",
        "/v1/chat/completions",
        &[("content-type", "application/json")],
        ask_stream("model-a").as_bytes(),
    );
    gate.wait_reached();
    let early = thread::scope(|scope| {
        let reply = scope.spawn(|| {
            let reply = client.reply("POST");
            (Instant::now(), reply)
        });
        thread::sleep(Duration::from_millis(250));
        let opened = Instant::now();
        gate.open();
        let (came, mut reply) = reply.join().unwrap();
        reply.read_until(&role);
        assert!(
            reply.text().starts_with(": keep-alive\n\n"),
            "comments pass: {}",
            reply.text()
        );
        came < opened
    });
    assert!(!early, "the head came before the first event");
}

#[test]
fn json_in_place_of_a_stream_is_passed_on_as_json() {
    let body = completion(9, 4);
    let provider = Provider::always(Answer::json(200, &body));
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    assert_eq!((reply.finish(), reply.status), (body, 200));
    assert!(reply.needs("content-type").starts_with("application/json"));
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("output_tokens")),
        (Some(9), Some(4))
    );
    // 9 in at 1000, 4 out at 2000 sats per million: 0.017 sats.
    assert_eq!(row.int("cost_nanosats"), Some(17_000_000));
}

#[test]
fn a_key_or_balance_problem_is_skipped_for_a_while() {
    for code in [401, 402, 403, 404] {
        let (bad, good) = (
            Provider::always(Answer::fault(code, "x")),
            Provider::healthy(1, 1),
        );
        let arbstr = pair(&bad, &good).start();
        for _ in 0..3 {
            assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        }
        assert_eq!((bad.count(), good.count()), (1, 3), "after {code}");
        assert!(
            arbstr
                .log()
                .lines()
                .any(|line| line.contains("bad")
                    && (line.contains("WARN") || line.contains("ERROR"))),
            "an operator reads of {code}"
        );
    }
}

#[test]
fn a_balance_problem_in_a_429_is_no_busyness() {
    let (bad, good) = (
        Provider::always(Answer::fault(429, "insufficient_quota")),
        Provider::healthy(1, 1),
    );
    let arbstr = pair(&bad, &good).start();
    for _ in 0..3 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!((bad.count(), good.count()), (1, 3));
}

#[test]
fn retry_after_cools_a_provider_down_for_as_long_as_it_says() {
    for status in [429, 503] {
        let bad = Provider::answering([
            Answer::fault(status, "busy").header("retry-after", "1"),
            Answer::json(200, &completion(1, 1)),
        ]);
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        assert_eq!(bad.count(), 1, "{status} was cooling down");
        thread::sleep(Duration::from_millis(1100));
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    }
}

#[test]
fn retry_after_is_kept_for_the_client_of_a_sole_provider() {
    let provider = Provider::always(Answer::fault(429, "busy").header("retry-after", "13"));
    let arbstr = House::of(&provider)
        .set("retry", "max_attempts = 1")
        .start();
    let reply = arbstr.chat(&ask("model-a"));
    assert_eq!((reply.status, reply.needs("retry-after")), (429, "13"));
}

#[test]
fn a_circuit_opens_after_failures_in_a_row_and_closes_after_one_success() {
    let sick = Gate::new();
    let healthy = sick.clone();
    let bad = Provider::by(move |_, _| {
        if healthy.is_open() {
            Answer::json(200, &completion(1, 1))
        } else {
            Answer::fault(500, "x")
        }
    });
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("circuit", "failures = 3")
        .set("circuit", "open_secs = 1")
        .start();
    for _ in 0..5 {
        assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    }
    assert_eq!(bad.count(), 3, "open after three");
    sick.open();
    thread::sleep(Duration::from_millis(1200));
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
}

#[test]
fn a_half_open_circuit_lets_one_probe_through() {
    let gate = Gate::new();
    let probe = gate.clone();
    let slow = Answer::bare()
        .wait_for(&probe)
        .raw("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
        .fin();
    let bad = Provider::answering([Answer::fault(500, "x"), slow]);
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good)
        .set("circuit", "failures = 1")
        .set("circuit", "open_secs = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    thread::sleep(Duration::from_millis(1100));
    thread::scope(|scope| {
        let probing =
            scope.spawn(|| assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json));
        gate.wait_reached();
        for _ in 0..3 {
            assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
        }
        assert_eq!(bad.count(), 2, "one probe at a time");
        gate.open();
        probing.join().unwrap();
    });
}

#[test]
fn when_all_circuits_are_open_one_probes_and_the_rest_are_told_when_to_come_back() {
    let gate = Gate::new();
    let sick = |gate: Gate| {
        Provider::by(move |_, nth| match nth {
            0 => Answer::fault(500, "x"),
            _ => Answer::json(200, &completion(1, 1)).after(&gate),
        })
    };
    let (alpha, beta) = (sick(gate.clone()), sick(gate.clone()));
    let arbstr = pair(&alpha, &beta)
        .set("retry", "max_attempts = 2")
        .set("circuit", "failures = 1")
        .set("circuit", "open_secs = 30")
        .start();
    assert_eq!(arbstr.chat(&ask("model-a")).status, 503);
    thread::scope(|scope| {
        let probe = scope.spawn(|| arbstr.chat(&ask("model-a")));
        gate.wait_reached();
        let refused = scope.spawn(|| arbstr.chat(&ask("model-a")));
        thread::sleep(Duration::from_millis(300));
        let asked = alpha.count() + beta.count();
        gate.open();
        let mut refused = refused.join().unwrap();
        assert_eq!(probe.join().unwrap().status, 200);
        assert_eq!((asked, refused.status), (3, 503), "{}", refused.head);
        assert!(refused.needs("retry-after").parse::<u64>().unwrap() > 0);
        assert!(refused.json()["error"]["code"].is_string());
    });
}

#[test]
fn a_sole_provider_is_never_skipped() {
    let provider = Provider::always(Answer::fault(500, "x"));
    let arbstr = House::of(&provider)
        .set("retry", "max_attempts = 1")
        .set("circuit", "failures = 1")
        .start();
    for _ in 0..4 {
        assert_eq!(arbstr.chat(&ask("model-a")).status, 500);
    }
    assert_eq!(provider.count(), 4);
}

#[test]
fn a_bad_model_does_not_take_its_provider_down_for_the_others() {
    let bad = Provider::by(|seen, _| {
        if seen.text().contains("model-a") {
            Answer::fault(500, "x")
        } else {
            Answer::json(200, &completion(1, 1))
        }
    });
    let good = Provider::healthy(1, 1);
    let both = ["model-a", "model-b"];
    let arbstr = House::new()
        .seller(Seller::new("bad", &bad).models(&both).rates("1", "1"))
        .seller(Seller::new("good", &good).models(&both))
        .set("circuit", "failures = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    assert_answer_of(&mut arbstr.chat(&ask("model-b")), "bad", Mode::Json);
    assert_eq!(bad.count(), 2);
}

#[test]
fn conflicts_and_the_clients_own_mistakes_open_no_circuit() {
    for status in [409, 400, 422] {
        let (bad, good) = (
            Provider::always(Answer::fault(status, "x")),
            Provider::healthy(1, 1),
        );
        let arbstr = pair(&bad, &good).set("circuit", "failures = 1").start();
        for _ in 0..3 {
            arbstr.chat(&ask("model-a")).finish();
        }
        assert_eq!(bad.count(), 3, "{status}");
    }
}

#[test]
fn a_dead_connection_takes_the_provider_down_for_all_its_models() {
    let (bad, good) = (Provider::refusing(), Provider::healthy(1, 1));
    let both = ["model-a", "model-b"];
    let arbstr = House::new()
        .seller(Seller::new("bad", &bad).models(&both).rates("1", "1"))
        .seller(Seller::new("good", &good).models(&both))
        .set("circuit", "failures = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "good", Mode::Json);
    let mut reply = arbstr.chat(&ask("model-b"));
    assert_answer_of(&mut reply, "good", Mode::Json);
    assert_eq!(tried(&reply), ["good"]);
}

#[test]
fn once_the_client_has_gone_nobody_else_is_asked() {
    for mode in MODES {
        let gate = Gate::new();
        let bad = Provider::always(Answer::fault(500, "x").after(&gate));
        let good = Provider::healthy(1, 1);
        let arbstr = pair(&bad, &good).start();
        let mut client = arbstr.client();
        client.request(
            "POST",
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            ask_as(mode, "model-a").as_bytes(),
        );
        gate.wait_reached();
        client.reset();
        thread::sleep(Duration::from_millis(100));
        gate.open();
        let done = || {
            arbstr
                .rows()
                .first()
                .is_some_and(|row| row.text("error_message").as_deref() != Some("in_progress"))
        };
        assert!(
            wait_until(Duration::from_secs(2), done),
            "{:?}",
            arbstr.rows()
        );
        let rows = arbstr.rows();
        rows[0].assert_failure("client_disconnected");
        assert_eq!((bad.count(), good.count()), (1, 0), "{mode:?}");
    }
}

#[test]
fn each_failed_attempt_is_one_warning_without_secrets() {
    let bad = Provider::always(Answer::fault(500, "sk-bad-secret"));
    let good = Provider::healthy(1, 1);
    let arbstr = pair(&bad, &good).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    assert_answer_of(&mut reply, "good", Mode::Json);
    let id = reply.id();
    let warned = || {
        arbstr
            .log()
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(&id))
            .count()
    };
    assert!(
        wait_until(Duration::from_secs(1), || warned() == 1),
        "{} warnings",
        warned()
    );
    let log = arbstr.log();
    let line = log
        .lines()
        .find(|line| line.contains("WARN") && line.contains(&id))
        .unwrap();
    for word in ["bad", "model-a", "500"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(
        !log.contains("sk-bad-secret")
            && !log.contains("sk-good-secret")
            && !log.contains("Say hello."),
        "{log}"
    );
}

#[test]
fn a_provider_that_echoes_a_key_is_redacted() {
    let echo = r#"{"error":{"message":"Incorrect API key provided: sk-alpha-secret.","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let html = format!("<html>{echo}</html>");
    for (status, body, kind) in [
        (401, echo, "application/json"),
        (400, echo, "application/json"),
        (500, html.as_str(), "text/html"),
    ] {
        let provider = Provider::always(
            Answer::new(status)
                .header("content-type", kind)
                .with_length()
                .send(body),
        );
        let arbstr = House::of(&provider)
            .set("retry", "max_attempts = 1")
            .start();
        let mut reply = arbstr.chat(&ask("model-a"));
        let json = reply.json();
        assert_eq!(reply.status, status);
        assert!(
            json["error"]["message"]
                .as_str()
                .unwrap()
                .contains("Incorrect API key provided"),
            "{json}"
        );
        assert!(!reply.text().contains("sk-alpha-secret"), "{json}");
        arbstr.row(&reply.id());
        let database = std::fs::read(arbstr.database()).unwrap();
        assert!(
            !database
                .windows(15)
                .any(|window| window == b"sk-alpha-secret")
        );
        assert!(!arbstr.log().contains("sk-alpha-secret"));
    }
}

#[test]
fn an_error_that_is_no_json_is_wrapped_and_cut_short() {
    let page = format!("<html>\"quoted\" {}</html>", "x".repeat(100_000));
    let provider = Provider::always(
        Answer::new(502)
            .header("content-type", "text/html")
            .with_length()
            .send(&page),
    );
    let arbstr = House::of(&provider)
        .set("retry", "max_attempts = 1")
        .start();
    let mut reply = arbstr.chat(&ask("model-a"));
    let json = reply.json();
    assert_eq!(reply.status, 502);
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("<html>\"quoted\""), "{message}");
    assert!(reply.body.len() < 2048, "{} bytes", reply.body.len());
}

#[test]
fn a_provider_that_rejects_the_injected_stream_options_is_asked_without_and_remembered() {
    let provider = Provider::by(|seen, _| {
        if seen.text().contains("stream_options") {
            let body = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":"stream_options","code":null}}"#;
            Answer::json(400, body)
        } else {
            Answer::sse()
                .send(chunk("Hello"))
                .send(finish("stop"))
                .send(DONE)
        }
    });
    let arbstr = House::of(&provider).start();
    let body = ask_stream("model-a");
    let mut reply = arbstr.chat(&body);
    assert_answer_of(&mut reply, "alpha", Mode::Stream);
    assert_answer_of(&mut arbstr.chat(&body), "alpha", Mode::Stream);
    let asked: Vec<_> = provider
        .seen()
        .iter()
        .map(|seen| seen.text().contains("stream_options"))
        .collect();
    assert_eq!(asked, [true, false, false]);
    assert_eq!(provider.seen()[1].text(), body);
    let row = arbstr.row(&reply.id());
    row.assert_success();
    assert_eq!(
        (row.int("input_tokens"), row.int("cost_nanosats")),
        (None, None),
        "no usage, no cost"
    );
}

#[test]
fn a_client_that_asked_for_usage_itself_gets_the_rejection() {
    let fault = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":"stream_options","code":null}}"#;
    let provider = Provider::always(Answer::json(400, fault));
    let arbstr = House::of(&provider).start();
    let mut reply = arbstr.chat(&crate::harness::ask_stream_with_usage("model-a"));
    assert_eq!((reply.finish().as_str(), reply.status), (fault, 400));
    assert_eq!(provider.count(), 1);
}

#[test]
fn a_model_that_nobody_has_is_404_and_on_record() {
    let provider = Provider::healthy(1, 1);
    let arbstr = House::of(&provider).start();
    for mode in MODES {
        let mut reply = arbstr.chat(&ask_as(mode, "model-z"));
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["error"]["code"]),
            (404, &"model_not_found".into()),
            "{error}"
        );
        assert!(
            error["error"]["message"]
                .as_str()
                .unwrap()
                .contains("model-z")
        );
        assert_eq!(reply.header("x-arbstr-provider"), None);
        let row = arbstr.row(&reply.id());
        assert!(!row.verdict().0);
        assert_eq!(
            (
                row.text("model").as_deref(),
                row.text("provider"),
                row.int("error_status")
            ),
            (Some("model-z"), None, Some(404))
        );
        assert_eq!(row.int("attempts"), Some(0));
    }
    assert_eq!(provider.count(), 0);
}

#[test]
fn a_json_answer_may_take_longer_than_a_streams_limits() {
    let provider = Provider::always(Answer::json(200, &completion(1, 1)).pause_before_body(1500));
    let other = Provider::healthy(1, 1);
    let arbstr = pair(&provider, &other)
        .set("timeouts", "first_event = 1")
        .set("timeouts", "idle = 1")
        .start();
    assert_answer_of(&mut arbstr.chat(&ask("model-a")), "bad", Mode::Json);
    assert_eq!(other.count(), 0);
}
