//! What is on record survives: a kill, a locked database, a second instance.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};

use crate::harness::{
    Answer, Client, DONE, Gate, Provider, ProviderConfig, Row, Setup, ask, ask_stream, chunk,
    completion, finish, usage_chunk, wait_until,
};

#[test]
fn kill_9_during_20_streams_leaves_20_interrupted_rows() {
    let gate = Gate::new();
    let provider = Provider::always(Answer::sse().send(chunk("a")).wait_for(&gate).send(DONE));
    let mut arbstr = Setup::of(&provider).start();
    let mut ids: Vec<_> = thread::scope(|scope| {
        let streams: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let mut reply = arbstr.chat(&ask_stream("model-a"));
                    reply.read_until(&chunk("a"));
                    reply
                })
            })
            .collect();
        streams
            .into_iter()
            .map(|stream| stream.join().unwrap().id())
            .collect()
    });
    arbstr.kill_9();
    let arbstr = arbstr.restart();
    let settled = || {
        arbstr
            .rows()
            .iter()
            .filter(|row| row.verdict() == (false, Some("interrupted".into())))
            .count()
            == 20
    };
    assert!(
        wait_until(Duration::from_secs(5), settled),
        "{:?}",
        arbstr.rows()
    );
    let mut found: Vec<_> = arbstr
        .rows()
        .iter()
        .map(|row| row.text("correlation_id").unwrap())
        .collect();
    ids.sort();
    found.sort();
    assert_eq!(found, ids);
    assert!(
        arbstr
            .rows()
            .iter()
            .all(|row| row.int("cost_nanosats").is_none())
    );
}

#[test]
fn a_request_is_on_record_before_its_first_upstream_byte() {
    // Alone, and so many that several are ready at once on one thread.
    for count in [1, CLIENTS] {
        let gate = Gate::new();
        let provider = Provider::always(Answer::json(200, &completion(1, 1)).after(&gate));
        let mut arbstr = Setup::of(&provider).start();
        let mut clients: Vec<_> = (0..count).map(|_| arbstr.client()).collect();
        for client in &mut clients {
            client.request_chat(&ask("model-a"));
        }
        let all_are_sent = || provider.count() == count;
        assert!(wait_until(Duration::from_secs(5), all_are_sent));
        arbstr.kill_9();
        let arbstr = arbstr.restart();
        let settled = || {
            let rows = arbstr.rows();
            let mut verdicts = rows.iter().map(|row| row.verdict().1);
            rows.len() == count && verdicts.all(|verdict| verdict.as_deref() == Some("interrupted"))
        };
        assert!(
            wait_until(Duration::from_secs(5), settled),
            "{:?}",
            arbstr.rows()
        );
    }
}

#[test]
fn a_request_cut_by_kill_9_says_who_had_it() {
    for (body, failing) in [
        (ask("model-a"), false),
        (ask("model-a"), true),
        (ask_stream("model-a"), false),
        (ask_stream("model-a"), true),
    ] {
        let gate = Gate::new();
        let head = Answer::json(200, &completion(1, 1)).after(&gate);
        let stream = Answer::sse().send(chunk("a")).wait_for(&gate).send(DONE);
        let is_stream = body.contains("stream");
        let stalling = Provider::always(if is_stream { stream } else { head });
        let broken = Provider::always(Answer::fault(500, "broken"));
        let mut setup = Setup::new();
        if failing {
            setup = setup.provider(ProviderConfig::new("broken", &broken).rates("1", "1"));
        }
        let stalling = ProviderConfig::new("stalling", &stalling).line("tier = \"standard\"");
        let mut arbstr = setup.provider(stalling).start();
        let mut client = arbstr.client();
        client.request_chat(&body);
        gate.wait_reached();
        arbstr.kill_9();
        let arbstr = arbstr.restart();
        let row = arbstr.first_row();
        row.assert_failure("interrupted");
        assert_eq!(row.text("provider").as_deref(), Some("stalling"), "{row:?}");
        assert_eq!(row.text("served_model").as_deref(), Some("model-a"));
        assert_eq!(row.text("tier").as_deref(), Some("standard"));
        assert_eq!(row.int("attempts"), Some(1 + i64::from(failing)));
        let attempts = arbstr.attempts(&row.text("correlation_id").unwrap());
        let told: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.text("provider"), attempt.text("outcome")))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(who, what)| (who.as_deref().unwrap(), what.as_deref().unwrap()))
            .collect();
        let all = [("broken", "status=500"), ("stalling", "interrupted")];
        assert_eq!(told, all[usize::from(!failing)..]);
    }
}

