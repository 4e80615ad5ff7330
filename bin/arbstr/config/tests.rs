//! What a config says, and what is said of a bad one.

use std::path::Path;
use std::time::Duration;

use super::*;

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
fn a_kind_fills_in_what_the_file_leaves_out_and_nothing_else() {
    let provider = |lines: &str| {
        let text = format!("[[providers]]\nname = \"p\"\n{lines}");
        good(&text).providers.remove(0)
    };
    let quarter = Some(Duration::from_secs(900));
    for (lines, url, discover, tier) in [
        (
            "kind = \"openrouter\"",
            "https://openrouter.ai/api/v1",
            quarter,
            Tier::Standard,
        ),
        (
            "kind = \"routstr\"",
            "https://api.routstr.com/v1",
            quarter,
            Tier::Standard,
        ),
        (
            "kind = \"ollama\"",
            "http://127.0.0.1:11434/v1",
            quarter,
            Tier::Local,
        ),
        (
            "kind = \"openai\"\nmodels = [\"m\"]",
            "https://api.openai.com/v1",
            None,
            Tier::Standard,
        ),
        (
            "kind = \"ollama\"\nurl = \"http://localhost:1/v1\"\ntier = \"frontier\"\ndiscover_secs = 5",
            "http://localhost:1/v1",
            Some(Duration::from_secs(5)),
            Tier::Frontier,
        ),
        (
            "kind = \"openrouter\"\nauto_discover = false\nmodels = [\"m\"]",
            "https://openrouter.ai/api/v1",
            None,
            Tier::Standard,
        ),
        (
            "url = \"https://a.example\"\nauto_discover = true",
            "https://a.example",
            quarter,
            Tier::Standard,
        ),
    ] {
        let provider = provider(lines);
        let shown = (provider.url.to_string(), provider.discover, provider.tier);
        assert_eq!(shown, (url.to_owned(), discover, tier), "{lines}");
        assert!(provider.requires_done, "{lines}");
    }
}

#[test]
fn the_usual_key_of_a_kind_goes_to_its_usual_address_alone() {
    let env = |name: &str| (name == "OPENROUTER_API_KEY").then(|| "sk-or".to_owned());
    let source_of = |lines: &str| {
        let text = format!("[[providers]]\nname = \"p\"\nkind = \"openrouter\"\n{lines}");
        let source = Source {
            file: Path::new("a.toml"),
            text: &text,
            mode: None,
        };
        let config = read(&source, &env, &Options::default());
        let provider = config.unwrap_or_else(|problems| panic!("{problems}"));
        provider.providers[0].key_source.clone()
    };
    assert_eq!(source_of(""), KeySource::Env("OPENROUTER_API_KEY".into()));
    assert_eq!(
        source_of("url = \"https://other.example/v1\""),
        KeySource::None
    );
}

