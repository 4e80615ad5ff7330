//! `providers` and `cost`: who sells what, at which price, and how each is doing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{cells, good, run};
use crate::harness::{Answer, Folder, Provider, ProviderConfig, Setup, ask, command, wait_until};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:1"
auth_token = "${NO_SUCH_TOKEN}"
[[providers]]
name = "alpha"
url = "https://a.example/v1"
api_key = "${ALPHA_KEY}"
models = ["gpt-4o", "gpt-4o-mini"]
input_rate = 10000
output_rate = 30000
base_fee = 1
[[providers]]
name = "beta"
url = "https://b.example/v1"
api_key = "${NO_SUCH_KEY}"
models = ["gpt-4o"]
input_rate = 0.125
output_rate = 12000.5
tier = "frontier"
[[models]]
name = "smart"
any_of = ["gpt-4o", "gpt-4o-mini"]
"#;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("arbstr.toml", CONFIG);
    folder
}

#[test]
fn providers_are_listed_without_a_server_without_all_keys_and_without_showing_one() {
    let folder = folder();
    let mut command_with_key = command(&folder);
    command_with_key.env("ALPHA_KEY", "cashuAeyJ0b2tlbiI6W3sicHJvb2Zz");
    let table = good(&mut command_with_key, &["providers"]);
    let lines: Vec<Vec<&str>> = table.lines().map(cells).collect();
    let title = [
        "PROVIDER", "TIER", "KEY", "MODEL", "INPUT", "OUTPUT", "CACHED", "FEE", "CIRCUIT",
    ];
    assert_eq!(lines[2], title, "{table}");
    assert_eq!(
        lines[3],
        [
            "alpha",
            "standard",
            "cashuA…***",
            "gpt-4o",
            "10000",
            "30000",
            "10000",
            "1",
            "-"
        ]
    );
    assert_eq!(lines[4][3], "gpt-4o-mini");
    assert_eq!(
        lines[5],
        [
            "beta",
            "frontier",
            "${NO_SUCH_KEY} is not set",
            "gpt-4o",
            "0.125",
            "12000.5",
            "0.125",
            "0",
            "-"
        ]
    );
    assert!(
        table.contains("no arbstr is running at 127.0.0.1:1"),
        "{table}"
    );
    assert!(!table.contains("eyJ0"), "{table}");
    let json: Value =
        serde_json::from_str(&good(&mut command(&folder), &["providers", "--json"])).unwrap();
    assert_eq!(json["data"][1]["models"][0]["output_rate"], json!(12000.5));
    assert_eq!(
        (&json["data"][0]["key"], &json["data"][0]["circuit"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_running_server_tells_its_circuits() {
    let broken = Provider::always(Answer::fault(500, "x"));
    let good_one = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .set("circuit", "failures = 1")
        .set("server", "auth_token = \"${TOKEN}\"")
        .variable("TOKEN", "right-token")
        .provider(ProviderConfig::new("broken", &broken).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good_one))
        .start();
    arbstr
        .chat_with(&[("authorization", "Bearer right-token")], &ask("model-a"))
        .finish();
    // The test's server listens on a port of its own choice, so the config is told which.
    let config = std::fs::read_to_string(arbstr.folder().join("arbstr.toml")).unwrap();
    let told = config.replace("127.0.0.1:0", &arbstr.address().to_string());
    let folder = Folder::new();
    let path = folder.write("told.toml", &told);
    let arguments = ["providers", "-c", path.to_str().unwrap()];
    let table = good(&mut arbstr.command(), &arguments);
    let state = |name: &str| {
        let line = table
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {table}"));
        cells(line).last().map(|cell| (*cell).to_owned())
    };
    let open = state("broken").unwrap();
    let left = open
        .strip_prefix("open ")
        .and_then(|left| left.strip_suffix(" s"));
    let left: u64 = left.unwrap_or_default().parse().expect(&table);
    assert!((1..=30).contains(&left), "{table}");
    assert_eq!(state("good").as_deref(), Some("closed"), "{table}");
    assert!(
        table.contains(&format!(
            "circuits as http://{} has them now",
            arbstr.address()
        )),
        "{table}"
    );
    let locked = good(arbstr.command().env("TOKEN", "wrong"), &arguments);
    assert!(locked.contains("wants the token"), "{locked}");
    assert!(
        !table.contains("right-token")
            && !table.contains("sk-good-secret")
            && !table.contains("sk-broken-secret")
    );
}

#[test]
fn whatever_else_answers_at_the_address_is_no_arbstr() {
    let stranger = Provider::healthy(1, 1);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, told) in [
        (stranger.address(), "is no arbstr of this version"),
        (silent.local_addr().unwrap(), "has not answered within 3 s"),
    ] {
        let folder = Folder::new();
        let config = CONFIG.replace("127.0.0.1:1", &address.to_string());
        folder.write("arbstr.toml", &config);
        let table = good(&mut command(&folder), &["providers"]);
        assert!(table.contains(told), "{table}");
    }
}

/// An arbstr that answered was said to have the circuits and prices of providers that it knows nothing of.
#[test]
fn an_arbstr_with_other_providers_is_not_taken_for_one_that_knows_these() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).models(&["gpt-4o"]))
        .start();
    let none = "the arbstr at ADDRESS has none of these providers";
    let some = "as http://ADDRESS has them now; it does not have beta";
    for (name, told) in [("gamma", none), ("alpha", some)] {
        let folder = Folder::new();
        let config = CONFIG
            .replace("127.0.0.1:1", &arbstr.address().to_string())
            .replace("auth_token = \"${NO_SUCH_TOKEN}\"", "")
            .replace("\"alpha\"", &format!("{name:?}"));
        folder.write("arbstr.toml", &config);
        let told = told.replace("ADDRESS", &arbstr.address().to_string());
        for arguments in [&["providers"][..], &["cost", "-m", "gpt-4o"]] {
            let table = good(&mut command(&folder), arguments);
            let last = table.lines().last().unwrap();
            assert!(last.contains(&told), "{table}");
        }
    }
}