#[test]
fn a_completion_survives_a_kill_right_after_the_answer() {
    let provider = Provider::healthy(10, 4);
    let mut arbstr = Setup::of(&provider).start();
    let mut ids = Vec::new();
    for at in 0..10 {
        let mut reply = arbstr.chat(&if at % 2 == 0 {
            ask("model-a")
        } else {
            ask_stream("model-a")
        });
        reply.finish();
        ids.push(reply.id());
    }
    thread::sleep(Duration::from_millis(20));
    arbstr.kill_9();
    let arbstr = arbstr.restart();
    assert!(
        wait_until(Duration::from_secs(5), || arbstr
            .rows()
            .iter()
            .filter(|row| row.verdict().0)
            .count()
            == 10),
        "{:?}",
        arbstr.rows()
    );
    for id in ids {
        let row = arbstr.row(&id);
        row.assert_success();
        assert_eq!(row.int("cost_nanosats"), Some(18_000_000));
        assert_eq!(
            arbstr.attempts(&id).len(),
            1,
            "attempts are no less durable"
        );
    }
}

#[test]
fn a_row_in_flight_says_in_progress() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("a"))
            .wait_for(&gate)
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE),
    );
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    let id = reply.id();
    assert!(wait_until(Duration::from_secs(2), || arbstr
        .row_now(&id)
        .is_some()));
    let row = arbstr.row_now(&id).unwrap();
    row.assert_failure("in_progress");
    assert_eq!(
        (row.text("model").as_deref(), row.int("streaming")),
        (Some("model-a"), Some(1))
    );
    gate.open();
    reply.finish();
    arbstr.row(&id).assert_success();
}

#[test]
fn two_instances_share_a_file_and_leave_each_others_rows_alone() {
    let gate = Gate::new();
    let provider = Provider::always(
        Answer::sse()
            .send(chunk("a"))
            .wait_for(&gate)
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE),
    );
    let first = Setup::of(&provider).start();
    let mut reply = first.chat(&ask_stream("model-a"));
    reply.read_until(&chunk("a"));
    let second = Setup::of(&provider).database(&first.database()).start();
    let mut dying = Setup::of(&provider).database(&first.database()).start();
    let mut other = dying.chat(&ask_stream("model-a"));
    other.read_until(&chunk("a"));
    let (mine, dead) = (reply.id(), other.id());
    dying.kill_9();
    let third = Setup::of(&provider).database(&first.database()).start();
    let interrupted = || {
        third
            .row_now(&dead)
            .is_some_and(|row| row.verdict().1.as_deref() == Some("interrupted"))
    };
    assert!(
        wait_until(Duration::from_secs(5), interrupted),
        "{:?}",
        third.rows()
    );
    first
        .row_now(&mine)
        .expect("on record")
        .assert_failure("in_progress");
    gate.open();
    reply.finish();
    first.row(&mine).assert_success();
    let mut from_second = second.chat(&ask_stream("model-a"));
    from_second.finish();
    first.row(&from_second.id()).assert_success();
}

#[test]
fn a_locked_database_delays_no_request_and_loses_no_row() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    let mut first = arbstr.chat(&ask("model-a"));
    first.finish();
    arbstr.row(&first.id()).assert_success();
    let lock = rusqlite::Connection::open(arbstr.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let from = std::time::Instant::now();
        let mut reply = arbstr.chat(&ask_stream("model-a"));
        reply.finish();
        assert!(
            from.elapsed() < Duration::from_millis(1500),
            "a request waited for the database"
        );
        ids.push(reply.id());
    }
    assert!(
        ids.iter().all(|id| arbstr.row_now(id).is_none()),
        "the lock holds"
    );
    lock.execute_batch("ROLLBACK").unwrap();
    for id in ids {
        assert!(
            wait_until(Duration::from_secs(5), || arbstr
                .row_now(&id)
                .is_some_and(|row| row.verdict().0)),
            "{id} is lost"
        );
    }
}

