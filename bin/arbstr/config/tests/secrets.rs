//! Where keys come from, and that they are never shown.

use super::*;

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
