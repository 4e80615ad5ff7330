//! What is said of a file that cannot be used.

use super::*;

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
