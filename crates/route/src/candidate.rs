//! A provider that could serve a request: what it offers, and how it has been doing.
//!
//! An [`Offer`] is one model at one provider. What the config says of it is fixed; what experience says is behind two
//! small locks, one per offer and one per provider, taken in the order provider, offer. They outlive a reload, so that
//! requests in flight and a fresh market share them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arbstr_price::{Quote, Rates, Sats, Tokens};

use crate::change::{Change, ChangeLog, ProviderEvent};
use crate::circuit::{Circuit, CircuitSettings, CircuitState, Urgency};
use crate::latency::Latency;
use crate::learn::demand::Demand;
use crate::learn::profile::{Effects, HeldPrefix, OfferProfile};
use crate::learn::typical::Logs;
use crate::limit::Limit;
use crate::snapshot::{Experience, OfferSnapshot, ProviderSnapshot};
use crate::verdict::{Action, SUSPENSION, Verdict};

mod reason;

pub use reason::{Rank, Skip};

/// How much the operator thinks of a provider; a rule may ask for at least one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// On the operator's own machines.
    Local,
    /// Good enough for most.
    #[default]
    Standard,
    /// The best there is.
    Frontier,
}

/// One model at one provider.
pub struct Offer {
    pub(crate) provider: Arc<Provider>,
    pub(crate) model: Arc<str>,
    pub(crate) upstream_model: Arc<str>,
    pub(crate) rates: Option<Rates>,
    pub(crate) priced_at: Option<Instant>,
    /// Names it in what is remembered and saved.
    pub(crate) name: u64,
    pub(crate) demand: Arc<Demand>,
    pub(crate) live: Arc<OfferLive>,
}

/// An offer as it stands for one request.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Who, and which model.
    pub offer: Arc<Offer>,
    /// The tokens it is expected to bill.
    pub tokens: Tokens,
    /// What it would charge for them, by part; `None` when its price is not known.
    pub quote: Option<Quote>,
    /// Its usual time to a first byte; `None` before the first.
    pub latency: Option<Duration>,
    /// The share of attempts that succeed lately, from 0 to 1; `None` before any.
    pub success: Option<f32>,
    /// Why it stands where it stands.
    pub rank: Rank,
    /// Why it is passed over; `None` when it is not.
    pub skipped: Option<Skip>,
}

/// A provider, as configured and as it lives.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) tier: Tier,
    pub(crate) fingerprint: u64,
    pub(crate) circuit: CircuitSettings,
    pub(crate) live: Arc<Mutex<ProviderState>>,
    pub(crate) changes: Arc<ChangeLog>,
}

/// What experience says of a provider.
#[derive(Debug)]
pub(crate) struct ProviderState {
    pub(crate) connections: Circuit,
    pub(crate) suspended_until: Option<Instant>,
    pub(crate) cooling_until: Option<Instant>,
    pub(crate) limit: Limit,
    /// 429s in a row to requests that had it to themselves.
    refusals: u32,
}

/// What experience says of an offer.
#[derive(Debug)]
pub(crate) struct OfferLive {
    state: Mutex<OfferState>,
    refuses_stream_options: AtomicBool,
}

/// The part of it that is read and written together.
#[derive(Debug)]
pub(crate) struct OfferState {
    pub(crate) answers: Circuit,
    pub(crate) suspended_until: Option<Instant>,
    /// Waits in vain since its last answer.
    pub(crate) in_vain: u32,
    pub(crate) streams: Latency,
    pub(crate) wholes: Latency,
    pub(crate) asked: Asked,
    pub(crate) profile: OfferProfile,
}

/// When an attempt was last answered, or not, for a stream and for a whole answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    stream: Option<Instant>,
    whole: Option<Instant>,
    /// Answers in a row that found fault with the request.
    faults: u32,
}

/// What of a request decides how an offer looks at it.
#[derive(Debug)]
pub(crate) struct PlanContext<'a> {
    pub(crate) streaming: bool,
    pub(crate) input_tokens: u64,
    /// Who has seen how much of the conversation.
    pub(crate) held: &'a [(u64, HeldPrefix)],
}

