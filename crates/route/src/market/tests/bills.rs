//! What answers bill decides who is asked, however oddly they bill it.

use super::*;

/// One request through `market`: who was asked first, which bills so many output tokens for so many bytes of text.
fn ask(market: &Market, facts: &Facts<'_>, bill: impl Fn(&str) -> (u64, u64)) -> String {
    let now = start();
    let mut waterfall = Waterfall::new(planned(market, facts), None);
    let Step::Attempt(attempt) = waterfall.next(now, 0) else {
        panic!("nobody to ask")
    };
    let asked = attempt.offer.provider().to_owned();
    let permit = waterfall.on_outcome(attempt, GOOD, now).permit;
    let (output, text_bytes) = bill(&asked);
    let mut usage = Usage::default();
    (usage.input, usage.output) = (Some(1000), Some(output));
    let report = Report {
        usage: Some(usage),
        text_bytes: Some(text_bytes),
    };
    permit
        .expect("accepted")
        .finish(PermitEnd::Complete, &report, now);
    asked
}

/// Its text was not counted, since it cannot have so many tokens: then there was nothing to measure the other by.
#[test]
fn who_bills_seven_times_the_text_is_not_the_measure_of_others() {
    let market = build(MarketSpec {
        providers: vec![
            provider("liar", vec![offer("m", 0, 100)]),
            provider("honest", vec![offer("m", 0, 300)]),
        ],
        ..MarketSpec::default()
    });
    let asked: Vec<String> = (0..300)
        .map(|number| {
            let length = [100, 1100, 300, 60, 600, 180][number % 6];
            let bill = |asked: &str| {
                let times = if asked == "liar" { 7 } else { 1 };
                (length * times, length * 4)
            };
            ask(&market, &facts("m"), bill)
        })
        .collect();
    let honest = asked[200..].iter().filter(|name| *name == "honest");
    let honest = honest.count();
    assert!(honest > 90, "{honest}");
}

/// What hides its reasoning, or is cut for the test, has little text for its tokens. As long as most answers were short
/// enough to be true, the long ones taught nothing of requests.
#[test]
fn long_answers_of_little_text_are_expected_to_be_long() {
    let market = market(&["a", "b"]);
    let body = |system: &str| {
        format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"go"}}]}}"#
        )
    };
    let (short, long) = (body("Be short."), body("Think for long."));
    let expected = |body: &str, serve: bool| {
        let request = Request::parse(Endpoint::Chat, body.as_bytes()).expect("a sound body");
        let facts = Facts::of(&request, None);
        let output = if body == long { 2000 } else { 5 };
        if serve {
            ask(&market, &facts, |_| (output, 40));
        }
        planned(&market, &facts).candidates[0].tokens.output
    };
    for number in 0..100 {
        expected(if number % 5 == 4 { &long } else { &short }, true);
    }
    let (short, long) = (expected(&short, false), expected(&long, false));
    assert!(short < 10 && (1000..3000).contains(&long), "{short} {long}");
}
