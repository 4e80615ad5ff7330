//! The settings of one process, checked: what everything else may rely on.
//!
//! A file is read in three steps, each with a type of its own. `raw` knows the keys and their TOML types, `expand`
//! fills `${VAR}` in, and `resolve` turns that into [`Config`], in which every default is applied, every provider has
//! its effective timeouts and each of its models its effective price. What is wrong is collected over all three, so
//! that one run reports every problem of a file. Reading is pure: the file's text and the environment are arguments.

mod base_url;
mod expand;
mod locate;
mod nearest;
mod preset;
mod problem;
mod raw;
mod reader;
mod reference;
pub(crate) mod reload;
mod resolve;
mod secrets;
mod value;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arbstr_price::{BtcPrice, Rate, Rates, Sats};
pub(crate) use arbstr_route::{Strategy, Tier};
pub(crate) use arbstr_wire::Metadata;
use hyper::Uri;
use hyper::header::HeaderName;

pub(crate) use self::base_url::BaseUrl;
pub(crate) use self::locate::{LoadError, NoConfig, load, load_database_path, locate};
pub(crate) use self::nearest::nearest;
pub(crate) use self::problem::{Problem, Problems};
pub(crate) use self::reference::page as reference_page;
pub(crate) use self::resolve::{DEFAULT_DATABASE, DEFAULT_LISTEN, LISTEN_EXPECTED};
use crate::secret::Secret;

/// Looks an environment variable up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the command line adds to a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Listens there instead of where the file says.
    pub(crate) listen: Option<SocketAddr>,
    /// Lets everybody on the network in when no token is set.
    pub(crate) allow_open: bool,
    /// The providers are built in: a file need not name any.
    pub(crate) mock: bool,
    /// Nobody will be called: keys and tokens whose variables are not set here may be missing.
    pub(crate) keys_optional: bool,
}

/// A config file's content.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its name, for messages.
    pub(crate) file: &'a Path,
    /// Its text.
    pub(crate) text: &'a str,
    /// Its permission bits, where there are any.
    pub(crate) mode: Option<u32>,
}

/// All settings.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The listener.
    pub(crate) server: Server,
    /// Where records are kept.
    pub(crate) database: Database,
    /// How streams end.
    pub(crate) stream: Stream,
    /// Time limits where a provider has none of its own.
    pub(crate) timeouts: Timeouts,
    /// How often to try.
    pub(crate) retry: Retry,
    /// When to leave a provider alone.
    pub(crate) circuit: Circuit,
    /// What dollars are worth.
    pub(crate) prices: Prices,
    /// Who can be asked.
    pub(crate) providers: Vec<Provider>,
    /// Names that stand for several models.
    pub(crate) virtual_models: Vec<VirtualModel>,
    /// Which of the candidates may be chosen, and how.
    pub(crate) policies: Policies,
    /// Where traces go.
    pub(crate) telemetry: Telemetry,
    /// What the operator should know; no secret in it.
    pub(crate) warnings: Vec<String>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// What clients must send as Bearer.
    pub(crate) auth_token: Option<Secret>,
    /// The largest request body.
    pub(crate) max_body_bytes: usize,
    /// Origins of browser pages that may call.
    pub(crate) cors_origins: Vec<String>,
    /// How long streams may go on after a signal to stop.
    pub(crate) shutdown_grace: Duration,
}

/// `[database]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    /// How long a request is kept; `None` for ever.
    pub(crate) retention: Option<Duration>,
}

/// `[stream]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    /// How the cost reaches the client.
    pub(crate) metadata: Metadata,
    /// What happens upstream when the client leaves.
    pub(crate) on_client_disconnect: OnClientDisconnect,
    /// The longest a stream is read on for its usage.
    pub(crate) drain_max: Duration,
}

/// What happens to the upstream of a client that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnClientDisconnect {
    /// It is read on, so that the cost is still known.
    Drain,
    /// It is closed at once.
    Abort,
}

/// `[timeouts]`, for one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Until there is a connection, TLS included.
    pub(crate) connect: Duration,
    /// Stream: until its first event, while another candidate remains.
    pub(crate) first_event: FirstEvent,
    /// JSON: until the response head.
    pub(crate) response: Duration,
    /// Stream: between two reads.
    pub(crate) idle: Duration,
    /// How long a client may read nothing.
    pub(crate) client_stall: Duration,
    /// The whole request; `None` for no limit.
    pub(crate) total: Option<Duration>,
}

/// How long to wait for the first event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstEvent {
    /// Learned from what the provider took before.
    Auto,
    /// Always as long.
    Fixed(Duration),
}

/// `[retry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Attempts per request, at least 1.
    pub(crate) max_attempts: u32,
    /// The first pause before a second try at the same provider.
    pub(crate) backoff_base: Duration,
    /// Quick tries again at a provider before the next candidate.
    pub(crate) same_provider_first: u32,
}

/// `[circuit]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Circuit {
    /// Failures in a row that open it, at least 1.
    pub(crate) failures: u32,
    /// How long it stays open.
    pub(crate) open_for: Duration,
}

/// `[prices]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    /// What a bitcoin costs by the operator's word.
    pub(crate) usd_per_btc: Option<BtcPrice>,
    /// Who is asked for it.
    pub(crate) source: Option<BtcSource>,
}

