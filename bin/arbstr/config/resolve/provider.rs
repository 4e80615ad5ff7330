//! One provider with everything that applies to it: what its kind brings, its key and its time limits.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hyper::header::{self, HeaderName, HeaderValue};

use super::super::expand::Template;
use super::super::preset::{PRESETS, Preset, Published};
use super::super::problem::{At, Place, Problem};
use super::super::raw;
use super::super::reader::quote;
use super::super::value::{Key, Least, Values};
use super::super::{BaseUrl, KeySource, Provider, Stream, Tier, Timeouts};
use super::{ON_CLIENT_DISCONNECT, literal_warning, model, timeouts};
use crate::secret::Secret;

/// Resolves all providers, and what holds between them. `has_dollars`: it is known what dollars are worth.
pub(super) fn resolve_all(
    raw: &[raw::Provider],
    stream: &Stream,
    general: &Timeouts,
    has_dollars: bool,
    values: &mut Values<'_>,
) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::new();
    // Those of providers with other faults too.
    let mut names = HashSet::new();
    for raw in raw {
        let name = raw.name.as_ref().and_then(|at| provider_name(at, values));
        if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
            let place = raw.name.as_ref().map_or(&raw.place, |at| &at.place);
            let found = format!("{} a second time", quote(name));
            values.reject(place, found, "a name that no other provider has");
        }
        let Some(provider) = resolve(raw, name, stream, general, values) else {
            continue;
        };
        if let Some(preset) = values.choice(raw.kind.as_ref(), &PRESETS) {
            warn_of_lacks(raw, preset, &provider, has_dollars, values);
        }
        providers.push(provider);
    }
    warn_of_shared_keys(&providers, values);
    providers
}

fn resolve(
    raw: &raw::Provider,
    name: Option<String>,
    stream: &Stream,
    general: &Timeouts,
    values: &mut Values<'_>,
) -> Option<Provider> {
    let preset = values.choice(raw.kind.as_ref(), &PRESETS);
    let url = match (&raw.url, preset) {
        (Some(at), _) => base_url(at, values),
        (None, preset) => preset.map(Preset::base_url),
    };
    let (api_key, key_source) = api_key(raw, name.as_deref(), preset, values);
    let discover = discover(raw, preset, values);
    let rates = model::rates(&raw.prices, None, values);
    let models = model::resolve_all(raw, name.as_deref(), rates, discover, values);
    require_models(raw, preset, discover, values);
    let tier = values.choice(raw.tier.as_ref(), &TIERS);
    let most = values.whole(raw.max_concurrency.as_ref(), 0, 0..=1_000_000);
    let headers = headers(&raw.headers, api_key.is_some(), values);
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
        rates,
        discover,
        tier: tier.unwrap_or_else(|| preset.map_or(Tier::Standard, |preset| preset.tier)),
        max_concurrency: Some(most).filter(|most| *most > 0),
        headers,
        on_client_disconnect: on_disconnect.unwrap_or(stream.on_client_disconnect),
        requires_done: raw.requires_done.as_ref().is_none_or(|at| at.value),
        timeouts,
    })
}

fn provider_name(at: &At<Template>, values: &mut Values<'_>) -> Option<String> {
    const EXPECTED: &str = "a name of 1 to 64 ASCII letters, digits, `.`, `_` or `-`";
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
    preset: Option<&Preset>,
    values: &mut Values<'_>,
) -> (Option<Secret>, KeySource) {
    let Some(at) = &raw.api_key else {
        // The usual variable of a kind holds a key for that kind's own address and for no other.
        let usual = preset.filter(|_| raw.url.is_none());
        let variables = name.map(key_variable).into_iter();
        let variables = variables.chain(usual.and_then(|preset| preset.key.map(str::to_owned)));
        return variables
            .map(|variable| env_key(raw, variable, values))
            .find(|(key, _)| key.is_some())
            .unwrap_or((None, KeySource::None));
    };
    let read = match values.key(at) {
        Some(Key::Known(read)) => read,
        Some(Key::Unset(variables)) => return (None, KeySource::Unset(variables)),
        None => return (None, KeySource::None),
    };
    if !is_sendable(&read.text) {
        let expected = "one or more visible ASCII characters without blanks";
        let found = if read.text.is_empty() && !read.variables.is_empty() {
            format!("{} set to nothing", read.variables.join(" and "))
        } else {
            "a key that cannot be sent".to_owned()
        };
        values.reject(&at.place, found, expected);
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
    variable: String,
    values: &mut Values<'_>,
) -> (Option<Secret>, KeySource) {
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

/// What such a provider needs, and the file does not give: a key, or what makes its costs known.
fn warn_of_lacks(
    raw: &raw::Provider,
    preset: &Preset,
    provider: &Provider,
    has_dollars: bool,
    values: &mut Values<'_>,
) {
    let name = &provider.name;
    if let (Some(usual), KeySource::None, None) = (preset.key, &provider.key_source, &raw.url) {
        let own = key_variable(name);
        values.warnings.push(format!(
            "provider {name}: no key, which it asks for; set {usual} or {own} in the environment"
        ));
    }
    let is_priced = provider.models.iter().any(|model| model.rates.is_some());
    if provider.discover.is_none() || provider.rates.is_some() || is_priced {
        return;
    }
    let lack = match preset.prices {
        Published::Dollars if !has_dollars => {
            "its prices are in dollars, and no [prices] says what they are worth"
        }
        Published::Nothing => {
            "its list has no prices, and it has no input_rate and output_rate (0 where it is free)"
        }
        Published::Dollars | Published::Sats => return,
    };
    values.warnings.push(format!(
        "provider {name}: {lack}; what it costs stays unknown"
    ));
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

/// Headers of the operator's own, with values that can be sent.
pub(super) fn headers(
    raw: &[(String, At<Template>)],
    has_key: bool,
    values: &mut Values<'_>,
) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, at) in raw {
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

/// How often the provider's own list is read.
fn discover(
    raw: &raw::Provider,
    preset: Option<&Preset>,
    values: &mut Values<'_>,
) -> Option<Duration> {
    let every = values.seconds(raw.discover_secs.as_ref(), DISCOVER_EVERY, Least::AboveZero);
    let usual = preset.is_some_and(|preset| preset.auto_discover);
    let wanted = raw.auto_discover.as_ref().map_or(usual, |at| at.value);
    wanted.then(|| every.max(LEAST_DISCOVER))
}

/// Without a list of its own to read, a provider sells what the file says, so the file must say it.
fn require_models(
    raw: &raw::Provider,
    preset: Option<&Preset>,
    discover: Option<Duration>,
    values: &mut Values<'_>,
) {
    // A kind that nobody knows is one problem, and perhaps one that discovers.
    let is_unclear = raw.kind.is_some() && preset.is_none();
    if raw.models.is_some() || discover.is_some() || is_unclear {
        return;
    }
    let place = Place {
        line: raw.place.line,
        key: format!("{}.models", raw.place.key),
    };
    let fault = "missing, expected the models this provider serves";
    values.problems.push(Problem::new(&place, fault));
}

/// How often a list is read where the file does not say: prices change within days, the price of bitcoin within hours.
const DISCOVER_EVERY: Duration = Duration::from_secs(900);
/// Nobody's list is read more often.
const LEAST_DISCOVER: Duration = Duration::from_secs(1);

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
