//! `GET /health` and `GET /providers`: whether requests can be served, by whom, and what is not as it should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_route::{CircuitState, Health, OfferSnapshot, ProviderSnapshot};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::ResponseBody;
use super::error::{json_response, ok_json};
use crate::app::App;
use crate::clock::{self, age_secs, whole_ms};
use crate::discover::{BtcPriceStatus, DiscoveryStatus};
use crate::records::exact;

/// 200 `ok` or `degraded`; 503 when no request can be served. Everybody may ask; what is wrong with the store, which
/// names files, is for those who are `trusted`.
pub(crate) fn health(app: &Arc<App>, trusted: bool) -> Response<ResponseBody> {
    let live = app.live();
    let store = app.store.status(clock::unix_ms());
    let providers = live.market.snapshot(clock::now());
    let (status, word) = match (Health::of(&providers), store.is_degraded()) {
        (Health::Down, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        (Health::Ok, false) => (StatusCode::OK, "ok"),
        (Health::Ok | Health::Degraded, _) => (StatusCode::OK, "degraded"),
    };
    let body = json!({
        "status": word,
        "open_circuits": providers.iter().flat_map(open_circuits).collect::<Vec<_>>(),
        // Requests are served by the config before it: no reason to be degraded.
        "config": {"last_reload_successful": app.metrics.is_last_reload_successful()},
        "store": {
            "database_ready": store.database_ready,
            "journal_ready": store.journal_ready,
            "depth": store.depth,
            "lag_ms": whole_ms(store.lag),
            "memory_only": store.memory_only,
            "dropped": store.dropped,
            "last_error": store.last_error.map(|error| if trusted { error } else { WITHHELD.to_owned() }),
        },
    });
    json_response(status, body.to_string())
}

/// `GET /providers`: the settings and live state of each provider, keys masked.
pub(crate) fn providers(app: &Arc<App>) -> Response<ResponseBody> {
    let live = app.live();
    let now = clock::now();
    let snapshots = live.market.snapshot(now);
    let data: Vec<ProviderJson<'_>> = snapshots
        .iter()
        .zip(&live.config.providers)
        .enumerate()
        .map(|(index, (state, config))| ProviderJson {
            name: &state.name,
            url: config.url.to_string(),
            tier: state.tier.as_str(),
            key: config.api_key.as_ref().map(|key| key.masked()),
            circuit: word(&state.connections),
            probe_due_ms: probe_due_ms(&state.connections),
            suspended_ms: state.suspended_for.map(whole_ms),
            cooling_ms: state.cooling_for.map(whole_ms),
            in_flight: state.in_flight,
            concurrency_limit: state.limit,
            discovery: live.discovery(index, now),
            models: state
                .offers
                .iter()
                .map(|offer| OfferJson::of(offer, now))
                .collect(),
        })
        .collect();
    ok_json(&Data {
        data,
        btc_price: live.btc_price_status(now),
        exploration_sats: exact(Some(live.market.explored())),
    })
}

#[derive(Serialize)]
struct Data<T> {
    data: T,
    /// What dollars are worth; `null` when nobody says so.
    btc_price: Option<BtcPriceStatus>,
    /// What asking somebody dearer, to find out what it really charges, was expected to cost more since the start.
    exploration_sats: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct ProviderJson<'a> {
    name: &'a str,
    url: String,
    tier: &'static str,
    key: Option<String>,
    circuit: &'static str,
    probe_due_ms: Option<u64>,
    suspended_ms: Option<u64>,
    cooling_ms: Option<u64>,
    in_flight: u32,
    concurrency_limit: Option<u32>,
    discovery: Option<DiscoveryStatus>,
    models: Vec<OfferJson<'a>>,
}

#[derive(Serialize)]
struct OfferJson<'a> {
    model: &'a str,
    upstream_model: &'a str,
    input_rate: Option<Box<RawValue>>,
    output_rate: Option<Box<RawValue>>,
    cached_input_rate: Option<Box<RawValue>>,
    base_fee: Option<Box<RawValue>>,
    price_age_secs: Option<u64>,
    circuit: &'static str,
    probe_due_ms: Option<u64>,
    suspended_ms: Option<u64>,
    first_event_ms: Option<u64>,
    answer_ms: Option<u64>,
    success_rate: Option<f32>,
    input_factor: Option<f64>,
    output_factor: Option<f64>,
    implausible_usage: u32,
}

impl<'a> OfferJson<'a> {
    fn of(offer: &'a OfferSnapshot, now: Instant) -> Self {
        let ms = |duration: Option<Duration>| duration.map(whole_ms);
        let rates = offer.rates;
        Self {
            model: &offer.model,
            upstream_model: &offer.upstream_model,
            input_rate: exact(rates.map(|rates| rates.input)),
            output_rate: exact(rates.map(|rates| rates.output)),
            cached_input_rate: exact(rates.map(|rates| rates.cached_rate())),
            base_fee: exact(rates.map(|rates| rates.base_fee)),
            price_age_secs: age_secs(offer.priced_at, now),
            circuit: word(&offer.circuit),
            probe_due_ms: probe_due_ms(&offer.circuit),
            suspended_ms: ms(offer.suspended_for),
            first_event_ms: ms(offer.stream_latency),
            answer_ms: ms(offer.json_latency),
            success_rate: offer.experience.success,
            input_factor: offer.experience.input_factor,
            output_factor: offer.experience.output_factor,
            implausible_usage: offer.experience.implausible_usage,
        }
    }
}

fn open_circuits(provider: &ProviderSnapshot) -> Vec<serde_json::Value> {
    let connections = (None, &provider.connections);
    let offers = provider.offers.iter();
    let offers = offers.map(|offer| (Some(offer.model.as_ref()), &offer.circuit));
    std::iter::once(connections)
        .chain(offers)
        .filter(|(_, state)| **state != CircuitState::Closed)
        .map(|(model, state)| {
            json!({
                "provider": provider.name.as_ref(),
                "model": model,
                "state": word(state),
                "probe_due_ms": probe_due_ms(state),
            })
        })
        .collect()
}

/// Until an open circuit lets a probe pass. 0 when it does: it stays open until a request comes that could be the probe.
fn probe_due_ms(state: &CircuitState) -> Option<u64> {
    match state {
        CircuitState::Open { due_in } => {
            let ms = due_in.as_nanos().div_ceil(1_000_000);
            Some(u64::try_from(ms).unwrap_or(u64::MAX))
        }
        CircuitState::Closed | CircuitState::HalfOpen => None,
    }
}

fn word(state: &CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::Open { .. } => "open",
        CircuitState::HalfOpen => "half_open",
    }
}

/// In place of an error's text.
const WITHHELD: &str = "told to those who ask with the token";