/// Where the price of bitcoin is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BtcSource {
    /// Answers with JSON.
    pub(crate) url: Uri,
    /// The JSON pointer to the price in it.
    pub(crate) pointer: String,
    /// How often.
    pub(crate) every: Duration,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// The base URL of an OTLP collector; `None`: no traces.
    pub(crate) otlp_endpoint: Option<BaseUrl>,
    /// What this arbstr is called in traces.
    pub(crate) service_name: String,
    /// Sent to the collector with every export.
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    /// Requests in a million that begin a trace of their own.
    pub(crate) sample_ppm: u32,
}

/// One of `[[providers]]`, with everything that applies to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provider {
    /// Unique; letters, digits, `.`, `_`, `-`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) url: BaseUrl,
    /// What it is paid or known by.
    pub(crate) api_key: Option<Secret>,
    /// Where that key came from.
    pub(crate) key_source: KeySource,
    /// What the file says it sells, in that order; more may be discovered.
    pub(crate) models: Vec<Model>,
    /// What a model costs for which neither the file nor the provider has a price of its own.
    pub(crate) rates: Option<Rates>,
    /// How often its own list of models is read; `None` for never.
    pub(crate) discover: Option<Duration>,
    /// How good it is said to be.
    pub(crate) tier: Tier,
    /// Requests at a time; `None`: learned.
    pub(crate) max_concurrency: Option<u32>,
    /// Sent to it with every request.
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    /// Its own setting, or that of `[stream]`.
    pub(crate) on_client_disconnect: OnClientDisconnect,
    /// Whether a stream without `[DONE]` is unfinished.
    pub(crate) requires_done: bool,
    /// Its own time limits, each else that of `[timeouts]`.
    pub(crate) timeouts: Timeouts,
}

/// One model of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// As clients ask for it.
    pub(crate) name: String,
    /// As the provider calls it.
    pub(crate) upstream: String,
    /// What it costs; `None` when the file does not say, which is not the same as free.
    pub(crate) rates: Option<Rates>,
}

/// Where a provider's key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// `api_key` names these variables.
    Config(Vec<String>),
    /// The variable that belongs to the provider's name.
    Env(String),
    /// `api_key` names these variables, and they are not set here.
    Unset(Vec<String>),
    /// The file has the key itself.
    Literal,
    /// There is none.
    None,
}

/// One of `[[models]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VirtualModel {
    /// As clients ask for it.
    pub(crate) name: String,
    /// The real models that may serve it.
    pub(crate) any_of: Vec<String>,
}

/// `[policies]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policies {
    /// Where no rule applies.
    pub(crate) default_strategy: Strategy,
    /// In the order of the file.
    pub(crate) rules: Vec<Rule>,
}

/// One of `[[policies.rules]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Unique.
    pub(crate) name: String,
    /// Empty for all.
    pub(crate) allowed_models: Vec<String>,
    /// Empty for all.
    pub(crate) allowed_providers: Vec<String>,
    /// The lowest tier that may serve.
    pub(crate) min_tier: Option<Tier>,
    /// The dearest output rate.
    pub(crate) max_sats_per_1m_output: Option<Rate>,
    /// The most that one request may be expected to cost.
    pub(crate) max_cost: Option<Sats>,
    /// Its own, or the default one.
    pub(crate) strategy: Strategy,
    /// Words that choose this rule.
    pub(crate) keywords: Vec<String>,
}

/// Reads a config.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(
    source: &Source<'_>,
    env: Env<'_>,
    options: &Options,
) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let outcome = match raw::read(source.text, &mut problems) {
        Some(raw) => resolve::resolve(&raw, source, env, options, problems),
        None => Err(problems),
    };
    outcome.map_err(|problems| Problems::new(source.file.to_owned(), problems))
}

/// Reads where the database is, whatever else a config says: that may need keys which are not at hand.
///
/// # Errors
/// A file that is no TOML, and what is wrong with `[database]`.
pub(crate) fn read_database_path(source: &Source<'_>, env: Env<'_>) -> Result<PathBuf, Problems> {
    let mut problems = Vec::new();
    let outcome = match raw::read(source.text, &mut problems) {
        Some(raw) => resolve::database_path(&raw, env, problems),
        None => Err(problems),
    };
    outcome.map_err(|problems| Problems::new(source.file.to_owned(), problems))
}

impl Provider {
    /// What it sells by the file's word, for people.
    pub(crate) fn models_shown(&self) -> String {
        let named = self.models.iter().map(|model| model.name.as_str());
        let listed = self.discover.map(|_| "what it lists");
        named.chain(listed).collect::<Vec<_>>().join(", ")
    }

    /// Changes when the provider behind a name is no longer the one that was learned about.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.url.to_string().hash(&mut hasher);
        self.api_key.as_ref().map(Secret::expose).hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for Source<'_> {
    /// Without the text, which may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(variables) => f.write_str(&references(variables)),
            Self::Unset(variables) => write!(f, "{} is not set", references(variables)),
            Self::Env(variable) => f.write_str(variable),
            Self::Literal => f.write_str("written in the file"),
            Self::None => f.write_str("none"),
        }
    }
}

/// `${A} ${B}`
fn references(variables: &[String]) -> String {
    let quoted: Vec<String> = variables
        .iter()
        .map(|name| format!("${{{name}}}"))
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests;