/// What a plan wants to know of an offer, read in one go.
#[derive(Debug)]
pub(crate) struct OfferView {
    pub(crate) skip: Option<Skip>,
    pub(crate) effects: Effects,
    /// Input tokens that it is expected to find in its cache, by the estimate's measure.
    pub(crate) cached: f64,
    /// It may be asked only to learn from it.
    pub(crate) may_be_tried: bool,
    pub(crate) latency: Option<Duration>,
    /// Asking it would probably show how fast it is, which nobody knows yet: it was not asked for such an answer lately.
    pub(crate) shows_time: bool,
    /// It was never asked for anything.
    pub(crate) unheard: bool,
}

impl Tier {
    /// As written in a config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Standard => "standard",
            Self::Frontier => "frontier",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Offer {
    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider.name
    }

    /// The provider's place in the spec that the market was built from.
    #[must_use]
    pub fn provider_index(&self) -> usize {
        self.provider.index
    }

    /// The provider's tier.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.provider.tier
    }

    /// The model as clients ask for it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model as the provider calls it.
    #[must_use]
    pub fn upstream_model(&self) -> &str {
        &self.upstream_model
    }

    /// What it charges; `None` when that is not known.
    #[must_use]
    pub const fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    /// When its provider published that price; `None` when it is the operator's own.
    #[must_use]
    pub const fn priced_at(&self) -> Option<Instant> {
        self.priced_at
    }

    /// Whether it turned down `stream_options` that arbstr had put in.
    #[must_use]
    pub fn refuses_stream_options(&self) -> bool {
        self.live.refuses_stream_options.load(Ordering::Relaxed)
    }

    /// Names it where a collision does no harm.
    #[expect(clippy::cast_possible_truncation, reason = "as meant")]
    pub(crate) const fn short_name(&self) -> u32 {
        self.name as u32
    }

    pub(crate) fn remember_stream_options_refused(&self) {
        self.live
            .refuses_stream_options
            .store(true, Ordering::Relaxed);
    }

    /// How long to wait for a first event when nobody has said.
    pub(crate) fn first_event_auto(&self) -> Duration {
        longest_usual_wait(&self.lock().streams)
    }

    /// Its client left after having waited for this long, with nothing to show for it. If that is longer than usual the
    /// others go first for a while, for longer each time until an answer comes. Nobody is kept out by it: a client that is
    /// merely impatient could then do harm to all others.
    pub(crate) fn on_wait_in_vain(&self, waited: Duration, streaming: bool, now: Instant) {
        let mut state = self.lock();
        let usual = if streaming {
            &state.streams
        } else {
            &state.wholes
        };
        if waited < longest_usual_wait(usual) {
            return;
        }
        let length = SUSPENSION * (1 << state.in_vain.min(LONGEST_IN_VAIN));
        state.in_vain = state.in_vain.saturating_add(1);
        if extend(&mut state.suspended_until, now, length) {
            drop(state);
            self.report(ProviderEvent::WaitedInVain { length });
        }
    }

    /// What stands in the way of an attempt.
    pub(crate) fn obstacle(&self, now: Instant, urgency: Urgency) -> Option<Skip> {
        let provider = self.provider.lock();
        let offer = self.lock();
        self.obstacle_in(&provider, &offer, now, urgency)
    }

    /// The same, for who holds the locks already.
    pub(crate) fn obstacle_in(
        &self,
        provider: &ProviderState,
        offer: &OfferState,
        now: Instant,
        urgency: Urgency,
    ) -> Option<Skip> {
        let circuits = [&provider.connections, &offer.answers];
        let refused = circuits
            .into_iter()
            .filter_map(|circuit| circuit.refuses(now, urgency))
            .max_by_key(|state| match state {
                CircuitState::Open { due_in } => *due_in,
                CircuitState::Closed | CircuitState::HalfOpen => Duration::ZERO,
            });
        match refused {
            Some(CircuitState::Open { due_in }) => return Some(Skip::CircuitOpen { due_in }),
            Some(_) => return Some(Skip::Probing),
            None => {}
        }
        if urgency == Urgency::Ready {
            let until = provider.suspended_until.max(offer.suspended_until);
            if let Some(left) = left(until, now) {
                return Some(Skip::Suspended { left });
            }
            if let Some(left) = left(provider.cooling_until, now) {
                return Some(Skip::CoolingDown { left });
            }
        }
        let limit = provider.limit.bound().unwrap_or(u32::MAX);
        provider
            .limit
            .is_full()
            .then_some(Skip::AtCapacity { limit })
    }

    /// What a plan wants to know, where offers add what is `typical`, when the demand's clock shows `tick`.
    pub(crate) fn view(
        &self,
        now: Instant,
        (typical, tick): (Logs, u32),
        context: &PlanContext<'_>,
    ) -> OfferView {
        let provider = self.provider.lock();
        let mut offer = self.lock();
        let effects = offer.profile.recent_effects(typical, now, tick);
        let latency = if context.streaming {
            &offer.streams
        } else {
            &offer.wholes
        };
        let latency = latency.mean();
        OfferView {
            skip: self.obstacle_in(&provider, &offer, now, Urgency::Ready),
            effects,
            cached: self.expect_cached(&offer.profile, context),
            may_be_tried: offer.profile.may_be_tried(now),
            latency,
            shows_time: latency.is_none() && !offer.asked.lately(context.streaming, now),
            unheard: offer.asked.is_never() && offer.profile.tally.at.is_none(),
        }
    }

    /// It is asked only to learn from it; not to be done again before the answer is in.
    pub(crate) fn note_trial(&self, now: Instant) {
        self.lock().profile.trying_until = now.checked_add(LONGEST_TRIAL);
    }

    /// Whether an answer whose input was seen before is cheaper.
    pub(crate) fn prices_cache(&self) -> bool {
        let cheaper = |rates: &Rates| rates.cached_rate() < rates.input;
        self.rates.as_ref().is_some_and(cheaper)
    }

    fn expect_cached(&self, profile: &OfferProfile, context: &PlanContext<'_>) -> f64 {
        if !self.prices_cache() {
            return 0.0;
        }
        let held = context.held.iter().find(|(offer, _)| *offer == self.name);
        profile
            .cache
            .expect(held.map(|(_, held)| held), context.input_tokens)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, OfferState> {
        self.live.lock()
    }

    pub(crate) fn report(&self, event: impl Into<ProviderEvent>) {
        self.provider.push_change(Some(&self.model), event.into());
    }

    pub(crate) fn snapshot(&self, now: Instant) -> OfferSnapshot {
        let first_event_auto = self.first_event_auto();
        let typical = self.demand.lock().typical.logs();
        let state = self.lock();
        OfferSnapshot {
            model: self.model.clone(),
            upstream_model: self.upstream_model.clone(),
            rates: self.rates,
            priced_at: self.priced_at,
            circuit: state.answers.state(now),
            suspended_for: left(state.suspended_until, now),
            stream_latency: state.streams.mean(),
            json_latency: state.wholes.mean(),
            first_event_auto,
            refuses_stream_options: self.refuses_stream_options(),
            experience: Experience::of(&state.profile, typical, now),
        }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({} at {})", self.model, self.provider.name)
    }
}

