//! What the operator says about choosing: virtual models, and the rules by which candidates are admitted and ordered.

use super::super::expand::Template;
use super::super::nearest::nearest;
use super::super::problem::{At, Problem};
use super::super::raw;
use super::super::reader::quote;
use super::super::value::{Values, name};
use super::super::{Policies, Provider, Rule, Strategy, VirtualModel};

/// Resolves `[[models]]`. Each stands for models that some provider sells, and for no other virtual one.
pub(super) fn virtual_models(
    raw: &[raw::VirtualModel],
    providers: &[Provider],
    values: &mut Values<'_>,
) -> Vec<VirtualModel> {
    let sold = sold_models(providers);
    let for_sale = closed_list(providers, &sold);
    let mut resolved: Vec<VirtualModel> = Vec::new();
    for raw in raw {
        let (Some(at), Some(any_of)) = (&raw.name, &raw.any_of) else {
            continue;
        };
        if any_of.value.is_empty() {
            values.reject(&any_of.place, "no model", "at least one");
        }
        let members = values.names(&any_of.value, "a model's name");
        warn_of_unsold(&members, for_sale, values);
        let Some(name) = values.parsed(at, "a model's name", name) else {
            continue;
        };
        if sold.contains(&name.as_str()) {
            let expected = "a name that no provider's model has";
            values.reject(&at.place, quote(&name), expected);
        } else if resolved.iter().any(|earlier| earlier.name == name) {
            let found = format!("{} a second time", quote(&name));
            values.reject(&at.place, found, "a name that no other virtual model has");
        }
        resolved.push(VirtualModel {
            name,
            any_of: members.into_iter().map(|at| at.value).collect(),
        });
    }
    resolved
}

/// Resolves `[policies]`.
pub(super) fn policies(
    raw: &raw::Policies,
    providers: &[Provider],
    virtual_models: &[VirtualModel],
    values: &mut Values<'_>,
) -> Policies {
    let default_strategy = values.choice(raw.default_strategy.as_ref(), &STRATEGIES);
    let default_strategy = default_strategy.unwrap_or(Strategy::Cheapest);
    let mut models = sold_models(providers);
    models.extend(virtual_models.iter().map(|model| model.name.as_str()));
    let models = closed_list(providers, &models);
    let mut rules: Vec<Rule> = Vec::new();
    for raw in &raw.rules {
        let allowed_models = list(raw.allowed_models.as_ref(), "a model's name", values);
        warn_of_unsold(&allowed_models, models, values);
        let allowed_providers = list(raw.allowed_providers.as_ref(), "a provider's name", values);
        reject_unknown_providers(&allowed_providers, providers, values);
        let keywords = list(raw.keywords.as_ref(), "a word to look for", values);
        let strategy = values.choice(raw.strategy.as_ref(), &STRATEGIES);
        let min_tier = values.choice(raw.min_tier.as_ref(), &super::provider::TIERS);
        let max_sats_per_1m_output = values.rate(raw.max_sats_per_1m_output.as_ref());
        let max_cost = values.sats(raw.max_cost_sats.as_ref());
        let Some(name) = rule_name(raw, &rules, values) else {
            continue;
        };
        rules.push(Rule {
            name,
            allowed_models: plain(allowed_models),
            allowed_providers: plain(allowed_providers),
            min_tier,
            max_sats_per_1m_output,
            max_cost,
            strategy: strategy.unwrap_or(default_strategy),
            keywords: plain(keywords),
        });
    }
    Policies {
        default_strategy,
        rules,
    }
}

/// A rule is named in a header, so its name must fit into one.
fn rule_name(raw: &raw::Rule, earlier: &[Rule], values: &mut Values<'_>) -> Option<String> {
    const EXPECTED: &str = "a name of visible ASCII characters";
    let at = raw.name.as_ref()?;
    let name = values.parsed(at, EXPECTED, |text| {
        let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| text.to_owned())
    })?;
    if earlier.iter().any(|rule| rule.name == name) {
        let found = format!("{} a second time", quote(&name));
        values.reject(&at.place, found, "a name that no other rule has");
    }
    Some(name)
}

fn list(
    at: Option<&At<Vec<At<Template>>>>,
    what: &str,
    values: &mut Values<'_>,
) -> Vec<At<String>> {
    at.map(|at| values.names(&at.value, what))
        .unwrap_or_default()
}

fn plain(list: Vec<At<String>>) -> Vec<String> {
    list.into_iter().map(|at| at.value).collect()
}

fn sold_models(providers: &[Provider]) -> Vec<&str> {
    let models = providers.iter().flat_map(|provider| &provider.models);
    models.map(|model| model.name.as_str()).collect()
}

/// `sold`, unless a provider's own list may have more: then nothing is known to be missing.
fn closed_list<'a, 's>(providers: &[Provider], sold: &'a [&'s str]) -> &'a [&'s str] {
    let is_open = providers.iter().any(|provider| provider.discover.is_some());
    if is_open { &[] } else { sold }
}

/// Only a warning: another file, or a provider added later, may sell it.
fn warn_of_unsold(wanted: &[At<String>], sold: &[&str], values: &mut Values<'_>) {
    for At { value, place } in wanted {
        if sold.contains(&value.as_str()) || sold.is_empty() {
            continue;
        }
        let meant = nearest(value, sold.iter().copied())
            .map(|model| format!("; did you mean {}?", quote(model)));
        values.warnings.push(format!(
            "{}: no provider sells {}{}",
            place.key,
            quote(value),
            meant.unwrap_or_default()
        ));
    }
}

fn reject_unknown_providers(
    allowed: &[At<String>],
    providers: &[Provider],
    values: &mut Values<'_>,
) {
    if providers.is_empty() {
        return;
    }
    let known = || providers.iter().map(|provider| provider.name.as_str());
    for At { value, place } in allowed {
        if known().any(|name| name == value) {
            continue;
        }
        let hint = match nearest(value, known()) {
            Some(name) => format!("; did you mean {}?", quote(name)),
            None => String::new(),
        };
        let fault = format!("found {}, expected a provider's name{hint}", quote(value));
        values.problems.push(Problem::new(place, fault));
    }
}

const STRATEGIES: [(&str, Strategy); 3] = [
    ("cheapest", Strategy::Cheapest),
    ("lowest_latency", Strategy::LowestLatency),
    ("round_robin", Strategy::RoundRobin),
];
