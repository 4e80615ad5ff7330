//! The config: what is wrong is named with file, line and key, and exits with 2; what is right starts; a reload disturbs nobody.

use std::path::Path;
use std::process::Output;
use std::time::Duration;
use std::{fs, thread};

use crate::harness::{
    Answer, DONE, Folder, Gate, Provider, ProviderConfig, Setup, ask, ask_stream, chunk, command,
    finish, usage_chunk, wait_until,
};

const GOOD: &str = r#"[server]
listen = "127.0.0.1:0"

[[providers]]
name = "alpha"
url = "http://127.0.0.1:9/v1"
api_key = "sk-alpha-secret"
models = ["model-a"]
input_rate = 10
output_rate = 20
"#;

#[track_caller]
fn run(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = command(folder)
        .args(arguments)
        .envs(variables.iter().copied())
        .spawn()
        .unwrap();
    let ended = wait_until(Duration::from_secs(10), || {
        child.try_wait().unwrap().is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended, "{arguments:?} did not end: {}", said(&output));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Name, what to replace in the good config by what, the line the message has to name, words it has to say.
const BAD: &[(&str, &str, &str, usize, &[&str])] = &[
    (
        "misspelt key",
        "listen =",
        "lisen =",
        2,
        &["lisen", "listen"],
    ),
    (
        "misspelt section",
        "[server]",
        "[sever]",
        1,
        &["sever", "server"],
    ),
    (
        "misspelt provider key",
        "input_rate",
        "input_rat",
        9,
        &["input_rat", "input_rate"],
    ),
    (
        "wrong type",
        "input_rate = 10",
        "input_rate = \"ten\"",
        9,
        &["input_rate"],
    ),
    (
        "four decimals",
        "input_rate = 10",
        "input_rate = 10.0001",
        9,
        &["input_rate", "decimal"],
    ),
    (
        "negative rate",
        "output_rate = 20",
        "output_rate = -1",
        10,
        &["output_rate"],
    ),
    (
        "no number",
        "output_rate = 20",
        "output_rate = nan",
        10,
        &["output_rate"],
    ),
    (
        "broken TOML",
        "models = [\"model-a\"]",
        "models = \"model-a",
        8,
        &[],
    ),
    (
        "unset variable",
        "sk-alpha-secret",
        "${NO_SUCH_VARIABLE}",
        7,
        &["NO_SUCH_VARIABLE", "api_key"],
    ),
    (
        "address that is none",
        "127.0.0.1:0",
        "nonsense",
        2,
        &["listen"],
    ),
    (
        "URL that is none",
        "http://127.0.0.1:9/v1",
        "not a url",
        6,
        &["url"],
    ),
    (
        "URL of another kind",
        "http://127.0.0.1:9/v1",
        "ftp://127.0.0.1/v1",
        6,
        &["url", "http"],
    ),
    (
        "open to the world",
        "127.0.0.1:0",
        "0.0.0.0:0",
        2,
        &["auth_token"],
    ),
    (
        "open to the world by IPv6",
        "127.0.0.1:0",
        "[::]:0",
        2,
        &["auth_token"],
    ),
    (
        "bad word",
        "output_rate = 20",
        "output_rate = 20\ntier = \"cheap\"",
        11,
        &["tier", "local", "standard", "frontier"],
    ),
    (
        "empty name",
        "name = \"alpha\"",
        "name = \"\"",
        5,
        &["name"],
    ),
    (
        "bad stream word",
        "[[providers]]",
        "[stream]\nmetadata = \"evnt\"\n[[providers]]",
        5,
        &["metadata", "event", "comment", "off"],
    ),
    (
        "zero attempts",
        "[[providers]]",
        "[retry]\nmax_attempts = 0\n[[providers]]",
        5,
        &["max_attempts"],
    ),
    (
        "two of one name",
        "output_rate = 20\n",
        "output_rate = 20\n[[providers]]\nname = \"alpha\"\nurl = \"http://127.0.0.1:9/v1\"\nmodels = [\"b\"]\n",
        12,
        &["alpha", "name"],
    ),
    (
        "no URL",
        "url = \"http://127.0.0.1:9/v1\"\n",
        "",
        4,
        &["url"],
    ),
];

#[test]
fn a_bad_config_names_file_line_and_key_and_exits_with_2() {
    let folder = Folder::new();
    let mut failures = Vec::new();
    for (name, from, to, line, words) in BAD {
        assert!(GOOD.contains(from), "{from}");
        let path = folder.write("bad.toml", &GOOD.replace(from, to));
        for subcommand in ["check", "serve"] {
            let output = run(&folder, &[subcommand, "-c", path.to_str().unwrap()], &[]);
            let text = said(&output);
            let mut missing: Vec<_> = words
                .iter()
                .filter(|word| !text.contains(**word))
                .map(|word| (*word).to_owned())
                .collect();
            if !text.contains("bad.toml") {
                missing.push("the file".to_owned());
            }
            if !text.contains(&format!(":{line}")) && !text.contains(&format!("line {line}")) {
                missing.push(format!("line {line}"));
            }
            if text.contains("sk-alpha-secret") {
                missing.push("silence about the key".to_owned());
            }
            if output.status.code() != Some(2) || !missing.is_empty() {
                failures.push(format!(
                    "{name} ({subcommand}): exit {:?}, missing {missing:?} in\n{text}",
                    output.status.code()
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let folder = Folder::new();
    let text = GOOD
        .replace("listen =", "lisen =")
        .replace("input_rate = 10", "input_rate = -1")
        .replace("models =", "modles =");
    let path = folder.write("bad.toml", &text);
    let told = said(&run(&folder, &["check", "-c", path.to_str().unwrap()], &[]));
    for word in ["lisen", "input_rate", "modles"] {
        assert!(told.contains(word), "{word} in {told}");
    }
}

#[test]
fn what_is_wrong_is_told_to_machines_too() {
    let folder = Folder::new();
    let text = GOOD
        .replace("listen =", "lisen =")
        .replace("input_rate = 10", "input_rate = -1");
    let database = format!("[database]\npath = {:?}\n", folder.path()) + GOOD;
    let bad = folder.write("bad.toml", &text);
    let misplaced = folder.write("misplaced.toml", &database);
    for (file, code, places) in [
        (
            bad.to_str().unwrap(),
            2,
            &[(2, "server.lisen"), (9, "providers[0].input_rate")][..],
        ),
        (misplaced.to_str().unwrap(), 1, &[(0, "database.path")]),
        ("/no/such/file.toml", 2, &[(0, "")]),
    ] {
        let plain = run(&folder, &["check", "-c", file], &[]);
        for arguments in [&["--json"][..], &["--json", "--online"]] {
            let arguments = [&["check", "-c", file], arguments].concat();
            let output = run(&folder, &arguments, &[]);
            assert_eq!(
                (output.status.code(), &output.stderr),
                (Some(code), &plain.stderr)
            );
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(told["file"], file);
            let problems = told["problems"].as_array().unwrap();
            let found: Vec<(u64, &str)> = problems
                .iter()
                .map(|problem| {
                    assert!(!problem["fault"].as_str().unwrap().is_empty(), "{told}");
                    let line = problem["line"].as_u64().unwrap_or(0);
                    (line, problem["key"].as_str().unwrap_or(""))
                })
                .collect();
            assert_eq!(found, places, "{told}");
        }
    }
    let none: serde_json::Value =
        serde_json::from_slice(&run(&folder, &["check", "--json"], &[]).stdout).unwrap();
    assert!(
        none["file"].is_null() && none["problems"][0]["fault"].is_string(),
        "{none}"
    );
}

#[test]
fn a_good_config_checks_out_and_shows_no_key() {
    let folder = Folder::new();
    let text = GOOD.replace("sk-alpha-secret", "${ALPHA_KEY}")
        + "\n[[providers]]\nname = \"other-one\"\nurl = \"http://127.0.0.1:9/v1\"\nmodels = [\"model-b\"]\ninput_rate = 1\noutput_rate = 1\n";
    let path = folder.write("good.toml", &text);
    let variables = [
        ("ALPHA_KEY", "sk-from-variable"),
        ("ARBSTR_OTHER_ONE_API_KEY", "sk-by-name"),
    ];
    let output = run(
        &folder,
        &["check", "-c", path.to_str().unwrap()],
        &variables,
    );
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for word in [
        "alpha",
        "ALPHA_KEY",
        "other-one",
        "ARBSTR_OTHER_ONE_API_KEY",
    ] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert!(
        !told.contains("sk-from-variable") && !told.contains("sk-by-name"),
        "{told}"
    );
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let folder = Folder::new();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["serve", "--help"], 0),
        (&["no-such-command"], 2),
        (&["serve", "--no-such-flag"], 2),
        (&["check", "-c", "/no/such/file.toml"], 2),
        (&["serve", "-c", "/no/such/file.toml"], 2),
    ] {
        let output = run(&folder, arguments, &[]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    let none = run(&folder, &["serve"], &[]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    let told = said(&none);
    assert!(
        told.contains("--mock") && told.contains("init"),
        "what to do without a config: {told}"
    );
}

#[test]
fn a_taken_port_is_a_failure_that_names_it() {
    let provider = Provider::healthy(1, 1);
    let folder = Folder::new();
    let path = folder.write(
        "arbstr.toml",
        &GOOD.replace("127.0.0.1:0", &provider.address().to_string()),
    );
    let output = run(&folder, &["serve", "-c", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains(&provider.address().to_string()),
        "{}",
        said(&output)
    );
}

#[test]
fn init_writes_a_config_that_checks_out_and_never_overwrites() {
    let folder = Folder::new();
    let output = run(&folder, &["init", "mine.toml"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let path = folder.path().join("mine.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains('#') && text.contains("[[providers]]"),
        "{text}"
    );
    let again = run(&folder, &["init", "mine.toml"], &[]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_listen_argument_is_stronger_than_the_file() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider)
        .set("server", "listen = \"127.0.0.1:1\"")
        .argument("--listen")
        .argument("127.0.0.1:0")
        .start();
    assert_ne!(arbstr.address().port(), 1);
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
}

#[test]
fn an_open_listener_starts_with_a_token_or_when_told_to() {
    let provider = Provider::healthy(1, 1);
    let open = Setup::of(&provider).set("server", "listen = \"0.0.0.0:0\"");
    drop(open.clone().set("server", "auth_token = \"abc\"").start());
    let arbstr = open.argument("--allow-open").start();
    assert!(arbstr.log().contains("WARN"), "{}", arbstr.log());
}

#[test]
fn warnings_at_start_for_a_literal_key_and_a_readable_file() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    assert!(
        wait_until(Duration::from_secs(1), || arbstr
            .log()
            .lines()
            .any(|line| line.contains("WARN") && line.contains("api_key"))),
        "{}",
        arbstr.log()
    );
    assert!(!arbstr.log().contains("sk-alpha-secret"));
    let folder = Folder::new();
    let path = folder.write("open.toml", GOOD);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let told = said(&run(&folder, &["check", "-c", path.to_str().unwrap()], &[]));
    assert!(
        told.to_lowercase().contains("warn") && told.contains("open.toml"),
        "{told}"
    );
}

fn rewrite(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_reload_swaps_in_what_is_valid_and_disturbs_no_stream() {
    let gate = Gate::new();
    let old = Provider::always(
        Answer::sse()
            .send(chunk("a"))
            .wait_for(&gate)
            .send(finish("stop"))
            .send(usage_chunk(10, 4))
            .send(DONE),
    );
    let new = Provider::healthy(1, 1);
    for trigger in ["HUP", "file"] {
        let arbstr = Setup::new()
            .provider(ProviderConfig::new("alpha", &old))
            .start();
        let mut stream = arbstr.chat(&ask_stream("model-a"));
        stream.read_until(&chunk("a"));
        let path = arbstr.folder().join("arbstr.toml");
        rewrite(&path, &old.url(), &new.url());
        if trigger == "HUP" {
            arbstr.signal("HUP");
        }
        let before = new.count();
        let swapped = wait_until(Duration::from_secs(6), || {
            thread::sleep(Duration::from_millis(50));
            let mut client = arbstr.client();
            client.request_chat(&ask("model-a"));
            // The old provider holds its answer back, so only the new one can give one at once.
            thread::sleep(Duration::from_millis(100));
            client.reset();
            new.count() > before
        });
        assert!(swapped, "{trigger}: {}", arbstr.log());
        // An invalid file is told of and changes nothing.
        rewrite(&path, "[database]", "[databas]");
        arbstr.signal("HUP");
        let told = || arbstr.log().contains("databas") && arbstr.log().contains("database");
        assert!(wait_until(Duration::from_secs(5), told), "{}", arbstr.log());
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
        gate.open();
        let text = stream.finish();
        assert!(text.ends_with(DONE) && !text.contains("error"), "{text}");
        arbstr.row(&stream.id()).assert_success();
    }
}

#[test]
fn health_tells_of_a_config_that_was_not_taken_over() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let path = arbstr.folder().join("arbstr.toml");
    // Requests are served as before, so a balancer has no reason to look elsewhere.
    let tells = |successful: bool| {
        let mut reply = arbstr.get("/health");
        let health = reply.json();
        assert_eq!((reply.status, &health["status"]), (200, &"ok".into()));
        health["config"]["last_reload_successful"] == successful
    };
    assert!(tells(true));
    let patience = Duration::from_secs(5);
    for (from, to, successful) in [("[retry]", "[rety]", false), ("[rety]", "[retry]", true)] {
        rewrite(&path, from, to);
        arbstr.signal("HUP");
        assert!(
            wait_until(patience, || tells(successful)),
            "{}",
            arbstr.log()
        );
    }
}

/// What came before the watch over the file began, and after the file was read, was lost for good.
#[test]
fn a_change_in_the_first_moments_is_taken_over() {
    let provider = Provider::healthy(1, 1);
    for (round, signalled) in [true, false].into_iter().cycle().take(16).enumerate() {
        let arbstr = Setup::of(&provider).start();
        let path = arbstr.folder().join("arbstr.toml");
        rewrite(&path, "[retry]", "[retry]\nmax_attempts = 3");
        if signalled {
            arbstr.signal("HUP");
        }
        let told = || arbstr.log().contains("config reloaded");
        assert!(
            wait_until(Duration::from_secs(8), told),
            "round {round}: {}",
            arbstr.log()
        );
    }
}

#[test]
fn what_takes_a_restart_is_held_against_what_is_in_force() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider)
        .argument("--log-format")
        .argument("json")
        .start();
    let path = arbstr.folder().join("arbstr.toml");
    let told = |word: &str| arbstr.log().matches(word).count();
    let reload = |from: &str, to: &str, times: usize| {
        rewrite(&path, from, to);
        arbstr.signal("HUP");
        let patience = Duration::from_secs(5);
        assert!(wait_until(patience, || told("config reloaded") == times));
    };
    let (first, other) = ("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:9\"");
    reload(first, other, 1);
    let restart = r#""changes":"server.listen: 127.0.0.1:0 -> 127.0.0.1:9""#;
    assert_eq!(told(restart), 1, "{}", arbstr.log());
    reload(other, first, 2);
    assert_eq!(told("at the next start"), 1, "{}", arbstr.log());
    reload("[retry]", "[retry]\nmax_attempts = 3", 3);
    let applied = r#""message":"config reloaded","applied":"[retry] changed""#;
    assert_eq!(told(applied), 1, "{}", arbstr.log());
    fs::remove_file(&path).unwrap();
    let gone = || told("the config file is gone") > 0;
    assert!(wait_until(Duration::from_secs(8), gone), "{}", arbstr.log());
}

#[test]
fn a_database_that_cannot_be_is_a_failure_of_check_and_told_at_the_start() {
    let folder = Folder::new();
    let in_file = folder.write("file", "x").join("arbstr.db");
    let newer = folder.path().join("newer.db");
    let database = rusqlite::Connection::open(&newer).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    for (path, says) in [
        (folder.path().to_owned(), "is a folder; name a file in it"),
        (in_file, "file is not a folder"),
        (newer, "was written by a newer arbstr"),
    ] {
        let database = format!("[database]\npath = {path:?}\n");
        let config = folder.write("bad.toml", &(database + GOOD));
        let checked = run(&folder, &["check", "-c", config.to_str().unwrap()], &[]);
        let told = said(&checked);
        assert_eq!(checked.status.code(), Some(1), "{told}");
        assert!(told.contains(says) && !told.contains("good"), "{told}");
    }
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).database(folder.path()).start();
    assert!(arbstr.log().contains("is a folder; name a file in it"));
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
}

#[test]
fn a_warning_is_told_once_at_the_start_or_when_a_reload_brings_it() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::of(&provider).start();
    let path = arbstr.folder().join("arbstr.toml");
    let told = |word: &str| arbstr.log().matches(word).count();
    let literal = "providers[0].api_key is written in the file";
    assert_eq!(told(literal), 1);
    rewrite(&path, "[retry]", "[retry]\nmax_attempts = 3");
    rewrite(&path, "input_rate = 1000\noutput_rate = 2000\n", "");
    arbstr.signal("HUP");
    let unpriced = "no price for model-a";
    assert!(wait_until(Duration::from_secs(3), || told(unpriced) > 0));
    arbstr.signal("HUP");
    assert!(wait_until(Duration::from_secs(3), || told(
        "config reloaded"
    ) > 1));
    assert_eq!((told(literal), told(unpriced)), (1, 1), "{}", arbstr.log());
}

#[test]
fn mock_needs_no_file_no_key_and_no_network() {
    let folder = Folder::new();
    let mut child = command(&folder)
        .args(["serve", "--mock", "--listen", "127.0.0.1:0"])
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let errors = child.stderr.take().unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    for pipe in [
        Box::new(output) as Box<dyn std::io::Read + Send>,
        Box::new(errors),
    ] {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)).map_while(Result::ok)
            {
                drop(sender.send(line));
            }
        });
    }
    let mut address = None;
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(10)) {
        if let Some((_, rest)) = line.split_once("listening on http://") {
            let text: String = rest
                .chars()
                .take_while(|c| c.is_ascii_digit() || ".:[]".contains(*c))
                .collect();
            address = Some(text.parse().unwrap());
            break;
        }
    }
    let address = address.expect("mock listens");
    let get = |path: &str| {
        let mut client = crate::harness::Client::connect(address);
        client.request("GET", path, &[], b"");
        client.reply("GET").json()
    };
    let model = get("/v1/models")["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for body in [ask(&model), ask_stream(&model)] {
        let mut client = crate::harness::Client::connect(address);
        client.request_chat(&body);
        let mut reply = client.reply("POST");
        let text = reply.finish();
        assert_eq!(reply.status, 200, "{text}");
        assert!(text.contains("choices"), "{text}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
