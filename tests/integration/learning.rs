//! What answers teach: what the next request is expected to take, who counts generously, who breaks off, who knows a
//! conversation; and that it outlives the process.

use std::time::Duration;
use std::{fs, thread};

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, Folder, Provider, ProviderConfig, Setup, ask, chunk, completion,
};

/// The candidates that `/v1/cost` shows for a request.
fn candidates(arbstr: &Arbstr, body: &str) -> Vec<Value> {
    let mut reply = arbstr.call("POST", "/v1/cost", &[], body.as_bytes());
    let json = reply.json();
    assert_eq!(reply.status, 200, "{json}");
    json["candidates"].as_array().unwrap().clone()
}

fn of<'a>(candidates: &'a [Value], provider: &str) -> &'a Value {
    let found = candidates
        .iter()
        .find(|candidate| candidate["provider"] == provider);
    found.unwrap()
}

fn serve(arbstr: &Arbstr, body: &str) -> String {
    let mut reply = arbstr.chat(body);
    let text = reply.finish();
    assert_eq!(reply.status, 200, "{text}");
    reply.needs("x-arbstr-provider").to_owned()
}

/// A completion that says as much as it bills, if `bytes` are as many as usual.
fn saying(bytes: usize, prompt: u64, output: u64) -> Answer {
    let text = "word ".repeat(bytes / 5);
    Answer::json(200, &completion(prompt, output).replace("Hello", &text))
}

#[test]
fn what_is_learned_is_expected_and_survives_a_restart() {
    let provider = Provider::always(saying(2800, 123, 700));
    let mut arbstr = Setup::of(&provider).start();
    let body = ask("model-a");
    (0..10).for_each(|_| drop(serve(&arbstr, &body)));
    let expected = |arbstr: &Arbstr| {
        let candidates = candidates(arbstr, &body);
        let tokens = |name: &str| candidates[0][name].as_u64().unwrap();
        (
            tokens("expected_input_tokens"),
            tokens("expected_output_tokens"),
        )
    };
    assert_eq!(expected(&arbstr), (123, 700));
    let other = body.replace(
        "Say hello.",
        "Write a very different and much longer thing, please.",
    );
    assert_ne!(candidates(&arbstr, &other)[0]["expected_input_tokens"], 123);
    arbstr.signal("TERM");
    arbstr.wait_exit(Duration::from_secs(20));
    let arbstr = arbstr.restart();
    assert_eq!(expected(&arbstr), (123, 700));
}

#[test]
fn what_the_mock_teaches_is_kept_from_real_providers() {
    let provider = Provider::healthy(10, 4);
    let folder = Folder::new();
    let setup = Setup::of(&provider).database(&folder.path().join("shared.db"));
    let took_up = |setup: &Setup| {
        let mut arbstr = setup.start();
        arbstr.chat(&ask("gpt-4o"));
        arbstr.signal("TERM");
        arbstr.wait_exit(Duration::from_secs(20));
        arbstr.log().contains("took up what was learned")
    };
    let mock = setup.clone().argument("--mock");
    assert!(!took_up(&mock), "nothing is there yet");
    assert!(!took_up(&setup), "what is there is the mock's");
    assert!(took_up(&mock) && took_up(&setup), "each its own");
}

#[test]
fn what_could_not_be_read_at_the_start_is_not_saved_over() {
    let provider = Provider::always(saying(2800, 123, 700));
    let stop = |mut arbstr: Arbstr| {
        arbstr.signal("TERM");
        arbstr.wait_exit(Duration::from_secs(20));
        arbstr
    };
    let arbstr = Setup::of(&provider).start();
    let body = ask("model-a");
    (0..10).for_each(|_| drop(serve(&arbstr, &body)));
    let arbstr = stop(arbstr);
    let (database, aside) = (arbstr.database(), arbstr.folder().join("aside"));
    fs::rename(&database, &aside).unwrap();
    fs::create_dir(&database).unwrap();
    let arbstr = arbstr.restart();
    fs::remove_dir(&database).unwrap();
    fs::rename(&aside, &database).unwrap();
    while arbstr.get("/health").json()["store"]["database_ready"] != true {
        thread::sleep(Duration::from_millis(20));
    }
    let arbstr = stop(arbstr).restart();
    let expected = &candidates(&arbstr, &body)[0]["expected_output_tokens"];
    assert_eq!(*expected, 700);
}

#[test]
fn the_parts_of_an_expected_cost_add_up() {
    let provider = Provider::healthy(100, 10);
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .rates("1000", "2000")
                .line("base_fee = 0.5"),
        )
        .start();
    let shown = candidates(&arbstr, &ask("model-a"));
    let parts = shown[0]["cost_parts"].as_object().unwrap();
    let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
    assert!((sum - shown[0]["expected_cost_sats"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(parts["base_fee_sats"], 0.5);
    assert_eq!(parts["failure_sats"], 0);
    assert_eq!(shown[0]["ranked"], "cheapest");
}

#[test]
fn asking_for_the_cost_takes_nobodys_turn() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .set("policies", "default_strategy = \"round_robin\"")
        .provider(ProviderConfig::new("alpha", &provider))
        .provider(ProviderConfig::new("beta", &provider))
        .start();
    let body = ask("model-a");
    let mut winners = Vec::new();
    for _ in 0..4 {
        (0..3).for_each(|_| drop(candidates(&arbstr, &body)));
        winners.push(serve(&arbstr, &body));
    }
    assert_eq!(winners, ["alpha", "beta", "alpha", "beta"]);
}

#[test]
fn who_bills_more_for_the_same_text_is_found_out() {
    let generous = Provider::always(saying(2000, 100, 1500));
    let honest = Provider::always(saying(2000, 100, 500));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &generous).rates("1000", "10000"))
        .provider(ProviderConfig::new("beta", &honest).rates("1000", "14000"))
        .start();
    let body = ask("model-a");
    assert_eq!(serve(&arbstr, &body), "alpha");
    (0..80).for_each(|_| drop(serve(&arbstr, &body)));
    let winners: Vec<String> = (0..10).map(|_| serve(&arbstr, &body)).collect();
    assert!(
        winners.iter().filter(|name| *name == "beta").count() >= 9,
        "{winners:?}"
    );
    let shown = candidates(&arbstr, &body);
    assert_eq!(shown[0]["provider"], "beta", "{shown:?}");
    assert!(
        of(&shown, "alpha")["ranked"]
            .as_str()
            .unwrap()
            .starts_with("costs ")
    );
}

