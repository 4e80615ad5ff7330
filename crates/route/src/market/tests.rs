//! Markets built, inherited and asked for plans.

use arbstr_price::{Rate, Sats};
use arbstr_wire::{Endpoint, Request, Usage};

use super::*;
use crate::testing::*;
use crate::{
    AttemptOutcome, CircuitState, Objection, PermitEnd, Report, Rule, Shape, Skip, Step, Strategy,
    Waterfall,
};

fn planned<'a>(market: &Market, facts: &Facts<'a>) -> Plan {
    market.plan(facts, start()).expect("a plan")
}

/// Serves `requests` requests, each with these tokens, `took` after it was asked.
fn serve(
    market: &Market,
    facts: &Facts<'_>,
    (requests, took): (u32, Duration),
    tokens: Option<(u64, u64)>,
) {
    let now = start();
    for _ in 0..requests {
        let mut waterfall = Waterfall::new(planned(market, facts), None);
        let Step::Attempt(attempt) = waterfall.next(now, 0) else {
            panic!("nobody to ask")
        };
        let permit = waterfall
            .on_outcome(attempt, AttemptOutcome::Good { status: 200 }, now + took)
            .permit;
        let usage = tokens.map(|(input, output)| {
            let mut usage = Usage::default();
            (usage.input, usage.output) = (Some(input), Some(output));
            usage
        });
        permit.expect("accepted").finish(
            PermitEnd::Complete,
            &Report {
                usage,
                ..Report::default()
            },
            now + took,
        );
    }
}

fn with_rule(rule: Rule) -> MarketSpec {
    let mut spec = spec(&["a", "b", "c"]);
    spec.policies.rules.push(Rule {
        name: "r".to_owned(),
        ..rule
    });
    spec
}

#[test]
fn ranks_by_what_this_request_costs() {
    let market = build(MarketSpec {
        providers: vec![
            provider("cheap-output", vec![offer("m", 1000, 10)]),
            provider("cheap-input", vec![offer("m", 10, 1000)]),
            provider(
                "no-price",
                vec![OfferSpec {
                    rates: None,
                    ..offer("m", 0, 0)
                }],
            ),
        ],
        ..MarketSpec::default()
    });
    let long_input = Facts {
        shape: Shape::sized(10_000),
        max_output_tokens: Some(10),
        ..facts("m")
    };
    let plan = planned(&market, &long_input);
    assert_eq!(order(&plan), ["cheap-input", "cheap-output", "no-price"]);
    assert_eq!(
        plan.candidates[0].expected_cost().unwrap().to_string(),
        "0.11"
    );
    assert_eq!(plan.candidates[2].expected_cost(), None);
    let long_output = Facts {
        shape: Shape::sized(10),
        ..facts("m")
    };
    assert_eq!(order(&planned(&market, &long_output))[0], "cheap-output");
}

#[test]
fn a_base_fee_is_part_of_the_price() {
    let mut spec = spec(&["fee", "none"]);
    spec.providers[0].offers[0].rates.as_mut().unwrap().base_fee = Sats::from_sats(5);
    assert_eq!(order(&planned(&build(spec), &facts("m"))), ["none", "fee"]);
}

#[test]
fn output_is_capped_by_the_client_and_counted_for_each_choice() {
    let market = market(&["a"]);
    let tokens = |facts: &Facts<'_>| planned(&market, facts).candidates[0].tokens.output;
    let prior = tokens(&facts("m"));
    assert!(prior > 100, "{prior}");
    assert_eq!(
        tokens(&Facts {
            max_output_tokens: Some(100),
            ..facts("m")
        }),
        100
    );
    assert_eq!(
        tokens(&Facts {
            max_output_tokens: Some(100),
            choices: 3,
            ..facts("m")
        }),
        300
    );
    assert_eq!(
        tokens(&Facts {
            choices: 0,
            ..facts("m")
        }),
        prior
    );
    assert_eq!(
        tokens(&Facts {
            endpoint: Endpoint::Embeddings,
            ..facts("m")
        }),
        0
    );
}

#[test]
fn what_answers_took_is_expected_of_the_next() {
    let market = market(&["a", "b"]);
    serve(&market, &facts("m"), (20, secs(1)), Some((1500, 40)));
    let plan = planned(&market, &facts("m"));
    // The other provider is judged by what the model takes until it has a record of its own.
    for candidate in &plan.candidates {
        assert_eq!(candidate.tokens.input, 1500);
        assert_eq!(candidate.tokens.output, 40);
    }
}

