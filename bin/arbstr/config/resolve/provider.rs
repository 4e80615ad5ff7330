//! One provider with everything that applies to it: its key, its time limits, and the price of each of its models.

use std::collections::HashMap;

use arbstr_price::{Rates, Sats};
use hyper::header::{self, HeaderName, HeaderValue};

use super::super::expand::Template;
use super::super::nearest::nearest;
use super::super::problem::{At, Problem};
use super::super::raw::{self, Prices};
use super::super::reader::quote;
use super::super::value::{Key, Values, name};
use super::super::{BaseUrl, KeySource, Model, Provider, Stream, Tier, Timeouts};
use super::{ON_CLIENT_DISCONNECT, literal_warning, timeouts};
use crate::secret::Secret;

/// Resolves all providers, and what holds between them.
pub(super) fn resolve_all(
    raw: &[raw::Provider],
    stream: &Stream,
    general: &Timeouts,
    values: &mut Values<'_>,
) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::new();
    for raw in raw {
        let Some(provider) = resolve(raw, stream, general, values) else {
            continue;
        };
        if providers
            .iter()
            .any(|earlier| earlier.name == provider.name)
        {
            let place = raw.name.as_ref().map_or(&raw.place, |at| &at.place);
            let found = format!("{} a second time", quote(&provider.name));
            values.reject(place, found, "a name that no other provider has");
        }
        providers.push(provider);
    }
    warn_of_shared_keys(&providers, values);
    providers
}

fn resolve(
    raw: &raw::Provider,
    stream: &Stream,
    general: &Timeouts,
    values: &mut Values<'_>,
) -> Option<Provider> {
    let name = raw.name.as_ref().and_then(|at| provider_name(at, values));
    let url = raw.url.as_ref().and_then(|at| base_url(at, values));
    let (api_key, key_source) = api_key(raw, name.as_deref(), values);
    let models = models(raw, name.as_deref(), values);
    let tier = values.choice(raw.tier.as_ref(), &TIERS);
    let most = values.whole(raw.max_concurrency.as_ref(), 0, 0..=1_000_000);
    let headers = headers(raw, api_key.is_some(), values);
    let on_disconnect = values.choice(raw.on_client_disconnect.as_ref(), &ON_CLIENT_DISCONNECT);
    let timeouts = timeouts(&raw.timeouts, general, values);
    let (name, url) = (name?, url?);
    if api_key.is_some() && url.is_exposed() {
        values.warnings.push(format!(
            "provider {name}: its key travels unencrypted to {url}"
        ));
    }
    Some(Provider {
        name,
        url,
        api_key,
        key_source,
        models,
        tier: tier.unwrap_or(Tier::Standard),
        max_concurrency: Some(most).filter(|most| *most > 0),
        headers,
        on_client_disconnect: on_disconnect.unwrap_or(stream.on_client_disconnect),
        requires_done: raw.requires_done.as_ref().is_none_or(|at| at.value),
        timeouts,
    })
}

fn provider_name(at: &At<Template>, values: &mut Values<'_>) -> Option<String> {
    const EXPECTED: &str = "a name of 1 to 64 letters, digits, `.`, `_` or `-`";
    values.parsed(at, EXPECTED, |text| {
        let is_name = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        is_name.then(|| text.to_owned())
    })
}

fn base_url(at: &At<Template>, values: &mut Values<'_>) -> Option<BaseUrl> {
    const EXPECTED: &str = "the provider's base URL, such as \"https://provider.example/v1\"";
    let text = values.text(at)?.text;
    match BaseUrl::parse(&text) {
        Ok(url) => Some(url),
        Err(fault) => {
            values.reject(&at.place, fault, EXPECTED);
            None
        }
    }
}

/// The file's key, else that of the variable which belongs to the provider's name.
fn api_key(
    raw: &raw::Provider,
    name: Option<&str>,
    values: &mut Values<'_>,
) -> (Option<Secret>, KeySource) {
    let Some(at) = &raw.api_key else {
        return name.map_or((None, KeySource::None), |name| env_key(raw, name, values));
    };
    let read = match values.key(at) {
        Some(Key::Known(read)) => read,
        Some(Key::Unset(variables)) => return (None, KeySource::Unset(variables)),
        None => return (None, KeySource::None),
    };
    if !is_sendable(&read.text) {
        let expected = "one or more visible ASCII characters without blanks";
        values.reject(&at.place, "a key that cannot be sent", expected);
    }
    let source = if read.variables.is_empty() {
        let variable = key_variable(name.unwrap_or("name"));
        values.warnings.push(literal_warning(&at.place, &variable));
        KeySource::Literal
    } else {
        KeySource::Config(read.variables)
    };
    (Some(Secret::new(read.text.to_string())), source)
}