#[test]
fn usage_that_cannot_be_true_is_flagged_and_billed() {
    let honest = Provider::always(saying(400, 50, 100));
    let liar = Provider::always(saying(400, 50, 90_000));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &liar).rates("1000", "1000"))
        .provider(ProviderConfig::new("beta", &honest).rates("2000", "2000"))
        .start();
    let body = ask("model-a");
    let mut reply = arbstr.chat(&body);
    reply.finish();
    assert_eq!(reply.needs("x-arbstr-provider"), "alpha");
    assert_eq!(reply.needs("x-arbstr-cost-sats"), "90.05");
    assert_eq!(arbstr.row(&reply.id()).int("implausible_usage"), Some(1));
    (0..20).for_each(|_| drop(serve(&arbstr, &body)));
    let providers = arbstr.get("/providers").json();
    let flagged = |place: usize| {
        providers["data"][place]["models"][0]["implausible_usage"]
            .as_u64()
            .unwrap()
    };
    assert!(flagged(0) >= 1, "{providers}");
    assert_eq!(flagged(1), 0, "{providers}");
}

#[test]
fn who_breaks_off_is_expected_to_cost_more() {
    let breaking = Provider::by(|seen, _| {
        assert!(seen.is_stream());
        Answer::sse().send(chunk(&"word ".repeat(100))).reset()
    });
    let steady = Provider::healthy(10, 10);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &breaking).rates("1000", "1000"))
        .provider(ProviderConfig::new("beta", &steady).rates("5000", "5000"))
        .start();
    let body = ask("model-a").replace("\"messages\"", "\"stream\":true,\"messages\"");
    for _ in 0..2 {
        arbstr.chat(&body).finish();
    }
    let shown = candidates(&arbstr, &body);
    let alpha = of(&shown, "alpha");
    assert!(
        alpha["cost_parts"]["failure_sats"].as_f64().unwrap() > 0.0,
        "{alpha}"
    );
    assert_eq!(alpha["success_rate"], 0.0);
}

#[test]
fn a_conversation_is_expected_in_the_cache_of_who_knows_it() {
    let usage = r#""prompt_tokens":2010,"prompt_tokens_details":{"cached_tokens":1900}"#;
    let answer = completion(2010, 10).replace(r#""prompt_tokens":2010"#, usage);
    let provider = Provider::always(Answer::json(200, &answer));
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .rates("1000", "1000")
                .line("cached_input_rate = 100"),
        )
        .provider(ProviderConfig::new("beta", &provider).rates("1001", "1000"))
        .start();
    let first = ask("model-a").replace("Say hello.", &"many words of input ".repeat(400));
    let next = first.replace(
        "}]",
        r#"},{"role":"assistant","content":"Hello"},{"role":"user","content":"Go on."}]"#,
    );
    let cached = |body: &str, provider: &str| {
        let shown = candidates(&arbstr, body);
        of(&shown, provider)["expected_cached_input_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached(&next, "alpha"), 0);
    assert_eq!(serve(&arbstr, &first), "alpha");
    assert!(cached(&next, "alpha") > 1000, "{}", cached(&next, "alpha"));
    assert_eq!(cached(&next, "beta"), 0);
    let unrelated = first.replace("many words", "other words");
    assert!(cached(&unrelated, "alpha") < 1000);
}

#[test]
fn what_trials_cost_more_is_told() {
    let provider = Provider::always(saying(2000, 100, 500));
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("alpha", &provider).rates("1000", "10000"))
        .provider(ProviderConfig::new("beta", &provider).rates("1000", "10500"))
        .start();
    let body = ask("model-a");
    let told = |arbstr: &Arbstr| arbstr.get("/providers").json()["exploration_sats"].clone();
    assert_eq!(told(&arbstr), 0);
    let mut premiums = 0.0;
    for _ in 0..100 {
        let mut reply = arbstr.chat(&body);
        reply.finish();
        arbstr.row(&reply.id());
        let request = arbstr.get(&format!("/v1/requests/{}", reply.id())).json();
        let ranked = request["plan"]["candidates"][0]["ranked"].as_str().unwrap();
        let premium = ranked
            .strip_prefix("tried to learn what it charges, for ")
            .and_then(|rest| rest.strip_suffix(" sats more"));
        premiums += premium.map_or(0.0, |sats| sats.parse::<f64>().unwrap());
    }
    assert!(premiums > 0.0, "nobody was tried");
    let total = told(&arbstr).as_f64().unwrap();
    assert!((total - premiums).abs() < 1e-6, "{total} {premiums}");
    let metrics = arbstr.get("/metrics").finish();
    let line = format!("arbstr_exploration_sats_total {total}");
    assert!(
        metrics.lines().any(|have| have == line),
        "{line}\n{metrics}"
    );
}
