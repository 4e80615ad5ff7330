//! How many tokens a request will take, before anybody has counted them.
//!
//! Input is judged by its bytes and their script; what providers report afterwards corrects it per offer. Output is
//! what similar requests gave. Everything learned is a decayed mean whose single steps are bounded, so that one
//! absurd report moves it little and an old habit is forgotten.

use std::sync::{Mutex, PoisonError};

use arbstr_wire::Request;

/// Estimates the input tokens of `request`: texts by script, tool definitions, images and the frame around each
/// message. Tokens that are given as numbers are counted as they are.
#[must_use]
pub fn estimate_input(request: &Request<'_>) -> u64 {
    let mut text = Script::default();
    let size = request.survey(|part| text.add(part.raw()));
    let frames = size.messages.saturating_mul(TOKENS_PER_MESSAGE);
    let media = size.media.saturating_mul(TOKENS_PER_MEDIUM);
    [
        size.tokens,
        size.tool_bytes / BYTES_PER_TOKEN,
        frames,
        media,
    ]
    .into_iter()
    .fold(text.tokens(), u64::saturating_add)
}

/// Counts of the letters of a text, by how many of them make a token.
#[derive(Debug, Default, Clone, Copy)]
struct Script {
    ascii: u64,
    alphabetic: u64,
    wide: u64,
}

/// A mean that fades: each new value weighs at least [`LEAST_WEIGHT`], and none moves it further than
/// [`LARGEST_STEP`] times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Decayed {
    mean: f64,
    count: u32,
}

/// What requests for one model gave so far: overall, and under each policy.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    overall: Mutex<Learned>,
    by_policy: Vec<Mutex<Learned>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Learned {
    output: Decayed,
    input_ratio: Decayed,
}

/// What is expected of one request for a model, whoever serves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expectation {
    /// Output tokens of one choice.
    pub(crate) output: f64,
    /// Reported input tokens per estimated one.
    pub(crate) input_ratio: f64,
}

impl Script {
    fn add(&mut self, text: &str) {
        // Short runs count in bytes, which the compiler turns into vector instructions: prompts are long.
        for run in text.as_bytes().chunks(usize::from(u8::MAX)) {
            let (mut ascii, mut two_bytes, mut longer) = (0_u8, 0_u8, 0_u8);
            for &byte in run {
                ascii += u8::from(byte < 0x80);
                two_bytes += u8::from(byte & 0xE0 == 0xC0);
                longer += u8::from(byte >= 0xE0);
            }
            self.ascii += u64::from(ascii);
            self.alphabetic += u64::from(two_bytes);
            self.wide += u64::from(longer);
        }
    }

    /// English takes some four letters a token, Cyrillic, Greek, Arabic or Hebrew some two, and a character of the
    /// East Asian scripts about one.
    fn tokens(self) -> u64 {
        self.ascii.div_ceil(BYTES_PER_TOKEN) + self.alphabetic.div_ceil(2) + self.wide
    }
}

impl Decayed {
    /// Takes one more value into account.
    pub(crate) fn learn(&mut self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            self.mean = value;
            return;
        }
        let bounded = value.min((self.mean * LARGEST_STEP).max(1.0));
        let weight = (1.0 / f64::from(self.count)).max(LEAST_WEIGHT);
        self.mean += (bounded - self.mean) * weight;
    }

    /// The mean, once there is evidence for it.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count >= EVIDENCE).then_some(self.mean)
    }
}

impl Demand {
    /// Nothing learned yet, for a market with `policies` rules.
    pub(crate) fn new(policies: usize) -> Self {
        Self {
            overall: Mutex::default(),
            by_policy: (0..policies).map(|_| Mutex::default()).collect(),
        }
    }

    /// What `old` learned; `kept[i]` is the place of rule `i` in `old`, if it was there.
    pub(crate) fn inherit(old: &Self, kept: &[Option<usize>]) -> Self {
        let copy = |learned: &Mutex<Learned>| Mutex::new(*lock(learned));
        let by_policy = kept
            .iter()
            .map(|place| {
                place
                    .and_then(|at| old.by_policy.get(at))
                    .map_or_else(Mutex::default, copy)
            })
            .collect();
        Self {
            overall: copy(&old.overall),
            by_policy,
        }
    }

    /// Takes a reported answer into account: `output` tokens of one choice, and reported per estimated input.
    pub(crate) fn learn(
        &self,
        policy: Option<usize>,
        output: Option<f64>,
        input_ratio: Option<f64>,
    ) {
        let places = [
            Some(&self.overall),
            policy.and_then(|at| self.by_policy.get(at)),
        ];
        for place in places.into_iter().flatten() {
            let mut learned = lock(place);
            if let Some(output) = output {
                learned.output.learn(output);
            }
            if let Some(ratio) = input_ratio {
                learned.input_ratio.learn(ratio);
            }
        }
    }

