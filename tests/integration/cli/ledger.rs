//! `stats` and `logs`: the figures of the query API, with and without a server, and safe on every terminal.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use super::{cells, good, run};
use crate::harness::{
    Answer, Arbstr, Folder, Provider, ProviderConfig, Setup, ask, ask_stream, command, wait_until,
};

fn market() -> (Vec<Provider>, Arbstr) {
    let providers = vec![
        Provider::healthy(1000, 500),
        Provider::always(Answer::fault(500, "broken")),
    ];
    let arbstr = Setup::new()
        .set("circuit", "failures = 1000")
        .provider(ProviderConfig::new("alpha", &providers[0]))
        .provider(ProviderConfig::new("broken", &providers[1]).models(&["model-b"]))
        .start();
    (providers, arbstr)
}

/// Four good requests, two broken ones, one that nobody has; all of them on record.
fn make_requests(arbstr: &Arbstr) {
    for model in ["model-a", "model-a", "model-b"] {
        arbstr.chat(&ask(model)).drain();
        arbstr.chat(&ask_stream(model)).drain();
    }
    arbstr
        .chat(&ask("no\u{9b}2J\u{202e}\\\"such,\\nmodel"))
        .drain();
    let settled = || {
        let totals = arbstr.get("/v1/stats").json()["totals"].clone();
        totals["requests"] == 7 && totals["in_progress"] == 0
    };
    assert!(wait_until(Duration::from_secs(3), settled));
}

/// `value` without what depends on the moment of the question.
fn timeless(mut value: Value) -> Value {
    value["until"] = Value::Null;
    value
}

#[test]
fn json_is_what_the_query_api_says_with_and_without_a_server() {
    let (_providers, mut arbstr) = market();
    make_requests(&arbstr);
    let questions: &[(&[&str], &str)] = &[
        (&["stats", "--json"], "/v1/stats"),
        (
            &["stats", "--json", "--group-by", "model"],
            "/v1/stats?group_by=model",
        ),
        (
            &["stats", "--json", "-g", "hour", "--success", "true"],
            "/v1/stats?group_by=hour&success=true",
        ),
        (
            &[
                "stats",
                "--json",
                "--provider",
                "alpha",
                "--streaming",
                "false",
            ],
            "/v1/stats?provider=alpha&streaming=false",
        ),
    ];
    let answers: Vec<Value> = questions
        .iter()
        .map(|(_, path)| timeless(arbstr.get(path).json()))
        .collect();
    let mut listed = arbstr.get("/v1/requests?sort=timestamp").json()["data"].clone();
    let cheap = arbstr
        .get("/v1/requests?sort=cost_sats&model=model-a")
        .json()["data"]
        .clone();
    for server in ["with a server", "without one"] {
        for ((arguments, path), answer) in questions.iter().zip(&answers) {
            let said: Value =
                serde_json::from_str(&good(&mut arbstr.command(), arguments)).unwrap();
            assert_eq!(&timeless(said), answer, "{path} {server}");
        }
        let lines = |arguments: &[&str]| -> Value {
            let text = good(&mut arbstr.command(), arguments);
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .collect()
        };
        assert_eq!(lines(&["logs", "--json"]), listed, "{server}");
        assert_eq!(
            lines(&["logs", "--format", "jsonl", "-n", "100"]),
            listed,
            "{server}"
        );
        assert_eq!(
            lines(&[
                "logs",
                "--json",
                "--sort",
                "cost_sats",
                "--model",
                "model-a"
            ]),
            cheap,
            "{server}"
        );
        let last = listed.as_array_mut().unwrap().last().cloned().unwrap();
        assert_eq!(
            lines(&["logs", "--json", "-n", "1"]),
            Value::from(vec![last]),
            "{server}"
        );
        arbstr.kill_9();
    }
}

