//! Turns what a file says into what applies: defaults, ranges, and the rules that hold between settings.
//!
//! Every default of the config stands in this file, the provider's own in `resolve/provider.rs`.

mod model;
mod policy;
mod prices;
mod provider;
mod telemetry;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{At, Place, Problem};
use super::raw::{self, Raw};
use super::reader::Number;
use super::value::{Key, Least, Values};
use super::{
    Circuit, Config, Database, Env, FirstEvent, Metadata, OnClientDisconnect, Options, Prices,
    Retry, Server, Source, Stream, Timeouts,
};
use crate::secret::Secret;

/// Resolves a file that was read with `problems`.
///
/// # Errors
/// Those problems and all that are found here.
pub(super) fn resolve(
    raw: &Raw,
    source: &Source<'_>,
    env: Env<'_>,
    options: &Options,
    problems: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    let mut values = Values::new(env, options.keys_optional, problems);
    let prices = prices::resolve(&raw.prices, &mut values);
    let stream = stream(&raw.stream, &mut values);
    let timeouts = timeouts(&raw.timeouts, &DEFAULT_TIMEOUTS, &mut values);
    let has_dollars = prices != Prices::default();
    let providers =
        provider::resolve_all(&raw.providers, &stream, &timeouts, has_dollars, &mut values);
    if raw.providers.is_empty() && !options.mock && values.problems.is_empty() {
        let place = Place {
            line: None,
            key: "providers".to_owned(),
        };
        values.reject(&place, "none", "at least one [[providers]] table");
    }
    let virtual_models = policy::virtual_models(&raw.models, &providers, &mut values);
    let policies = policy::policies(&raw.policies, &providers, &virtual_models, &mut values);
    let config = Config {
        server: server(&raw.server, options, &mut values),
        database: database(&raw.database, &mut values),
        stream,
        timeouts,
        retry: retry(&raw.retry, &mut values),
        circuit: circuit(&raw.circuit, &mut values),
        prices,
        providers,
        virtual_models,
        policies,
        telemetry: telemetry::telemetry(&raw.telemetry, &mut values),
        warnings: Vec::new(),
    };
    values.warnings.extend(config.short_secrets());
    warn_of_readers(source, &mut values);
    if values.problems.is_empty() {
        let warnings = values.warnings;
        Ok(Config { warnings, ..config })
    } else {
        Err(values.problems)
    }
}

/// Resolves where the database is, of a file that was read with `problems`.
///
/// # Errors
/// Those of the problems that are about `[database]`, and what is wrong with its path.
pub(super) fn database_path(
    raw: &Raw,
    env: Env<'_>,
    mut problems: Vec<Problem>,
) -> Result<PathBuf, Vec<Problem>> {
    problems.retain(|problem| problem.place.key.starts_with("database"));
    let mut values = Values::new(env, false, problems);
    let database = database(&raw.database, &mut values);
    if values.problems.is_empty() {
        Ok(database.path)
    } else {
        Err(values.problems)
    }
}

fn server(raw: &raw::Server, options: &Options, values: &mut Values<'_>) -> Server {
    let listen = listen(raw, options, values);
    let auth_token = raw.auth_token.as_ref().and_then(|at| {
        let Key::Known(read) = values.key(at)? else {
            return None;
        };
        if read.text.is_empty() || !read.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expected = "one or more visible ASCII characters without blanks";
            let found = match read.variables.join(" and ") {
                _ if !read.text.is_empty() => "a token that no client can send".to_owned(),
                unnamed if unnamed.is_empty() => "an empty token".to_owned(),
                variables => format!("{variables} set to nothing"),
            };
            values.reject(&at.place, found, expected);
            return None;
        }
        if read.variables.is_empty() {
            values
                .warnings
                .push(literal_warning(&at.place, "ARBSTR_TOKEN"));
        }
        Some(Secret::new(read.text.to_string()))
    });
    if let Some((address, place)) = &listen {
        check_openness(*address, place, raw.auth_token.is_some(), options, values);
    }
    let max_body_bytes = values.whole(raw.max_body_bytes.as_ref(), 33_554_432, 1..=u32::MAX);
    Server {
        listen: listen.map_or(DEFAULT_LISTEN, |(address, _)| address),
        auth_token,
        max_body_bytes: usize::try_from(max_body_bytes).unwrap_or(usize::MAX),
        cors_origins: cors_origins(raw, values),
        shutdown_grace: values.seconds(
            raw.shutdown_grace_secs.as_ref(),
            Duration::from_secs(30),
            Least::Zero,
        ),
    }
}