impl Candidate {
    /// What it would charge for the expected tokens; `None` when its price is not known.
    #[must_use]
    pub fn expected_cost(&self) -> Option<Sats> {
        self.quote.as_ref().map(Quote::total)
    }

    /// Whether the policy rules it out, so that it is never asked.
    #[must_use]
    pub const fn is_ruled_out(&self) -> bool {
        matches!(self.skipped, Some(Skip::Policy { .. }))
    }
}

impl Provider {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ProviderState> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self, event: impl Into<ProviderEvent>) {
        self.push_change(None, event.into());
    }

    pub(crate) fn snapshot(&self, now: Instant) -> ProviderSnapshot {
        let state = self.lock();
        ProviderSnapshot {
            name: self.name.clone(),
            tier: self.tier,
            connections: state.connections.state(now),
            suspended_for: left(state.suspended_until, now),
            cooling_for: left(state.cooling_until, now),
            in_flight: state.limit.in_flight(),
            limit: state.limit.bound(),
            offers: Vec::new(),
        }
    }

    fn push_change(&self, model: Option<&Arc<str>>, event: ProviderEvent) {
        self.changes.push(Change {
            provider: self.name.clone(),
            model: model.cloned(),
            event,
        });
    }
}

impl Default for ProviderState {
    fn default() -> Self {
        Self {
            connections: Circuit::new(),
            suspended_until: None,
            cooling_until: None,
            limit: Limit::default(),
            refusals: 0,
        }
    }
}