#[test]
fn tables_show_the_same_figures_and_nothing_that_a_terminal_obeys() {
    let (_providers, arbstr) = market();
    make_requests(&arbstr);
    let totals = arbstr.get("/v1/stats").json()["totals"].clone();
    let summary = good(&mut arbstr.command(), &["stats"]);
    for (name, column) in [
        ("requests", "requests"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("input tokens", "input_tokens"),
        ("cost", "cost_sats"),
    ] {
        let line = summary
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {summary}"));
        assert_eq!(cells(line)[1], totals[column].to_string(), "{summary}");
    }
    let groups = good(&mut arbstr.command(), &["stats", "--group-by", "provider"]);
    let lines: Vec<Vec<&str>> = groups.lines().skip(2).map(cells).collect();
    assert_eq!(lines[0][..3], ["PROVIDER", "REQUESTS", "OK %"], "{groups}");
    assert_eq!(lines[1][..4], ["alpha", "4", "100.0", "0"]);
    assert_eq!(lines[2][..4], ["broken", "2", "0.0", "2"]);
    assert_eq!((lines[3][0], lines[4][0], lines[4][1]), ("-", "all", "7"));
    let logs = good(&mut arbstr.command(), &["logs"]);
    assert_eq!(logs.lines().count(), 8, "{logs}");
    let rows: Vec<Vec<&str>> = logs.lines().map(cells).collect();
    assert_eq!(
        rows[1][1..],
        [
            "model-a",
            "alpha",
            "no",
            "1000",
            "500",
            "2",
            rows[1][7],
            rows[1][8],
            "1",
            "ok",
            rows[1][11]
        ]
    );
    assert!(
        rows[7][1].starts_with("no\\u{9b}2J\\u{202e}\"such,\\nmodel"),
        "{logs}"
    );
    for text in [&summary, &groups, &logs] {
        let raw = |c: char| {
            c.is_control() && c != '\n' || ('\u{200b}'..'\u{2070}').contains(&c) && c != '…'
        };
        assert!(!text.contains(raw), "{text}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }
    let json = good(&mut arbstr.command(), &["logs", "--json"])
        + &good(&mut arbstr.command(), &["stats", "-g", "model", "--json"]);
    assert!(
        !json.contains(|c: char| c.is_control() && c != '\n'),
        "{json}"
    );
}

/// Clients name models as they like, and one of them could make every line 300 columns wide.
#[test]
fn a_long_name_lengthens_its_own_line_alone_in_a_pipe() {
    let (_providers, arbstr) = market();
    let long = "m".repeat(250);
    for model in ["model-a", &long] {
        arbstr.chat(&ask(model)).drain();
    }
    let settled = || {
        let totals = arbstr.get("/v1/stats").json()["totals"].clone();
        totals["requests"] == 2 && totals["in_progress"] == 0
    };
    assert!(wait_until(Duration::from_secs(3), settled));
    for arguments in [&["logs"][..], &["stats", "-g", "model"]] {
        let table = good(&mut arbstr.command(), arguments);
        for line in table.lines() {
            assert_eq!(line.chars().count() > 250, line.contains(&long), "{table}");
        }
        assert!(table.contains(&long), "nothing is cut: {table}");
    }
}

#[test]
fn csv_has_every_column_and_quotes_what_needs_it() {
    let (_providers, arbstr) = market();
    make_requests(&arbstr);
    let csv = good(&mut arbstr.command(), &["logs", "--format", "csv"]);
    let row = arbstr.get("/v1/requests?limit=1").json()["data"][0].clone();
    let mut names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    names.sort_unstable();
    assert!(
        names.iter().eq(row.as_object().unwrap().keys()),
        "{names:?}"
    );
    assert_eq!(
        csv.lines().count(),
        9,
        "one of the names has a line feed: {csv}"
    );
    assert!(
        csv.contains(",\"no\u{9b}2J\u{202e}\"\"such,\nmodel\","),
        "{csv}"
    );
}

#[test]
fn options_that_are_not_understood_are_told_by_their_name() {
    let (_providers, arbstr) = market();
    for (arguments, words) in [
        (
            &["stats", "--since", "yesterday"][..],
            &["--since", "yesterday", "2026-01-31"][..],
        ),
        (
            &["stats", "--group-by", "colour"],
            &["--group-by", "colour", "provider"],
        ),
        (&["stats", "--range", "1y"], &["--range", "24h"]),
        (
            &["stats", "--success", "maybe"],
            &["--success", "true or false"],
        ),
        (&["logs", "--sort", "cost"], &["--sort", "cost_sats"]),
        (
            &["logs", "--since", "2026-01-02", "--until", "2026-01-01"],
            &["--until", "after since"],
        ),
        (
            &["stats", "--since", "2200-01-31"],
            &["--since", "2200-01-31", "before now", "--until"],
        ),
        (&["logs", "-n", "0"], &["--limit"]),
        (&["logs", "--format", "xml"], &["--format", "csv", "jsonl"]),
        (&["logs", "-f", "--until", "1h"], &["--until"]),
        (&["logs", "--json", "--format", "csv"], &["--format"]),
        (&["logs", "--model", ""], &["--model", "without a value"]),
    ] {
        let said = run(&mut arbstr.command(), arguments);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {}",
            said.err
        );
        for word in words {
            assert!(said.err.contains(word), "{word} in {}", said.err);
        }
    }
}

#[test]
fn the_database_is_the_named_one_else_the_configs_else_the_usual_one() {
    let (_providers, mut arbstr) = market();
    make_requests(&arbstr);
    arbstr.signal("TERM");
    arbstr.wait_exit(Duration::from_secs(5));
    let folder = Folder::new();
    let nowhere = run(&mut command(&folder), &["stats"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(
        nowhere.err.contains("./arbstr.db") && nowhere.err.contains("--database"),
        "{}",
        nowhere.err
    );
    let database = arbstr.database();
    let named = ["logs", "--database", database.to_str().unwrap()];
    assert_eq!(good(&mut command(&folder), &named).lines().count(), 8);
    // A config whose keys are not set here still says where the database is.
    let config = format!(
        "[database]\npath = {:?}\n[[providers]]\nname = \"a\"\nurl = \"https://a.example\"\napi_key = \"${{NOT_SET}}\"\nmodels = [\"m\"]\n",
        database
    );
    folder.write("arbstr.toml", &config);
    assert_eq!(good(&mut command(&folder), &["logs"]).lines().count(), 8);
    folder.write("arbstr.toml", "[database]\npath = 7\n");
    let bad = run(&mut command(&folder), &["logs"]);
    assert!(
        bad.code == Some(2)
            && bad.err.contains("arbstr.toml:2")
            && bad.err.contains("database.path"),
        "{}",
        bad.err
    );
    let other = folder.write(
        "other.db",
        "this is no database, however long the text may be",
    );
    let refused = run(
        &mut command(&folder),
        &["logs", "--database", other.to_str().unwrap()],
    );
    assert!(
        refused.code == Some(1) && refused.err.contains("other.db"),
        "{}",
        refused.err
    );
    Connection::open(folder.path().join("foreign.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (a)")
        .unwrap();
    let foreign = run(
        &mut command(&folder),
        &["stats", "--database", "foreign.db"],
    );
    assert!(
        foreign.code == Some(1) && foreign.err.contains("another program"),
        "{}",
        foreign.err
    );
}

#[test]
fn without_requests_everything_says_so_calmly() {
    let (_providers, arbstr) = market();
    assert!(wait_until(Duration::from_secs(2), || arbstr
        .database()
        .exists()));
    assert_eq!(
        good(&mut arbstr.command(), &["logs"]),
        "no requests found\n"
    );
    assert_eq!(good(&mut arbstr.command(), &["logs", "--json"]), "");
    assert_eq!(
        good(&mut arbstr.command(), &["logs", "--format", "csv"])
            .lines()
            .count(),
        1
    );
    let summary = good(&mut arbstr.command(), &["stats"]);
    assert!(
        summary.contains("requests") && !summary.contains("NaN"),
        "{summary}"
    );
    assert_eq!(
        good(&mut arbstr.command(), &["stats", "-g", "model"])
            .lines()
            .count(),
        4
    );
}

#[test]
fn following_shows_each_request_once_as_it_ends() {
    let (_providers, arbstr) = market();
    make_requests(&arbstr);
    let mut child = arbstr
        .command()
        .args(["logs", "-f", "-n", "2", "--json"])
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let row: Value = serde_json::from_str(&line).unwrap();
            drop(tell.send(row["correlation_id"].as_str().unwrap().to_owned()));
        }
    });
    let patience = Duration::from_secs(5);
    let before: Vec<String> = (0..2)
        .map(|_| told.recv_timeout(patience).unwrap())
        .collect();
    let known = arbstr.get("/v1/requests?limit=2").json()["data"].clone();
    assert_eq!(
        before,
        [
            known[1]["correlation_id"].as_str().unwrap(),
            known[0]["correlation_id"].as_str().unwrap()
        ]
    );
    let mut made = Vec::new();
    for body in [ask("model-a"), ask_stream("model-a"), ask("model-b")] {
        let mut reply = arbstr.chat(&body);
        reply.drain();
        made.push(reply.id());
    }
    let mut seen: Vec<String> = (0..3)
        .map(|_| told.recv_timeout(patience).unwrap())
        .collect();
    assert!(
        told.recv_timeout(Duration::from_millis(700)).is_err(),
        "each once"
    );
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reader_that_has_read_enough_ends_every_command_in_silence() {
    let (_providers, arbstr) = market();
    make_requests(&arbstr);
    {
        // Enough rows to fill any pipe.
        let connection = Connection::open(arbstr.database()).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        let columns = "timestamp, endpoint, model, streaming, success, series";
        let known = connection.prepare("SELECT series FROM requests").is_ok();
        let columns = if known {
            columns
        } else {
            columns.trim_end_matches(", series")
        };
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                 INSERT INTO requests (correlation_id, {columns}) SELECT 'made-' || i, {columns} FROM n, (SELECT * FROM requests LIMIT 1)"
            ))
            .unwrap();
    }
    for arguments in [
        &["logs", "--format", "csv"][..],
        &["logs", "--json"],
        &["logs", "-n", "3000"],
        &["logs", "-f", "-n", "3000"],
        &["logs", "-f", "-n", "1"],
    ] {
        let mut child = arbstr
            .command()
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = wait_until(Duration::from_secs(10), || {
            child.try_wait().unwrap().is_some()
        });
        if !ended {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (ended, output.status.code(), err.as_str()),
            (true, Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let (_providers, arbstr) = market();
    make_requests(&arbstr);
    for arguments in [
        &["stats"][..],
        &["logs", "--format", "csv"],
        &["providers"],
        &["completions", "bash"],
    ] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = arbstr
            .command()
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && err.contains("cannot print"),
            "{arguments:?}: {err}"
        );
    }
}

#[test]
fn requests_older_than_the_retention_go_at_the_start_and_on_reload_and_totals_stay() {
    let (_providers, mut arbstr) = market();
    make_requests(&arbstr);
    arbstr.signal("TERM");
    arbstr.wait_exit(Duration::from_secs(5));
    let connection = Connection::open(arbstr.database()).unwrap();
    let days = |days: i64| days * 86_400_000;
    for table in [
        "requests SET timestamp = timestamp",
        "rollup_quarters SET start = start",
        "rollup_hours SET start = start",
        "rollup_days SET start = start",
    ] {
        connection
            .execute_batch(&format!("UPDATE {table} - {}", days(10)))
            .unwrap();
    }
    // Without one an hour before the next, the clock would not be believed.
    let recent = "UPDATE requests SET timestamp = timestamp + ?1 WHERE id = 1";
    let shift = days(10) - 2 * 3_600_000;
    assert_eq!(connection.execute(recent, [shift]).unwrap(), 1);
    drop(connection);
    let arbstr = arbstr.restart();
    arbstr.chat(&ask("model-a")).drain();
    let counts = || {
        let list = arbstr.get("/v1/requests").json()["data"]
            .as_array()
            .unwrap()
            .len();
        (
            list,
            arbstr.get("/v1/stats").json()["totals"]["requests"].clone(),
        )
    };
    assert!(
        wait_until(Duration::from_secs(2), || counts() == (8, 8.into())),
        "{:?}",
        counts()
    );
    let path = arbstr.folder().join("arbstr.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        config.replace("[database]", "[database]\nretention_days = 20"),
    )
    .unwrap();
    arbstr.signal("HUP");
    assert!(
        wait_until(Duration::from_secs(3), || arbstr
            .log()
            .contains("database.retention_days: 0 -> 20")),
        "{}",
        arbstr.log()
    );
    assert_eq!(counts().0, 8);
    std::fs::write(
        &path,
        config.replace("[database]", "[database]\nretention_days = 7"),
    )
    .unwrap();
    arbstr.signal("HUP");
    assert!(
        wait_until(Duration::from_secs(5), || counts() == (2, 8.into())),
        "{:?}",
        counts()
    );
    let said = good(&mut arbstr.command(), &["logs"]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn a_database_that_is_behind_its_journal_is_told_as_that() {
    let (_providers, mut arbstr) = market();
    let mut reply = arbstr.chat(&ask("model-a"));
    reply.finish();
    arbstr.row(&reply.id());
    for command in [&["logs", "--json"][..], &["stats", "--json"]] {
        let output = arbstr.command().args(command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
    let lock = Connection::open(arbstr.database()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    arbstr.chat(&ask("model-a")).finish();
    thread::sleep(Duration::from_millis(1100));
    let told = |arbstr: &Arbstr| {
        for command in [&["logs", "--json"][..], &["stats", "--json"]] {
            let output = arbstr.command().args(command).output().unwrap();
            assert!(output.status.success());
            let told = String::from_utf8(output.stderr).unwrap();
            assert!(
                told.starts_with("note: the database is behind: 2 records wait in the journal"),
                "{told}"
            );
        }
    };
    told(&arbstr);
    // Nobody is there to write them.
    arbstr.kill_9();
    told(&arbstr);
}