/// The address in force and who set it; `None` when what the file says is no address.
fn listen(
    raw: &raw::Server,
    options: &Options,
    values: &mut Values<'_>,
) -> Option<(SocketAddr, Place)> {
    let given = match &raw.listen {
        Some(at) => values
            .parsed(at, LISTEN_EXPECTED, |text| text.parse().ok())
            .map(|address| (address, at.place.clone())),
        None => {
            let key = "server.listen".to_owned();
            Some((DEFAULT_LISTEN, Place { line: None, key }))
        }
    };
    let overriding = options.listen.map(|address| {
        let key = "--listen".to_owned();
        (address, Place { line: None, key })
    });
    overriding.or(given)
}

/// Without a token, everybody who reaches the listener can spend the operator's sats.
fn check_openness(
    address: SocketAddr,
    place: &Place,
    has_token: bool,
    options: &Options,
    values: &mut Values<'_>,
) {
    if address.ip().is_loopback() || has_token {
        return;
    }
    if options.allow_open {
        values.warnings.push(format!(
            "everybody who can reach {address} can spend your sats: server.auth_token is not set"
        ));
    } else {
        let expected = "a loopback address, or server.auth_token to be set \
                        (--allow-open lets everybody in)";
        values.reject(place, address, expected);
    }
}

fn cors_origins(raw: &raw::Server, values: &mut Values<'_>) -> Vec<String> {
    const EXPECTED: &str = "an origin as browsers send it, such as \"https://app.example\"";
    let listed = raw.cors_origins.iter().flat_map(|at| &at.value);
    listed
        .filter_map(|at| values.parsed(at, EXPECTED, origin))
        .collect()
}

/// `scheme://host[:port]`, in lower case, nothing behind it.
fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_authority = !authority.is_empty()
        && authority
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b));
    (is_scheme && is_authority).then(|| text.to_owned())
}

fn database(raw: &raw::Database, values: &mut Values<'_>) -> Database {
    let given = raw.path.as_ref().and_then(|at| {
        values.parsed(at, "the path of a file", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| text.into())
        })
    });
    let days = values.whole(raw.retention_days.as_ref(), 0, 0..=MOST_DAYS);
    let retention = Duration::from_secs(u64::from(days) * 86_400);
    Database {
        path: given.unwrap_or_else(|| DEFAULT_DATABASE.into()),
        retention: Some(retention).filter(|retention| !retention.is_zero()),
    }
}

fn stream(raw: &raw::Stream, values: &mut Values<'_>) -> Stream {
    let metadata = values.choice(raw.metadata.as_ref(), &METADATA);
    let on_client_disconnect =
        values.choice(raw.on_client_disconnect.as_ref(), &ON_CLIENT_DISCONNECT);
    Stream {
        metadata: metadata.unwrap_or(Metadata::Event),
        on_client_disconnect: on_client_disconnect.unwrap_or(OnClientDisconnect::Drain),
        drain_max: values.seconds(
            raw.drain_max_secs.as_ref(),
            Duration::from_secs(60),
            Least::Zero,
        ),
    }
}

