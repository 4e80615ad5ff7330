//! The models a provider sells by the file's word, each with its effective name and price.

use std::time::Duration;

use arbstr_price::{Rates, Sats};

use super::super::Model;
use super::super::nearest::nearest;
use super::super::problem::{At, Problem};
use super::super::raw::{self, Prices};
use super::super::reader::quote;
use super::super::value::{Values, name};

/// The models that the file names: in `models`, and where the provider is `discover`ed in `model_rates` too. `general`
/// is what those without a price of their own cost.
pub(super) fn resolve_all(
    raw: &raw::Provider,
    provider: Option<&str>,
    general: Option<Rates>,
    discover: Option<Duration>,
    values: &mut Values<'_>,
) -> Vec<Model> {
    if let Some(list) = &raw.models
        && list.value.is_empty()
        && discover.is_none()
    {
        values.reject(&list.place, "no model", "at least one");
    }
    let listed = raw.models.iter().flat_map(|at| &at.value).cloned();
    let mut names = values.names(&listed.collect::<Vec<_>>(), "a model's name");
    let own = entries(raw, &mut names, discover.is_some(), values);
    let mut unpriced = Vec::new();
    let mut models = Vec::new();
    for At { value: name, .. } in &names {
        let entry = own
            .iter()
            .find(|(model, _)| model == name)
            .map(|(_, entry)| *entry);
        let rates = match entry {
            Some(entry) => rates_of(entry, &raw.prices, values),
            None => general,
        };
        if rates.is_none() {
            unpriced.push(name.as_str());
        }
        let upstream = entry.and_then(|entry| entry.upstream_model.as_ref());
        let renamed = upstream
            .and_then(|at| values.parsed(at, "the provider's name of the model", self::name));
        models.push(Model {
            name: name.clone(),
            upstream: renamed.unwrap_or_else(|| name.clone()),
            rates,
        });
    }
    if let (Some(provider), false, None) = (provider, unpriced.is_empty(), discover) {
        values.warnings.push(format!(
            "provider {provider}: no price for {}; what it costs stays unknown",
            unpriced.join(", ")
        ));
    }
    models
}

/// The `model_rates` that belong to a model of the provider, with its name. Where its list is `open`, each of them names
/// a model.
fn entries<'r>(
    raw: &'r raw::Provider,
    models: &mut Vec<At<String>>,
    open: bool,
    values: &mut Values<'_>,
) -> Vec<(String, &'r raw::ModelRates)> {
    let mut entries: Vec<(String, &raw::ModelRates)> = Vec::new();
    for entry in &raw.model_rates {
        let Some(at) = &entry.model else { continue };
        let Some(name) = values.parsed(at, "a model's name", name) else {
            continue;
        };
        let known = || models.iter().map(|model| model.value.as_str());
        let is_known = known().any(|model| model == name);
        if !is_known && !open {
            let meant =
                nearest(&name, known()).map(|model| format!("; did you mean {}?", quote(model)));
            let expected = format!(
                "one of the provider's `models`{}",
                meant.unwrap_or_default()
            );
            values.reject(&at.place, quote(&name), &expected);
        } else if entries.iter().any(|(earlier, _)| *earlier == name) {
            let found = format!("{} a second time", quote(&name));
            values.reject(&at.place, found, "one price for each model");
        } else {
            if !is_known {
                models.push(At {
                    value: name.clone(),
                    place: at.place.clone(),
                });
            }
            entries.push((name, entry));
        }
    }
    entries
}

/// A model's own price, completed by its provider's.
///
/// A cached rate goes with the input rate beside it: the provider's is no discount on another price.
fn rates_of(entry: &raw::ModelRates, general: &Prices, values: &mut Values<'_>) -> Option<Rates> {
    let own = &entry.prices;
    let is_repriced = own.input_rate.is_some();
    let or = |own: &Option<_>, general: &Option<_>| own.as_ref().or(general.as_ref()).cloned();
    let merged = Prices {
        input_rate: or(&own.input_rate, &general.input_rate),
        output_rate: or(&own.output_rate, &general.output_rate),
        cached_input_rate: if is_repriced {
            own.cached_input_rate.clone()
        } else {
            or(&own.cached_input_rate, &general.cached_input_rate)
        },
        base_fee: or(&own.base_fee, &general.base_fee),
    };
    rates(&merged, Some(entry), values)
}

/// A whole price, or none at all: half a price is a mistake.
pub(super) fn rates(
    prices: &Prices,
    entry: Option<&raw::ModelRates>,
    values: &mut Values<'_>,
) -> Option<Rates> {
    let input = values.rate(prices.input_rate.as_ref());
    let output = values.rate(prices.output_rate.as_ref());
    let cached_input = values.rate(prices.cached_input_rate.as_ref());
    let base_fee = values.sats(prices.base_fee.as_ref());
    let (present, missing) = match (&prices.input_rate, &prices.output_rate) {
        (Some(present), None) => (present, "output_rate"),
        (None, Some(present)) => (present, "input_rate"),
        (None, None) => {
            let cached = prices.cached_input_rate.as_ref();
            if let Some(at) = cached.filter(|_| entry.is_none()) {
                let fault = "found without input_rate and output_rate, expected all three";
                values.problems.push(Problem::new(&at.place, fault));
            }
            return None;
        }
        (Some(_), Some(_)) => {
            return Some(Rates {
                input: input?,
                output: output?,
                cached_input,
                base_fee: base_fee.unwrap_or(Sats::ZERO),
            });
        }
    };
    let sibling = format!("{}{missing}", parent(&present.place.key));
    if values.is_faulty(&sibling) {
        return None;
    }
    let fault = format!("found without {missing}, expected both (0 where it is free)");
    values.problems.push(Problem::new(&present.place, fault));
    None
}

/// The key of a value's table, with its dot.
fn parent(key: &str) -> &str {
    key.rfind('.').map_or("", |dot| &key[..=dot])
}
