//! The transcripts of README.md, replayed: what a newcomer types must do what the page shows.
//!
//! A `console` block has commands behind `$` and the lines they print. `…` stands for anything within a line, and on a line
//! of its own for any lines. `cargo run --release --` and `target/release/arbstr` are the binary under test, and `curl` is
//! played by the harness, since a machine that only builds arbstr may have none.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Client, Folder, command, wait_until};

const README: &str = include_str!("../../README.md");
const ADDRESS: &str = "127.0.0.1:8080";

const QUICK_START: &str = include_str!("../../docs/quick-start.md");

struct Step<'a> {
    command: String,
    output: Vec<&'a str>,
}

fn transcript() -> Vec<Step<'static>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for block in README.split("```console\n").skip(1) {
        let lines = block.split("```").next().unwrap_or_default().lines();
        let mut continues = false;
        for line in lines {
            if let Some(typed) = line.strip_prefix("$ ") {
                steps.push(Step {
                    command: typed.to_owned(),
                    output: Vec::new(),
                });
            } else if continues {
                let step = steps.last_mut().expect("a block begins with a command");
                step.command += line;
            } else {
                let step = steps.last_mut().expect("a block begins with a command");
                step.output.push(line);
            }
            let typed = &mut steps
                .last_mut()
                .expect("a block begins with a command")
                .command;
            continues = typed.ends_with('\\');
            if continues {
                typed.pop();
            }
        }
    }
    steps
}

/// A command line as a shell would split it; single quotes are all that the transcripts use.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.trim().chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is always one").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

struct Newcomer {
    folder: Folder,
    server: Option<Child>,
    address: Option<SocketAddr>,
}

impl Newcomer {
    fn types(&mut self, line: &str) -> String {
        if let Some(arguments) = line.strip_prefix("cargo run --release -- ") {
            return self.serves(arguments);
        }
        let words = words(line);
        match words[0].as_str() {
            "target/release/arbstr" => {
                let mut command = command(&self.folder);
                let output = command
                    .args(&words[1..])
                    .output()
                    .expect("the binary starts");
                assert!(output.status.success(), "{line}: {output:?}");
                String::from_utf8(output.stdout).expect("it prints text")
            }
            "curl" => self.curls(&words[1..]),
            other => panic!("{other} is no command of the transcripts"),
        }
    }

    fn serves(&mut self, arguments: &str) -> String {
        let mut command: Command = command(&self.folder);
        command
            .args(words(arguments))
            .args(["--listen", "127.0.0.1:0"]);
        let mut child = command.spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        self.server = Some(child);
        let mut said = String::new();
        for line in log.lines() {
            let line = line.expect("the log is text");
            let address = line.split("listening on http://").nth(1).map(|rest| {
                let end = rest.find(' ').unwrap_or(rest.len());
                rest[..end].parse::<SocketAddr>().expect("an address")
            });
            said += &(line + "\n");
            if let Some(address) = address {
                said = said.replace(&address.to_string(), ADDRESS);
                self.address = Some(address);
                return said;
            }
        }
        panic!("it does not listen: {said}");
    }

    fn curls(&self, arguments: &[String]) -> String {
        let address = self.address.expect("a server was started");
        let (mut target, mut body, mut headers, mut shows_head) =
            (String::new(), String::new(), Vec::new(), false);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().expect("the option has a value").clone();
            match argument.as_str() {
                "-H" => headers.push(value()),
                "-d" => body = value(),
                flags if flags.starts_with('-') => shows_head |= flags.contains('i'),
                url => {
                    target = url
                        .strip_prefix("http://")
                        .and_then(|url| url.strip_prefix(ADDRESS))
                        .expect("it asks arbstr")
                        .to_owned()
                }
            }
        }
        let fields: Vec<(&str, &str)> = headers
            .iter()
            .map(|header| header.split_once(": ").expect("a header"))
            .collect();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut client = Client::connect(address);
        client.request(method, &target, &fields, body.as_bytes());
        let mut reply = client.reply(method);
        let text = reply.finish();
        if shows_head {
            format!("{}\n{text}", reply.head)
        } else {
            text
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// Whether a line is as shown.
fn is_like(shown: &str, line: &str) -> bool {
    let mut parts = shown.trim_end().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim_end().strip_prefix(first) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    open || rest.is_empty()
}

/// The first shown line that was not printed.
fn missing<'a>(step: &Step<'a>, output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    let mut skips = false;
    for shown in &step.output {
        if shown.trim() == "…" {
            skips = true;
            continue;
        }
        let found = if skips {
            lines.any(|line| is_like(shown, line))
        } else {
            lines.next().is_some_and(|line| is_like(shown, line))
        };
        if !found {
            return Some(shown);
        }
        skips = false;
    }
    None
}

#[test]
fn what_a_newcomer_types_does_what_the_readme_shows() {
    let steps = transcript();
    assert!(steps.len() >= 4, "the README has its transcripts");
    let mut newcomer = Newcomer {
        folder: Folder::new(),
        server: None,
        address: None,
    };
    for step in &steps {
        let mut output = newcomer.types(&step.command);
        // A record is there a second after the end at the latest, and nobody types faster.
        if step.command.starts_with("target/") {
            wait_until(Duration::from_secs(2), || {
                output = newcomer.types(&step.command);
                missing(step, &output).is_none()
            });
        }
        if let Some(shown) = missing(step, &output) {
            panic!(
                "$ {}\nshould print\n{shown}\nand printed\n{output}",
                step.command
            );
        }
    }
}

#[test]
fn a_shown_line_is_held_against_the_printed_one() {
    let cases = [
        ("requests  1", "requests  1", true),
        ("requests  1", "requests  12", false),
        ("id: …", "id: 0123", true),
        ("… INFO listening on x", "2026 INFO listening on x", true),
        ("a … c", "a b d", false),
        ("a…c", "abcd", false),
    ];
    for (shown, line, like) in cases {
        assert_eq!(is_like(shown, line), like, "{shown:?} {line:?}");
    }
}

/// What was only tried out would later be counted with what was really asked.
#[test]
fn a_newcomer_reads_where_the_records_of_the_mock_go() {
    for (page, next) in [(README, "### The first request"), (QUICK_START, "## 2.")] {
        let begins = page.split(next).next().unwrap_or_default();
        for word in ["serve --mock", "`./arbstr.db`", "`arbstr.db*`"] {
            assert!(begins.contains(word), "{word} in {begins}");
        }
    }
    let mut newcomer = Newcomer {
        folder: Folder::new(),
        server: None,
        address: None,
    };
    newcomer.serves("serve --mock");
    let database = newcomer.folder.path().join("arbstr.db");
    assert!(wait_until(Duration::from_secs(5), || database.exists()));
}
