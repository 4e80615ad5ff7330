//! The config's providers and policies in the words of `route`.

use std::sync::{Mutex, PoisonError};

use arbstr_route::{
    Change, CircuitSettings, Market, MarketSpec, OfferSpec, Policies, ProviderEvent, ProviderSpec,
    Retry, Rule, VirtualModel,
};

use crate::config::{self, Config, Provider};
use crate::discover::{Findings, offers};
use crate::metrics::Metrics;

/// Everything that routing decides by.
pub(super) fn spec(config: &Config, findings: &Findings) -> MarketSpec {
    let btc = findings.btc_price(config);
    let providers = config.providers.iter().zip(&findings.lists);
    MarketSpec {
        providers: providers
            .map(|(config, list)| provider(config, offers(config, list, btc)))
            .collect(),
        virtual_models: config
            .virtual_models
            .iter()
            .map(|model| VirtualModel {
                name: model.name.clone(),
                any_of: model.any_of.clone(),
            })
            .collect(),
        policies: Policies {
            default_strategy: config.policies.default_strategy,
            rules: config.policies.rules.iter().map(rule).collect(),
        },
        retry: Retry {
            max_attempts: config.retry.max_attempts,
            backoff_base: config.retry.backoff_base,
            same_provider_first: config.retry.same_provider_first,
        },
        circuit: CircuitSettings {
            failures: config.circuit.failures,
            open_for: config.circuit.open_for,
        },
    }
}

fn rule(rule: &config::Rule) -> Rule {
    Rule {
        name: rule.name.clone(),
        strategy: Some(rule.strategy),
        allowed_models: rule.allowed_models.clone(),
        allowed_providers: rule.allowed_providers.clone(),
        min_tier: rule.min_tier,
        max_sats_per_1m_output: rule.max_sats_per_1m_output,
        max_cost: rule.max_cost,
        keywords: rule.keywords.clone(),
    }
}

fn provider(provider: &Provider, offers: Vec<OfferSpec>) -> ProviderSpec {
    ProviderSpec {
        name: provider.name.clone(),
        tier: provider.tier,
        max_concurrency: provider.max_concurrency.unwrap_or(0),
        fingerprint: provider.fingerprint(),
        offers,
    }
}

/// Logs and counts what changed in the standing of providers since somebody looked last: one line a change, not one a request.
pub(super) fn log_changes(market: &Market, metrics: &Metrics) {
    if !market.has_changes() {
        return;
    }
    // Taken and told by one at a time, so that the log has them in order.
    let _turn = IN_ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    for Change {
        provider,
        model,
        event,
    } in market.take_changes()
    {
        let model = model.as_deref().unwrap_or("all");
        match event {
            ProviderEvent::Opened => {
                metrics.circuit_opened(&provider);
                tracing::warn!(%provider, model, "circuit opened: too many failures in a row")
            }
            ProviderEvent::Probing => {
                tracing::info!(%provider, model, "circuit half open: one request probes the provider")
            }
            ProviderEvent::Returned => {
                tracing::debug!(%provider, model, "the probe came back without news")
            }
            ProviderEvent::Closed => {
                tracing::info!(%provider, model, "circuit closed: the provider serves again")
            }
            ProviderEvent::Suspended { length } => {
                let secs = length.as_secs();
                tracing::warn!(%provider, model, secs, "suspended while others can serve: check its key, balance and model list");
            }
            ProviderEvent::WaitedInVain { length } => {
                let secs = length.as_secs();
                tracing::warn!(%provider, model, secs, "a client gave up waiting for it: others go first");
            }
            ProviderEvent::CoolingDown { length } => {
                tracing::info!(%provider, model, secs = length.as_secs_f64(), "cooling down, as it asked");
            }
        }
    }
}

static IN_ORDER: Mutex<()> = Mutex::new(());