#[test]
fn a_record_that_the_database_does_not_have_yet_is_not_denied() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    let mut first = arbstr.chat(&ask("model-a"));
    first.finish();
    arbstr.row(&first.id()).assert_success();
    let asked = |id: &str| {
        let mut reply = arbstr.get(&format!("/v1/requests/{id}"));
        let code = reply.json()["error"]["code"].clone();
        let retry_after = reply.header("retry-after").map(str::to_owned);
        (reply.status, code, retry_after)
    };
    let unknown = || (404, "request_not_found".into(), None);
    assert_eq!(asked("nobody"), unknown());
    let lock = rusqlite::Connection::open(arbstr.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let id = reply.id();
    let behind = (503, "records_unavailable".into(), Some("1".to_owned()));
    assert!(
        wait_until(Duration::from_secs(5), || asked(&id) == behind),
        "{:?}",
        asked(&id)
    );
    assert_eq!(asked(&first.id()).0, 200, "what is there is shown");
    lock.execute_batch("ROLLBACK").unwrap();
    assert!(wait_until(Duration::from_secs(5), || asked(&id).0 == 200));
    assert_eq!(asked("nobody"), unknown());
}

#[test]
fn a_missing_folder_is_made() {
    let provider = Provider::healthy(1, 1);
    let setup = Setup::of(&provider);
    let base = setup.start();
    let path = base.folder().join("deep/er/arbstr.db");
    let arbstr = setup.database(&path).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    arbstr.row(&reply.id()).assert_success();
    assert!(path.exists());
}

#[test]
fn a_database_that_cannot_be_opened_is_retried_while_arbstr_serves_on() {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    let base = setup.start();
    let path = base.folder().join("blocked.db");
    fs::create_dir(&path).unwrap();
    let arbstr = setup.database(&path).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    assert_eq!(reply.status, 200);
    let health = arbstr.get("/health").json();
    assert_eq!(health["status"], "degraded", "{health}");
    fs::remove_dir(&path).unwrap();
    let id = reply.id();
    assert!(
        wait_until(Duration::from_secs(10), || arbstr
            .row_now(&id)
            .is_some_and(|row| row.verdict().0)),
        "the row never came"
    );
}

#[test]
fn what_ails_the_database_is_told_only_to_those_who_have_the_token() {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider).set("server", "auth_token = \"s3cret\"");
    let base = setup.start();
    let path = base.folder().join("blocked.db");
    fs::create_dir(&path).unwrap();
    let arbstr = setup.database(&path).start();
    let told = |headers: &[(&str, &str)]| {
        let health = arbstr.call("GET", "/health", headers, b"").json();
        assert_eq!(health["status"], "degraded", "{health}");
        health["store"]["last_error"].as_str().unwrap().to_owned()
    };
    let (to_anyone, to_us) = (told(&[]), told(&[("authorization", "Bearer s3cret")]));
    assert!(to_us.contains("blocked.db"), "{to_us}");
    assert!(!to_anyone.contains("blocked"), "{to_anyone}");
}

#[test]
fn a_slot_file_that_cannot_be_opened_is_named_and_costs_no_record() {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    let base = setup.start();
    let path = base.folder().join("other.db");
    let slot = base.folder().join("other.db.owner-0");
    // Nobody can open a link to itself, not even root.
    std::os::unix::fs::symlink(&slot, &slot).unwrap();
    let mut arbstr = setup.database(&path).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    arbstr.row(&reply.id()).assert_success();
    let health = arbstr.get("/health").json();
    assert_eq!(health["status"], "ok", "{health}");
    arbstr.signal("TERM");
    assert!(arbstr.wait_exit(Duration::from_secs(10)).success());
    let log = arbstr.log();
    let name = slot.display().to_string();
    let warns = |line: &&str| line.contains("WARN") && line.contains(&name);
    assert_eq!(log.lines().filter(warns).count(), 1, "{log}");
}

