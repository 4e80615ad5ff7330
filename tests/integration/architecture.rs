//! The crate graph is the one that ARCHITECTURE.md draws: workspace crates and external ones alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// Crate to what it may use; `None` stands for everything.
type Table = BTreeMap<String, Option<BTreeSet<String>>>;

/// Rows of the first table with the columns `crate | one sentence | may use`; a `?` after a name means optional.
fn read_table(text: &str) -> Table {
    let mut lines = text
        .lines()
        .skip_while(|line| cells(line) != ["crate", "one sentence", "may use"]);
    lines
        .next()
        .expect("ARCHITECTURE.md has a table `crate | one sentence | may use`");
    lines
        .map(cells)
        .take_while(|row| row.len() == 3)
        .filter(|row| !row[0].chars().all(|c| c == '-' || c == ':'))
        .map(|row| (row[0].clone(), allowed(&row[2])))
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line
        .trim()
        .strip_prefix('|')
        .and_then(|rest| rest.strip_suffix('|'))
    else {
        return Vec::new();
    };
    inner
        .split('|')
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .collect()
}

fn allowed(cell: &str) -> Option<BTreeSet<String>> {
    if cell.starts_with("everything") {
        return None;
    }
    Some(
        cell.split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
    )
}

/// What each workspace crate does use, outside its tests and benches; an optional dependency has a `?`.
fn used() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env::var_os("CARGO").expect("cargo runs its tests with CARGO set"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                package["name"].as_str().unwrap().to_owned(),
                normal(package),
            )
        })
        .collect()
}

fn normal(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|dependency| dependency["kind"] != "dev");
    dependencies
        .map(|dependency| {
            format!(
                "{}{}",
                dependency["name"].as_str().unwrap(),
                if dependency["optional"] == true {
                    "?"
                } else {
                    ""
                }
            )
        })
        .collect()
}

#[test]
fn every_crate_uses_what_the_table_allows_and_nothing_else() {
    let table = read_table(
        &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap(),
    );
    let used = used();
    assert_eq!(
        table.keys().collect::<Vec<_>>(),
        used.keys().collect::<Vec<_>>(),
        "the table and the workspace list the same crates"
    );
    for (name, dependencies) in &used {
        if let Some(allowed) = &table[name] {
            assert_eq!(
                allowed, dependencies,
                "{name}: left the table, right Cargo.toml"
            );
        }
    }
}

#[test]
fn dependencies_point_one_way_and_only_the_binary_knows_sockets() {
    let table = read_table(
        &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap(),
    );
    assert_eq!(
        table.values().filter(|allowed| allowed.is_none()).count(),
        1,
        "one crate may use everything"
    );
    let order = [
        "arbstr-sse",
        "arbstr-wire",
        "arbstr-price",
        "arbstr-route",
        "arbstr-store",
        "arbstr-http1",
        "arbstr",
    ];
    for (name, dependencies) in used() {
        let at = order
            .iter()
            .position(|crate_name| *crate_name == name)
            .unwrap_or_else(|| panic!("{name} has no place in the order"));
        for (later, forbidden) in order.iter().enumerate() {
            assert!(
                later < at || !dependencies.contains(*forbidden),
                "{name} may not use {forbidden}"
            );
        }
        for socket in ["tokio", "hyper", "hyper-util", "rustls", "hyper-rustls"] {
            assert!(
                name == "arbstr" || !dependencies.contains(socket),
                "{name} may not use {socket}"
            );
        }
    }
    assert!(
        !used()["arbstr-store"].contains("arbstr-route")
            && !used()["arbstr-route"].contains("arbstr-store")
    );
}

#[test]
fn the_table_is_read_as_it_is_written() {
    let text = "intro\n\n| crate | one sentence | may use |\n|-|:-|-|\n| `a` | Does, well. | `b`, c? |\n| d | All. | everything; even x |\n\n| e | f | g |\n";
    let table = read_table(text);
    assert_eq!(table.len(), 2);
    assert_eq!(table["a"], Some(["b".to_owned(), "c?".to_owned()].into()));
    assert_eq!(table["d"], None);
}
