//! How providers stand at one moment, for people and metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::Rates;

use crate::candidate::Tier;
use crate::circuit::CircuitState;
use crate::learn::profile::OfferProfile;
use crate::learn::typical::Logs;

/// One provider at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProviderSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Its tier.
    pub tier: Tier,
    /// The circuit of its connections.
    pub connections: CircuitState,
    /// It is left out for this much longer: key or balance.
    pub suspended_for: Option<Duration>,
    /// It is left alone for this much longer, as it asked.
    pub cooling_for: Option<Duration>,
    /// Requests in flight.
    pub in_flight: u32,
    /// How many there may be, as configured or learned.
    pub limit: Option<u32>,
    /// Its models, in the order of the config.
    pub offers: Vec<OfferSnapshot>,
}

/// One model at one provider at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OfferSnapshot {
    /// The model as clients ask for it.
    pub model: Arc<str>,
    /// The model as the provider calls it.
    pub upstream_model: Arc<str>,
    /// What it charges.
    pub rates: Option<Rates>,
    /// When its provider published that price; `None` when it is the operator's own.
    pub priced_at: Option<Instant>,
    /// The circuit of its answers.
    pub circuit: CircuitState,
    /// It is left out for this much longer.
    pub suspended_for: Option<Duration>,
    /// The usual time to a stream's first event.
    pub stream_latency: Option<Duration>,
    /// The usual time to a whole JSON answer.
    pub json_latency: Option<Duration>,
    /// How long a first event is waited for when nobody has said.
    pub first_event_auto: Duration,
    /// It turned down `stream_options` that arbstr had put in.
    pub refuses_stream_options: bool,
    /// What its answers have shown.
    pub experience: Experience,
}

/// What an offer's answers have shown so far.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Experience {
    /// Output tokens that it bills, relative to others for the same request; `None` before any.
    pub output_factor: Option<f64>,
    /// Input tokens, likewise.
    pub input_factor: Option<f64>,
    /// Share of attempts that succeed lately, from 0 to 1; `None` before any.
    pub success: Option<f32>,
    /// Answers whose reported usage cannot be true.
    pub implausible_usage: u32,
}

impl Experience {
    pub(crate) fn of(profile: &OfferProfile, typical: Logs, now: Instant) -> Self {
        let effects = profile.effects(typical, now, profile.heard);
        let [text, billing, input] = typical.map(f64::from);
        let known = |knowledge: f32, factor: f64| (knowledge > 0.0).then_some(factor);
        Self {
            output_factor: known(
                profile.billing.knowledge + profile.text.knowledge,
                effects.output / (text + billing).exp(),
            ),
            input_factor: known(profile.input.knowledge, effects.input / input.exp()),
            success: effects.success,
            implausible_usage: profile.implausible,
        }
    }
}

/// Whether requests can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// By every provider.
    Ok,
    /// By some, or by a provider that is due for a probe: a circuit is open.
    Degraded,
    /// By none: every circuit is open and none is due, or there are no models.
    Down,
}

impl Health {
    /// What `providers` amount to.
    #[must_use]
    pub fn of(providers: &[ProviderSnapshot]) -> Self {
        let (mut serving, mut failing) = (false, false);
        for provider in providers {
            for offer in &provider.offers {
                let circuits = [provider.connections, offer.circuit];
                // Where no request comes nothing would ever close it: who is due for a probe may be up again.
                serving |= circuits.iter().all(|one| one.lets_pass());
                failing |= circuits.iter().any(|one| *one != CircuitState::Closed);
            }
        }
        match (serving, failing) {
            (true, false) => Self::Ok,
            (true, true) => Self::Degraded,
            (false, _) => Self::Down,
        }
    }
}
