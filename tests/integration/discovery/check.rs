//! `arbstr check --online`: what each provider's list says about its key, its models and its prices.

use std::time::Instant;

use serde_json::{Value, json};

use super::{ROUTSTR, SOON};
use crate::harness::{Answer, Folder, Provider, ProviderConfig, Setup, command};

/// A provider that gives its list for one key alone.
fn keyed(key: &str) -> Provider {
    let bearer = format!("Bearer {key}");
    Provider::by(move |seen, _| match seen.header("authorization") {
        Some(given) if given == bearer => Answer::json(200, ROUTSTR),
        _ => Answer::fault(401, "no"),
    })
}

/// What the command prints and its exit code.
fn check(setup: &Setup, arguments: &[&str]) -> (String, String, i32) {
    let folder = Folder::new();
    let path = folder.write("arbstr.toml", &setup.text(folder.path()));
    let output = command(&folder)
        .args(["check", "-c"])
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (text(&output.stdout), text(&output.stderr), code)
}

#[test]
fn every_provider_is_asked_at_once_and_held_against_the_config() {
    let good = keyed("sk-alpha-secret");
    let other = keyed("sk-another");
    let open = Provider::always(Answer::json(200, r#"{"data":[{"id":"model-a"}]}"#));
    let gone = Provider::refusing();
    let setup = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &good)
                .models(&["gpt-4o", "gpt-4"])
                .rates("2418.368", "9999"),
        )
        .provider(ProviderConfig::new("beta", &other))
        .provider(ProviderConfig::new("gamma", &open))
        .provider(ProviderConfig::new("delta", &gone).no_key());
    let began = Instant::now();
    let (printed, said, code) = check(&setup, &["--online", "--json"]);
    assert!(began.elapsed() < SOON);
    assert_eq!(code, 1, "{printed}{said}");
    assert!(said.contains("no usable answer from beta, delta"), "{said}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    let column = |name: &str| -> Vec<Value> {
        let providers = report["providers"].as_array().unwrap();
        providers.iter().map(|one| one[name].clone()).collect()
    };
    assert_eq!(column("ok"), [true, false, true, false]);
    assert_eq!(
        column("key"),
        ["accepted", "refused", "not_tested", "none"].map(Value::from)
    );
    assert_eq!(
        column("listed"),
        [json!(1), Value::Null, json!(1), Value::Null]
    );
    assert_eq!(
        report["providers"][0]["missing"],
        json!([{"model":"gpt-4","upstream_model":"gpt-4","nearest":"gpt-4o"}])
    );
    let prices = &report["providers"][0]["prices"][0];
    assert_eq!(prices["config"]["output_rate"], 9999);
    assert_eq!(prices["published"]["output_rate"].to_string(), "9673.47");
    let (table, _, _) = check(&setup, &["--online"]);
    for words in [
        "not tested: the list is public",
        "HTTP 401: the key was not accepted",
        "alpha: its list has no gpt-4; did you mean gpt-4o?",
        "alpha: gpt-4o costs 2418.368 in, 9999 out by the config, 2418.368 in, 9673.47 out by its list",
    ] {
        assert!(table.contains(words), "{words}\n{table}");
    }
    assert!(!table.contains("secret"), "{table}");
}

#[test]
fn the_exit_code_is_0_when_all_is_well_and_2_for_a_bad_config() {
    let good = keyed("sk-alpha-secret");
    let setup = Setup::new().provider(ProviderConfig::new("alpha", &good).models(&["gpt-4o"]));
    let (printed, said, code) = check(&setup, &["--online"]);
    assert_eq!(code, 0, "{printed}{said}");
    let broken = setup.set("server", "lisen = 1");
    assert_eq!(check(&broken, &["--online"]).2, 2);
    assert_eq!(good.count(), 2, "a bad config asks nobody");
    let lacking =
        Setup::new().provider(ProviderConfig::new("alpha", &good).models(&["gpt-4o", "gpt-5"]));
    let (_, said, code) = check(&lacking, &["--online"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("models of the config are missing in the list of alpha"),
        "{said}"
    );
}

#[test]
fn a_key_that_stands_in_a_list_is_not_printed() {
    let key = "sk-quoted-by-its-provider";
    let list = format!(r#"{{"data":[{{"id":"model-a"}},{{"id":"model-{key}"}}]}}"#);
    let provider = Provider::always(Answer::json(200, &list));
    let config = ProviderConfig::new("alpha", &provider)
        .models(&["model-a", "model-sk-quoted-by-its-provide"])
        .line(&format!("headers = {{ x-api-key = \"{key}\" }}"));
    let setup = Setup::new().provider(config);
    for arguments in [&["--online"][..], &["--online", "--json"]] {
        let (printed, said, _) = check(&setup, arguments);
        assert!(printed.contains("model-sk-"), "{printed}{said}");
        assert!(!format!("{printed}{said}").contains(key), "{printed}{said}");
    }
}
