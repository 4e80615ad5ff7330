//! What a config says, and what is said of a bad one.

use std::path::Path;
use std::time::Duration;

use super::*;

mod faults;
mod prices;
mod secrets;

const PROVIDER: &str = r#"
[[providers]]
name = "alpha"
url = "https://a.example/v1"
models = ["gpt-4o"]
input_rate = 10000
output_rate = 30000
"#;

fn try_read(text: &str) -> Result<Config, String> {
    let env = |name: &str| match name {
        "KEY" => Some("sk-the-secret-of-this-test-0123".to_owned()),
        "TOKEN" => Some("token-of-this-test".to_owned()),
        "HOST" => Some("host.example".to_owned()),
        "BAD" => Some("the-secret value".to_owned()),
        "EMPTY" | "ARBSTR_EMPTY_ENV_API_KEY" => Some(String::new()),
        "ARBSTR_FROM_ENV_API_KEY" => Some("sk-from-env".to_owned()),
        _ => None,
    };
    let source = Source {
        file: Path::new("a.toml"),
        text,
        mode: Some(0o600),
    };
    read(&source, &env, &Options::default()).map_err(|problems| problems.to_string())
}

fn good(text: &str) -> Config {
    try_read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn with(settings: &str) -> Config {
    good(&format!("{settings}\n{PROVIDER}"))
}

/// What is said of a file, without its name.
fn bad(text: &str) -> String {
    let problems = try_read(text).expect_err(text);
    problems.replace("a.toml:", "")
}

fn rates(input: &str, output: &str, cached: Option<&str>, base_fee: &str) -> Rates {
    Rates {
        input: input.parse().unwrap(),
        output: output.parse().unwrap(),
        cached_input: cached.map(|rate| rate.parse().unwrap()),
        base_fee: base_fee.parse().unwrap(),
    }
}

#[test]
fn every_setting_has_the_default_of_the_manual() {
    let config = good(PROVIDER);
    let seconds = Duration::from_secs;
    let price = Some(rates("10000", "30000", None, "0"));
    assert_eq!(
        config.server,
        Server {
            listen: "127.0.0.1:8080".parse().unwrap(),
            auth_token: None,
            max_body_bytes: 33_554_432,
            cors_origins: Vec::new(),
            shutdown_grace: seconds(30),
        }
    );
    assert_eq!(config.database.path, Path::new("./arbstr.db"));
    assert_eq!(
        config.stream,
        Stream {
            metadata: Metadata::Event,
            on_client_disconnect: OnClientDisconnect::Drain,
            drain_max: seconds(60),
        }
    );
    let timeouts = Timeouts {
        connect: seconds(5),
        first_event: FirstEvent::Auto,
        response: seconds(300),
        idle: seconds(60),
        client_stall: seconds(120),
        total: None,
    };
    assert_eq!(config.timeouts, timeouts);
    let retry = Retry {
        max_attempts: 8,
        backoff_base: Duration::from_millis(200),
        same_provider_first: 0,
    };
    assert_eq!(config.retry, retry);
    assert_eq!(
        (config.circuit, config.prices),
        (
            Circuit {
                failures: 3,
                open_for: seconds(30)
            },
            Prices::default()
        )
    );
    assert_eq!(
        config.policies,
        Policies {
            default_strategy: Strategy::Cheapest,
            rules: Vec::new()
        }
    );
    assert_eq!(config.virtual_models, Vec::new());
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(
        config.providers,
        [Provider {
            name: "alpha".into(),
            url: BaseUrl::parse("https://a.example/v1").unwrap(),
            api_key: None,
            key_source: KeySource::None,
            models: vec![Model {
                name: "gpt-4o".into(),
                upstream: "gpt-4o".into(),
                rates: price,
            }],
            rates: price,
            discover: None,
            tier: Tier::Standard,
            max_concurrency: None,
            headers: Vec::new(),
            on_client_disconnect: OnClientDisconnect::Drain,
            requires_done: true,
            timeouts,
        }]
    );
}

#[test]
fn every_setting_can_be_set() {
    let config = good(EVERYTHING);
    assert_eq!(config.server.listen, "0.0.0.0:9000".parse().unwrap());
    assert_eq!(
        config.server.auth_token,
        Some(Secret::new("token-of-this-test".into()))
    );
    assert_eq!(config.server.max_body_bytes, 1000);
    assert_eq!(
        config.server.cors_origins,
        ["https://app.example", "http://localhost:3000"]
    );
    assert_eq!(config.server.shutdown_grace, Duration::ZERO);
    assert_eq!(config.database.path, Path::new("/var/lib/arbstr.db"));
    assert_eq!(
        config.database.retention,
        Some(Duration::from_secs(30 * 86_400))
    );
    assert_eq!(config.stream.metadata, Metadata::Comment);
    assert_eq!(
        config.stream.on_client_disconnect,
        OnClientDisconnect::Abort
    );
    assert_eq!(config.stream.drain_max, Duration::from_secs(1));
    let millis = Duration::from_millis;
    let general = Timeouts {
        connect: millis(250),
        first_event: FirstEvent::Fixed(millis(1500)),
        response: millis(1000),
        idle: millis(2000),
        client_stall: millis(3000),
        total: Some(millis(4000)),
    };
    assert_eq!(config.timeouts, general);
    assert_eq!(
        config.retry,
        Retry {
            max_attempts: 1,
            backoff_base: millis(1),
            same_provider_first: 2
        }
    );
    assert_eq!(
        config.circuit,
        Circuit {
            failures: 1,
            open_for: millis(500)
        }
    );
}

#[test]
fn every_setting_of_a_provider_can_be_set() {
    let config = good(EVERYTHING);
    let millis = Duration::from_millis;
    let general = &config.timeouts;
    let [alpha, beta] = &config.providers[..] else {
        panic!("two providers")
    };
    assert_eq!(alpha.url.to_string(), "https://host.example/v1");
    assert_eq!(
        alpha.api_key.as_ref().map(Secret::expose),
        Some("sk-the-secret-of-this-test-0123")
    );
    assert_eq!(alpha.key_source, KeySource::Config(vec!["KEY".into()]));
    assert_eq!(alpha.tier, Tier::Frontier);
    assert_eq!(alpha.max_concurrency, Some(4));
    assert_eq!(alpha.headers.len(), 1);
    assert_eq!(alpha.headers[0].0, "x-team");
    assert_eq!(alpha.on_client_disconnect, OnClientDisconnect::Drain);
    assert!(!alpha.requires_done);
    let own = Timeouts {
        idle: millis(9000),
        first_event: FirstEvent::Auto,
        total: None,
        ..general.clone()
    };
    assert_eq!(alpha.timeouts, own);
    assert_eq!(beta.on_client_disconnect, OnClientDisconnect::Abort);
    assert_eq!(&beta.timeouts, general);
}

#[test]
fn every_setting_of_policies_can_be_set() {
    let config = good(EVERYTHING);
    assert_eq!(
        config.virtual_models,
        [VirtualModel {
            name: "smart".into(),
            any_of: vec!["gpt-4o".into(), "mini".into()]
        }]
    );
    assert_eq!(config.policies.default_strategy, Strategy::LowestLatency);
    assert_eq!(
        config.policies.rules,
        [
            Rule {
                name: "code".into(),
                allowed_models: vec!["gpt-4o".into(), "smart".into()],
                allowed_providers: vec!["alpha".into()],
                min_tier: Some(Tier::Standard),
                max_sats_per_1m_output: Some("50000.5".parse().unwrap()),
                max_cost: Some("0.25".parse().unwrap()),
                strategy: Strategy::RoundRobin,
                keywords: vec!["function".into(), "debug".into()],
            },
            Rule {
                name: "plain".into(),
                allowed_models: Vec::new(),
                allowed_providers: Vec::new(),
                min_tier: None,
                max_sats_per_1m_output: None,
                max_cost: None,
                strategy: Strategy::LowestLatency,
                keywords: Vec::new(),
            }
        ]
    );
}

const EVERYTHING: &str = r#"
[server]
listen = "0.0.0.0:9000"
auth_token = "${TOKEN}"
max_body_bytes = 1_000
cors_origins = ["https://app.example", "http://localhost:3000"]
shutdown_grace_secs = 0
[database]
path = "/var/lib/arbstr.db"
retention_days = 30
[stream]
metadata = "comment"
on_client_disconnect = "abort"
drain_max_secs = 1
[timeouts]
connect = 0.25
first_event = 1.5
response = 1
idle = 2
client_stall = 3
total = 4
[retry]
max_attempts = 1
backoff_base_ms = 1
same_provider_first = 2
[circuit]
failures = 1
open_secs = 0.5
[[providers]]
name = "alpha"
url = "https://${HOST}/v1/"
api_key = "${KEY}"
models = ["gpt-4o", "mini"]
input_rate = 1
output_rate = 2
cached_input_rate = 0.5
base_fee = 1
tier = "frontier"
max_concurrency = 4
headers = { X-Team = "${TOKEN}" }
on_client_disconnect = "drain"
requires_done = false
auto_discover = false
timeouts = { idle = 9, first_event = "auto", total = 0 }
[[providers.model_rates]]
model = "mini"
upstream_model = "vendor/mini"
input_rate = 0.125
output_rate = 0x10
cached_input_rate = 0
base_fee = 0.000000001
[[providers]]
name = "beta"
url = "http://127.0.0.1:1"
models = ["gpt-4o"]
input_rate = 1
output_rate = 1
[[models]]
name = "smart"
any_of = ["gpt-4o", "mini"]
[policies]
default_strategy = "lowest_latency"
[[policies.rules]]
name = "code"
allowed_models = ["gpt-4o", "smart"]
allowed_providers = ["alpha"]
min_tier = "standard"
max_sats_per_1m_output = 50000.5
max_cost_sats = 0.25
strategy = "round_robin"
keywords = ["function", "debug"]
[[policies.rules]]
name = "plain"
"#;

#[test]
fn warns_of_what_works_but_should_be_known() {
    let open = Options {
        allow_open: true,
        ..Options::default()
    };
    for (text, mode, options, warning) in [
        (
            format!("{PROVIDER}api_key = \"in-the-file\""),
            0o600,
            Options::default(),
            "providers[0].api_key is written in the file; \"${ARBSTR_ALPHA_API_KEY}\" would keep it out",
        ),
        (
            format!("[server]\nauth_token = \"in-the-file\"\n{PROVIDER}"),
            0o600,
            Options::default(),
            "server.auth_token is written in the file; \"${ARBSTR_TOKEN}\" would keep it out",
        ),
        (
            PROVIDER.to_owned(),
            0o640,
            Options::default(),
            "a.toml can be read by others than its owner (mode 0640): chmod 600 a.toml",
        ),
        (
            format!("[server]\nlisten = \"0.0.0.0:80\"\n{PROVIDER}"),
            0o600,
            open,
            "everybody who can reach 0.0.0.0:80 can spend your sats: server.auth_token is not set",
        ),
        (
            format!("{PROVIDER}api_key = \"${{K}}\"").replace("https", "http"),
            0o600,
            Options::default(),
            "provider alpha: its key travels unencrypted to http://a.example/v1",
        ),
        (
            PROVIDER
                .replace("input_rate", "#")
                .replace("output_rate", "#"),
            0o600,
            Options::default(),
            "provider alpha: no price for gpt-4o; what it costs stays unknown",
        ),
        (
            format!("{PROVIDER}[[policies.rules]]\nname = \"r\"\nallowed_models = [\"gpt4o\"]"),
            0o600,
            Options::default(),
            "policies.rules[0].allowed_models[0]: no provider sells \"gpt4o\"; did you mean \"gpt-4o\"?",
        ),
        (
            "[[providers]]\nname = \"p\"\nkind = \"routstr\"".to_owned(),
            0o600,
            Options::default(),
            "provider p: no key, which it asks for; set ROUTSTR_API_KEY or ARBSTR_P_API_KEY in the environment",
        ),
        (
            "[[providers]]\nname = \"p\"\nkind = \"openrouter\"\napi_key = \"${K}\"".to_owned(),
            0o600,
            Options::default(),
            "provider p: its prices are in dollars, and no [prices] says what they are worth; what it costs stays unknown",
        ),
        (
            "[[providers]]\nname = \"p\"\nkind = \"ollama\"".to_owned(),
            0o600,
            Options::default(),
            "provider p: its list has no prices, and it has no input_rate and output_rate (0 where it is free); what it costs stays unknown",
        ),
    ] {
        let env = |name: &str| (name == "K").then(|| "long-enough".to_owned());
        let source = Source {
            file: Path::new("a.toml"),
            text: &text,
            mode: Some(mode),
        };
        let config = read(&source, &env, &options).unwrap();
        assert_eq!(config.warnings, [warning]);
    }
}

#[test]
fn a_listener_on_the_network_needs_a_token() {
    let source = |text| Source {
        file: Path::new("a.toml"),
        text,
        mode: None,
    };
    let on_network = Options {
        listen: "0.0.0.0:80".parse().ok(),
        ..Options::default()
    };
    let problems = read(&source(PROVIDER), &|_| None, &on_network).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "--listen: found 0.0.0.0:80, expected a loopback address, or server.auth_token to be set \
         (--allow-open lets everybody in)"
    );
    let with_token = format!("[server]\nauth_token = \"t\"\n{PROVIDER}");
    let config = read(&source(&with_token), &|_| None, &on_network).unwrap();
    assert_eq!(config.server.listen, "0.0.0.0:80".parse().unwrap());
    let back_home = Options {
        listen: "[::1]:80".parse().ok(),
        ..Options::default()
    };
    let open = format!("[server]\nlisten = \"0.0.0.0:80\"\n{PROVIDER}");
    assert!(read(&source(&open), &|_| None, &back_home).is_ok());
}

