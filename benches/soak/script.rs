//! What clients ask and providers answer, and what it costs.
//!
//! All of it follows from the number of the request, so that each side can tell what the other should have seen.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dice::Dice;

/// How many providers there are, and models: each provider is the cheapest for the model of its own number.
pub(crate) const PROVIDERS: usize = 5;

/// The name of a provider.
pub(crate) fn provider(index: usize) -> String {
    format!("house-{index}")
}

/// The name of a model.
pub(crate) fn model(index: usize) -> String {
    format!("model-{index}")
}

/// The number in a name made by [`provider`], [`model`] or [`user`].
pub(crate) fn number(name: &str) -> Option<usize> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// What the client calls its request.
pub(crate) fn user(request: u32) -> String {
    format!("soak-{request}")
}

/// Sats per million tokens that `provider` charges for `model`: for input, and for output three times as much.
pub(crate) fn input_rate(provider: usize, model: usize) -> u64 {
    let distance = (provider + PROVIDERS - model) % PROVIDERS;
    10_000 << distance
}

/// What the answer to `request` costs, in nanosats.
pub(crate) fn bill(request: u32, provider: usize, model: usize) -> i64 {
    let (input, output) = tokens(request);
    let per_token = input_rate(provider, model) * 1_000;
    let nanosats =
        input * per_token + output * per_token * OUTPUT_FACTOR + BASE_FEE * 1_000_000_000;
    i64::try_from(nanosats).unwrap_or(i64::MAX)
}

/// An amount as arbstr tells it to clients: an exact decimal of sats.
pub(crate) fn decimal(nanosats: i64) -> String {
    let (sats, rest) = (nanosats / 1_000_000_000, nanosats % 1_000_000_000);
    let text = format!("{sats}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Output costs so many times what input does.
pub(crate) const OUTPUT_FACTOR: u64 = 3;
/// Sats per request.
pub(crate) const BASE_FEE: u64 = 1;

fn tokens(request: u32) -> (u64, u64) {
    let mut dice = Dice::new(u64::from(request), 2);
    (20 + dice.below(40), 30 + dice.below(30))
}

/// The body of a request.
pub(crate) fn question(request: u32, model_index: usize, stream: Option<bool>) -> String {
    let stream = match stream {
        None => "",
        Some(false) => r#","stream":true"#,
        Some(true) => r#","stream":true,"stream_options":{"include_usage":true}"#,
    };
    format!(
        r#"{{"model":"{}","user":"{}"{stream},"messages":[{{"role":"user","content":"Say something, at some length, that names me."}}]}}"#,
        model(model_index),
        user(request)
    )
}

/// A whole answer.
pub(crate) fn answer(request: u32, model: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-{request}","object":"chat.completion","created":1,"model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"for {}."}},"finish_reason":"stop"}}],"usage":{}}}"#,
        user(request),
        usage(request)
    )
}

/// The events of a streamed answer.
pub(crate) fn events(request: u32, model: &str, with_usage: bool) -> Vec<String> {
    let chunk = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-{request}\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\"choices\":[{choices}]{usage}}}\n\n"
        )
    };
    let delta = |delta: &str, finish: &str| {
        format!(r#"{{"index":0,"delta":{{{delta}}},"finish_reason":{finish}}}"#)
    };
    let mut events = vec![chunk(
        &delta(r#""role":"assistant","content":"""#, "null"),
        "",
    )];
    let words = ["for ".to_owned(), user(request), ".".to_owned()];
    for word in words {
        events.push(chunk(&delta(&format!(r#""content":"{word}""#), "null"), ""));
    }
    events.push(chunk(&delta("", r#""stop""#), ""));
    if with_usage {
        events.push(chunk("", &format!(r#","usage":{}"#, usage(request))));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// What a whole stream must hold for the client of `request`.
pub(crate) fn word(request: u32) -> String {
    format!(r#""content":"{}""#, user(request))
}

fn usage(request: u32) -> String {
    let (input, output) = tokens(request);
    format!(
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
        input + output
    )
}

/// An error as providers write it.
pub(crate) fn fault(code: &str) -> String {
    format!(
        r#"{{"error":{{"message":"out of order","type":"server_error","param":null,"code":"{code}"}}}}"#
    )
}

/// A `Retry-After` of one second, as a number or as a date.
pub(crate) fn retry_after(as_date: bool) -> String {
    if !as_date {
        return "1".to_owned();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    http_date(since.unwrap_or_default() + Duration::from_secs(1))
}

/// `Thu, 01 Jan 1970 00:00:00 GMT`, the days counted off year by year.
fn http_date(since_epoch: Duration) -> String {
    let secs = since_epoch.as_secs();
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (mut year, mut left) = (1970, days);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let month = &"JanFebMarAprMayJunJulAugSepOctNovDec"[month * 3..month * 3 + 3];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let day = left + 1;
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