#[test]
fn a_record_that_the_database_refuses_is_told_as_that_and_costs_itself_alone() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    let mut first = arbstr.chat(&ask("model-a"));
    first.finish();
    arbstr.row(&first.id());
    let operator = rusqlite::Connection::open(arbstr.database()).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON requests
        BEGIN SELECT raise(ABORT, 'not on my watch'); END";
    operator.execute_batch(refuse).unwrap();
    let mut lost = arbstr.chat(&ask("model-a"));
    lost.finish();
    let dropped = || arbstr.get("/health").json()["store"]["dropped"].as_u64();
    assert!(wait_until(Duration::from_secs(5), || dropped() == Some(1)));
    operator.execute_batch("DROP TRIGGER refuse").unwrap();
    let mut next = arbstr.chat(&ask("model-a"));
    next.finish();
    arbstr.row(&next.id()).assert_success();
    let log = arbstr.log();
    let told = |line: &str| line.contains(&lost.id()) && line.contains("not on my watch");
    assert!(log.lines().any(told), "{log}");
    assert!(!log.contains("no room"), "{log}");
}

#[test]
fn the_readable_view_shows_times_for_people() {
    let provider = Provider::healthy(10, 4);
    let arbstr = Setup::of(&provider).start();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    let row = arbstr.row(&reply.id());
    let ms = row.int("timestamp").unwrap();
    let view = Row::read(
        &arbstr.database(),
        "SELECT * FROM requests_readable WHERE correlation_id = ?1",
        &[&reply.id()],
    )
    .pop()
    .unwrap();
    let shown = view.text("timestamp").unwrap();
    assert!(
        shown.len() >= 20 && shown.contains('T') && shown.ends_with('Z'),
        "{shown}"
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    assert!(now.abs_diff(u128::try_from(ms).unwrap()) < 60_000, "{ms}");
    let journal = Row::read(&arbstr.database(), "PRAGMA journal_mode", &[])
        .pop()
        .unwrap();
    assert_eq!(journal.text("journal_mode").as_deref(), Some("wal"));
}

#[test]
fn each_row_is_a_uuid_v7_of_its_own() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let ids: Vec<_> = (0..3).map(|_| arbstr.chat(&ask("model-a")).id()).collect();
    for id in &ids {
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(id.as_bytes()[14], b'7', "{id}");
    }
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, ids, "they sort by time");
}

#[test]
fn whatever_was_answered_before_a_kill_is_on_record() {
    let provider = Provider::healthy(10, 4);
    let mut arbstr = Setup::of(&provider).start();
    let address = arbstr.address();
    let ids = std::sync::Mutex::new(Vec::new());
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for at in 0..CLIENTS {
            let (ids, stop) = (&ids, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(id) = ask_until_killed(address, at % 2 == 0) else {
                        return;
                    };
                    ids.lock().unwrap().push(id);
                }
            });
        }
        thread::sleep(Duration::from_millis(400));
        arbstr.kill_9();
        stop.store(true, Ordering::Relaxed);
    });
    let arbstr = arbstr.restart();
    let ids = ids.into_inner().unwrap();
    assert!(ids.len() > 20, "{} requests are no load", ids.len());
    let settled = || {
        arbstr
            .rows()
            .iter()
            .all(|row| row.verdict().1.as_deref() != Some("in_progress"))
    };
    assert!(wait_until(Duration::from_secs(5), || arbstr.rows().len()
        >= ids.len()
        && settled()));
    let rows = arbstr.rows();
    for (id, finished) in &ids {
        let row = rows
            .iter()
            .find(|row| row.text("correlation_id").as_deref() == Some(id))
            .unwrap_or_else(|| panic!("{id} is lost"));
        let (success, message) = row.verdict();
        assert!(
            success || message.as_deref() == Some("interrupted"),
            "{row:?}"
        );
        assert_eq!(
            row.int("cost_nanosats"),
            success.then_some(18_000_000),
            "finished {finished}: {row:?}"
        );
    }
    let successes = rows.iter().filter(|row| row.verdict().0).count();
    assert!(
        successes + CLIENTS * 2 >= ids.len(),
        "only {successes} of {} answered requests were completed",
        ids.len()
    );
}