#[test]
fn only_mock_does_without_providers() {
    let source = Source {
        file: Path::new("a.toml"),
        text: "",
        mode: None,
    };
    let problems = read(&source, &|_| None, &Options::default()).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "a.toml: providers: found none, expected at least one [[providers]] table"
    );
    let mock = Options {
        mock: true,
        ..Options::default()
    };
    assert!(read(&source, &|_| None, &mock).is_ok());
}

#[test]
fn accepts_every_word_of_a_choice() {
    for (setting, expected) in [
        ("event", Metadata::Event),
        ("comment", Metadata::Comment),
        ("off", Metadata::Off),
    ] {
        let config = with(&format!("[stream]\nmetadata = \"{setting}\""));
        assert_eq!(config.stream.metadata, expected);
    }
    for (setting, expected) in [
        ("local", Tier::Local),
        ("standard", Tier::Standard),
        ("frontier", Tier::Frontier),
    ] {
        let config = good(&format!("{PROVIDER}tier = \"{setting}\""));
        assert_eq!(config.providers[0].tier, expected);
        assert_eq!(expected.to_string(), setting);
    }
}

#[test]
fn a_reload_says_what_changed_and_what_needs_a_restart() {
    let second = PROVIDER.replace("alpha", "beta");
    let old = good(&format!("{PROVIDER}api_key = \"${{KEY}}\"\n{second}"));
    let same = reload::changes(&old, &old, &old.clone());
    assert_eq!(same, reload::Changes::default());
    let changed = PROVIDER
        .replace("10000", "9000")
        .replace("a.example", "z.example");
    let third = PROVIDER.replace("alpha", "gamma");
    let new = good(&format!(
        "[server]\nlisten = \"127.0.0.1:9\"\nmax_body_bytes = 5\nauth_token = \"${{TOKEN}}\"\n\
         [database]\npath = \"b.db\"\nretention_days = 7\n[retry]\nmax_attempts = 2\n{changed}api_key = \"${{TOKEN}}\"\n{third}"
    ));
    let changes = reload::changes(&old, &old, &new);
    assert_eq!(
        changes.applied,
        [
            "server.max_body_bytes: 33554432 -> 5",
            "server.auth_token added",
            "database.retention_days: 0 -> 7",
            "[retry] changed",
            "provider alpha: url, api_key, prices changed",
            "provider beta removed",
            "provider gamma added",
        ]
    );
    assert_eq!(
        changes.needs_restart,
        [
            "server.listen: 127.0.0.1:8080 -> 127.0.0.1:9",
            "database.path: \"./arbstr.db\" -> \"b.db\""
        ]
    );
    let back = reload::changes(&old, &new, &old);
    assert_eq!(back.needs_restart, [""; 0], "it listens there all along");
}

