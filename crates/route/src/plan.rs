//! The ordered candidates of one request, each with what it would cost and why it is passed over.
//!
//! Ranking is by expected cost of *this* request, not by rate cards: a low output rate is worth little to a request
//! that is mostly input. Candidates that are passed over stay in the list, so that a plan explains itself.

use std::sync::Arc;
use std::time::Instant;

use arbstr_price::{Tokens, quote};
use arbstr_wire::{Endpoint, Request};

use crate::candidate::{Candidate, Offer, OfferView, PlanContext, Rank, Skip};
use crate::estimate::{to_count, to_millionths, to_number};
use crate::learn::demand::{Demand, Expectation};
use crate::learn::prefix::Prefixes;
use crate::learn::typical::Logs;
use crate::permit::RequestTraits;
use crate::policy::{PolicySet, Strategy, Texts};
use crate::shape::{Keys, Shape};
use crate::waterfall::Retry;

mod rank;

use rank::{Ranking, explain, look_again, rank, try_somebody};

/// What planning needs to know of a request.
#[derive(Clone)]
pub struct Facts<'a> {
    /// The model asked for.
    pub model: &'a str,
    /// The policy asked for, in the `X-Arbstr-Policy` header.
    pub policy: Option<&'a str>,
    /// What the user wrote, for keywords.
    pub texts: &'a dyn Texts,
    /// What it looks like.
    pub shape: Shape,
    /// The client's bound on output tokens, per choice.
    pub max_output_tokens: Option<u64>,
    /// Answers asked for; 0 counts as 1.
    pub choices: u32,
    /// Whether the answer shall be a stream.
    pub streaming: bool,
    /// Which endpoint.
    pub endpoint: Endpoint,
}

/// Who is asked, in which order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model asked for.
    pub model: String,
    /// The policy in force, if a rule was chosen.
    pub policy: Option<Arc<str>>,
    /// By what the candidates are ranked.
    pub strategy: Strategy,
    /// Best first, those passed over included.
    pub candidates: Vec<Candidate>,
    pub(crate) traits: Arc<RequestTraits>,
    pub(crate) retry: Retry,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No provider has the model.
    #[error("no provider has the model {model:?}")]
    UnknownModel {
        /// The model asked for.
        model: String,
    },
    /// No rule has that name.
    #[error("there is no policy {name:?}; {}", known_policies(known))]
    UnknownPolicy {
        /// The policy asked for.
        name: String,
        /// Those there are.
        known: Vec<Arc<str>>,
    },
    /// The policy rules out every candidate.
    #[error(
        "policy {:?} leaves nobody to serve the model {:?}: {}",
        plan.policy.as_deref().unwrap_or_default(), plan.model, reasons(&plan.candidates)
    )]
    NothingAllowed {
        /// The candidates, each with what speaks against it.
        plan: Box<Plan>,
    },
}

/// What is expected of a request, whoever serves it with one model.
#[derive(Clone, Copy)]
struct ModelExpectation {
    /// Output tokens of one choice.
    output: f64,
    /// Input tokens reported for each estimated one.
    input_ratio: f64,
    /// What offers add as a rule.
    typical: Logs,
    /// The demand's clock.
    tick: u32,
}

impl ModelExpectation {
    fn of(found: &Expectation, typical: Logs, tick: u32) -> Self {
        let usual_ratio = found.log_input.map_or(0.0, |prediction| prediction.value);
        Self {
            output: f64::from(found.output),
            input_ratio: f64::from(usual_ratio).exp(),
            typical,
            tick,
        }
    }
}

/// What a market contributes to a plan.
#[derive(Debug)]
pub(crate) struct PlanInputs<'a> {
    pub(crate) offers: &'a [Arc<Offer>],
    pub(crate) policies: &'a PolicySet,
    pub(crate) rule: Option<usize>,
    /// Which candidate's turn it is.
    pub(crate) turn: usize,
    pub(crate) retry: Retry,
    pub(crate) prefixes: &'a Arc<Prefixes>,
    /// Only looked at: nothing is counted, nobody is tried.
    pub(crate) preview: bool,
}

