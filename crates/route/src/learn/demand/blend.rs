//! The mean of what all keys of a request predict, each weighed by how well it has done.

use std::array::from_fn;

use super::node::{BILLING, INPUT, Lanes, Level, Node, OUTPUT, TEXT};

/// A prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) value: f32,
    /// How far off it is likely to be, as a variance.
    pub(crate) doubt: f32,
    /// The same, had it all come from others.
    pub(crate) vouched: f32,
}

/// What is expected of one request, whoever serves it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expectation {
    /// Output tokens of one choice.
    pub(crate) output: f32,
    /// Their logarithm, for comparison with what comes.
    pub(crate) log_output: f32,
    /// Variance of that.
    pub(crate) doubt: f32,
    /// Logarithm of the bytes of one choice, if some were counted.
    pub(crate) log_text: Option<Prediction>,
    /// Logarithm of tokens per byte.
    pub(crate) log_billing: Option<Prediction>,
    /// Logarithm of reported per estimated input tokens.
    pub(crate) log_input: Option<Prediction>,
}

/// Weighted sums of predictions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Blend {
    weight: Lanes,
    value: Lanes,
    doubt: Lanes,
    vouched: Lanes,
    output: f32,
}

impl Blend {
    /// Adds what a key predicts, which can be trusted so far.
    pub(super) fn add(&mut self, node: &Node, trust: &Lanes) {
        self.add_apart(node, trust, &[1.0; 4]);
    }

    /// As [`Self::add`], doubted so much more as too little of the evidence comes from others than `server`.
    pub(super) fn add_but_for(&mut self, server: u32, node: &Node, trust: &Lanes) {
        let share = node.share_apart(server);
        self.add_apart(
            node,
            trust,
            &node.count.map(|count| apart_from(count, share)),
        );
    }

    fn add_apart(&mut self, node: &Node, trust: &Lanes, apart: &Lanes) {
        // The variance times the weight, which is the fourth power of the trust: as strongly the better predictor is preferred.
        let doubted = trust.map(|trust| trust * trust * trust);
        let weight: Lanes = from_fn(|lane| doubted[lane] * trust[lane]);
        self.weight = from_fn(|lane| self.weight[lane] + weight[lane]);
        self.value = from_fn(|lane| self.value[lane] + weight[lane] * node.value[lane]);
        self.vouched = from_fn(|lane| self.vouched[lane] + doubted[lane]);
        self.doubt = from_fn(|lane| self.doubt[lane] + doubted[lane] * apart[lane]);
        self.output += weight[OUTPUT] * node.tokens;
    }

    /// What another model's requests gave counts as one doubtful key more.
    pub(super) fn add_hint(&mut self, hint: &Self) {
        if hint.weight[OUTPUT] <= 0.0 {
            return;
        }
        let mut node = Node {
            tokens: hint.output / hint.weight[OUTPUT],
            ..Node::default()
        };
        for lane in 0..4 {
            if let Some(prediction) = hint.prediction(lane) {
                node.value[lane] = prediction.value;
                node.count[lane] = 1.0;
                node.error[lane] = prediction.doubt;
            }
        }
        let mut trust = node.trust(&Level::default());
        trust[OUTPUT] = 1.0 / (HINT_DOUBT * node.error[OUTPUT]);
        self.add(&node, &trust);
    }

    /// Whether any key had evidence of the output.
    pub(super) fn knows_output(&self) -> bool {
        self.weight[OUTPUT] > 0.0
    }

    pub(super) fn finish(mut self) -> Expectation {
        let prior_weight = PRIOR_DOUBT.powi(-4);
        self.weight[OUTPUT] += prior_weight;
        self.output += prior_weight * PRIOR_OUTPUT;
        self.value[OUTPUT] += prior_weight * PRIOR_OUTPUT.ln();
        self.doubt[OUTPUT] += prior_weight * PRIOR_DOUBT;
        let share = 1.0 / self.weight[OUTPUT];
        Expectation {
            output: self.output * share,
            log_output: self.value[OUTPUT] * share,
            doubt: self.doubt[OUTPUT] * share,
            log_text: self.prediction(TEXT),
            log_billing: self.prediction(BILLING),
            log_input: self.prediction(INPUT),
        }
    }

    fn prediction(&self, lane: usize) -> Option<Prediction> {
        let weight = self.weight[lane];
        (weight > 0.0).then(|| Prediction {
            value: self.value[lane] / weight,
            doubt: self.doubt[lane] / weight,
            vouched: self.vouched[lane] / weight,
        })
    }
}

/// How much larger the variance of a mean of `count` values is when only a share of them counts.
fn apart_from(count: f32, share: f32) -> f32 {
    let at_least = |count: f32| {
        if count > LEAST_EVIDENCE {
            count
        } else {
            LEAST_EVIDENCE
        }
    };
    let (some, all) = (at_least(count * share), at_least(count));
    // (1 + 1/some) / (1 + 1/all)
    ((some + 1.0) * all) / (some * (all + 1.0))
}

/// Output tokens of a request about which nothing is known.
const PRIOR_OUTPUT: f32 = 300.0;
const PRIOR_DOUBT: f32 = 2.5;
/// How much less another model's requests tell.
const HINT_DOUBT: f32 = 2.0;
/// What evidence of one's own making is worth, in answers.
const LEAST_EVIDENCE: f32 = 0.05;
