//! A plan as JSON: on record by place, shown by name.
//!
//! Each request has a plan on record. With the names of all values it would be most of what is written for a request, so
//! on record the values stand in arrays, in the order of [`Named`] and [`NamedCandidate`]; the view `candidates` of the
//! database has them by name. Earlier versions kept the names: what reads one form reads the other.

use std::io::Write as _;
use std::time::Instant;

use arbstr_price::{Quote, Sats};
use arbstr_route::{Candidate, Plan};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::{age_secs, whole_ms};

/// A plan as it goes on record: the best candidates, and how many are left out.
///
/// Some places are kept for those that can be asked, should all of the best be passed over.
pub(crate) fn on_record(plan: &Plan, now: Instant) -> String {
    let mut passed_over = 0;
    let is_told = move |candidate: &&Candidate| {
        passed_over += usize::from(candidate.skipped.is_some());
        candidate.skipped.is_none() || passed_over <= MOST_PASSED_OVER
    };
    let told = plan.candidates.iter().filter(is_told);
    written(plan, told.take(MOST_ON_RECORD), now)
}

/// A plan with all of its candidates, to be [`Shown`].
pub(crate) fn whole(plan: &Plan, now: Instant) -> String {
    written(plan, plan.candidates.iter(), now)
}

/// A plan that was written here, or by an earlier version, as a JSON object.
#[derive(Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(mut plan) = serde_json::from_str::<Named<'_>>(self.0) {
            for candidate in &mut plan.candidates {
                candidate.model = candidate.model.or(plan.model);
            }
            return plan.serialize(serializer);
        }
        // Whatever it is, rather than nothing.
        serde_json::from_str::<&RawValue>(self.0)
            .ok()
            .serialize(serializer)
    }
}

/// Each value as its own JSON, so that none is read as a float.
type Json<'a> = Option<&'a RawValue>;

#[derive(Deserialize, Serialize)]
struct Named<'a> {
    #[serde(borrow)]
    model: Json<'a>,
    policy: Json<'a>,
    strategy: Json<'a>,
    candidates: Vec<NamedCandidate<'a>>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    omitted: Json<'a>,
}

#[derive(Deserialize, Serialize)]
struct NamedCandidate<'a> {
    #[serde(borrow)]
    provider: Json<'a>,
    /// `null` on record where it is the plan's.
    model: Json<'a>,
    expected_input_tokens: Json<'a>,
    expected_cached_input_tokens: Json<'a>,
    expected_output_tokens: Json<'a>,
    expected_cost_sats: Json<'a>,
    /// How old the price is that its provider published; `null` where it is the operator's own.
    price_age_secs: Json<'a>,
    cost_parts: Option<NamedParts<'a>>,
    success_rate: Json<'a>,
    latency_ms: Json<'a>,
    /// Why it stands where it stands.
    ranked: Json<'a>,
    /// Why it is passed over.
    skipped: Json<'a>,
}

/// What the expected cost is made of.
#[derive(Deserialize, Serialize)]
struct NamedParts<'a> {
    #[serde(borrow)]
    input_sats: Json<'a>,
    cached_input_sats: Json<'a>,
    output_sats: Json<'a>,
    base_fee_sats: Json<'a>,
    failure_sats: Json<'a>,
}

/// Straight into one text, since each request has one: exact amounts by way of serde_json cost twice as much.
fn written<'a>(
    plan: &Plan,
    candidates: impl Iterator<Item = &'a Candidate>,
    now: Instant,
) -> String {
    let likely = plan.candidates.len().min(MOST_ON_RECORD);
    let mut array = Array(Vec::with_capacity(64 + CANDIDATE_BYTES * likely));
    array.text("[", &plan.model);
    array.value(",", plan.policy.as_deref());
    array.text(",", plan.strategy.as_str());
    array.raw(",[");
    let mut told = 0;
    for candidate in candidates {
        array.candidate(if told == 0 { "[" } else { ",[" }, candidate, plan, now);
        told += 1;
    }
    array.raw("]");
    let omitted = plan.candidates.len() - told;
    if omitted > 0 {
        array.count(Some(omitted as u64));
    }
    array.raw("]");
    String::from_utf8(array.0).expect("JSON is UTF-8")
}

/// A JSON array as it grows.
struct Array(Vec<u8>);

