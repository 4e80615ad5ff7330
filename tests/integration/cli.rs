//! The command line: what each command prints, to whom, and how it ends.

mod ledger;
mod offers;

use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{Folder, command, wait_until};

/// What a command came to.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command to its end.
#[track_caller]
fn run(command: &mut Command, arguments: &[&str]) -> Said {
    let mut child = command.args(arguments).spawn().unwrap();
    // Read meanwhile: a pipe that is full would hold it up.
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(out));
    let ended = wait_until(Duration::from_secs(20), || {
        child.try_wait().unwrap().is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let said = Said {
        code: status.code(),
        out: reader.join().unwrap().unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    };
    assert!(ended, "{arguments:?} did not end: {}{}", said.out, said.err);
    said
}

/// Runs a command that has to succeed without a word of complaint.
#[track_caller]
fn good(command: &mut Command, arguments: &[&str]) -> String {
    let said = run(command, arguments);
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(0), ""),
        "{arguments:?}: {}",
        said.out
    );
    said.out
}

/// The cells of a table's lines; two blanks or more are a gap.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn every_command_explains_itself_with_examples() {
    let folder = Folder::new();
    let help = good(&mut command(&folder), &["--help"]);
    for name in [
        "serve",
        "init",
        "check",
        "providers",
        "cost",
        "stats",
        "logs",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name} in {help}");
        let own = good(&mut command(&folder), &[name, "--help"]);
        assert!(
            own.contains("Usage: arbstr") && own.contains("Examples:"),
            "{name}: {own}"
        );
        assert!(
            own.lines().all(|line| line.chars().count() <= 100),
            "{name}: {own}"
        );
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = good(&mut command(&folder), &["completions", shell]);
        assert!(
            script.contains("arbstr") && script.contains("group-by"),
            "{shell}"
        );
    }
    assert_eq!(
        run(&mut command(&folder), &["completions", "cmd"]).code,
        Some(2)
    );
    assert_eq!(run(&mut command(&folder), &["completions"]).code, Some(2));
}

#[test]
fn serve_without_a_config_says_in_three_lines_what_to_do() {
    let folder = Folder::new();
    let said = run(&mut command(&folder), &["serve"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert_eq!(said.err.lines().count(), 3, "{}", said.err);
    for word in [
        "arbstr.toml",
        "arbstr init",
        "-c FILE",
        "arbstr serve --mock",
    ] {
        assert!(said.err.contains(word), "{word} in {}", said.err);
    }
}