    /// What a request under `policy` may be expected to give: from that policy's requests if there were some, else
    /// from the model's, else from the prior.
    pub(crate) fn expect(&self, policy: Option<usize>) -> Expectation {
        let overall = *lock(&self.overall);
        let own = policy
            .and_then(|at| self.by_policy.get(at))
            .map(|place| *lock(place));
        let pick = |of: fn(&Learned) -> Option<f64>, prior: f64| {
            own.as_ref()
                .and_then(of)
                .or_else(|| of(&overall))
                .unwrap_or(prior)
        };
        Expectation {
            output: pick(|learned| learned.output.mean(), PRIOR_OUTPUT),
            input_ratio: pick(|learned| learned.input_ratio.mean(), 1.0),
        }
    }
}

/// Rounds a token estimate to a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and an estimate beyond 2^64 tokens is as good as 2^64"
)]
pub(crate) fn to_count(tokens: f64) -> u64 {
    tokens.round().max(0.0) as u64
}

/// A count as a number to reckon with; beyond 2^53 the last digits go, which no estimate minds.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(crate) const fn to_number(count: u64) -> f64 {
    count as f64
}

/// Output tokens of a request about which nothing is known.
const PRIOR_OUTPUT: f64 = 300.0;
/// Reports before a mean counts.
const EVIDENCE: u32 = 3;
/// The least weight of a new value: the memory reaches back some fifty values.
const LEAST_WEIGHT: f64 = 0.02;
/// How many times the mean a single value counts at most.
const LARGEST_STEP: f64 = 8.0;
const BYTES_PER_TOKEN: u64 = 4;
/// Role and separators of a chat message.
const TOKENS_PER_MESSAGE: u64 = 4;
/// An image of middling size, or a clip of sound.
const TOKENS_PER_MEDIUM: u64 = 765;

fn lock(learned: &Mutex<Learned>) -> std::sync::MutexGuard<'_, Learned> {
    learned.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbstr_wire::Endpoint;
    use proptest::prelude::*;

    fn estimate(body: &str) -> u64 {
        estimate_input(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap())
    }

    fn chat(text: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
    }

    #[test]
    fn text_counts_by_its_script() {
        let frame = TOKENS_PER_MESSAGE;
        let cases = [
            ("", frame),
            ("abcd", 1 + frame),
            ("The quick brown fox jumps over the lazy dog.", 11 + frame),
            ("Привет", 3 + frame),
            ("你好世界", 4 + frame),
        ];
        for (text, want) in cases {
            assert_eq!(estimate(&chat(text)), want, "{text}");
        }
    }

    #[test]
    fn pictures_and_tools_count_too() {
        let plain = estimate(&chat("hi"));
        let picture = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},
            {"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}]}"#;
        assert!(estimate(picture) >= plain + TOKENS_PER_MEDIUM);
        let tools = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],
            "tools":[{"type":"function","function":{"name":"f","description":"a rather long description"}}]}"#;
        assert!(estimate(tools) > plain + 10);
    }

    #[test]
    fn a_mean_needs_evidence_and_shrugs_off_the_absurd() {
        let mut mean = Decayed::default();
        mean.learn(100.0);
        mean.learn(100.0);
        assert_eq!(mean.mean(), None);
        for _ in 0..50 {
            mean.learn(100.0);
        }
        mean.learn(1e12);
        mean.learn(f64::NAN);
        mean.learn(-5.0);
        let after = mean.mean().unwrap();
        assert!(after > 100.0 && after < 120.0, "{after}");
    }

    #[test]
    fn a_mean_follows_when_habits_change() {
        let mut mean = Decayed::default();
        for _ in 0..1000 {
            mean.learn(50.0);
        }
        for _ in 0..300 {
            mean.learn(400.0);
        }
        assert!(mean.mean().unwrap() > 390.0);
    }

    #[test]
    fn the_policys_own_requests_come_before_the_models() {
        let demand = Demand::new(2);
        assert!((demand.expect(Some(0)).output - PRIOR_OUTPUT).abs() < f64::EPSILON);
        for _ in 0..EVIDENCE {
            demand.learn(Some(0), Some(1000.0), Some(1.5));
        }
        for _ in 0..EVIDENCE {
            demand.learn(None, Some(10.0), None);
        }
        assert!((demand.expect(Some(0)).output - 1000.0).abs() < 1.0);
        let other = demand.expect(Some(1));
        assert!(other.output < 600.0, "{other:?}");
        assert!((other.input_ratio - 1.5).abs() < 0.01);
        let heir = Demand::inherit(&demand, &[None, Some(0)]);
        assert!((heir.expect(Some(1)).output - 1000.0).abs() < 1.0);
        assert!(heir.expect(Some(0)).output < 600.0);
    }

    proptest! {
        #[test]
        fn a_mean_stays_within_what_it_saw(values in prop::collection::vec(0.0..1e9_f64, 3..100)) {
            let mut mean = Decayed::default();
            for value in &values {
                mean.learn(*value);
            }
            let most = values.iter().copied().fold(1.0, f64::max);
            prop_assert!((0.0..=most * 1.000_001).contains(&mean.mean().unwrap()));
        }
    }
}