#[test]
fn a_cost_is_exact_and_the_cheapest_comes_first() {
    let folder = folder();
    let table = good(
        &mut command(&folder),
        &["cost", "--model", "gpt-4o", "--input", "3", "--output", "1"],
    );
    let lines: Vec<Vec<&str>> = table.lines().map(cells).collect();
    assert_eq!(lines[0], ["sats for 3 input and 1 output tokens"]);
    assert_eq!(
        lines[3],
        [
            "beta",
            "frontier",
            "gpt-4o",
            "0.000000375",
            "0.0120005",
            "0",
            "0.012000875"
        ]
    );
    assert_eq!(
        lines[4],
        ["alpha", "standard", "gpt-4o", "0.03", "0.03", "1", "1.06"]
    );
    let json: Value = serde_json::from_str(&good(
        &mut command(&folder),
        &["cost", "-m", "smart", "--json"],
    ))
    .unwrap();
    let candidates = json["candidates"].as_array().unwrap();
    assert_eq!((&json["model"], candidates.len()), (&"smart".into(), 3));
    assert_eq!(candidates[0]["provider"], "beta");
}

#[test]
fn a_running_arbstr_is_asked_for_prices_that_only_it_knows() {
    let list = r#"{"data":[{"id":"found","sats_pricing":{"prompt":0.0025,"completion":0.01}}]}"#;
    let provider = Provider::always(Answer::json(200, list));
    let config = ProviderConfig::new("lister", &provider)
        .models(&[])
        .no_rates();
    let arbstr = Setup::new()
        .provider(config.line("auto_discover = true"))
        .start();
    assert!(wait_until(Duration::from_secs(5), || {
        arbstr.get("/v1/models/found").status == 200
    }));
    let config = std::fs::read_to_string(arbstr.folder().join("arbstr.toml")).unwrap();
    let told = config.replace("127.0.0.1:0", &arbstr.address().to_string());
    let folder = Folder::new();
    let path = folder.write("told.toml", &told);
    let arguments = ["cost", "-c", path.to_str().unwrap(), "-m", "found"];
    let table = good(&mut arbstr.command(), &arguments);
    let lines: Vec<Vec<&str>> = table.lines().map(cells).collect();
    assert_eq!(
        lines[3],
        ["lister", "standard", "found", "2.5", "5", "0", "7.5"]
    );
    let source = format!("prices as http://{} has them now", arbstr.address());
    assert!(table.ends_with(&format!("{source}\n")), "{table}");
}

#[test]
fn a_cost_that_cannot_be_told_says_why() {
    let folder = folder();
    for (arguments, code, words) in [
        (
            &["cost", "-m", "gpt4o"][..],
            1,
            &["gpt4o", "did you mean \"gpt-4o\""][..],
        ),
        (
            &["cost", "-m", "\u{1b}[2J"],
            1,
            &["\\u{1b}[2J", "arbstr providers"],
        ),
        (&["cost"], 2, &["--model"]),
        (&["cost", "-m", "gpt-4o", "--input", "-1"], 2, &["'-1'"]),
        (
            &["cost", "-m", "gpt-4o", "--output", "1.5"],
            2,
            &["--output"],
        ),
        (
            &["cost", "-m", "gpt-4o", "--input", "99999999999999"],
            2,
            &["--input"],
        ),
        (&["cost", "-m", "gpt-4o", "-c", "no.toml"], 2, &["no.toml"]),
    ] {
        let said = run(&mut command(&folder), arguments);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(code), ""),
            "{arguments:?}: {}",
            said.err
        );
        for word in words {
            assert!(said.err.contains(word), "{word} in {}", said.err);
        }
    }
    let empty = Folder::new();
    assert_eq!(
        run(&mut command(&empty), &["cost", "-m", "x"]).code,
        Some(2)
    );
}
