//! Records like those of real traffic, made from a number alone.

use std::time::Duration;

use arbstr_price::Sats;
use arbstr_store::{Asked, Attempt, Completion, Opening};

/// Arrival of the first request: midnight, UTC.
pub(crate) const FIRST_MS: i64 = 1_767_225_600_000;
/// Requests are as far apart as ten million in thirty days.
pub(crate) const APART_US: u64 = 259_200;

/// The `nth` request: its opening, and its completion as it is for 97 of 100.
pub(crate) fn pair(nth: u64) -> (Opening, Completion) {
    let dice = mix(nth);
    let pick = |shift: u32, of: u64| (dice >> shift) % of;
    let at_ms = arrival_ms(nth);
    let correlation_id = id(nth, at_ms);
    let model = format!("vendor/model-{}", pick(0, 8).min(pick(3, 8)));
    let provider = format!("provider-{}", pick(8, 3));
    let (input, output) = (200 + pick(16, 4000), 20 + pick(32, 900));
    let success = pick(40, 100) >= 3;
    let cost = |rate: u64| Sats::from_nanosats(i128::from((input + 4 * output) * rate) * 1000);
    let opening = Opening {
        correlation_id: correlation_id.clone(),
        timestamp_ms: at_ms,
        endpoint: "chat.completions".to_owned(),
        model: model.clone(),
        streaming: pick(50, 2) == 0,
        plan: Some(PLAN.to_owned()),
        asked: Some(Asked {
            provider: provider.clone(),
            model: model.clone(),
            tier: "standard".to_owned(),
            started_after: Duration::from_millis(1),
        }),
        ..Opening::default()
    };
    let duration_ms = 300 + pick(20, 9000);
    let completion = Completion {
        correlation_id,
        ended_ms: at_ms + duration_ms.cast_signed(),
        served_model: Some(model.clone()),
        provider: Some(provider.clone()),
        tier: Some("standard".to_owned()),
        input_tokens: success.then_some(input),
        output_tokens: success.then_some(output),
        cost: success.then(|| cost(250)),
        reference_cost: success.then(|| cost(400)),
        latency: Some(Duration::from_millis(100 + pick(24, 900))),
        stream_duration: Some(Duration::from_millis(duration_ms)),
        duration: Duration::from_millis(duration_ms),
        finish_reason: success.then(|| "stop".to_owned()),
        success,
        error_status: (!success).then_some(502),
        error_message: (!success).then(|| "upstream broke".to_owned()),
        attempts: vec![Attempt {
            provider,
            model,
            outcome: "status=200".to_owned(),
            status: Some(200),
            started_after: Duration::from_millis(1),
            duration: Duration::from_millis(duration_ms - 1),
            sunk_cost: None,
        }],
        ..Completion::default()
    };
    (opening, completion)
}

/// When the `nth` request arrives.
pub(crate) fn arrival_ms(nth: u64) -> i64 {
    FIRST_MS + (nth * APART_US / 1000).cast_signed()
}

/// Three candidates, one skipped, as arbstr writes them.
const PLAN: &str = r#"["vendor/model-0",null,"cheapest",[["provider-0",null,812,0,240,1.204,41,[0.812,0,0.392,0,0],0.998,412,"cheapest",null],["provider-1",null,812,0,251,1.312,null,[0.9,0,0.412,0,0],1.0,530,"cheapest",null],["provider-2",null,820,0,240,1.377,41,[0.9,0,0.477,0,0],0.91,388,null,"circuit open"]]]"#;

/// A UUIDv7 as text.
pub(crate) fn id(nth: u64, at_ms: i64) -> String {
    let (a, b) = (mix(nth ^ 0x5555), mix(nth ^ 0xaaaa));
    let at = at_ms.unsigned_abs();
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        at >> 16,
        at & 0xffff,
        a & 0xfff,
        0x8000 | (a >> 16) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}

/// splitmix64.
fn mix(value: u64) -> u64 {
    let mut z = value
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