/// A variable that is set to nothing is as good as none: shells make such ones easily.
fn env_key(
    raw: &raw::Provider,
    name: &str,
    values: &mut Values<'_>,
) -> (Option<Secret>, KeySource) {
    let variable = key_variable(name);
    let Some(key) = (values.env())(&variable).filter(|key| !key.is_empty()) else {
        return (None, KeySource::None);
    };
    let key = Secret::new(key);
    if !is_sendable(key.expose()) {
        let fault = format!(
            "found a key in {variable} that cannot be sent, \
             expected visible ASCII characters without blanks"
        );
        values.problems.push(Problem::new(&raw.place, fault));
    }
    (Some(key), KeySource::Env(variable))
}

/// `ARBSTR_<UPPER_SNAKE_NAME>_API_KEY`
fn key_variable(name: &str) -> String {
    let upper = name.to_ascii_uppercase().replace(['.', '-'], "_");
    format!("ARBSTR_{upper}_API_KEY")
}

fn is_sendable(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Two names can come to the same variable; one provider would then be sent the other's key.
fn warn_of_shared_keys(providers: &[Provider], values: &mut Values<'_>) {
    let mut users: HashMap<&str, &str> = HashMap::new();
    for provider in providers {
        let KeySource::Env(variable) = &provider.key_source else {
            continue;
        };
        if let Some(other) = users.insert(variable, &provider.name) {
            values.warnings.push(format!(
                "providers {other} and {} both get the key in {variable}; \
                 give each its own with api_key",
                provider.name
            ));
        }
    }
}

fn headers(
    raw: &raw::Provider,
    has_key: bool,
    values: &mut Values<'_>,
) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, at) in &raw.headers {
        let Ok(name) = name.parse::<HeaderName>() else {
            values.reject(
                &at.place,
                "a name that no header can have",
                "a header's name",
            );
            continue;
        };
        let is_own_key = name == header::AUTHORIZATION && has_key;
        if RESERVED.contains(&name) || is_own_key {
            let expected = "a header other than those that arbstr itself sets";
            values.reject(&at.place, format!("the header {name}"), expected);
            continue;
        }
        if headers.iter().any(|(earlier, _)| *earlier == name) {
            let found = format!("the header {name} a second time");
            values.reject(&at.place, found, "each header once");
            continue;
        }
        let Some(Key::Known(read)) = values.key(at) else {
            continue;
        };
        if HeaderValue::from_str(&read.text).is_err() {
            let expected = "a header's value, without control characters";
            values.reject(&at.place, "something that cannot be sent", expected);
            continue;
        }
        headers.push((name, Secret::new(read.text.to_string())));
    }
    headers
}

fn models(raw: &raw::Provider, provider: Option<&str>, values: &mut Values<'_>) -> Vec<Model> {
    let general = rates(&raw.prices, None, values);
    let Some(list) = &raw.models else {
        return Vec::new();
    };
    if list.value.is_empty() && !raw.auto_discover.as_ref().is_some_and(|at| at.value) {
        values.reject(&list.place, "no model", "at least one");
    }
    let names = values.names(&list.value, "a model's name");
    let own = entries(raw, &names, values);
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
    if let (Some(provider), false) = (provider, unpriced.is_empty()) {
        values.warnings.push(format!(
            "provider {provider}: no price for {}; what it costs stays unknown",
            unpriced.join(", ")
        ));
    }
    models
}

/// The `model_rates` that belong to a model of the provider, with its name.
fn entries<'r>(
    raw: &'r raw::Provider,
    models: &[At<String>],
    values: &mut Values<'_>,
) -> Vec<(String, &'r raw::ModelRates)> {
    let mut entries: Vec<(String, &raw::ModelRates)> = Vec::new();
    for entry in &raw.model_rates {
        let Some(at) = &entry.model else { continue };
        let Some(name) = values.parsed(at, "a model's name", name) else {
            continue;
        };
        let known = || models.iter().map(|model| model.value.as_str());
        if !known().any(|model| model == name) {
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
fn rates(
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

pub(super) const TIERS: [(&str, Tier); 3] = [
    ("local", Tier::Local),
    ("standard", Tier::Standard),
    ("frontier", Tier::Frontier),
];

/// Headers that belong to the connection or the message, which only arbstr can get right.
static RESERVED: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    HeaderName::from_static("keep-alive"),
];