/// The id of one more request and whether its answer came whole; `None` once nobody answers.
fn ask_until_killed(address: std::net::SocketAddr, streamed: bool) -> Option<(String, bool)> {
    let mut client = Client::try_connect(address).ok()?;
    let body = if streamed {
        ask_stream("model-a")
    } else {
        ask("model-a")
    };
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.try_send(head + &body).ok()?;
    let mut reply = client.try_reply("POST").ok()?;
    reply.drain();
    Some((
        reply.header("x-arbstr-request-id")?.to_owned(),
        reply.end == Some(crate::harness::End::Clean),
    ))
}

#[test]
fn a_shutdown_in_front_of_a_locked_database_loses_nothing() {
    let provider = Provider::healthy(10, 4);
    let mut arbstr = Setup::of(&provider).start();
    let mut first = arbstr.chat(&ask("model-a"));
    first.finish();
    arbstr.row(&first.id());
    let lock = rusqlite::Connection::open(arbstr.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut reply = arbstr.chat(&ask_stream("model-a"));
    reply.finish();
    let id = reply.id();
    arbstr.signal("TERM");
    let status = arbstr.wait_exit(Duration::from_secs(15));
    assert!(status.code().is_some(), "{status:?}");
    drop(lock);
    let arbstr = arbstr.restart();
    assert!(
        wait_until(Duration::from_secs(5), || arbstr
            .row_now(&id)
            .is_some_and(|row| row.verdict().0)),
        "{:?}",
        arbstr.rows()
    );
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let provider = Provider::healthy(10, 4);
    let setup = Setup::of(&provider);
    let base = setup.start();
    let path = base.folder().join("letter.txt");
    let letter = "Dear reader, this is no database. ".repeat(200);
    fs::write(&path, &letter).unwrap();
    let folder = crate::harness::Folder::new();
    let config = folder.write(
        "arbstr.toml",
        &setup.clone().database(&path).text(folder.path()),
    );
    let mut child = crate::harness::command(&folder)
        .arg("serve")
        .arg("-c")
        .arg(config)
        .spawn()
        .unwrap();
    // It may serve on, degraded, or say so and stop; it never writes over what is not its own.
    wait_until(Duration::from_millis(800), || {
        child.try_wait().unwrap().is_some()
    });
    drop(child.kill());
    child.wait().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[test]
fn five_thousand_requests_at_once_are_five_thousand_rows_and_their_exact_sum() {
    let provider = Provider::healthy(1000, 500);
    let arbstr = Setup::of(&provider).start();
    let left = AtomicUsize::new(REQUESTS);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| ask_until_none_is_left(arbstr.client(), &left));
        }
    });
    let figures = || {
        let sql = "SELECT COUNT(*) AS all_rows, SUM(success) AS done, COUNT(DISTINCT correlation_id) AS ids,
            SUM(cost_nanosats) AS cost FROM requests";
        let rows = Row::read(&arbstr.database(), sql, &[]);
        ["all_rows", "done", "ids", "cost"].map(|column| rows[0].int(column).unwrap_or_default())
    };
    let count = REQUESTS as i64;
    let expected = [count, count, count, count * 2_000_000_000];
    assert!(
        wait_until(Duration::from_secs(5), || figures() == expected),
        "{:?}",
        figures()
    );
    let totals = &arbstr.get("/v1/stats").json()["totals"];
    assert_eq!(
        (totals["requests"].as_i64(), totals["cost_sats"].as_i64()),
        (Some(count), Some(2 * count))
    );
}

/// One client that keeps its connection, now for JSON and now for a stream.
fn ask_until_none_is_left(mut client: Client, left: &AtomicUsize) {
    let taken = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
    };
    while let Ok(nth) = taken() {
        let body = if nth % 2 == 0 {
            ask("model-a")
        } else {
            ask_stream("model-a")
        };
        client.request_chat(&body);
        let mut reply = client.reply("POST");
        assert_eq!(reply.status, 200);
        reply.finish();
        client = reply.again();
    }
}

const REQUESTS: usize = 5_000;
/// Enough for several to be ready at once on one thread.
const CLIENTS: usize = 24;
