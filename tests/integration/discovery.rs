//! Models and prices from the providers' own lists: three dialects, what changes over time, and lists that lie.

mod check;
mod lies;
mod reload;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, Gate, Provider, ProviderConfig, Setup, ask, ask_stream, chunk, completion,
    finish, usage_chunk, wait_until,
};

/// As OpenRouter writes it: dollars per token, in quotes.
const OPENROUTER: &str = r#"{"data":[
    {"id":"openai/gpt-4o","canonical_slug":"openai/gpt-4o","name":"OpenAI: GPT-4o","created":1715558400,
     "context_length":128000,"architecture":{"modality":"text+image->text","tokenizer":"GPT"},
     "pricing":{"prompt":"0.0000025","completion":"0.00001","request":"0","image":"0.003613","web_search":"0",
                "internal_reasoning":"0","input_cache_read":"0.00000125"},
     "top_provider":{"context_length":128000,"max_completion_tokens":16384,"is_moderated":true},
     "per_request_limits":null,"supported_parameters":["max_tokens","temperature"]},
    {"id":"perplexity/sonar","pricing":{"prompt":"1e-6","completion":"0.000001","request":"0.005"}},
    {"id":"openrouter/auto","pricing":{"prompt":"-1","completion":"-1"}}]}"#;

/// As Routstr writes it: sats per token, as floats, beside the dollars.
const ROUTSTR: &str = r#"{"data":[
    {"id":"gpt-4o","name":"GPT-4o","created":1715558400,"context_length":128000,
     "pricing":{"prompt":2.5e-06,"completion":1e-05,"request":0.0,"max_prompt_cost":0.32,"max_completion_cost":0.16,"max_cost":0.48},
     "sats_pricing":{"prompt":0.0024183673469387756,"completion":0.009673469387755102,"request":0.0,"image":0.0,
                     "input_cache_read":0.0,"max_prompt_cost":309.55,"max_completion_cost":158.49,"max_cost":468.04},
     "per_request_limits":null,"enabled":true,"upstream_provider_id":"1"},
    {"id":"retired","enabled":false,"sats_pricing":{"prompt":1,"completion":1}}]}"#;

/// As Ollama and OpenAI write it: no prices.
const OLLAMA: &str = r#"{"object":"list","data":[
    {"id":"llama3.2:latest","object":"model","created":1730000000,"owned_by":"library"}]}"#;

/// Long enough for a list to be read twice.
const SOON: Duration = Duration::from_secs(10);

/// A provider whose list is `list` as it is at the moment, and who answers every request.
fn lister(list: &Arc<Mutex<Answer>>) -> Provider {
    let list = Arc::clone(list);
    Provider::by(move |seen, _| {
        if seen.head.starts_with("GET /v1/models ") {
            list.lock().unwrap().clone()
        } else if seen.is_stream() {
            Answer::stream(100, 10)
        } else {
            Answer::json(200, &completion(100, 10))
        }
    })
}

fn listing(text: &str) -> Arc<Mutex<Answer>> {
    Arc::new(Mutex::new(Answer::json(200, text)))
}

