//! Everything that is for sale: the offers of all providers, indexed by model.
//!
//! A market is built from a config and never changes shape; a reload builds another. What experience says of providers
//! lives in parts that both share, so that neither an open circuit nor a request in flight is forgotten on the way.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arbstr_price::{Rates, Sats};
use arbstr_wire::Fingerprint;

use crate::candidate::{Offer, OfferLive, Provider, Tier};
use crate::change::{Change, ChangeLog};
use crate::circuit::CircuitSettings;
use crate::learn::demand::Demand;
use crate::learn::prefix::Prefixes;
use crate::learn::shared::SharedDemand;
use crate::plan::{Facts, Plan, PlanError, PlanInputs};
use crate::policy::{Policies, PolicySet, Rule, Strategy};
use crate::snapshot::{Health, ProviderSnapshot};
use crate::waterfall::Retry;

mod persist;

use persist::Unclaimed;

/// What a market is built from.
#[derive(Debug, Clone, Default)]
pub struct MarketSpec {
    /// Who sells.
    pub providers: Vec<ProviderSpec>,
    /// Names that stand for several models.
    pub virtual_models: Vec<VirtualModel>,
    /// The operator's rules.
    pub policies: Policies,
    /// How often and how fast is asked again.
    pub retry: Retry,
    /// When circuits open.
    pub circuit: CircuitSettings,
}

/// One provider, as configured.
#[derive(Debug, Clone, Default)]
pub struct ProviderSpec {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// Requests it takes at once; 0 is learned.
    pub max_concurrency: u32,
    /// Stands for all that makes it another provider, such as its address and key: when it changes, a new market
    /// starts afresh with it.
    pub fingerprint: u64,
    /// What it sells.
    pub offers: Vec<OfferSpec>,
}

/// One model at a provider, as configured.
#[derive(Debug, Clone, Default)]
pub struct OfferSpec {
    /// The model as clients ask for it.
    pub model: String,
    /// The model as the provider calls it.
    pub upstream_model: String,
    /// What it charges; `None` when that is not known.
    pub rates: Option<Rates>,
    /// When its provider published that price; `None` when it is the operator's own.
    pub priced_at: Option<Instant>,
}

/// A name that stands for several models.
#[derive(Debug, Clone, Default)]
pub struct VirtualModel {
    /// The name; it hides a model of the same name.
    pub name: String,
    /// The models that are good enough for one another; those that nobody sells are passed over.
    pub any_of: Vec<String>,
}

/// Why a spec makes no market.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two providers of one name.
    #[error("provider {name:?} is there twice")]
    TwiceProvider {
        /// The name.
        name: String,
    },
    /// A provider has two offers of one model.
    #[error("provider {provider:?} has the model {model:?} twice")]
    TwiceModel {
        /// The provider's name.
        provider: String,
        /// The model.
        model: String,
    },
    /// Two virtual models of one name.
    #[error("the virtual model {name:?} is there twice")]
    TwiceVirtual {
        /// The name.
        name: String,
    },
    /// Two rules of one name.
    #[error("policy {name:?} is there twice")]
    TwicePolicy {
        /// The name.
        name: String,
    },
    /// A keyword without a letter.
    #[error("policy {policy:?} has an empty keyword")]
    EmptyKeyword {
        /// The policy's name.
        policy: String,
    },
}

/// The offers of all providers.
#[derive(Debug)]
pub struct Market {
    providers: Vec<Arc<Provider>>,
    offers: Vec<Arc<Offer>>,
    models: HashMap<Arc<str>, Model>,
    demands: HashMap<Arc<str>, Arc<Demand>>,
    shared: Arc<SharedDemand>,
    prefixes: Arc<Prefixes>,
    unclaimed: Arc<Unclaimed>,
    policies: PolicySet,
    retry: Retry,
    changes: Arc<ChangeLog>,
}

/// One entry of a model list.
#[derive(Debug, Clone)]
pub struct Listing<'a> {
    /// The name to ask for.
    pub name: &'a str,
    /// Whether it stands for several models.
    pub is_virtual: bool,
    /// Who serves it, in the order of the config.
    pub offers: &'a [Arc<Offer>],
}

#[derive(Debug, Default)]
struct Model {
    is_virtual: bool,
    offers: Vec<Arc<Offer>>,
    turns: AtomicUsize,
}

impl Market {
    /// Builds the market of `spec`; providers that `previous` knew keep their record.
    ///
    /// # Errors
    ///
    /// When a name is there twice, or a keyword is empty.
    pub fn build(spec: MarketSpec, previous: Option<&Self>) -> Result<Self, BuildError> {
        check(&spec)?;
        let policies = PolicySet::new(spec.policies);
        let changes = previous.map_or_else(Arc::default, |old| Arc::clone(&old.changes));
        let shared = previous.map_or_else(Arc::default, |old| Arc::clone(&old.shared));
        let demands = inherit_demands(&spec.providers, &shared, previous);
        let circuit = CircuitSettings {
            failures: spec.circuit.failures.max(1),
            open_for: spec.circuit.open_for.min(LONGEST_OPEN),
        };
        let mut market = Self {
            providers: Vec::new(),
            offers: Vec::new(),
            models: HashMap::new(),
            demands,
            shared,
            prefixes: previous.map_or_else(Arc::default, |old| Arc::clone(&old.prefixes)),
            unclaimed: previous.map_or_else(Arc::default, |old| Arc::clone(&old.unclaimed)),
            policies,
            retry: spec.retry,
            changes,
        };
        for provider in spec.providers {
            market.add_provider(provider, circuit, previous);
        }
        market.note_peers(&spec.virtual_models);
        for name in spec.virtual_models {
            market.add_virtual(name);
        }
        Ok(market)
    }

