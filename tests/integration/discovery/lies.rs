//! Lists that are no lists: each is refused with a clear word, costs little, and leaves the config's models served.

use super::{discovered, lister, offer, standing, wait_for};
use crate::harness::{Answer, Setup, ask};
use std::sync::{Arc, Mutex};

#[test]
fn a_lying_list_is_refused_in_clear_words_and_bounded_memory() {
    let million = format!("[{}7]", "{\"id\":\"m\"},".repeat(500_000));
    let huge = format!("{{\"data\":[],\"x\":\"{}\"}}", "x".repeat(100 << 20));
    let cases = [
        (Answer::json(200, "<!doctype html><p>Sign in"), "is HTML"),
        (Answer::json(200, ""), "is empty"),
        (
            Answer::json(200, r#"{"error":{"message":"no"}}"#),
            "has no `data` array",
        ),
        (
            Answer::json(200, r#"{"data":[{"id":"m"},{"i"#),
            "is not JSON",
        ),
        (
            Answer::json(200, &"[".repeat(100_000)),
            "nested deeper than 128 levels",
        ),
        (
            Answer::json(200, &priced_list()).short_by(5),
            "the connection broke",
        ),
        (Answer::json(200, &million), "has more than 10000 models"),
        (Answer::json(200, &huge), "is over 8 MiB"),
        (
            Answer::new(302).header("location", "http://127.0.0.1:1/"),
            "HTTP 302: a redirect",
        ),
        (Answer::fault(500, "oops"), "HTTP 500"),
        (
            Answer::json(200, "{}").header("content-encoding", "br"),
            "content-encoding `br`",
        ),
    ];
    for (answer, words) in cases {
        let list = Arc::new(Mutex::new(answer));
        let alpha = lister(&list);
        let arbstr = Setup::new()
            .provider(discovered("alpha", &alpha).models(&["model-a"]))
            .start();
        let before = arbstr.resident_kib();
        wait_for(&arbstr, words, || {
            let error = standing(&arbstr, 0)["error"].clone();
            error.as_str().is_some_and(|error| error.contains(words))
        });
        let grown = arbstr.resident_kib().saturating_sub(before);
        assert!(grown < 40 << 10, "{words}: {grown} KiB");
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200, "{words}");
    }
}

/// As some resellers write it: OpenRouter's members with the price of a million tokens in them.
#[test]
fn a_list_of_prices_for_a_million_tokens_is_not_taken_for_one_of_single_tokens() {
    let list = r#"{"data":[
        {"id":"large","pricing":{"prompt":0.45,"completion":3.0,"input_cache_read":0.045}},
        {"id":"small","pricing":{"prompt":0.02,"completion":0.06}},
        {"id":"embed","pricing":{"prompt":0.002,"completion":0}},
        {"id":"gift","pricing":{"prompt":0.0,"completion":0}}]}"#;
    let list = Arc::new(Mutex::new(Answer::json(200, list)));
    let alpha = lister(&list);
    let arbstr = Setup::new()
        .set("prices", "usd_per_btc = 100000")
        .provider(discovered("alpha", &alpha))
        .start();
    arbstr.wait_for_log("prices that seem to be for a million tokens", 1);
    for model in ["large", "small", "embed"] {
        wait_for(&arbstr, model, || {
            offer(&arbstr, model, "alpha").is_object()
        });
        let offer = offer(&arbstr, model, "alpha");
        assert!(offer["input_rate"].is_null(), "{offer}");
    }
    let reply = arbstr.chat(&ask("large"));
    assert_eq!(
        (reply.status, reply.header("x-arbstr-cost-sats")),
        (200, None)
    );
}

fn priced_list() -> String {
    super::priced(&[("model-b", "0.001")])
}

#[test]
fn odd_entries_do_not_spoil_the_good_ones() {
    let list = super::listing(
        r#"{"data":[7,{"id":""},{"id":"a\u0000b"},{"id":"good","sats_pricing":{"prompt":0.001,"completion":0.001}},
            {"id":"twice","sats_pricing":{"prompt":1,"completion":1}},{"id":"twice","sats_pricing":{"prompt":2,"completion":1}},
            {"id":"negative","sats_pricing":{"prompt":-1,"completion":1}},{"id":"vast","sats_pricing":{"prompt":1e300,"completion":1}}]}"#,
    );
    let alpha = lister(&list);
    let arbstr = Setup::new().provider(discovered("alpha", &alpha)).start();
    wait_for(&arbstr, "the list", || standing(&arbstr, 0)["models"] == 4);
    for (model, rate) in [
        ("good", "1000"),
        ("twice", "null"),
        ("negative", "null"),
        ("vast", "null"),
    ] {
        let shown = offer(&arbstr, model, "alpha")["input_rate"].to_string();
        assert_eq!(shown, rate, "{model}");
        let reply = arbstr.chat(&ask(model));
        assert_eq!(reply.status, 200);
        let cost = reply.header("x-arbstr-cost-sats");
        assert_eq!(cost.is_some(), rate != "null", "{model}: {cost:?}");
    }
    assert!(
        arbstr.log().contains("unusable=3 contradicted=1"),
        "{}",
        arbstr.log()
    );
}