impl OfferState {
    /// It was asked, whatever came of it. If it `found_fault` with the request, and was asked only to learn from it, that
    /// taught nothing: perhaps it finds fault with what others serve, and the client had that for an answer.
    pub(crate) fn note_asked(&mut self, streaming: bool, found_fault: bool, now: Instant) {
        self.asked.note(streaming, found_fault, now);
        if found_fault && self.profile.trying_until.is_some() {
            self.profile.trying_until = now.checked_add(self.asked.patience());
        }
    }
}

impl Asked {
    const fn note(&mut self, streaming: bool, found_fault: bool, now: Instant) {
        self.faults = if found_fault {
            self.faults.saturating_add(1)
        } else {
            0
        };
        if streaming {
            self.stream = Some(now);
        } else {
            self.whole = Some(now);
        }
    }

    /// For how long it is not asked again only to learn from it.
    fn patience(&self) -> Duration {
        LATELY * (1 << self.faults.saturating_sub(1).min(LONGEST_PATIENCE))
    }

    fn lately(&self, streaming: bool, now: Instant) -> bool {
        let at = if streaming { self.stream } else { self.whole };
        at.is_some_and(|at| now.saturating_duration_since(at) < self.patience())
    }

    const fn is_never(&self) -> bool {
        self.stream.is_none() && self.whole.is_none()
    }
}

impl ProviderState {
    /// How long it is left alone for a verdict that does not say: it takes no request at all, however few there are, and
    /// would else be asked in vain by every one.
    pub(crate) fn refusals_cooldown(&mut self, verdict: &Verdict) -> Option<Duration> {
        if verdict.action == Action::Accept {
            self.refusals = 0;
        }
        if !verdict.congested || self.limit.in_flight() > 1 {
            return None;
        }
        self.refusals = self.refusals.saturating_add(1);
        let beyond = self.refusals.checked_sub(PATIENT_REFUSALS)?;
        Some(FIRST_COOLDOWN * (1 << beyond.min(LONGEST_COOLDOWN)))
    }
}

impl OfferLive {
    pub(crate) fn lock(&self) -> MutexGuard<'_, OfferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for OfferLive {
    fn default() -> Self {
        Self {
            state: Mutex::new(OfferState {
                answers: Circuit::new(),
                suspended_until: None,
                in_vain: 0,
                streams: Latency::new(),
                wholes: Latency::new(),
                asked: Asked::default(),
                profile: OfferProfile::default(),
            }),
            refuses_stream_options: AtomicBool::new(false),
        }
    }
}

/// Three times what is usual at the slow end, and never less than [`FIRST_EVENT`].
fn longest_usual_wait(usual: &Latency) -> Duration {
    let slow = usual.p95().unwrap_or_default();
    FIRST_EVENT.max(slow.saturating_mul(3))
}

/// What is left until `until`, if anything.
pub(crate) fn left(until: Option<Instant>, now: Instant) -> Option<Duration> {
    until
        .map(|until| until.saturating_duration_since(now))
        .filter(|left| !left.is_zero())
}

/// Moves `until` to `now + length` unless it is later already; whether it was in the past before.
pub(crate) fn extend(until: &mut Option<Instant>, now: Instant, length: Duration) -> bool {
    let was_over = until.is_none_or(|until| until <= now);
    *until = (*until).max(now.checked_add(length));
    was_over && !length.is_zero()
}

/// For so long nobody is asked again only to learn from it: who refuses such requests teaches nothing.
const LATELY: Duration = Duration::from_secs(600);
/// It doubles so often at most, for who refuses one after the other: some twenty hours.
const LONGEST_PATIENCE: u32 = 7;

/// An answer that has not come by then is not waited for any more before another trial.
const LONGEST_TRIAL: Duration = Duration::from_secs(60);

/// The least time for a first event when it is learned.
const FIRST_EVENT: Duration = Duration::from_secs(12);

/// So many are put up with: they may have been meant for a burst that is over.
const PATIENT_REFUSALS: u32 = 4;
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);
/// It doubles so often at most: a minute.
const LONGEST_COOLDOWN: u32 = 6;

/// A suspension doubles so often at most: eight minutes.
const LONGEST_IN_VAIN: u32 = 3;