/// A list of models in sats per token.
fn priced(models: &[(&str, &str)]) -> String {
    let entries: Vec<String> = models
        .iter()
        .map(|(id, price)| {
            format!(r#"{{"id":"{id}","sats_pricing":{{"prompt":{price},"completion":{price}}}}}"#)
        })
        .collect();
    format!(r#"{{"data":[{}]}}"#, entries.join(","))
}

fn discovered(name: &str, provider: &Provider) -> ProviderConfig {
    ProviderConfig::new(name, provider)
        .models(&[])
        .no_rates()
        .line("auto_discover = true")
        .line("discover_secs = 1")
}

/// The offer of `provider` for `model` in the model list.
fn offer(arbstr: &Arbstr, model: &str, provider: &str) -> Value {
    let listed = arbstr.get("/v1/models").json();
    let models = listed["data"].as_array().cloned().unwrap_or_default();
    let model = models.into_iter().find(|entry| entry["id"] == model);
    let offers = model.map(|model| model["arbstr"]["providers"].clone());
    let offers = offers.and_then(|offers| offers.as_array().cloned());
    offers
        .into_iter()
        .flatten()
        .find(|offer| offer["name"] == provider)
        .unwrap_or(Value::Null)
}

/// How the discovery of the provider at `index` stands.
fn standing(arbstr: &Arbstr, index: usize) -> Value {
    arbstr.get("/providers").json()["data"][index]["discovery"].clone()
}

#[track_caller]
fn wait_for(arbstr: &Arbstr, what: &str, holds: impl Fn() -> bool) {
    assert!(wait_until(SOON, holds), "{what}\n{}", arbstr.log());
}

#[test]
fn each_dialect_gives_models_and_exact_prices() {
    let lists = [OPENROUTER, ROUTSTR, OLLAMA].map(listing);
    let [dollars, sats, plain] = [0, 1, 2].map(|at| lister(&lists[at]));
    let arbstr = Setup::new()
        .set("prices", "usd_per_btc = 80000")
        .provider(discovered("or", &dollars))
        .provider(discovered("rs", &sats))
        .provider(
            discovered("home", &plain)
                .rates("0", "0")
                .line("tier = \"local\""),
        )
        .start();
    wait_for(&arbstr, "all three are read", || {
        (0..3).all(|index| standing(&arbstr, index)["models"].is_number())
    });
    for (model, provider, rates) in [
        // 2.5 dollars per million are 3125 sats at 80,000 dollars; the cached rate half of it.
        ("openai/gpt-4o", "or", "[3125,12500,0]"),
        ("perplexity/sonar", "or", "[1250,1250,6.25]"),
        ("openrouter/auto", "or", "[null,null,null]"),
        // What is finer than a thousandth is rounded up.
        ("gpt-4o", "rs", "[2418.368,9673.47,0]"),
        ("llama3.2:latest", "home", "[0,0,0]"),
        ("retired", "rs", "[null,null,null]"),
    ] {
        let offer = offer(&arbstr, model, provider);
        let shown = ["input_rate", "output_rate", "base_fee"].map(|key| offer[key].to_string());
        assert_eq!(format!("[{}]", shown.join(",")), rates, "{model}");
    }
    assert_eq!(offer(&arbstr, "retired", "rs"), Value::Null);
    let cached = &arbstr.get("/providers").json()["data"][0]["models"][0];
    assert_eq!(cached["cached_input_rate"].to_string(), "1562.5");
    assert!(cached["price_age_secs"].is_u64(), "{cached}");
    assert_eq!(
        dollars.seen()[0].header("authorization").as_deref(),
        Some("Bearer sk-or-secret")
    );

    let reply = arbstr.chat(&ask("openai/gpt-4o"));
    assert_eq!(reply.status, 200);
    // 100 tokens at 3125 and 10 at 12500 per million.
    assert_eq!(reply.header("x-arbstr-cost-sats"), Some("0.4375"));
    let id = reply.id();
    arbstr.row(&id);
    let plan = arbstr.get(&format!("/v1/requests/{id}")).json()["plan"].clone();
    assert!(
        plan["candidates"][0]["price_age_secs"].is_u64(),
        "a published price has an age: {plan}"
    );
}

#[test]
fn until_the_first_answer_the_config_alone_holds_and_nothing_waits() {
    let gate = Gate::new();
    let list = Answer::json(200, &priced(&[("model-a", "9"), ("model-b", "0.001")]));
    let slow = lister(&Arc::new(Mutex::new(list.after(&gate))));
    let arbstr = Setup::new()
        .provider(
            discovered("alpha", &slow)
                .models(&["model-a"])
                .rates("1000", "2000"),
        )
        .start();
    assert_eq!(arbstr.get("/health").status, 200);
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    assert_eq!(arbstr.chat(&ask("model-b")).status, 404);
    assert_eq!(
        standing(&arbstr, 0).to_string(),
        r#"{"age_secs":null,"error":null,"failing_secs":null,"models":null}"#
    );
    gate.open();
    wait_for(&arbstr, "the list comes", || {
        arbstr.chat(&ask("model-b")).status == 200
    });
    // The config is stronger where it names the model and sets its price.
    assert_eq!(offer(&arbstr, "model-a", "alpha")["input_rate"], 1000);
    // Elsewhere the published price holds.
    assert_eq!(offer(&arbstr, "model-b", "alpha")["input_rate"], 1000);
    let ages = arbstr.get("/providers").json()["data"][0]["models"].clone();
    assert!(ages[0]["price_age_secs"].is_null() && ages[1]["price_age_secs"].is_u64());
}

#[test]
fn a_model_appears_vanishes_and_changes_its_price_while_a_request_keeps_its_own() {
    let list = listing(&priced(&[("model-a", "0.001"), ("old", "0.001")]));
    let gate = Gate::new();
    let (now, held) = (Arc::clone(&list), gate.clone());
    let alpha = Provider::by(move |seen, _| {
        if seen.head.starts_with("GET ") {
            return now.lock().unwrap().clone();
        }
        Answer::sse()
            .send(chunk("a"))
            .wait_for(&held)
            .send(finish("stop"))
            .send(usage_chunk(1000, 0))
            .send("data: [DONE]\n\n")
    });
    let arbstr = Setup::new().provider(discovered("alpha", &alpha)).start();
    wait_for(&arbstr, "the first list", || {
        offer(&arbstr, "old", "alpha")["input_rate"] == 1000
    });
    let mut running = arbstr.chat(&ask_stream("model-a"));
    running.read_until(&chunk("a"));
    *list.lock().unwrap() = Answer::json(200, &priced(&[("model-a", "0.002"), ("new", "0.003")]));
    wait_for(&arbstr, "the second list", || {
        offer(&arbstr, "model-a", "alpha")["input_rate"] == 2000
    });
    assert_eq!(offer(&arbstr, "new", "alpha")["input_rate"], 3000);
    assert_eq!(arbstr.chat(&ask("old")).status, 404);
    gate.open();
    running.finish();
    let id = running.id();
    assert_eq!(arbstr.row(&id).int("cost_nanosats"), Some(1_000_000_000));
    let mut next = arbstr.chat(&ask_stream("model-a"));
    next.finish();
    let id = next.id();
    assert_eq!(arbstr.row(&id).int("cost_nanosats"), Some(2_000_000_000));
    let log = arbstr.log();
    let told = "added=\"1 (new)\" removed=\"1 (old)\" repriced=\"1 (model-a)\"";
    assert_eq!(log.matches(told).count(), 1, "{log}");
}

#[test]
fn models_that_nobody_asks_for_make_no_series() {
    let list = listing(&priced(&[("asked", "0.001"), ("idle", "0.001")]));
    let provider = lister(&list);
    let arbstr = Setup::new()
        .provider(discovered("alpha", &provider))
        .start();
    wait_for(&arbstr, "the list", || {
        !offer(&arbstr, "idle", "alpha").is_null()
    });
    arbstr.chat(&ask("asked")).finish();
    let text = arbstr.get("/metrics").finish();
    let series = r#"arbstr_circuit_state{model="asked",provider="alpha"} 0"#;
    assert!(text.contains(series) && !text.contains("idle"), "{text}");
}

#[test]
fn a_list_that_cannot_be_read_leaves_the_old_one_in_force_and_says_so_once() {
    let list = listing(&priced(&[("model-a", "0.001")]));
    let alpha = lister(&list);
    let arbstr = Setup::new().provider(discovered("alpha", &alpha)).start();
    wait_for(&arbstr, "the first list", || {
        standing(&arbstr, 0)["models"] == 1
    });
    *list.lock().unwrap() = Answer::fault(401, "bad key");
    wait_for(&arbstr, "trouble is shown", || {
        standing(&arbstr, 0)["failing_secs"].as_u64() >= Some(2)
    });
    let stands = standing(&arbstr, 0);
    assert_eq!(stands["error"], "HTTP 401: the key was not accepted");
    assert!(stands["age_secs"].as_u64() >= Some(2), "{stands}");
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
    let said = |what: &str| arbstr.log().matches(what).count();
    assert_eq!(said("what was read last stays in force"), 1);
    *list.lock().unwrap() = Answer::json(200, &priced(&[("model-a", "0.001")]));
    wait_for(&arbstr, "trouble is over", || {
        standing(&arbstr, 0)["error"].is_null()
    });
    assert_eq!(said("discovery works again"), 1);
}

#[test]
fn an_error_in_place_of_a_list_takes_no_model_away() {
    let list = listing(&priced(&[("model-a", "0.001"), ("model-b", "0.001")]));
    let alpha = lister(&list);
    let arbstr = Setup::new().provider(discovered("alpha", &alpha)).start();
    wait_for(&arbstr, "the first list", || {
        standing(&arbstr, 0)["models"] == 2
    });
    let (error, nameless) = ("the answer is an error", "the answer names no model");
    for (body, told) in [
        (
            r#"{"code":50505,"message":"Model service overloaded","data":null}"#,
            error,
        ),
        (r#"{"data":[{},5,null]}"#, nameless),
        (
            r#"{"object":"error","message":"overloaded","data":null}"#,
            error,
        ),
    ] {
        *list.lock().unwrap() = Answer::json(200, body);
        wait_for(&arbstr, body, || {
            let stands = standing(&arbstr, 0);
            stands["error"]
                .as_str()
                .is_some_and(|why| why.contains(told))
        });
        assert_eq!(standing(&arbstr, 0)["models"], 2, "{body}");
        assert_eq!(arbstr.chat(&ask("model-b")).status, 200, "{body}");
    }
    *list.lock().unwrap() = Answer::json(200, r#"{"object":"list","data":null}"#);
    wait_for(&arbstr, "a list without models", || {
        standing(&arbstr, 0)["models"] == 0
    });
}

#[test]
fn a_reload_keeps_what_was_discovered() {
    let list = listing(&priced(&[("model-a", "0.001")]));
    let alpha = lister(&list);
    let arbstr = Setup::new()
        .provider(discovered("alpha", &alpha).line("tier = \"local\""))
        .start();
    wait_for(&arbstr, "the list", || standing(&arbstr, 0)["models"] == 1);
    *list.lock().unwrap() = Answer::new(200).stall();
    let path = arbstr.folder().join("arbstr.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("tier = \"local\"", "tier = \"frontier\""),
    )
    .unwrap();
    arbstr.signal("HUP");
    wait_for(&arbstr, "the reload", || {
        arbstr.log().contains("config reloaded")
    });
    assert_eq!(standing(&arbstr, 0)["models"], 1);
    assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
}

#[test]
fn dollars_are_worth_what_the_named_source_says() {
    let list = listing(OPENROUTER);
    let alpha = lister(&list);
    let quote = Arc::new(Mutex::new(Answer::json(
        200,
        r#"{"bitcoin":{"usd":100000.0}}"#,
    )));
    let now = Arc::clone(&quote);
    let source = Provider::by(move |_, _| now.lock().unwrap().clone());
    let line = format!(
        "btc_price_url = \"http://{}/price?of=btc\"",
        source.address()
    );
    let arbstr = Setup::new()
        .set("prices", &line)
        .set("prices", "btc_price_pointer = \"/bitcoin/usd\"")
        .set("prices", "btc_price_secs = 1")
        .provider(discovered("alpha", &alpha))
        .start();
    let rate = || offer(&arbstr, "openai/gpt-4o", "alpha")["input_rate"].to_string();
    wait_for(&arbstr, "the price is used", || rate() == "2500");
    assert!(source.seen()[0].head.starts_with("GET /price?of=btc "));
    assert_eq!(source.seen()[0].header("authorization"), None);
    *quote.lock().unwrap() = Answer::json(200, r#"{"bitcoin":{"usd":"125000"}}"#);
    wait_for(&arbstr, "the new price is used", || rate() == "2000");
    for (nonsense, reported) in [
        (
            r#"{"bitcoin":{"usd":1}}"#,
            "is not from 1000 to 100000000 US dollars",
        ),
        (r#"{"bitcoin":{}}"#, "the answer has no number at"),
        ("<html>", "the answer is not JSON"),
    ] {
        *quote.lock().unwrap() = Answer::json(200, nonsense);
        arbstr.wait_for_log(reported, 1);
    }
    assert_eq!(rate(), "2000");
    let stands = arbstr.get("/providers").json()["btc_price"].clone();
    assert_eq!(stands["usd"], 125_000, "{stands}");
    assert!(
        stands["age_secs"].is_u64() && stands["failing_secs"].is_u64(),
        "{stands}"
    );
    assert!(stands["error"].is_string(), "{stands}");
}

#[test]
fn dollars_that_a_provider_charged_are_sats_only_where_bitcoin_has_a_price() {
    let body = completion(100, 10).replace("\"usage\":{", "\"usage\":{\"cost\":0.001,");
    let alpha = Provider::always(Answer::json(200, &body));
    for (line, nanosats) in [("usd_per_btc = 80000", Some(1_250_000_000)), ("", None)] {
        let setup = Setup::of(&alpha);
        let setup = if line.is_empty() {
            setup
        } else {
            setup.set("prices", line)
        };
        let arbstr = setup.start();
        let reply = arbstr.chat(&ask("model-a"));
        let id = reply.id();
        assert_eq!(
            arbstr.row(&id).int("provider_cost_nanosats"),
            nanosats,
            "{line}"
        );
    }
}