    /// Ranks who could serve a request.
    ///
    /// # Errors
    ///
    /// When nobody has the model, no rule has the policy's name, or the policy rules everybody out.
    pub fn plan(&self, facts: &Facts<'_>, now: Instant) -> Result<Plan, PlanError> {
        self.draw_up(facts, now, false)
    }

    /// As [`Self::plan`], for a request that is not going to be sent: nothing is counted, no turn is taken, nobody is
    /// tried out of order.
    ///
    /// # Errors
    ///
    /// As for [`Self::plan`].
    pub fn preview(&self, facts: &Facts<'_>, now: Instant) -> Result<Plan, PlanError> {
        self.draw_up(facts, now, true)
    }

    /// Whether anything changed since the changes were taken; one atomic load.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.is_waiting()
    }

    /// Takes what changed since the last call, oldest first; one atomic load when nothing did.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        self.changes.take()
    }

    /// All names that can be asked for, sorted.
    pub fn models(&self) -> impl Iterator<Item = Listing<'_>> {
        let mut listings: Vec<Listing<'_>> = self
            .models
            .iter()
            .map(|(name, model)| listing(name, model))
            .collect();
        listings.sort_by_key(|listing| listing.name);
        listings.into_iter()
    }

    /// One name that can be asked for.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<Listing<'_>> {
        let (name, model) = self.models.get_key_value(name)?;
        Some(listing(name, model))
    }

    /// What trials, made to learn what somebody dearer really charges, were expected to cost more than the best
    /// candidate, all together since the first of the markets that followed one another was built.
    #[must_use]
    pub fn explored(&self) -> Sats {
        self.shared.explored()
    }

    /// Every offer, in the order of the config.
    #[must_use]
    pub fn offers(&self) -> &[Arc<Offer>] {
        &self.offers
    }

    /// How every provider stands, in the order of the config.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Vec<ProviderSnapshot> {
        let mut providers: Vec<ProviderSnapshot> = self
            .providers
            .iter()
            .map(|provider| provider.snapshot(now))
            .collect();
        for offer in &self.offers {
            providers[offer.provider.index]
                .offers
                .push(offer.snapshot(now));
        }
        providers
    }

    /// Whether requests can be served.
    #[must_use]
    pub fn health(&self, now: Instant) -> Health {
        Health::of(&self.snapshot(now))
    }

    fn draw_up(&self, facts: &Facts<'_>, now: Instant, preview: bool) -> Result<Plan, PlanError> {
        let model = self
            .models
            .get(facts.model)
            .ok_or_else(|| PlanError::UnknownModel {
                model: facts.model.to_owned(),
            })?;
        let rule = match facts.policy {
            Some(name) => {
                Some(
                    self.policies
                        .find(name)
                        .ok_or_else(|| PlanError::UnknownPolicy {
                            name: name.to_owned(),
                            known: self.policies.names(),
                        })?,
                )
            }
            None => self.policies.choose(facts.texts),
        };
        let turn = match self.policies.strategy(rule) {
            Strategy::RoundRobin if preview => model.turns.load(Ordering::Relaxed),
            Strategy::RoundRobin => model.turns.fetch_add(1, Ordering::Relaxed),
            Strategy::Cheapest | Strategy::LowestLatency => 0,
        };
        let inputs = PlanInputs {
            offers: &model.offers,
            policies: &self.policies,
            rule,
            turn,
            retry: self.retry,
            prefixes: &self.prefixes,
            preview,
        };
        Plan::build(facts, &inputs, now)
    }

    fn add_provider(
        &mut self,
        spec: ProviderSpec,
        circuit: CircuitSettings,
        previous: Option<&Self>,
    ) {
        let same =
            |old: &&Arc<Provider>| *old.name == *spec.name && old.fingerprint == spec.fingerprint;
        let known = previous.and_then(|old| old.providers.iter().find(same));
        let provider = Arc::new(Provider {
            index: self.providers.len(),
            name: spec.name.into(),
            tier: spec.tier,
            fingerprint: spec.fingerprint,
            circuit,
            live: known.map_or_else(Arc::default, |old| Arc::clone(&old.live)),
            changes: Arc::clone(&self.changes),
        });
        let most = NonZeroU32::new(spec.max_concurrency);
        provider.lock().limit.set_explicit(most);
        // A discovered list can have thousands of offers: looked up, not searched for.
        let known_offers: HashMap<(&str, &str), &Arc<OfferLive>> = previous
            .filter(|_| known.is_some())
            .into_iter()
            .flat_map(|old| &old.offers)
            .filter(|old| old.provider.name == provider.name)
            .map(|old| ((old.model(), old.upstream_model()), &old.live))
            .collect();
        for offer in spec.offers {
            let live = known_offers
                .get(&(offer.model.as_str(), offer.upstream_model.as_str()))
                .map_or_else(Arc::default, |live| Arc::clone(live));
            self.add_offer(offer, &provider, live);
        }
        self.providers.push(provider);
    }

    fn add_offer(&mut self, spec: OfferSpec, provider: &Arc<Provider>, live: Arc<OfferLive>) {
        let model: Arc<str> = spec.model.into();
        let demand = self
            .demands
            .get(&model)
            .map_or_else(|| Demand::new(&self.shared), Arc::clone);
        let name = offer_name(provider, &model, &spec.upstream_model);
        self.unclaimed.lock().claim_offer(name, &live);
        let offer = Arc::new(Offer {
            provider: Arc::clone(provider),
            model: Arc::clone(&model),
            upstream_model: spec.upstream_model.into(),
            rates: spec.rates,
            priced_at: spec.priced_at,
            name,
            demand,
            live,
        });
        self.models
            .entry(model)
            .or_default()
            .offers
            .push(Arc::clone(&offer));
        self.offers.push(offer);
    }

    /// Tells each model whether others may stand in for it.
    fn note_peers(&self, virtual_models: &[VirtualModel]) {
        let several = virtual_models.iter().filter(|one| one.any_of.len() > 1);
        let peers: HashSet<&str> = several
            .flat_map(|one| one.any_of.iter().map(String::as_str))
            .collect();
        for (model, demand) in &self.demands {
            demand.set_peers(peers.contains(&**model));
        }
    }

    fn add_virtual(&mut self, spec: VirtualModel) {
        let mut seen = HashSet::new();
        let named = spec.any_of.iter().filter(|name| seen.insert(name.as_str()));
        let offers: Vec<Arc<Offer>> = named
            .flat_map(|name| {
                self.offers
                    .iter()
                    .filter(move |offer| offer.model() == name)
            })
            .map(Arc::clone)
            .collect();
        if !offers.is_empty() {
            let model = Model {
                is_virtual: true,
                offers,
                ..Model::default()
            };
            self.models.insert(spec.name.into(), model);
        }
    }
}

