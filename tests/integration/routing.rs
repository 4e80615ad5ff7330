//! Who is asked first: the cheapest for this request, within what a policy allows.

use crate::harness::{Answer, Arbstr, Provider, ProviderConfig, Setup, ask, completion};

fn winner(arbstr: &Arbstr, headers: &[(&str, &str)], body: &str) -> String {
    let mut reply = arbstr.chat_with(headers, body);
    let text = reply.finish();
    assert_eq!(reply.status, 200, "{text}");
    reply.needs("x-arbstr-provider").to_owned()
}

#[test]
fn the_cheapest_for_the_whole_request_is_asked_first() {
    // Sats per million in and out, base fee; the request is a few tokens in, at most `max` out.
    let long = ask("model-a")
        .replace("Say hello.", &"many words of input ".repeat(4000))
        .replace("\"messages\"", "\"max_tokens\":1,\"messages\"");
    let short = ask("model-a").replace("\"messages\"", "\"max_tokens\":1,\"messages\"");
    let cases = [
        (
            "by rates",
            ("1000", "2000", "0"),
            ("900", "1900", "0"),
            &short,
            "beta",
        ),
        (
            "by base fee",
            ("1000", "2000", "0"),
            ("900", "1900", "5"),
            &short,
            "alpha",
        ),
        (
            "base fee is nothing to a long request",
            ("1000", "2000", "0"),
            ("100", "200", "5"),
            &long,
            "beta",
        ),
        (
            "input counts",
            ("5000", "100", "0"),
            ("100", "5000", "0"),
            &long,
            "beta",
        ),
    ];
    for (name, alpha, beta, body, first) in cases {
        let provider = Provider::healthy(1, 1);
        let sell = |name: &str, (input, output, fee): (&str, &str, &str)| {
            ProviderConfig::new(name, &provider)
                .rates(input, output)
                .line(&format!("base_fee = {fee}"))
        };
        let arbstr = Setup::new()
            .provider(sell("alpha", alpha))
            .provider(sell("beta", beta))
            .start();
        assert_eq!(winner(&arbstr, &[], body), first, "{name}");
    }
}

fn policies() -> Setup {
    Setup::new()
        .set("policies", "default_strategy = \"cheapest\"")
        .tail(
            r#"
[[policies.rules]]
name = "code"
allowed_models = ["model-a"]
max_sats_per_1m_output = 5000
strategy = "cheapest"
keywords = ["function", "debug"]

[[policies.rules]]
name = "strict"
max_sats_per_1m_output = 1
"#,
        )
}

#[test]
fn a_policy_limits_what_may_be_asked() {
    let provider = Provider::healthy(1, 1);
    let sell = |name: &str, input: &str, output: &str| {
        ProviderConfig::new(name, &provider)
            .models(&["model-a", "model-b"])
            .rates(input, output)
    };
    // Cheap to ask in all, but its output is over the limit of the rule.
    let arbstr = policies()
        .provider(sell("capped", "1", "5001"))
        .provider(sell("allowed", "900000", "5000"))
        .start();
    let small = ask("model-a").replace("\"messages\"", "\"max_tokens\":1,\"messages\"");
    assert_eq!(winner(&arbstr, &[], &small), "capped");
    assert_eq!(
        winner(&arbstr, &[("x-arbstr-policy", "code")], &small),
        "allowed"
    );
    for (policy, body) in [("code", ask("model-b")), ("strict", ask("model-a"))] {
        let mut reply = arbstr.chat_with(&[("x-arbstr-policy", policy)], &body);
        let error = reply.json();
        assert!(
            (400..500).contains(&reply.status),
            "{} {error}",
            reply.status
        );
        assert!(error["error"]["message"].is_string());
        let row = arbstr.row(&reply.id());
        assert!(!row.verdict().0);
        assert_eq!(row.text("policy").as_deref(), Some(policy));
        // Why nobody was left is what its operator will ask.
        let mut shown = arbstr.get(&format!("/v1/requests/{}", reply.id()));
        let plan = &shown.json()["plan"];
        let skipped = plan["candidates"][0]["skipped"].as_str();
        assert!(
            skipped.is_some_and(|why| why.starts_with("policy")),
            "{plan}"
        );
    }
    assert_eq!(provider.count(), 2);
}

