//! The ordered candidates of one request, each with what it would cost and why it is passed over.
//!
//! Ranking is by expected cost of *this* request, not by rate cards: a low output rate is worth little to a request
//! that is mostly input. Candidates that are passed over stay in the list, so that a plan explains itself.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::{Quote, Sats, Tokens, quote};
use arbstr_wire::{Endpoint, Request};

use crate::candidate::{Candidate, Glance, Offer, Skip};
use crate::estimate::{Demand, Expectation, estimate_input, to_count, to_number};
use crate::permit::Terms;
use crate::policy::{PolicySet, Strategy, Texts};
use crate::waterfall::Retry;

/// What planning needs to know of a request.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The model asked for.
    pub model: &'a str,
    /// The policy asked for, in the `X-Arbstr-Policy` header.
    pub policy: Option<&'a str>,
    /// What the user wrote, for keywords.
    pub texts: &'a dyn Texts,
    /// Input tokens, as [`estimate_input`] has them.
    pub input_tokens: u64,
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
    pub(crate) terms: Terms,
    pub(crate) retry: Retry,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No provider has the model.
    #[error("no provider has the model {model:?}")]
    UnknownModel {
        /// The model asked for.
        model: String,
    },
    /// No rule has that name.
    #[error("there is no policy {name:?}")]
    UnknownPolicy {
        /// The policy asked for.
        name: String,
    },
    /// The policy rules out every candidate.
    #[error(
        "policy {policy:?} leaves nobody to serve the model {model:?}: {}",
        reasons(candidates)
    )]
    NothingAllowed {
        /// The model asked for.
        model: String,
        /// The policy in force.
        policy: Arc<str>,
        /// The candidates, each with what speaks against it.
        candidates: Vec<Candidate>,
    },
}

/// What a market contributes to a plan.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) offers: &'a [Arc<Offer>],
    pub(crate) policies: &'a PolicySet,
    pub(crate) rule: Option<usize>,
    /// Which candidate's turn it is.
    pub(crate) turn: usize,
    pub(crate) retry: Retry,
}

/// What a candidate is ranked by, and its place before that. Ranking moves these, not the candidates themselves.
#[derive(Debug, Clone, Copy)]
struct Runner {
    place: usize,
    cost: Option<Sats>,
    latency: Option<Duration>,
    ruled_out: bool,
}

impl<'a> Facts<'a> {
    /// The facts of a parsed request; walks its texts once to estimate the input.
    #[must_use]
    pub fn of(request: &'a Request<'a>, policy: Option<&'a str>) -> Self {
        Self {
            model: request.model(),
            policy,
            texts: request,
            input_tokens: estimate_input(request),
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
            .field("input_tokens", &self.input_tokens)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Ranks the offers of `field` for the request of `facts`.
    pub(crate) fn build(
        facts: &Facts<'_>,
        field: &Field<'_>,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let strategy = field.policies.strategy(field.rule);
        let policy = field.rule.map(|rule| field.policies.name(rule));
        let (entered, mut runners) = enter_runners(facts, field, policy.as_ref(), now);
        rank(&mut runners, strategy, field.turn);
        let mut candidates = in_order(entered, &runners);
        let mut allowed = candidates
            .iter_mut()
            .filter(|candidate| !candidate.is_ruled_out());
        let (first, second) = (allowed.next(), allowed.next());
        match (first, second, policy.clone()) {
            (None, _, Some(policy)) => {
                let model = facts.model.to_owned();
                return Err(Refusal::NothingAllowed {
                    model,
                    policy,
                    candidates,
                });
            }
            (Some(sole), None, _) => keep_sole(sole),
            _ => {}
        }
        Ok(Self {
            model: facts.model.to_owned(),
            policy,
            strategy,
            candidates,
            terms: terms(facts, field.rule),
            retry: field.retry,
        })
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

fn terms(facts: &Facts<'_>, policy: Option<usize>) -> Terms {
    Terms {
        policy,
        streaming: facts.streaming,
        choices: facts.choices.max(1),
        input: facts.input_tokens,
        generates: facts.endpoint != Endpoint::Embeddings,
    }
}

fn enter_runners(
    facts: &Facts<'_>,
    field: &Field<'_>,
    policy: Option<&Arc<str>>,
    now: Instant,
) -> (Vec<Candidate>, Vec<Runner>) {
    let mut expected: Option<(*const Demand, Expectation)> = None;
    let mut candidates = Vec::with_capacity(field.offers.len());
    let mut runners = Vec::with_capacity(field.offers.len());
    for (place, offer) in field.offers.iter().enumerate() {
        // Offers of one model share what is expected of it, and stand side by side.
        let key = Arc::as_ptr(&offer.demand);
        let expectation = match expected {
            Some((known, expectation)) if known == key => expectation,
            _ => expected.insert((key, offer.demand.expect(field.rule))).1,
        };
        let glance = offer.glance(now, facts.streaming);
        let tokens = expect_tokens(facts, expectation, &glance);
        let quote = offer.rates.as_ref().map(|rates| quote(&tokens, rates));
        let objection = field.rule.and_then(|rule| {
            let objection = field
                .policies
                .objection(rule, facts.model, offer, quote.as_ref())?;
            policy.map(|policy| Skip::Policy {
                policy: Arc::clone(policy),
                objection,
            })
        });
        runners.push(Runner {
            place,
            cost: quote.as_ref().map(Quote::total),
            latency: glance.latency,
            ruled_out: objection.is_some(),
        });
        candidates.push(Candidate {
            offer: Arc::clone(offer),
            tokens,
            quote,
            skipped: objection.or(glance.skip),
        });
    }
    (candidates, runners)
}

/// The candidates in the order of their runners, each of which names another place.
fn in_order(candidates: Vec<Candidate>, runners: &[Runner]) -> Vec<Candidate> {
    let mut places: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    runners
        .iter()
        .filter_map(|runner| places[runner.place].take())
        .collect()
}

fn expect_tokens(facts: &Facts<'_>, expectation: Expectation, glance: &Glance) -> Tokens {
    let ratio = glance.input_ratio.unwrap_or(expectation.input_ratio);
    let per_choice = to_count(expectation.output).min(facts.max_output_tokens.unwrap_or(u64::MAX));
    let output = match facts.endpoint {
        Endpoint::Embeddings => 0,
        Endpoint::Chat | Endpoint::Completions => {
            per_choice.saturating_mul(u64::from(facts.choices.max(1)))
        }
    };
    Tokens {
        input: to_count(to_number(facts.input_tokens) * ratio),
        cached_input: 0,
        output,
    }
}

fn rank(runners: &mut [Runner], strategy: Strategy, turn: usize) {
    match strategy {
        Strategy::Cheapest => runners.sort_by(|a, b| by_cost(a, b).then_with(|| by_latency(a, b))),
        // One that was never measured comes first: a single answer measures it.
        Strategy::LowestLatency => {
            runners.sort_by(|a, b| a.latency.cmp(&b.latency).then_with(|| by_cost(a, b)));
        }
        Strategy::RoundRobin => {
            runners.sort_by_key(|runner| runner.ruled_out);
            let allowed = runners.partition_point(|runner| !runner.ruled_out);
            if allowed > 0 {
                runners[..allowed].rotate_left(turn % allowed);
            }
        }
    }
}

/// An unknown price ranks behind every known one.
fn by_cost(a: &Runner, b: &Runner) -> Ordering {
    match (a.cost, b.cost) {
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

fn by_latency(a: &Runner, b: &Runner) -> Ordering {
    let key = |runner: &Runner| runner.latency.unwrap_or(Duration::MAX);
    key(a).cmp(&key(b))
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