/// Each limit that is given, else that of `fallback`.
fn timeouts(raw: &raw::Timeouts, fallback: &Timeouts, values: &mut Values<'_>) -> Timeouts {
    let mut limit =
        |at: Option<&At<Number>>, default| values.seconds(at, default, Least::AboveZero);
    let connect = limit(raw.connect.as_ref(), fallback.connect);
    let response = limit(raw.response.as_ref(), fallback.response);
    let idle = limit(raw.idle.as_ref(), fallback.idle);
    let client_stall = limit(raw.client_stall.as_ref(), fallback.client_stall);
    let unlimited = fallback.total.unwrap_or(Duration::ZERO);
    let total = values.seconds(raw.total.as_ref(), unlimited, Least::Zero);
    Timeouts {
        connect,
        first_event: first_event(raw, fallback.first_event, values),
        response,
        idle,
        client_stall,
        total: Some(total).filter(|total| !total.is_zero()),
    }
}

fn first_event(raw: &raw::Timeouts, fallback: FirstEvent, values: &mut Values<'_>) -> FirstEvent {
    let Some(At { value, place }) = &raw.first_event else {
        return fallback;
    };
    let place = place.clone();
    match value {
        Ok(number) => {
            let at = At {
                value: number.clone(),
                place,
            };
            FirstEvent::Fixed(values.seconds(Some(&at), Duration::ZERO, Least::AboveZero))
        }
        Err(word) => {
            let at = At {
                value: word.clone(),
                place,
            };
            let auto = |text: &str| (text == "auto").then_some(FirstEvent::Auto);
            values
                .parsed(&at, "\"auto\" or a number of seconds", auto)
                .unwrap_or(fallback)
        }
    }
}

fn retry(raw: &raw::Retry, values: &mut Values<'_>) -> Retry {
    let backoff_ms = values.whole(raw.backoff_base_ms.as_ref(), 200, 0..=60_000);
    Retry {
        max_attempts: values.whole(raw.max_attempts.as_ref(), 8, 1..=100),
        backoff_base: Duration::from_millis(backoff_ms.into()),
        same_provider_first: values.whole(raw.same_provider_first.as_ref(), 0, 0..=10),
    }
}

fn circuit(raw: &raw::Circuit, values: &mut Values<'_>) -> Circuit {
    Circuit {
        failures: values.whole(raw.failures.as_ref(), 3, 1..=1_000),
        open_for: values.seconds(
            raw.open_secs.as_ref(),
            Duration::from_secs(30),
            Least::AboveZero,
        ),
    }
}

fn warn_of_readers(source: &Source<'_>, values: &mut Values<'_>) {
    let file = source.file.display();
    if let Some(mode) = source.mode.filter(|mode| mode & OTHERS_READ != 0) {
        values.warnings.push(format!(
            "{file} can be read by others than its owner (mode {mode:04o}): chmod 600 {file}"
        ));
    }
}

/// What is said of a key that stands in the file itself.
fn literal_warning(place: &Place, variable: &str) -> String {
    format!(
        "{} is written in the file; \"${{{variable}}}\" would keep it out",
        place.key
    )
}

/// Where records are kept unless the config says otherwise.
pub(crate) const DEFAULT_DATABASE: &str = "./arbstr.db";
/// Where arbstr listens unless it is told otherwise.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// What can be listened on, in the file and on the command line.
pub(crate) const LISTEN_EXPECTED: &str = "an address and a port, such as \"127.0.0.1:8080\"";
const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_event: FirstEvent::Auto,
    response: Duration::from_secs(300),
    idle: Duration::from_secs(60),
    client_stall: Duration::from_secs(120),
    total: None,
};
const METADATA: [(&str, Metadata); 3] = [
    ("event", Metadata::Event),
    ("comment", Metadata::Comment),
    ("off", Metadata::Off),
];
const ON_CLIENT_DISCONNECT: [(&str, OnClientDisconnect); 2] = [
    ("drain", OnClientDisconnect::Drain),
    ("abort", OnClientDisconnect::Abort),
];
/// A hundred years.
const MOST_DAYS: u32 = 36_500;
/// Permission bits: the group or everybody may read.
const OTHERS_READ: u32 = 0o044;