#[test]
fn a_tie_goes_to_the_faster() {
    let mut even = spec(&["a", "b"]);
    even.providers[1].offers = even.providers[0].offers.clone();
    let market = build(even.clone());
    assert_eq!(order(&planned(&market, &facts("m"))), ["a", "b"]);
    even.providers[0].offers[0].rates = Some(Rates::default());
    let measured = Market::build(even.clone(), Some(&market)).unwrap();
    serve(&measured, &facts("m"), (3, secs(9)), None);
    even.providers[1].offers[0].rates = Some(Rates::default());
    let market = Market::build(even.clone(), Some(&measured)).unwrap();
    assert_eq!(
        order(&planned(&market, &facts("m"))),
        ["b", "a"],
        "an unmeasured one is measured"
    );
    assert_eq!(
        order(&planned(&market, &facts("m"))),
        ["a", "b"],
        "by one request alone"
    );
    even.providers[0].offers[0].rates = spec(&["a"]).providers[0].offers[0].rates;
    let measured = Market::build(even.clone(), Some(&market)).unwrap();
    serve(&measured, &facts("m"), (3, secs(1)), None);
    even.providers[0].offers[0].rates = Some(Rates::default());
    let market = Market::build(even, Some(&measured)).unwrap();
    assert_eq!(order(&planned(&market, &facts("m"))), ["b", "a"]);
}

#[test]
fn lowest_latency_tries_the_unmeasured_and_stays_with_the_fastest() {
    let mut spec = spec(&["slow", "fast"]);
    spec.policies.default_strategy = Strategy::LowestLatency;
    let market = build(spec);
    let first = |market: &Market| order(&planned(market, &facts("m")))[0].to_owned();
    assert_eq!(first(&market), "slow");
    serve(&market, &facts("m"), (1, secs(3)), None);
    assert_eq!(first(&market), "fast");
    serve(&market, &facts("m"), (1, secs(1)), None);
    assert_eq!(first(&market), "fast");
    let switched = (0..30).any(|_| {
        serve(&market, &facts("m"), (1, secs(8)), None);
        first(&market) == "slow"
    });
    assert!(switched, "stays with one that became slow");
}

/// A slow first answer barred a provider for ever: nobody else was asked again.
#[test]
fn lowest_latency_looks_again_at_who_was_slow_once() {
    let mut spec = spec(&["cold", "steady"]);
    spec.policies.default_strategy = Strategy::LowestLatency;
    let market = build(spec);
    let facts = facts("m");
    let mut served = Vec::new();
    for request in 0..400 {
        let first = order(&market.preview(&facts, start()).expect("a plan"))[0].to_owned();
        let now = start();
        let mut waterfall = Waterfall::new(planned(&market, &facts), None);
        let Step::Attempt(attempt) = waterfall.next(now, 0) else {
            panic!("nobody to ask")
        };
        let asked = attempt.offer.provider().to_owned();
        let took = match (&*asked, request) {
            ("cold", 0) => Duration::from_millis(300),
            ("cold", _) => Duration::from_millis(2),
            _ => Duration::from_millis(40),
        };
        let permit = waterfall
            .on_outcome(attempt, AttemptOutcome::Good { status: 200 }, now + took)
            .permit;
        permit
            .expect("accepted")
            .finish(PermitEnd::Complete, &Report::default(), now + took);
        served.push((first, asked));
    }
    let out_of_order = served.iter().filter(|(first, asked)| first != asked);
    assert!((9..=13).contains(&out_of_order.count()), "{served:?}");
    assert_eq!(served[399].0, "cold", "{served:?}");
}

#[test]
fn round_robin_gives_each_its_turn() {
    let mut spec = with_rule(Rule {
        strategy: Some(Strategy::RoundRobin),
        allowed_providers: vec!["a".to_owned(), "c".to_owned()],
        ..Rule::default()
    });
    spec.policies.default_strategy = Strategy::RoundRobin;
    let market = build(spec);
    let first = |policy| {
        let facts = Facts {
            policy,
            ..facts("m")
        };
        order(&planned(&market, &facts))[0].to_owned()
    };
    let firsts: Vec<String> = (0..6).map(|_| first(None)).collect();
    assert_eq!(firsts, ["a", "b", "c", "a", "b", "c"]);
    let firsts: Vec<String> = (0..4).map(|_| first(Some("r"))).collect();
    assert_eq!(firsts, ["a", "c", "a", "c"]);
}

