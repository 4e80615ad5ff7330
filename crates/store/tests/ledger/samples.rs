//! Records to hand in.

use std::time::Duration;

use arbstr_price::Sats;
use arbstr_store::{Asked, Attempt, Completion, IN_PROGRESS, Opening, RequestDetail, RequestRow};
use proptest::option;
use proptest::prelude::*;

pub(crate) fn opening(id: &str) -> Opening {
    Opening {
        correlation_id: id.to_owned(),
        timestamp_ms: 1_700_000_000_000,
        endpoint: "chat.completions".to_owned(),
        model: "gpt-4o".to_owned(),
        ..Opening::default()
    }
}

pub(crate) fn completion(id: &str) -> Completion {
    let attempt = |outcome: &str, status| Attempt {
        provider: "alpha".to_owned(),
        model: "gpt-4o".to_owned(),
        outcome: outcome.to_owned(),
        status: Some(status),
        ..Attempt::default()
    };
    Completion {
        correlation_id: id.to_owned(),
        ended_ms: 1_700_000_000_900,
        provider: Some("alpha".to_owned()),
        cost: Some(Sats::from_nanosats(cost_of(id).into())),
        success: true,
        attempts: vec![attempt("status=500", 500), attempt("status=200", 200)],
        ..Completion::default()
    }
}

/// A cost that anybody who knows the id can work out.
pub(crate) fn cost_of(id: &str) -> i64 {
    id.bytes()
        .fold(7, |sum: i64, byte| (sum * 31 + i64::from(byte)) % 1_000_003)
}

/// What the store should answer after an opening and perhaps its completion.
pub(crate) fn expected(opening: &Opening, completion: Option<&Completion>) -> RequestDetail {
    let asked = opening.asked.clone().filter(|_| completion.is_none());
    let done = completion.cloned().unwrap_or_else(|| Completion {
        served_model: asked.as_ref().map(|asked| asked.model.clone()),
        provider: asked.as_ref().map(|asked| asked.provider.clone()),
        tier: asked.as_ref().map(|asked| asked.tier.clone()),
        ..Completion::default()
    });
    let amount = |sats: Option<Sats>| sats.filter(|sats| i64::try_from(sats.nanosats()).is_ok());
    let sunk_cost = amount(done.sunk_cost());
    let row = RequestRow {
        correlation_id: opening.correlation_id.clone(),
        timestamp_ms: opening.timestamp_ms,
        ended_ms: completion.map(|done| done.ended_ms),
        endpoint: opening.endpoint.clone(),
        model: opening.model.clone(),
        served_model: done.served_model,
        provider: done.provider,
        tier: done.tier,
        policy: opening.policy.clone(),
        streaming: opening.streaming,
        input_tokens: done.input_tokens,
        output_tokens: done.output_tokens,
        cached_input_tokens: done.cached_input_tokens,
        reasoning_tokens: done.reasoning_tokens,
        cost: amount(done.cost),
        estimated_cost: amount(done.estimated_cost),
        reference_cost: amount(done.reference_cost),
        provider_cost: amount(done.provider_cost),
        sunk_cost,
        cost_disagrees: done.cost_disagrees,
        uncovered_units: done.uncovered_units,
        implausible_usage: done.implausible_usage,
        latency: done.latency,
        stream_duration: done.stream_duration,
        duration: completion.map(|done| done.duration),
        finish_reason: done.finish_reason,
        attempts: completion
            .map(|done| u32::try_from(done.attempts.len()).unwrap())
            .or_else(|| asked.as_ref().map(|_| 1)),
        success: done.success,
        error_status: done.error_status,
        error_message: completion.map_or_else(
            || Some(IN_PROGRESS.to_owned()),
            |done| done.error_message.clone(),
        ),
    };
    let mut attempts = done.attempts;
    for attempt in &mut attempts {
        attempt.sunk_cost = amount(attempt.sunk_cost);
    }
    RequestDetail {
        row,
        plan: done.plan.or_else(|| opening.plan.clone()),
        attempts,
        asked,
    }
}

pub(crate) fn any_opening(id: String) -> impl Strategy<Value = Opening> {
    let texts = (text(), text(), option::of(text()), option::of(text()));
    let rest = (any::<i64>(), any::<bool>(), option::of(any_asked()));
    (rest, texts).prop_map(move |((timestamp_ms, streaming, asked), texts)| Opening {
        correlation_id: id.clone(),
        timestamp_ms,
        endpoint: texts.0,
        model: texts.1,
        policy: texts.2,
        streaming,
        plan: texts.3,
        asked,
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    (text(), text(), text(), millis()).prop_map(|(provider, model, tier, started_after)| Asked {
        provider,
        model,
        tier,
        started_after,
    })
}

pub(crate) fn any_completion(id: String) -> impl Strategy<Value = Completion> {
    let texts = proptest::array::uniform6(option::of(text()));
    let tokens = proptest::array::uniform4(option::of(0..=i64::MAX as u64));
    let amounts = proptest::array::uniform4(option::of(any_amount()));
    let flags = proptest::array::uniform4(any::<bool>());
    let times = (option::of(millis()), option::of(millis()), millis());
    let rest = (
        any::<i64>(),
        option::of(any::<u16>()),
        proptest::collection::vec(any_attempt(), 0..4),
    );
    (texts, tokens, amounts, flags, times, rest).prop_map(
        move |(texts, tokens, amounts, flags, times, rest)| {
            let [
                served_model,
                provider,
                tier,
                finish_reason,
                error_message,
                plan,
            ] = texts;
            Completion {
                correlation_id: id.clone(),
                ended_ms: rest.0,
                served_model,
                provider,
                tier,
                input_tokens: tokens[0],
                output_tokens: tokens[1],
                cached_input_tokens: tokens[2],
                reasoning_tokens: tokens[3],
                cost: amounts[0],
                estimated_cost: amounts[1],
                reference_cost: amounts[2],
                provider_cost: amounts[3],
                cost_disagrees: flags[0],
                uncovered_units: flags[1],
                implausible_usage: flags[3],
                latency: times.0,
                stream_duration: times.1,
                duration: times.2,
                finish_reason,
                success: flags[2],
                error_status: rest.1,
                error_message,
                plan,
                attempts: rest.2,
            }
        },
    )
}

pub(crate) fn any_attempt() -> impl Strategy<Value = Attempt> {
    let texts = (text(), text(), text());
    let numbers = (option::of(any::<u16>()), option::of(any_amount()));
    (texts, numbers, millis(), millis()).prop_map(|(texts, numbers, started_after, duration)| {
        Attempt {
            provider: texts.0,
            model: texts.1,
            outcome: texts.2,
            status: numbers.0,
            started_after,
            duration,
            sunk_cost: numbers.1,
        }
    })
}

/// Small amounts, whole-column ones, and some that no column can hold.
pub(crate) fn any_amount() -> impl Strategy<Value = Sats> {
    prop_oneof![
        6 => (0..10_i128.pow(12)).prop_map(Sats::from_nanosats),
        2 => any::<i64>().prop_map(|nanosats| Sats::from_nanosats(nanosats.into())),
        1 => any::<i128>().prop_map(Sats::from_nanosats),
    ]
}

fn millis() -> impl Strategy<Value = Duration> {
    (0..1_u64 << 40).prop_map(Duration::from_millis)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9=;, ]{0,20}", "\\PC{0,40}", Just("x".repeat(5000))]
}