#[test]
fn a_discovered_provider_may_name_models_in_its_rates_alone() {
    let config = good(
        "[[providers]]\nname = \"p\"\nkind = \"ollama\"\ninput_rate = 1\noutput_rate = 2\n\
         models = [\"a\"]\n[[providers.model_rates]]\nmodel = \"b\"\nupstream_model = \"x/b\"\n\
         input_rate = 3\noutput_rate = 4",
    );
    let model = |name: &str, upstream: &str, (input, output)| Model {
        name: name.into(),
        upstream: upstream.into(),
        rates: Some(rates(input, output, None, "0")),
    };
    let provider = &config.providers[0];
    assert_eq!(
        provider.models,
        [model("a", "a", ("1", "2")), model("b", "x/b", ("3", "4"))]
    );
    assert_eq!(provider.rates, Some(rates("1", "2", None, "0")));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn the_price_of_bitcoin_is_a_figure_an_address_or_both() {
    let of = |lines: &str| with(&format!("[prices]\n{lines}")).prices;
    assert_eq!(of(""), Prices::default());
    let figure = of("usd_per_btc = 98_765.5");
    assert_eq!(
        figure.usd_per_btc.map(|price| price.to_string()).as_deref(),
        Some("98765.5")
    );
    let source = of(
        "btc_price_url = \"https://${HOST}/price?of=btc\"\nbtc_price_pointer = \"/a/b\"\nbtc_price_secs = 60",
    );
    let read = source.source.unwrap();
    assert_eq!(
        (
            read.url.to_string().as_str(),
            read.pointer.as_str(),
            read.every
        ),
        (
            "https://host.example/price?of=btc",
            "/a/b",
            Duration::from_secs(60)
        )
    );
    let local = of("btc_price_url = \"http://127.0.0.1:1/\"\nbtc_price_pointer = \"\"");
    assert!(local.source.is_some());
    let refused = |lines: &str| bad(&format!("[prices]\n{lines}\n{PROVIDER}"));
    let figure = "found {}, expected US dollars for one bitcoin, from 1000 to 100000000";
    for number in ["0", "-1", "1e12", "nan"] {
        assert_eq!(
            refused(&format!("usd_per_btc = {number}")),
            format!("2: prices.usd_per_btc: {}", figure.replace("{}", number))
        );
    }
    for address in [
        "http://price.example/",
        "https://user:pass@price.example/",
        "https://price.example/#x",
        "price.example",
        "ftp://price.example/",
    ] {
        assert_eq!(
            refused(&format!(
                "btc_price_url = {address:?}\nbtc_price_pointer = \"/a\""
            )),
            "2: prices.btc_price_url: found another address, expected an https URL \
             (http only on this machine), without a user name or fragment"
        );
    }
    assert_eq!(
        refused("btc_price_pointer = \"/a\""),
        "2: prices.btc_price_pointer: found alone, expected btc_price_url and btc_price_pointer together"
    );
    assert_eq!(
        refused("btc_price_url = \"https://a.example\"\nbtc_price_pointer = \"a\""),
        "3: prices.btc_price_pointer: found \"a\", expected a JSON pointer such as \"/bitcoin/usd\""
    );
}

#[test]
fn each_model_has_its_effective_price() {
    let config = good(EVERYTHING);
    let models = &config.providers[0].models;
    assert_eq!(models[0].upstream, "gpt-4o");
    assert_eq!(models[0].rates, Some(rates("1", "2", Some("0.5"), "1")));
    assert_eq!(models[1].name, "mini");
    assert_eq!(models[1].upstream, "vendor/mini");
    assert_eq!(
        models[1].rates,
        Some(rates("0.125", "16", Some("0"), "0.000000001"))
    );
}

#[test]
fn a_models_price_is_completed_by_its_providers() {
    let general = "input_rate = 10\noutput_rate = 30\ncached_input_rate = 5\nbase_fee = 2\n";
    let none = None;
    for (general, own, expected) in [
        (general, "", Some(rates("10", "30", Some("5"), "2"))),
        (
            general,
            "output_rate = 9",
            Some(rates("10", "9", Some("5"), "2")),
        ),
        (
            general,
            "cached_input_rate = 1",
            Some(rates("10", "30", Some("1"), "2")),
        ),
        (
            general,
            "base_fee = 0",
            Some(rates("10", "30", Some("5"), "0")),
        ),
        // A discount belongs to the price that it is a discount on.
        (general, "input_rate = 1", Some(rates("1", "30", None, "2"))),
        (
            "base_fee = 3",
            "input_rate = 1\noutput_rate = 2",
            Some(rates("1", "2", None, "3")),
        ),
        ("", "", none),
        ("base_fee = 3", "", none),
    ] {
        let text = format!(
            "[[providers]]\nname = \"a\"\nurl = \"https://a.example\"\nmodels = [\"m\"]\n{general}\n\
             [[providers.model_rates]]\nmodel = \"m\"\n{own}"
        );
        assert_eq!(
            good(&text).providers[0].models[0].rates,
            expected,
            "{general} / {own}"
        );
    }
}

#[test]
fn a_price_is_exact_to_the_last_digit() {
    let config = good(&PROVIDER.replace("10000", "9007199254740993.001"));
    let model = &config.providers[0].models[0];
    let rates = model.rates.expect("it has a price");
    assert_eq!(rates.input.to_string(), "9007199254740993.001");
}

#[test]
fn a_key_comes_from_the_file_else_from_the_variable_of_the_name() {
    let provider = |name: &str, key: &str| PROVIDER.replace("alpha", name) + key;
    for (name, setting, key, source) in [
        ("a", "", None, KeySource::None),
        (
            "from-env",
            "",
            Some("sk-from-env"),
            KeySource::Env("ARBSTR_FROM_ENV_API_KEY".into()),
        ),
        (
            "From.Env",
            "",
            Some("sk-from-env"),
            KeySource::Env("ARBSTR_FROM_ENV_API_KEY".into()),
        ),
        ("empty-env", "", None, KeySource::None),
        (
            "from-env",
            "api_key = \"lit\"",
            Some("lit"),
            KeySource::Literal,
        ),
        (
            "a",
            "api_key = \"x-${HOST}\"",
            Some("x-host.example"),
            KeySource::Config(vec!["HOST".into()]),
        ),
    ] {
        let config = good(&provider(name, setting));
        let provider = &config.providers[0];
        assert_eq!(
            provider.api_key.as_ref().map(Secret::expose),
            key,
            "{name} {setting}"
        );
        assert_eq!(provider.key_source, source);
    }
}

#[test]
fn no_secret_is_in_the_debug_text_of_anything() {
    let literal = EVERYTHING.replace(
        "api_key = \"${KEY}\"",
        "api_key = \"sk-the-secret-literal\"",
    );
    for text in [EVERYTHING, &literal] {
        let config = good(text);
        let source = Source {
            file: Path::new("a.toml"),
            text,
            mode: None,
        };
        let mut problems = Vec::new();
        let raw = raw::read(text, &mut problems);
        let shown = format!("{config:?} {config:#?} {source:?} {raw:?}");
        for secret in ["sk-the-secret", "token-of-this-test"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn no_problem_quotes_a_secret() {
    let provider = PROVIDER.trim_start();
    for text in [
        format!("{provider}api_key = \"sk-the-secret with blanks\""),
        format!("{provider}api_key = \"${{BAD}}\""),
        format!("{provider}api_key = [\"sk-the-secret\"]"),
        format!("{provider}api_key = 7777777"),
        format!("{provider}api_key = \"sk-the-secret"),
        format!("{provider}api_key = sk-the-secret"),
        format!("{provider}api_kei = \"sk-the-secret\""),
        format!("{provider}api_key = \"sk-the-secret ${{UNSET}}\""),
        format!("{provider}api_key = \"sk-the-secret ${{\""),
        format!("{provider}api_key = \"k\"\napi_key = \"sk-the-secret\""),
        format!("{provider}headers = {{ x-a = 7777777 }}"),
        format!("{provider}headers = {{ x-a = \"sk-the-secret\\u0000\" }}"),
        format!("{provider}headers = {{ host = \"sk-the-secret\" }}"),
        format!("[server]\nauth_token = \"${{BAD}}\"\n{provider}"),
        format!("[server]\nauth_token = {{ a = \"sk-the-secret\" }}\n{provider}"),
        format!("[server]\nlisten = \"${{BAD}}\"\n{provider}"),
        provider.replace("https://a", "https://user:the-secret@a"),
        provider.replace("https://a", "htps://user:the-secret@a"),
        provider.replace("https://a.example", "https://${BAD}"),
        provider.replace("\"alpha\"", "\"${BAD}\""),
        provider.replace("\"gpt-4o\"", "\"${BAD}\\n\""),
    ] {
        let problems = bad(&text);
        for secret in ["the-secret", "7777777"] {
            assert!(!problems.contains(secret), "{text}\n{problems}");
        }
    }
}

#[test]
fn where_nobody_is_called_keys_may_be_missing_and_nothing_else() {
    let text = format!(
        "[server]\nauth_token = \"${{NO_TOKEN}}\"\n{PROVIDER}api_key = \"${{NO_A}}${{NO_B}}\"\n\
         headers = {{ \"x-key\" = \"${{NO_C}}\" }}"
    );
    let read_for = |text: &str, keys_optional| {
        let source = Source {
            file: Path::new("a.toml"),
            text,
            mode: None,
        };
        let options = Options {
            keys_optional,
            ..Options::default()
        };
        read(&source, &|_| None, &options).map_err(|problems| problems.list.len())
    };
    assert_eq!(read_for(&text, false).unwrap_err(), 4);
    let config = read_for(&text, true).unwrap();
    assert_eq!(config.server.auth_token, None);
    let alpha = &config.providers[0];
    assert_eq!((&alpha.api_key, alpha.headers.len()), (&None, 0));
    assert_eq!(
        alpha.key_source.to_string(),
        "${NO_A} ${NO_B} is not set",
        "the names, for the operator"
    );
    for wrong in [
        text.replace("${NO_A}", "${no closing"),
        text.replace("https://a.example", "${NO_HOST}"),
    ] {
        assert!(read_for(&wrong, true).is_err(), "{wrong}");
    }
}

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
fn warns_of_secrets_that_are_too_short_to_be_told_from_other_text() {
    let too_short = |what: &str| {
        format!(
            "{what} is shorter than 8 characters: an answer that echoes it is passed on as it is"
        )
    };
    let provider =
        PROVIDER.to_owned() + "headers = { \"x-key\" = \"seven77\", \"x-org\" = \"4\" }\n";
    let telemetry = "[telemetry]\nheaders = { \"x-token\" = \"eight888\", \"x-scope\" = \"4\" }\n";
    let config = good(&(provider + telemetry));
    assert_eq!(config.warnings, [too_short("the header x-key")]);
    assert_eq!(config.secrets().collect::<Vec<_>>(), ["eight888"]);
}

#[test]
fn warns_when_two_names_share_a_key() {
    let second = PROVIDER.replace("alpha", "from.env");
    let config = good(&(PROVIDER.replace("alpha", "from-env") + &second));
    let expected = "providers from-env and from.env both get the key in ARBSTR_FROM_ENV_API_KEY; \
                    give each its own with api_key";
    assert_eq!(config.warnings, [expected]);
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
fn says_what_is_wrong_with_the_server() {
    for (settings, said) in [
        ("[server]\nlisten = 8080", "2: server.listen: found the number 8080, expected an address like \"127.0.0.1:8080\"".to_owned()),
        (
            "[server]\nlisten = \"localhost\"",
            "2: server.listen: found \"localhost\", expected an address and a port, such as \"127.0.0.1:8080\"".into(),
        ),
        (
            "[server]\nlisten = \"0.0.0.0:1\"",
            "2: server.listen: found 0.0.0.0:1, expected a loopback address, or server.auth_token to be set \
             (--allow-open lets everybody in)"
                .into(),
        ),
        ("server.lisen = \"x\"", "1: server.lisen: unknown key, did you mean `listen`?".into()),
        (
            "[server]\nport = 1",
            "2: server.port: unknown key, expected one of: listen, auth_token, max_body_bytes, cors_origins, \
             shutdown_grace_secs"
                .into(),
        ),
        ("server.drain_max_secs = 1", "1: server.drain_max_secs: unknown key, it belongs into [stream]".into()),
        ("server.path = 1", "1: server.path: unknown key, it belongs into [database]".into()),
        ("[sever]", "1: sever: unknown key, did you mean `server`?".into()),
        ("server = 1", "1: server: found the number 1, expected a table".into()),
        (
            "[server]\nauth_token = \"\"",
            "2: server.auth_token: found an empty token, expected one or more visible ASCII characters without blanks".into(),
        ),
        (
            "[server]\nauth_token = \"${EMPTY}\"",
            "2: server.auth_token: found EMPTY set to nothing, \
             expected one or more visible ASCII characters without blanks"
                .into(),
        ),
        (
            "[server]\nauth_token = \"two words\"",
            "2: server.auth_token: found a token that no client can send, \
             expected one or more visible ASCII characters without blanks"
                .into(),
        ),
        ("[server]\nauth_token = \"${NO}\"", "2: server.auth_token: environment variable NO is not set".into()),
        (
            "[server]\nmax_body_bytes = 0",
            "2: server.max_body_bytes: found 0, expected a whole number from 1 to 4294967295".into(),
        ),
        (
            "[server]\nmax_body_bytes = 1.5",
            "2: server.max_body_bytes: found 1.5, expected a whole number from 1 to 4294967295".into(),
        ),
        (
            "[server]\nmax_body_bytes = \"32M\"",
            "2: server.max_body_bytes: found the string \"32M\", expected a number".into(),
        ),
        (
            "[server]\ncors_origins = [\n\"https://ok.example\",\n\"https://app.example/\",\n1]",
            "4: server.cors_origins[1]: found \"https://app.example/\", \
             expected an origin as browsers send it, such as \"https://app.example\"\n\
             5: server.cors_origins[2]: found the number 1, expected a string"
                .into(),
        ),
        ("[server]\ncors_origins = \"*\"", "2: server.cors_origins: found the string \"*\", expected an array of strings".into()),
    ] {
        assert_eq!(bad(&format!("{settings}\n{PROVIDER}")), said, "{settings}");
    }
}

#[test]
fn says_what_is_wrong_with_a_limit_of_a_request() {
    const SECONDS: &str = "expected seconds above 0 and up to 86400, with up to 3 decimals";
    for (settings, said) in [
        ("[database]\npath = \"\"", "2: database.path: found \"\", expected the path of a file".into()),
        (
            "[database]\nretention_days = -1",
            "2: database.retention_days: found -1, expected a whole number from 0 to 36500".into(),
        ),
        (
            "[stream]\nmetadata = \"header\"",
            "2: stream.metadata: found \"header\", expected \"event\", \"comment\" or \"off\"".into(),
        ),
        (
            "[stream]\non_client_disconnect = true",
            "2: stream.on_client_disconnect: found true, expected a string".into(),
        ),
        ("[timeouts]\nconnect = 0", format!("2: timeouts.connect: found 0, {SECONDS}")),
        ("[timeouts]\nidle = -1", format!("2: timeouts.idle: found -1, {SECONDS}")),
        ("[timeouts]\nresponse = 1e3", format!("2: timeouts.response: found 1e3, {SECONDS}")),
        ("[timeouts]\nfirst_event = 0.0001", format!("2: timeouts.first_event: found 0.0001, {SECONDS}")),
        (
            "[timeouts]\nfirst_event = \"soon\"",
            "2: timeouts.first_event: found \"soon\", expected \"auto\" or a number of seconds".into(),
        ),
        (
            "[timeouts]\nfirst_event = true",
            "2: timeouts.first_event: found true, expected a number or a string".into(),
        ),
        (
            "[timeouts]\ntotal = 86401",
            "2: timeouts.total: found 86401, expected seconds from 0 to 86400, with up to 3 decimals".into(),
        ),
        ("[retry]\nmax_attempts = 0", "2: retry.max_attempts: found 0, expected a whole number from 1 to 100".into()),
        ("[circuit]\nfailures = 0", "2: circuit.failures: found 0, expected a whole number from 1 to 1000".into()),
        ("[circuit]\nopen_secs = inf", format!("2: circuit.open_secs: found inf, {SECONDS}")),
    ] {
        assert_eq!(bad(&format!("{settings}\n{PROVIDER}")), said, "{settings}");
    }
}

#[test]
fn says_what_is_wrong_with_a_policy() {
    const MONEY: &str =
        "expected sats per 1,000,000 tokens: a number from 0, with up to 3 decimals";
    for (settings, said) in [
        (
            "[policies]\ndefault_strategy = \"cheepest\"",
            "2: policies.default_strategy: found \"cheepest\", \
             expected \"cheapest\", \"lowest_latency\" or \"round_robin\"; did you mean \"cheapest\"?"
                .into(),
        ),
        (
            "[policies]\nrules = [{ name = \"a\", max_sats_per_1m_output = 1.0001 }, { name = \"a\" }, {}, 1]",
            format!(
                "2: policies.rules[0].max_sats_per_1m_output: found 1.0001, {MONEY}\n\
                 2: policies.rules[1].name: found \"a\" a second time, expected a name that no other rule has\n\
                 2: policies.rules[2].name: missing, expected a name for this rule\n\
                 2: policies.rules[3]: found the number 1, expected a table"
            ),
        ),
        (
            "[[policies.rules]]\nname = \"a b\"\nkeywords = [\"x\", \"x\", \"\"]\nallowed_providers = [\"alhpa\"]",
            "2: policies.rules[0].name: found \"a b\", expected a name of visible ASCII characters\n\
             3: policies.rules[0].keywords[1]: \"x\" is listed twice, expected once\n\
             3: policies.rules[0].keywords[2]: found \"\", expected a word to look for\n\
             4: policies.rules[0].allowed_providers[0]: found \"alhpa\", \
             expected a provider's name; did you mean \"alpha\"?"
                .into(),
        ),
        (
            "[[models]]\nname = \"gpt-4o\"\nany_of = []\n[[models]]",
            "2: models[0].name: found \"gpt-4o\", expected a name that no provider's model has\n\
             3: models[0].any_of: found no model, expected at least one\n\
             4: models[1].any_of: missing, expected the models that may serve it\n\
             4: models[1].name: missing, expected the name that clients ask for"
                .into(),
        ),
    ] {
        assert_eq!(bad(&format!("{settings}\n{PROVIDER}")), said, "{settings}");
    }
}

#[test]
fn says_what_is_wrong_with_a_provider() {
    const URL: &str = "expected the provider's base URL, such as \"https://provider.example/v1\"";
    const NAME: &str = "expected a name of 1 to 64 ASCII letters, digits, `.`, `_` or `-`";
    const MONEY: &str =
        "expected sats per 1,000,000 tokens: a number from 0, with up to 3 decimals";
    let cases: Vec<(&str, &str, String)> = vec![
        ("name = \"alpha\"", "", "1: providers[0].name: missing, expected a name for this provider".into()),
        ("\"alpha\"", "\"al pha\"", format!("2: providers[0].name: found \"al pha\", {NAME}")),
        ("\"alpha\"", "\"\"", format!("2: providers[0].name: found \"\", {NAME}")),
        ("https://a.example/v1", "a.example", format!("3: providers[0].url: found something that is no absolute URL, {URL}")),
        ("https://a.example/v1", "ftp://a.example", format!("3: providers[0].url: found a URL that is neither http nor https, {URL}")),
        ("https://a.example/v1", "https://u:p@a.example", format!("3: providers[0].url: found a URL with a user name or password in it, {URL}")),
        ("a.example/v1", "a.example/v1?k=1", format!("3: providers[0].url: found a URL with a query or fragment, {URL}")),
        ("a.example/v1", "a.example/v1/chat/completions", format!("3: providers[0].url: found the address of one operation, {URL}")),
        ("models = [\"gpt-4o\"]", "", "1: providers[0].models: missing, expected the models this provider serves".into()),
        ("[\"gpt-4o\"]", "[]", "4: providers[0].models: found no model, expected at least one".into()),
        ("[\"gpt-4o\"]", "[\"m\", \"m\"]", "4: providers[0].models[1]: \"m\" is listed twice, expected once".into()),
        ("[\"gpt-4o\"]", "[\" m\"]", "4: providers[0].models[0]: found \" m\", expected a model's name".into()),
        ("input_rate = 10000", "input_rate = \"cheap\"", "5: providers[0].input_rate: found the string \"cheap\", expected a number".into()),
        ("input_rate = 10000", "input_rate = -1", format!("5: providers[0].input_rate: found -1, {MONEY}")),
        ("input_rate = 10000", "input_rate = 0.0001", format!("5: providers[0].input_rate: found 0.0001, {MONEY}")),
        ("input_rate = 10000", "input_rate = 1e-4", format!("5: providers[0].input_rate: found 1e-4, {MONEY}")),
        ("input_rate = 10000", "input_rate = nan", format!("5: providers[0].input_rate: found nan, {MONEY}")),
        ("input_rate = 10000", "inptu_rate = 10000", "5: providers[0].inptu_rate: unknown key, did you mean `input_rate`?\n\
            6: providers[0].output_rate: found without input_rate, expected both (0 where it is free)".into()),
        ("output_rate = 30000", "base_fee = -1", "5: providers[0].input_rate: found without output_rate, expected both (0 where it is free)\n\
            6: providers[0].base_fee: found -1, expected sats: a number from 0, with up to 9 decimals".into()),
        ("output_rate = 30000", "output_rate = 1\ntier = \"best\"", "7: providers[0].tier: found \"best\", expected \"local\", \"standard\" or \"frontier\"".into()),
        ("output_rate = 30000", "output_rate = 1\napi_key = \"\"", "7: providers[0].api_key: found a key that cannot be sent, expected one or more visible ASCII characters without blanks".into()),
        ("output_rate = 30000", "output_rate = 1\napi_key = \"${EMPTY}\"", "7: providers[0].api_key: found EMPTY set to nothing, expected one or more visible ASCII characters without blanks".into()),
        ("output_rate = 30000", "output_rate = 1\napi_key = \"${A} ${B}\"", "7: providers[0].api_key: environment variable A is not set\n\
            7: providers[0].api_key: environment variable B is not set".into()),
        ("url = \"https://a.example/v1\"", "kind = \"opnerouter\"", "3: providers[0].kind: found \"opnerouter\", expected \"openrouter\", \"routstr\", \"ollama\" or \"openai\"; did you mean \"openrouter\"?".into()),
        ("output_rate = 30000", "output_rate = 1\nmodel = \"m\"", "7: providers[0].model: unknown key, did you mean `models`? ([[providers.model_rates]] has it)".into()),
        ("models = [\"gpt-4o\"]", "kind = \"openai\"", "1: providers[0].models: missing, expected the models this provider serves".into()),
        ("models = [\"gpt-4o\"]", "kind = \"ollama\"\nauto_discover = false", "1: providers[0].models: missing, expected the models this provider serves".into()),
        ("output_rate = 30000", "output_rate = 1\nauto_discover = 1\ndiscover_secs = 0", "7: providers[0].auto_discover: found the number 1, expected true or false\n\
            8: providers[0].discover_secs: found 0, expected seconds above 0 and up to 86400, with up to 3 decimals".into()),
        ("output_rate = 30000", "output_rate = 1\nrequires_done = \"no\"", "7: providers[0].requires_done: found the string \"no\", expected true or false".into()),
        ("output_rate = 30000", "output_rate = 1\nmax_concurrency = -1", "7: providers[0].max_concurrency: found -1, expected a whole number from 0 to 1000000".into()),
        ("output_rate = 30000", "output_rate = 1\ntimeouts = { idl = 1, total = -1 }", "7: providers[0].timeouts.idl: unknown key, did you mean `idle`?\n\
            7: providers[0].timeouts.total: found -1, expected seconds from 0 to 86400, with up to 3 decimals".into()),
        ("output_rate = 30000", "output_rate = 1\n[providers.headers]\nHost = \"h\"\n\"a b\" = \"x\"\nx-a = 1", "8: providers[0].headers.Host: found the header host, expected a header other than those that arbstr itself sets\n\
            9: providers[0].headers.\"a b\": found a name that no header can have, expected a header's name\n\
            10: providers[0].headers.x-a: found a number, expected a string".into()),
        ("output_rate = 30000", "output_rate = 1\n[[providers.model_rates]]\nmodel = \"gpt-4\"\ninput_rate = 1", "8: providers[0].model_rates[0].model: found \"gpt-4\", expected one of the provider's `models`; did you mean \"gpt-4o\"?".into()),
        ("output_rate = 30000", "output_rate = 1\n[[providers.model_rates]]\ninput = 1", "7: providers[0].model_rates[0].model: missing, expected one of the provider's models\n\
            8: providers[0].model_rates[0].input: unknown key, expected one of: model, upstream_model, input_rate, output_rate, cached_input_rate, base_fee".into()),
    ];
    for (from, to, said) in cases {
        let text = PROVIDER.trim_start().replace(from, to);
        assert_eq!(bad(&text), said, "{to}");
    }
}

#[test]
fn two_providers_cannot_have_one_name() {
    assert_eq!(
        bad(&format!("{PROVIDER}{PROVIDER}")),
        "10: providers[1].name: found \"alpha\" a second time, expected a name that no other provider has"
    );
    // Whatever else is wrong with either of them.
    let faulty = PROVIDER.replace("url = \"https://a.example/v1\"", "kind = \"opne\"");
    for (text, lines) in [
        (
            format!("{faulty}{PROVIDER}"),
            ["4: providers[0].kind", "10: providers[1].name"],
        ),
        (
            format!("{PROVIDER}{faulty}"),
            ["10: providers[1].name", "11: providers[1].kind"],
        ),
    ] {
        let said = bad(&text);
        let places: Vec<&str> = said
            .lines()
            .filter_map(|line| Some(line.split_once(": found")?.0))
            .collect();
        assert_eq!(places, lines, "{said}");
    }
}

#[test]
fn reports_everything_in_one_go_in_the_order_of_the_file() {
    let text = "retry.max_attempts = 0\n[server]\nlisten = 1\nport = 2\n[stream]\nmetadata = \"x\"\n\
                [[providers]]\nname = \"${NO_NAME}\"\nurl = \"x\"\nkey = \"k\"\n";
    let lines: Vec<String> = bad(text)
        .lines()
        .map(|line| line.chars().take(30).collect())
        .collect();
    assert_eq!(
        lines,
        [
            "1: retry.max_attempts: found 0",
            "3: server.listen: found the nu",
            "4: server.port: unknown key, e",
            "6: stream.metadata: found \"x\",",
            "7: providers[0].models: missin",
            "8: providers[0].name: environm",
            "9: providers[0].url: found som",
            "10: providers[0].key: unknown ",
        ]
    );
}

#[test]
fn syntax_faults_come_with_their_lines_and_duplicates_do_not_hide_the_rest() {
    for (text, said) in [
        (
            "[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\nport = 1",
            "3: server.listen: given twice, expected once\n4: server.port: unknown key",
        ),
        (
            "[[providers]]\nname = \"a\"\nname = \"b\"\n",
            "3: providers[0].name: given twice",
        ),
        (
            "[[providers]]\n[[providers]]\n[[providers.model_rates]]\n[[providers.model_rates]]\nmodel = \"a\"\nmodel = \"b\"",
            "6: providers[1].model_rates[1].model: given twice",
        ),
        ("[retry]\n[server]\n[server]\n", "3: server: given twice"),
        (
            "[server]\nlisten = 127.0.0.1:8080",
            "2: not TOML: invalid float, expected nothing; a text needs quotes: listen = \"…\"",
        ),
        ("[server]\nlisten = 127.0.0.1", "2: not TOML: "),
        ("[server\nlisten = 1", "1: not TOML: "),
        ("a = \nb = [1\n", "1: not TOML: "),
    ] {
        let problems = bad(text);
        assert!(problems.contains(said), "{problems}");
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

proptest::proptest! {
    /// Whatever a slip of the hand does to a file, it is read or reported, with lines that exist.
    #[test]
    fn no_damage_to_a_file_goes_without_an_answer(
        at in 0..EVERYTHING.len(),
        cut in 0_usize..40,
        slip in r#"[ -~\n\täß€\u{0}]{0,6}"#,
    ) {
        let (before, after) = EVERYTHING.split_at(at);
        let damaged = format!("{before}{slip}{}", after.get(cut..).unwrap_or_default());
        let source = Source { file: Path::new("a.toml"), text: &damaged, mode: None };
        if let Err(problems) = read(&source, &|_| None, &Options::default()) {
            proptest::prop_assert!(!problems.list.is_empty());
            let lines = damaged.split('\n').count();
            for problem in &problems.list {
                proptest::prop_assert!(problem.place.line.is_none_or(|line| (1..=lines).contains(&line)));
                proptest::prop_assert!(!problem.fault.is_empty());
            }
        }
    }
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