impl<'a> Facts<'a> {
    /// The facts of a parsed request; walks its texts once.
    #[must_use]
    pub fn of(request: &'a Request<'a>, policy: Option<&'a str>) -> Self {
        Self {
            model: request.model(),
            policy,
            texts: request,
            shape: Shape::of(request),
            max_output_tokens: request.max_output_tokens(),
            choices: request.choices(),
            streaming: request.is_stream(),
            endpoint: request.endpoint(),
        }
    }
}

impl std::fmt::Debug for Facts<'_> {
    /// Without the texts: they are the client's affair.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("model", &self.model)
            .field("policy", &self.policy)
            .field("input_tokens", &self.shape.input_tokens)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Ranks the offers of `inputs` for the request of `facts`.
    pub(crate) fn build(
        facts: &Facts<'_>,
        inputs: &PlanInputs<'_>,
        now: Instant,
    ) -> Result<Self, PlanError> {
        let strategy = inputs.policies.strategy(inputs.rule);
        let policy = inputs.rule.map(|rule| inputs.policies.name(rule));
        let keys = facts.shape.keys(policy.as_deref());
        let traits = traits(facts, inputs, keys);
        let (entered, mut rankings) = candidates_with_rankings(facts, inputs, &traits, now);
        rank(&mut rankings, strategy, inputs.turn);
        let tried = match strategy {
            _ if inputs.preview => None,
            Strategy::Cheapest => try_somebody(&entered, &mut rankings, now),
            Strategy::LowestLatency => look_again(&entered, &mut rankings),
            Strategy::RoundRobin => None,
        };
        let mut candidates = in_order(entered, &rankings);
        explain(&mut candidates, &rankings, strategy, tried);
        let mut allowed = candidates
            .iter_mut()
            .filter(|candidate| !candidate.is_ruled_out());
        let (first, second) = (allowed.next(), allowed.next());
        let is_refused = first.is_none() && policy.is_some();
        if let (Some(sole), None) = (first, second) {
            keep_sole(sole);
        }
        let plan = Self {
            model: facts.model.to_owned(),
            policy,
            strategy,
            candidates,
            traits: Arc::new(traits),
            retry: inputs.retry,
        };
        if is_refused {
            let plan = Box::new(plan);
            return Err(PlanError::NothingAllowed { plan });
        }
        Ok(plan)
    }

    /// Candidates that the policy does not rule out.
    pub fn eligible(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|candidate| !candidate.is_ruled_out())
    }
}

/// A sole candidate is not passed over, whatever its record: only a full house makes it wait.
fn keep_sole(sole: &mut Candidate) {
    if !matches!(sole.skipped, Some(Skip::AtCapacity { .. })) {
        sole.skipped = None;
    }
}

fn traits(facts: &Facts<'_>, inputs: &PlanInputs<'_>, keys: Keys) -> RequestTraits {
    let prices_cache = inputs.offers.iter().any(|offer| offer.prices_cache());
    RequestTraits {
        keys,
        // Worth remembering only where somebody has a price for it.
        prefixes: if prices_cache {
            facts.shape.prefixes.clone()
        } else {
            Vec::new()
        },
        memory: Arc::clone(inputs.prefixes),
        streaming: facts.streaming,
        choices: facts.choices.max(1),
        input: facts.shape.input_tokens,
        max_output_tokens: facts.max_output_tokens,
        generates: facts.endpoint != Endpoint::Embeddings,
    }
}