#[test]
fn a_policy_says_what_it_has_against_whom() {
    use Objection::{Cost, Model, OutputRate, PriceUnknown, Provider, Tier as TooLow};
    let rate = |sats: u64| Some(Rate::from_millisats_per_million(sats * 1000));
    let cases: [(Rule, [Option<Objection>; 3]); 6] = [
        (
            Rule {
                max_sats_per_1m_output: rate(100),
                ..Rule::default()
            },
            [None, Some(OutputRate), Some(PriceUnknown)],
        ),
        (
            Rule {
                max_cost: Some("0.14".parse().unwrap()),
                ..Rule::default()
            },
            [None, Some(Cost), Some(PriceUnknown)],
        ),
        (
            Rule {
                allowed_providers: vec!["b".to_owned()],
                ..Rule::default()
            },
            [Some(Provider), None, Some(Provider)],
        ),
        (
            Rule {
                min_tier: Some(Tier::Frontier),
                ..Rule::default()
            },
            [Some(TooLow), None, Some(TooLow)],
        ),
        (
            Rule {
                allowed_models: vec!["m".to_owned()],
                ..Rule::default()
            },
            [None, None, None],
        ),
        (
            Rule {
                allowed_models: vec!["other".to_owned()],
                ..Rule::default()
            },
            [Some(Model); 3],
        ),
    ];
    for (rule, want) in cases {
        let mut spec = with_rule(rule.clone());
        spec.providers[1].tier = Tier::Frontier;
        spec.providers[2].offers[0].rates = None;
        let facts = Facts {
            policy: Some("r"),
            ..facts("m")
        };
        let (candidates, name) = match build(spec).plan(&facts, start()) {
            Ok(plan) => (plan.candidates, plan.policy),
            Err(PlanError::NothingAllowed { plan }) => (plan.candidates, plan.policy),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(name.as_deref(), Some("r"));
        let mut got = [None; 3];
        for candidate in &candidates {
            if let Some(Skip::Policy { objection, .. }) = candidate.skipped {
                got[candidate.offer.provider_index()] = Some(objection);
            }
        }
        assert_eq!(got, want, "{rule:?}");
    }
}

#[test]
fn refuses_in_words() {
    let market = build(with_rule(Rule {
        allowed_providers: vec!["z".to_owned()],
        ..Rule::default()
    }));
    let error = |model, policy| {
        market
            .plan(
                &Facts {
                    policy,
                    ..facts(model)
                },
                start(),
            )
            .unwrap_err()
            .to_string()
    };
    assert_eq!(error("x", None), r#"no provider has the model "x""#);
    assert_eq!(
        error("m", Some("nope")),
        r#"there is no policy "nope"; known are r"#
    );
    let nobody = r#"policy "r" leaves nobody to serve the model "m": a (provider not allowed), b (provider not allowed), c (provider not allowed)"#;
    assert_eq!(error("m", Some("r")), nobody);
}

#[test]
fn a_keyword_chooses_a_policy_unless_the_header_does() {
    let mut spec = with_rule(Rule {
        keywords: vec!["debug".to_owned()],
        allowed_providers: vec!["b".to_owned()],
        ..Rule::default()
    });
    spec.policies.rules.push(Rule {
        name: "other".to_owned(),
        ..Rule::default()
    });
    let market = build(spec);
    let texts = vec!["please DEBUG this"];
    let with = |policy| {
        planned(
            &market,
            &Facts {
                texts: &texts,
                policy,
                ..facts("m")
            },
        )
    };
    assert_eq!(with(None).policy.as_deref(), Some("r"));
    assert_eq!(with(None).eligible().count(), 1);
    assert_eq!(with(Some("other")).policy.as_deref(), Some("other"));
    assert_eq!(planned(&market, &facts("m")).policy, None);
}

#[test]
fn a_virtual_model_is_served_by_any_of_its_models() {
    let mut spec = spec(&["a", "b"]);
    spec.providers[1].offers = vec![offer("n", 1, 1), offer("m", 500, 500)];
    let any_of = ["m", "n", "unsold", "m"].map(str::to_owned).to_vec();
    spec.virtual_models.push(VirtualModel {
        name: "v".to_owned(),
        any_of,
    });
    spec.virtual_models.push(VirtualModel {
        name: "w".to_owned(),
        any_of: vec!["unsold".to_owned()],
    });
    let market = build(spec);
    let plan = planned(&market, &facts("v"));
    let pairs: Vec<(&str, &str)> = plan
        .candidates
        .iter()
        .map(|c| (c.offer.provider(), c.offer.model()))
        .collect();
    assert_eq!(pairs, [("b", "n"), ("a", "m"), ("b", "m")]);
    assert!(matches!(
        market.plan(&facts("w"), start()),
        Err(PlanError::UnknownModel { .. })
    ));
    let names: Vec<(&str, bool)> = market
        .models()
        .map(|listing| (listing.name, listing.is_virtual))
        .collect();
    assert_eq!(names, [("m", false), ("n", false), ("v", true)]);
    assert_eq!(market.model("m").unwrap().offers.len(), 2);
    assert!(market.model("x").is_none());
}

#[test]
fn names_that_come_twice_make_no_market() {
    let rule = |name: &str, keyword: &str| Rule {
        name: name.to_owned(),
        keywords: vec![keyword.to_owned()],
        ..Rule::default()
    };
    let model = |name: &str| VirtualModel {
        name: name.to_owned(),
        ..VirtualModel::default()
    };
    let mut cases = Vec::new();
    cases.push((spec(&["a", "a"]), r#"provider "a" is there twice"#));
    let mut twice = spec(&["a"]);
    twice.providers[0].offers.push(offer("m", 1, 1));
    cases.push((twice, r#"provider "a" has the model "m" twice"#));
    let mut rules = spec(&["a"]);
    rules.policies.rules = vec![rule("r", "x"), rule("r", "y")];
    cases.push((rules, r#"policy "r" is there twice"#));
    let mut empty = spec(&["a"]);
    empty.policies.rules = vec![rule("r", " ")];
    cases.push((empty, r#"policy "r" has an empty keyword"#));
    let mut models = spec(&["a"]);
    models.virtual_models = vec![model("v"), model("v")];
    cases.push((models, r#"the virtual model "v" is there twice"#));
    for (spec, want) in cases {
        assert_eq!(Market::build(spec, None).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_reload_keeps_the_record_of_who_stayed_the_same() {
    let now = start();
    let old = market(&["a", "b"]);
    for _ in 0..3 {
        let mut waterfall = Waterfall::new(planned(&old, &facts("m")), None);
        let Step::Attempt(attempt) = waterfall.next(now, 0) else {
            panic!("nobody to ask")
        };
        waterfall.on_outcome(attempt, AttemptOutcome::Empty, now);
    }
    serve(&old, &facts("m"), (5, secs(1)), Some((1000, 77)));
    let mut spec = spec(&["b", "a"]);
    let same = Market::build(spec.clone(), Some(&old)).unwrap();
    let circuits = |market: &Market| {
        market
            .snapshot(now)
            .iter()
            .map(|p| p.offers[0].circuit != CircuitState::Closed)
            .collect::<Vec<_>>()
    };
    assert_eq!(circuits(&same), [false, true]);
    assert_eq!(planned(&same, &facts("m")).candidates[0].tokens.output, 77);
    assert_eq!(
        same.take_changes().len(),
        1,
        "changes that nobody took are not lost"
    );
    spec.providers[1].fingerprint = 7;
    let moved = Market::build(spec, Some(&same)).unwrap();
    assert_eq!(circuits(&moved), [false, false]);
}

#[test]
fn a_request_in_flight_counts_across_a_reload() {
    let now = start();
    let old = market(&["a"]);
    let mut waterfall = Waterfall::new(planned(&old, &facts("m")), None);
    let Step::Attempt(attempt) = waterfall.next(now, 0) else {
        panic!("nobody to ask")
    };
    let mut narrow = spec(&["a"]);
    narrow.providers[0].max_concurrency = 1;
    let new = Market::build(narrow, Some(&old)).unwrap();
    assert_eq!(new.snapshot(now)[0].in_flight, 1);
    // Who was planned before the reload sees its limit too.
    assert_eq!(old.snapshot(now)[0].limit, Some(1));
    drop(attempt);
    assert_eq!(new.snapshot(now)[0].in_flight, 0);
}

#[test]
fn health_follows_the_circuits() {
    let now = start();
    let market = market(&["a", "b"]);
    let fail_next = || {
        for _ in 0..3 {
            let mut waterfall = Waterfall::new(planned(&market, &facts("m")), None);
            let Step::Attempt(attempt) = waterfall.next(now, 0) else {
                panic!("nobody to ask")
            };
            waterfall.on_outcome(attempt, AttemptOutcome::Empty, now);
        }
    };
    assert_eq!(market.health(now), Health::Ok);
    fail_next();
    assert_eq!(market.health(now), Health::Degraded);
    fail_next();
    assert_eq!(market.health(now + secs(29)), Health::Down);
    assert_eq!(market.health(now + secs(30)), Health::Degraded);
    let mut waterfall = Waterfall::new(planned(&market, &facts("m")), None);
    let probe = waterfall.next(now + secs(30), 0);
    assert_eq!(market.health(now + secs(30)), Health::Degraded);
    drop(probe);
    assert_eq!(build(MarketSpec::default()).health(now), Health::Down);
}

#[test]
fn a_skip_is_told_in_words() {
    let left = Duration::from_millis(11_200);
    let cases = [
        (
            Skip::CircuitOpen { due_in: left },
            "circuit open, due in 12s",
        ),
        (Skip::Probing, "circuit half-open, a probe is out"),
        (Skip::Suspended { left }, "suspended for 12s"),
        (Skip::CoolingDown { left }, "cooling down for 12s"),
        (Skip::AtCapacity { limit: 3 }, "at capacity (3 in flight)"),
        (
            Skip::Policy {
                policy: "code".into(),
                objection: Objection::Model,
            },
            "policy code: model not allowed",
        ),
    ];
    for (skip, want) in cases {
        assert_eq!(skip.to_string(), want);
    }
}

#[test]
fn models_that_stand_in_for_one_another_learn_from_one_another() {
    let expected = |virtual_models: Vec<VirtualModel>| {
        let providers = vec![
            provider("a", vec![offer("x", 100, 100)]),
            provider("b", vec![offer("y", 100, 100)]),
        ];
        let market = build(MarketSpec {
            providers,
            virtual_models,
            ..MarketSpec::default()
        });
        let kind = |body: &'static [u8]| Request::parse(Endpoint::Chat, body).unwrap();
        let short =
            kind(br#"{"messages":[{"role":"user","content":"Classify this"}],"model":"y"}"#);
        let long =
            kind(br#"{"messages":[{"role":"user","content":"Write a long tale"}],"model":"x"}"#);
        let (short, long) = (Facts::of(&short, None), Facts::of(&long, None));
        for output in (0..50).map(|number| 3 << (number % 6)) {
            serve(&market, &short, (2, secs(0)), Some((10, output)));
        }
        serve(&market, &long, (100, secs(0)), Some((10, 2000)));
        let asked = Facts { model: "y", ..long };
        planned(&market, &asked).candidates[0].tokens.output
    };
    let any_of = vec!["x".to_owned(), "y".to_owned()];
    let name = "either".to_owned();
    let (apart, together) = (
        expected(Vec::new()),
        expected(vec![VirtualModel { name, any_of }]),
    );
    assert!(apart < 100 && together > 1000, "{apart} {together}");
}

/// Serves a request whose answer has so many bytes and reports nothing.
fn serve_silently(market: &Market, facts: &Facts<'_>, bytes: u64) -> String {
    let now = start();
    let mut waterfall = Waterfall::new(planned(market, facts), None);
    let Step::Attempt(attempt) = waterfall.next(now, 0) else {
        panic!("nobody to ask")
    };
    let server = attempt.offer.provider().to_owned();
    let good = AttemptOutcome::Good { status: 200 };
    let permit = waterfall.on_outcome(attempt, good, now).permit;
    let report = Report {
        text_bytes: Some(bytes),
        ..Report::default()
    };
    permit
        .expect("accepted")
        .finish(PermitEnd::Complete, &report, now);
    server
}

#[test]
fn who_reports_no_usage_is_known_by_how_much_he_says() {
    let expected = |bound: Option<u64>, bytes: u64| {
        let market = market(&["a"]);
        let facts = Facts {
            max_output_tokens: bound,
            ..facts("m")
        };
        (0..40).for_each(|_| drop(serve_silently(&market, &facts, bytes)));
        planned(&market, &facts).candidates[0].tokens.output
    };
    let near = |tokens: u64, want: u64| tokens.abs_diff(want) <= want / 20;
    assert!(near(expected(None, 8000), 2000), "{}", expected(None, 8000));
    assert!(near(expected(None, 80), 20), "{}", expected(None, 80));
    assert!(near(expected(Some(1000), 4000), 1000));
}

#[test]
fn who_reports_no_usage_is_not_asked_for_it_again_and_again() {
    let mut spec = spec(&["a", "b"]);
    spec.providers[1].offers[0] = offer("m", 100, 102);
    let market = build(spec);
    let served: Vec<String> = (0..400)
        .map(|_| serve_silently(&market, &facts("m"), 2000))
        .collect();
    let tried = served.iter().filter(|server| *server == "b").count();
    assert!(tried <= 4, "{tried} trials that teach nothing");
}

mod bills;
mod looks;