/// The longest that a circuit stays open: a day.
const LONGEST_OPEN: Duration = Duration::from_secs(86_400);

fn listing<'a>(name: &'a str, model: &'a Model) -> Listing<'a> {
    Listing {
        name,
        is_virtual: model.is_virtual,
        offers: &model.offers,
    }
}

/// Names an offer in what is saved: another key or address is another offer.
fn offer_name(provider: &Provider, model: &str, upstream_model: &str) -> u64 {
    let mut name = Fingerprint::default();
    name.push_number(provider.fingerprint);
    for part in [&*provider.name, model, upstream_model] {
        name.push(part.as_bytes());
    }
    name.value()
}

fn inherit_demands(
    providers: &[ProviderSpec],
    shared: &Arc<SharedDemand>,
    previous: Option<&Market>,
) -> HashMap<Arc<str>, Arc<Demand>> {
    let mut demands = HashMap::new();
    for offer in providers.iter().flat_map(|provider| &provider.offers) {
        demands
            .entry(Arc::from(offer.model.as_str()))
            .or_insert_with(|| {
                let old = previous.and_then(|old| old.demands.get(offer.model.as_str()));
                old.map_or_else(
                    || {
                        let demand = Demand::new(shared);
                        if let Some(old) = previous {
                            old.unclaimed.lock().claim_demand(&offer.model, &demand);
                        }
                        demand
                    },
                    Arc::clone,
                )
            });
    }
    demands
}

fn check(spec: &MarketSpec) -> Result<(), BuildError> {
    if let Some(name) = twice(spec.providers.iter().map(|provider| &provider.name)) {
        return Err(BuildError::TwiceProvider { name });
    }
    for provider in &spec.providers {
        if let Some(model) = twice(provider.offers.iter().map(|offer| &offer.model)) {
            let provider = provider.name.clone();
            return Err(BuildError::TwiceModel { provider, model });
        }
    }
    if let Some(name) = twice(spec.virtual_models.iter().map(|model| &model.name)) {
        return Err(BuildError::TwiceVirtual { name });
    }
    if let Some(name) = twice(spec.policies.rules.iter().map(|rule| &rule.name)) {
        return Err(BuildError::TwicePolicy { name });
    }
    let empty = |rule: &&Rule| rule.keywords.iter().any(|word| word.trim().is_empty());
    match spec.policies.rules.iter().find(empty) {
        Some(rule) => Err(BuildError::EmptyKeyword {
            policy: rule.name.clone(),
        }),
        None => Ok(()),
    }
}

fn twice<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(name.as_str())).cloned()
}

#[cfg(test)]
mod tests;