/// Every offer as a candidate, in the order of the config, and what each is ranked by.
fn candidates_with_rankings(
    facts: &Facts<'_>,
    inputs: &PlanInputs<'_>,
    traits: &RequestTraits,
    now: Instant,
) -> (Vec<Candidate>, Vec<Ranking>) {
    let held = inputs.prefixes.holders(&traits.prefixes, now);
    let context = PlanContext {
        streaming: facts.streaming,
        input_tokens: facts.shape.input_tokens,
        held: &held,
    };
    let mut latest: Option<(*const Demand, ModelExpectation)> = None;
    let mut candidates = Vec::with_capacity(inputs.offers.len());
    let mut rankings = Vec::with_capacity(inputs.offers.len());
    for (place, offer) in (0..).zip(inputs.offers) {
        // Offers of one model share what is expected of it, and stand side by side.
        let model = Arc::as_ptr(&offer.demand);
        let expected = match latest {
            Some((known, expected)) if known == model => expected,
            _ => {
                let (found, typical, tick) = offer.demand.expect(&traits.keys, !inputs.preview);
                let expected = ModelExpectation::of(&found, typical, tick);
                latest.insert((model, expected)).1
            }
        };
        let view = offer.view(now, (expected.typical, expected.tick), &context);
        let mut candidate = candidate(facts, inputs, offer, expected, &view);
        rankings.push(Ranking::new(place, &candidate, &view, expected.tick));
        candidate.skipped = candidate.skipped.or(view.skip);
        candidates.push(candidate);
    }
    (candidates, rankings)
}

/// One offer as a candidate, passed over as yet by the policy alone.
fn candidate(
    facts: &Facts<'_>,
    inputs: &PlanInputs<'_>,
    offer: &Arc<Offer>,
    expected: ModelExpectation,
    view: &OfferView,
) -> Candidate {
    let tokens = expect_tokens(facts, expected, view);
    let failures = to_millionths(view.effects.failure);
    let rates = offer.rates.as_ref();
    let quote = rates.map(|rates| quote(&tokens, rates).with_failures(failures));
    let skipped = inputs.rule.and_then(|rule| {
        let policies = inputs.policies;
        let objection = policies.objection(rule, facts.model, offer, quote.as_ref())?;
        let policy = policies.name(rule);
        Some(Skip::Policy { policy, objection })
    });
    Candidate {
        offer: Arc::clone(offer),
        tokens,
        quote,
        latency: view.latency,
        success: view.effects.success,
        rank: Rank::default(),
        skipped,
    }
}

/// The candidates in the order of their rankings, each of which names another place.
fn in_order(candidates: Vec<Candidate>, rankings: &[Ranking]) -> Vec<Candidate> {
    if rankings.is_sorted_by_key(|ranking| ranking.place) {
        return candidates;
    }
    let mut places: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    let ranked = rankings.iter();
    ranked
        .filter_map(|ranking| places[ranking.place as usize].take())
        .collect()
}

fn expect_tokens(facts: &Facts<'_>, expected: ModelExpectation, view: &OfferView) -> Tokens {
    let effects = &view.effects;
    let input_ratio = expected.input_ratio * effects.input;
    let bound = facts.max_output_tokens.filter(|_| !effects.overruns);
    let per_choice = to_count(expected.output * effects.output);
    let per_choice = per_choice.min(bound.unwrap_or(u64::MAX));
    let output = match facts.endpoint {
        Endpoint::Embeddings => 0,
        Endpoint::Chat | Endpoint::Completions => {
            per_choice.saturating_mul(u64::from(facts.choices.max(1)))
        }
    };
    let input = to_count(to_number(facts.shape.input_tokens) * input_ratio);
    Tokens {
        input,
        cached_input: to_count(view.cached * input_ratio).min(input),
        output,
    }
}

fn known_policies(known: &[Arc<str>]) -> String {
    if known.is_empty() {
        "the config has none".to_owned()
    } else {
        format!("known are {}", known.join(", "))
    }
}

fn reasons(candidates: &[Candidate]) -> String {
    let reason = |candidate: &Candidate| match &candidate.skipped {
        Some(Skip::Policy { objection, .. }) => {
            format!("{} ({objection})", candidate.offer.provider())
        }
        _ => candidate.offer.provider().to_owned(),
    };
    candidates.iter().map(reason).collect::<Vec<_>>().join(", ")
}