#[test]
fn keywords_choose_a_policy_as_words_never_inside_one() {
    let provider = Provider::healthy(1, 1);
    let arbstr = policies()
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    for (text, policy) in [
        ("Write a function for me", Some("code")),
        ("FUNCTION!", Some("code")),
        ("please debug: this", Some("code")),
        ("a dysfunctional family", None),
        ("functional functions", None),
        ("nothing of the kind", None),
    ] {
        let mut reply = arbstr.chat(&ask("model-a").replace("Say hello.", text));
        reply.finish();
        assert_eq!(reply.status, 200);
        assert_eq!(
            arbstr.row(&reply.id()).text("policy").as_deref(),
            policy,
            "{text}"
        );
    }
}

#[test]
fn a_policy_that_is_not_there_is_the_clients_mistake() {
    let provider = Provider::healthy(1, 1);
    let arbstr = policies()
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    let mut reply = arbstr.chat_with(&[("x-arbstr-policy", "no-such-rule")], &ask("model-a"));
    let error = reply.json();
    assert_eq!(reply.status, 400, "{error}");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no-such-rule"),
        "{error}"
    );
    assert_eq!(provider.count(), 0);
}

#[test]
fn the_header_is_stronger_than_a_keyword() {
    let provider = Provider::healthy(1, 1);
    let rules = "[[policies.rules]]\nname = \"plain\"\n";
    let arbstr = policies()
        .tail(rules)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    let mut reply = arbstr.chat_with(
        &[("X-Arbstr-Policy", "plain")],
        &ask("model-a").replace("hello", "function"),
    );
    reply.finish();
    assert_eq!(
        arbstr.row(&reply.id()).text("policy").as_deref(),
        Some("plain")
    );
}

#[test]
fn a_virtual_model_is_the_cheapest_of_what_the_operator_listed() {
    let provider = Provider::healthy(1, 1);
    let arbstr = Setup::new()
        .provider(
            ProviderConfig::new("alpha", &provider)
                .models(&["model-a"])
                .rates("5000", "5000"),
        )
        .provider(
            ProviderConfig::new("beta", &provider)
                .models(&["model-b"])
                .rates("10", "10"),
        )
        .provider(
            ProviderConfig::new("gamma", &provider)
                .models(&["model-c"])
                .rates("1", "1"),
        )
        .tail("[[models]]\nname = \"cheap-smart\"\nany_of = [\"model-a\", \"model-b\"]")
        .start();
    let mut reply = arbstr.chat(&ask("cheap-smart"));
    reply.finish();
    assert_eq!(
        (reply.status, reply.needs("x-arbstr-provider")),
        (200, "beta")
    );
    assert_eq!(provider.only().text(), ask("model-b"));
    let row = arbstr.row(&reply.id());
    assert_eq!(
        (
            row.text("model").as_deref(),
            row.text("served_model").as_deref()
        ),
        (Some("cheap-smart"), Some("model-b"))
    );
    let models = arbstr.get("/v1/models").json();
    assert!(
        models["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["id"] == "cheap-smart"),
        "{models}"
    );
}

#[test]
fn strategies_other_than_the_cheapest_are_real() {
    let (cheap, dear) = (
        Provider::always(Answer::json(200, &completion(1, 1)).after_pause(80)),
        Provider::healthy(1, 1),
    );
    let start = |strategy: &str| {
        Setup::new()
            .provider(ProviderConfig::new("cheap", &cheap).rates("1", "1"))
            .provider(ProviderConfig::new("dear", &dear))
            .set("policies", &format!("default_strategy = \"{strategy}\""))
            .start()
    };
    let winners = |arbstr: &Arbstr, count: usize| {
        (0..count)
            .map(|_| winner(arbstr, &[], &ask("model-a")))
            .collect::<Vec<_>>()
    };
    assert_eq!(winners(&start("cheapest"), 3), ["cheap"; 3]);
    let mut turns = winners(&start("round_robin"), 4);
    turns.sort();
    assert_eq!(turns, ["cheap", "cheap", "dear", "dear"]);
    let by_speed = winners(&start("lowest_latency"), 8);
    assert_eq!(by_speed[4..], ["dear"; 4], "{by_speed:?}");
}
