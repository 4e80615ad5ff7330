//! What is paid for: kinds, keys of theirs, rates and the price of bitcoin.

use super::*;

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