impl Array {
    /// The values of [`NamedCandidate`].
    fn candidate(&mut self, before: &str, candidate: &Candidate, plan: &Plan, now: Instant) {
        let offer = &candidate.offer;
        self.text(before, offer.provider());
        if offer.model() == &*plan.model {
            self.raw(",null");
        } else {
            self.text(",", offer.model());
        }
        let tokens = &candidate.tokens;
        self.count(Some(tokens.input));
        self.count(Some(tokens.cached_input));
        self.count(Some(tokens.output));
        self.amount(",", candidate.expected_cost());
        self.count(age_secs(offer.priced_at(), now));
        self.parts(candidate.quote.as_ref());
        self.value(",", candidate.success);
        self.count(candidate.latency.map(whole_ms));
        match &candidate.skipped {
            // No rank has a letter that JSON would escape.
            None => write!(self.0, r#","{}",null"#, candidate.rank).expect(GROWS),
            Some(skip) => self.text(",null,", &skip.to_string()),
        }
        self.raw("]");
    }

    /// The values of [`NamedParts`].
    fn parts(&mut self, quote: Option<&Quote>) {
        let Some(quote) = quote else {
            return self.raw(",null");
        };
        self.amount(",[", Some(quote.input));
        self.amount(",", Some(quote.cached_input));
        self.amount(",", Some(quote.output));
        self.amount(",", Some(quote.base_fee));
        self.amount(",", Some(quote.failure));
        self.raw("]");
    }

    /// An exact number, which a float would not be.
    #[inline(always)]
    fn amount(&mut self, before: &str, amount: Option<Sats>) {
        self.raw(before);
        match amount {
            Some(amount) => self.0.extend_from_slice(amount.to_decimal().as_bytes()),
            None => self.raw("null"),
        }
    }

    #[inline(always)]
    fn count(&mut self, count: Option<u64>) {
        self.raw(",");
        match count {
            Some(count) => self.raw(itoa::Buffer::new().format(count)),
            None => self.raw("null"),
        }
    }

    fn text(&mut self, before: &str, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            self.raw(before);
            self.raw("\"");
            self.raw(text);
            self.raw("\"");
        } else {
            self.value(before, text);
        }
    }

    fn value(&mut self, before: &str, value: impl Serialize) {
        self.raw(before);
        serde_json::to_writer(&mut self.0, &value).expect(GROWS);
    }

    /// Inlined, since most of what it writes is known beforehand: that is copied without a call.
    #[inline(always)]
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Candidates of a plan on record; two hundred would make each row 17 KB long.
const MOST_ON_RECORD: usize = 32;
/// Those of them that are passed over. The others are as many as are asked, unless `retry.max_attempts` says more.
const MOST_PASSED_OVER: usize = 24;
const GROWS: &str = "a Vec takes all that is written";
/// About as much as one candidate takes.
const CANDIDATE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn what_is_on_record_is_shown_by_name() {
        let parts = r#"{"input_sats":0.200000000000000001,"cached_input_sats":0,"output_sats":1.2,"base_fee_sats":1,"failure_sats":0}"#;
        let candidate = |model: &str, parts: &str| {
            format!(
                r#"{{"provider":"p\u0000","model":"{model}","expected_input_tokens":20,"expected_cached_input_tokens":3,"expected_output_tokens":40,"expected_cost_sats":2.400000000000000001,"price_age_secs":null,"cost_parts":{parts},"success_rate":1.0,"latency_ms":15,"ranked":"cheapest","skipped":null}}"#
            )
        };
        let plan = |policy: &str, candidates: &[String], omitted: &str| {
            let candidates = candidates.join(",");
            format!(
                r#"{{"model":"m","policy":{policy},"strategy":"cheapest","candidates":[{candidates}]{omitted}}}"#
            )
        };
        let usual = plan("null", &[candidate("m", parts)], "");
        let several = plan(
            r#""cheap""#,
            &[candidate("n", parts), candidate("m", "null")],
            r#","omitted":8"#,
        );
        let on_record = |model: &str, parts: &str| {
            format!(
                r#"["p\u0000",{model},20,3,40,2.400000000000000001,null,{parts},1.0,15,"cheapest",null]"#
            )
        };
        let parts = "[0.200000000000000001,0,1.2,1,0]";
        let (plain, other) = (on_record("null", parts), on_record(r#""n""#, parts));
        let unpriced = on_record("null", "null");
        let cases = [
            (format!(r#"["m",null,"cheapest",[{plain}]]"#), &usual),
            (
                format!(r#"["m","cheap","cheapest",[{other},{unpriced}],8]"#),
                &several,
            ),
            // As earlier versions wrote it.
            (usual.clone(), &usual),
            (several.clone(), &several),
        ];
        for (text, shown) in &cases {
            assert_eq!(&serde_json::to_string(&Shown(text)).unwrap(), *shown);
        }
    }

    #[test]
    fn what_is_no_plan_is_shown_as_it_is() {
        for (text, shown) in [
            (r#"{"plan":1}"#, r#"{"plan":1}"#),
            (r#"["m",null]"#, r#"["m",null]"#),
            ("no JSON", "null"),
            ("", "null"),
        ] {
            assert_eq!(serde_json::to_string(&Shown(text)).unwrap(), shown);
        }
    }
}
