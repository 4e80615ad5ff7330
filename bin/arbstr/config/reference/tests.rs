//! The table against the parser and against the page.

use std::fs;
use std::path::Path;

use super::*;
use crate::config::{Config, Options, Source, read};

fn try_read(text: &str) -> Result<Config, String> {
    let env = |_: &str| Some("value".to_owned());
    let source = Source {
        file: Path::new("a.toml"),
        text,
        mode: None,
    };
    read(&source, &env, &Options::default()).map_err(|problems| problems.to_string())
}

const PROVIDER: &str =
    "\n[[providers]]\nname = \"p\"\nurl = \"https://p.example\"\nmodels = [\"m\"]\n";

/// A file with nothing but `line` in the section under `heading`.
fn only(heading: &str, line: &str) -> String {
    match heading {
        "[[providers.model_rates]]" => format!("[[providers]]\n{heading}\n{line}"),
        _ => format!("{heading}\n{line}"),
    }
}

#[test]
fn the_table_has_the_keys_of_the_parser_and_no_other() {
    for section in SECTIONS {
        let said = try_read(&only(section.heading, "qqqqqqqqqqqqqqqq = 1")).unwrap_err();
        let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
        let expected = format!("unknown key, expected one of: {}", names.join(", "));
        assert!(
            said.contains(&expected),
            "{}: describe each key in bin/arbstr/config/reference.rs\n{said}",
            section.heading
        );
    }
}

#[test]
fn the_table_has_the_sections_of_the_parser_and_no_other() {
    let said = try_read("qqqqqqqqqqqqqqqq = 1").unwrap_err();
    let bare = |section: &Section| section.heading.trim_matches(['[', ']']).to_owned();
    let mut described: Vec<String> = SECTIONS.iter().map(bare).collect();
    described.retain(|name| !name.contains('.'));
    let (_, listed) = said.split_once("expected one of: ").unwrap();
    let mut listed: Vec<&str> = listed.lines().next().unwrap().split(", ").collect();
    described.sort_unstable();
    listed.sort_unstable();
    assert_eq!(described, listed);
}

#[test]
fn a_default_written_out_changes_nothing() {
    let plain = format!("{:?}", try_read(PROVIDER).unwrap());
    let mut tried = 0;
    for section in SECTIONS {
        let literal = |key: &&Key| !key.default.starts_with('*') && !key.kind.ends_with("tables");
        for key in section.keys.iter().filter(literal) {
            let line = format!("{} = {}", key.name, key.default);
            let text = match section.heading {
                "[[providers]]" => format!("{PROVIDER}{line}"),
                "[[policies.rules]]" => continue,
                heading => format!("{heading}\n{line}{PROVIDER}"),
            };
            let read = try_read(&text).unwrap_or_else(|problems| panic!("{line}: {problems}"));
            assert_eq!(format!("{read:?}"), plain, "{line}");
            tried += 1;
        }
    }
    assert!(tried > 25, "{tried}");
}

#[test]
fn the_examples_of_the_page_are_good_configs() {
    let page = page();
    let examples: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        try_read(example).unwrap_or_else(|problems| panic!("{example}\n{problems}"));
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is stale: cargo run -- check --reference > docs/configuration.md"
    );
}