#[test]
fn telemetry_names_a_collector_and_a_share_of_requests() {
    let config = with("");
    assert_eq!(config.telemetry.otlp_endpoint, None);
    assert_eq!(config.telemetry.service_name, "arbstr");
    assert_eq!(config.telemetry.sample_ppm, 1_000_000);
    for (ratio, millionths) in [
        ("0", 0),
        ("1", 1_000_000),
        ("0.25", 250_000),
        ("0.000001", 1),
    ] {
        let config = with(&format!("[telemetry]\nsample_ratio = {ratio}"));
        assert_eq!(config.telemetry.sample_ppm, millionths, "{ratio}");
    }
    for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
        let config = with(&format!("[telemetry]\notlp_endpoint = \"{endpoint}\""));
        let uri = config
            .telemetry
            .otlp_endpoint
            .unwrap()
            .endpoint("/v1/traces");
        assert_eq!(uri, "http://c:4318/v1/traces");
    }
    let said = bad(&format!(
        "[telemetry]\notlp_endpoint = \"localhost:4318\"\nservice_name = \" \"\nsample_ratio = 1.5\nsample = 1\n{PROVIDER}"
    ));
    for place in [
        "2: telemetry.otlp_endpoint",
        "3: telemetry.service_name",
        "4: telemetry.sample_ratio",
        "5: telemetry.sample",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
    let config = with(
        "[telemetry]\notlp_endpoint = \"http://c.example\"\nheaders = { authorization = \"Bearer ${KEY}\" }",
    );
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("unencrypted")),
        "{:?}",
        config.warnings
    );
    assert!(!format!("{config:?}").contains("sk-the-secret"));
}
