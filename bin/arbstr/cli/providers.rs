//! `arbstr providers`: who sells what at which price, and how each is doing when an arbstr is running.
//!
//! The config says who there is. A running arbstr, asked at the config's own address with the config's own token, adds
//! what only it can know: circuits, and models and prices that providers publish.

mod ask;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use arbstr_price::Rates;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use self::ask::AskError;
use super::screen::{Screen, printable};
use super::table::{Cell, Column, Table, Tone};
use super::{Failure, json_line, load_config, printed};
use crate::config::{self, Config, Env};
use crate::discover::DiscoveryStatus;
use crate::records::exact;
use crate::secret::Secret;

/// `arbstr providers`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Providers {
    /// Config file [default: ./arbstr.toml, else ~/.config/arbstr/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, in the shape of GET /providers
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints the providers of the config; without any config, those of an arbstr that runs at the usual address.
///
/// # Errors
/// When there is no config and no running arbstr, or the config is wrong.
pub(crate) fn run(options: &Providers, env: Env<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (listing, _) = Listing::locate(options.config.as_deref(), env)?;
    printed(if options.json {
        listing.print_json(out)
    } else {
        listing.print_table(Screen::of_stdout(), out)
    })
}

/// The providers, and where their state comes from.
#[derive(Debug)]
pub(super) struct Listing {
    /// Where a running arbstr was looked for.
    server: SocketAddr,
    /// Why none answered.
    no_answer: Option<AskError>,
    providers: Vec<ProviderRow>,
}

/// `GET /providers`
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    data: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProviderRow {
    name: String,
    url: String,
    tier: String,
    key: Option<String>,
    /// Why there is no key, where the config tells.
    #[serde(skip)]
    no_key: Option<String>,
    /// What the server says of it, word for word.
    #[serde(skip)]
    said: Option<Box<RawValue>>,
    circuit: Option<String>,
    probe_due_ms: Option<u64>,
    suspended_ms: Option<u64>,
    cooling_ms: Option<u64>,
    in_flight: Option<u32>,
    concurrency_limit: Option<u32>,
    #[serde(default)]
    discovery: Option<DiscoveryStatus>,
    models: Vec<ModelRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ModelRow {
    model: String,
    upstream_model: String,
    input_rate: Option<Box<RawValue>>,
    output_rate: Option<Box<RawValue>>,
    cached_input_rate: Option<Box<RawValue>>,
    base_fee: Option<Box<RawValue>>,
    #[serde(default)]
    price_age_secs: Option<u64>,
    circuit: Option<String>,
    probe_due_ms: Option<u64>,
    suspended_ms: Option<u64>,
    first_event_ms: Option<u64>,
    answer_ms: Option<u64>,
}

/// What one provider takes for one model, and nothing where that is not known.
#[derive(Debug)]
pub(super) struct Price<'a> {
    pub(super) provider: &'a str,
    pub(super) tier: &'a str,
    pub(super) model: &'a str,
    pub(super) rates: Option<Rates>,
}

impl Listing {
    /// The providers of the config, which comes along; without any config, those of an arbstr at the usual address.
    ///
    /// # Errors
    /// When there is no config and no running arbstr, or the config is wrong.
    pub(super) fn locate(
        named: Option<&Path>,
        env: Env<'_>,
    ) -> Result<(Self, Option<Config>), Failure> {
        let exists = |path: &Path| path.exists();
        match config::locate(named, env, &exists) {
            Ok(_) => {
                let (_, config) = load_config(named, env)?;
                let server = reachable(config.server.listen);
                let answer = ask_providers(server, config.server.auth_token.as_ref());
                Ok((Self::of(&config, answer), Some(config)))
            }
            Err(missing) => Ok((Self::running().ok_or(missing)?, None)),
        }
    }

    /// The config's providers, each as the running arbstr knows it, if it does.
    pub(super) fn of(config: &Config, answer: Result<Vec<ProviderRow>, AskError>) -> Self {
        let server = reachable(config.server.listen);
        let (mut running, no_answer) = match answer {
            Ok(running) => (running, None),
            Err(no_answer) => (Vec::new(), Some(no_answer)),
        };
        let listed = config.providers.iter().map(|provider| {
            let place = running.iter().position(|live| live.name == provider.name);
            place.map_or_else(
                || ProviderRow::of(provider),
                |place| running.swap_remove(place),
            )
        });
        Self {
            server,
            no_answer,
            providers: listed.collect(),
        }
    }

    /// Those of an arbstr at the usual address.
    fn running() -> Option<Self> {
        let server = config::DEFAULT_LISTEN;
        let providers = ask_providers(server, None).ok()?;
        Some(Self {
            server,
            no_answer: None,
            providers,
        })
    }

    /// What each takes for each of its models.
    pub(super) fn prices(&self) -> impl Iterator<Item = Price<'_>> {
        self.providers.iter().flat_map(|provider| {
            provider.models.iter().map(|offer| Price {
                provider: &provider.name,
                tier: &provider.tier,
                model: &offer.model,
                rates: offer.rates(),
            })
        })
    }

    /// Where those prices come from, in words.
    pub(super) fn source(&self) -> String {
        self.source_of("prices", "by the config alone")
    }

    /// Where `what` is from; `otherwise`: what is to be said of it where no running arbstr tells.
    fn source_of(&self, what: &str, otherwise: &str) -> String {
        match self.answered() {
            Err(why) => format!("{what} {otherwise}: {why}"),
            Ok(()) => {
                let missing = self.providers.iter().filter(|listed| listed.is_missing());
                let names: Vec<&str> = missing.map(|listed| listed.name.as_str()).collect();
                let but = match names.join(", ") {
                    none if none.is_empty() => none,
                    names => format!("; it does not have {names}"),
                };
                format!("{what} as http://{} has them now{but}", self.server)
            }
        }
    }

    /// Whether a running arbstr said anything of the providers listed; else why it did not. One that answers may have
    /// others: it runs by another config, or with `--mock`.
    fn answered(&self) -> Result<(), String> {
        match &self.no_answer {
            Some(no_answer) => Err(no_answer.at(self.server)),
            None if !self.providers.is_empty()
                && self.providers.iter().all(ProviderRow::is_missing) =>
            {
                let server = self.server;
                Err(format!(
                    "the arbstr at {server} has none of these providers"
                ))
            }
            None => Ok(()),
        }
    }

    fn print_table(&self, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(vec![
            Column::text("PROVIDER"),
            Column::text("TIER").dispensable(2),
            Column::text("KEY").dispensable(1),
            Column::text("MODEL"),
            Column::number("INPUT"),
            Column::number("OUTPUT"),
            Column::number("CACHED").dispensable(3),
            Column::number("FEE"),
            Column::text("CIRCUIT"),
        ]);
        for provider in &self.providers {
            provider.add_rows(&mut table, screen);
        }
        writeln!(out, "sats per 1,000,000 tokens, fee in sats per request\n")?;
        table.print(out, screen)?;
        writeln!(out, "\n{}", self.source_of("circuits", "unknown"))?;
        let discovered = |provider: &'_ ProviderRow| {
            let status = provider.discovery.as_ref()?;
            Some(format!("{}: {status}", provider.name))
        };
        let lines = self.providers.iter().filter_map(discovered);
        lines
            .into_iter()
            .try_for_each(|line| writeln!(out, "{}", printable(&line)))
    }

    fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let said = |listed: &ProviderRow| match &listed.said {
            Some(said) => Ok(said.clone()),
            None => serde_json::value::to_raw_value(listed),
        };
        let data = self.providers.iter().map(said).collect::<Result<_, _>>()?;
        json_line(&Data { data }, out)
    }
}

impl ProviderRow {
    fn of(provider: &config::Provider) -> Self {
        let key = provider.api_key.as_ref().map(Secret::masked);
        Self {
            name: provider.name.clone(),
            url: provider.url.to_string(),
            tier: provider.tier.to_string(),
            no_key: key.is_none().then(|| provider.key_source.to_string()),
            key,
            said: None,
            circuit: None,
            probe_due_ms: None,
            suspended_ms: None,
            cooling_ms: None,
            in_flight: None,
            concurrency_limit: provider.max_concurrency,
            discovery: None,
            models: provider.models.iter().map(ModelRow::of).collect(),
        }
    }

    /// Whether no running arbstr told of it.
    fn is_missing(&self) -> bool {
        self.said.is_none()
    }

    /// One row for each model. On a terminal the provider is named once; in a pipe each row says it all.
    fn add_rows(&self, table: &mut Table, screen: Screen) {
        let key = self.key.as_deref().or(self.no_key.as_deref());
        let heads = || [Cell::text(&self.name), Cell::text(&self.tier), key.into()];
        if self.models.is_empty() {
            let unknown = (0..5).map(|_| Cell::none());
            table.row(heads().into_iter().chain(unknown).chain([self.state(None)]));
        }
        for (place, offer) in self.models.iter().enumerate() {
            let head = if place == 0 || screen.width.is_none() {
                heads()
            } else {
                Default::default()
            };
            let prices = [
                &offer.input_rate,
                &offer.output_rate,
                &offer.cached_input_rate,
                &offer.base_fee,
            ];
            let rest = [Cell::text(&offer.model)]
                .into_iter()
                .chain(prices.map(|price| Cell::number(price.as_ref().map(|price| price.get()))));
            table.row(
                head.into_iter()
                    .chain(rest)
                    .chain([self.state(Some(offer))]),
            );
        }
    }

    /// The worst that is to be said of the provider or the offer.
    fn state(&self, offer: Option<&ModelRow>) -> Cell {
        let circuits = [
            self.circuit.as_deref(),
            offer.and_then(|offer| offer.circuit.as_deref()),
        ];
        let has = |word: &str| circuits.contains(&Some(word));
        let suspended = self
            .suspended_ms
            .max(offer.and_then(|offer| offer.suspended_ms));
        let seconds = |ms: u64| ms.div_ceil(1000);
        if has("open") {
            let due = self
                .probe_due_ms
                .max(offer.and_then(|offer| offer.probe_due_ms));
            let told = match due {
                Some(0) => "open, probe due".to_owned(),
                Some(left) => format!("open {} s", seconds(left)),
                None => "open".to_owned(),
            };
            Cell::text(&told).toned(Tone::Bad)
        } else if let Some(left) = suspended {
            Cell::text(&format!("suspended {} s", seconds(left))).toned(Tone::Doubtful)
        } else if has("half_open") {
            Cell::text("half open").toned(Tone::Doubtful)
        } else if let Some(left) = self.cooling_ms {
            Cell::text(&format!("cooling {} s", seconds(left))).toned(Tone::Doubtful)
        } else if has("closed") {
            Cell::text("closed").toned(Tone::Good)
        } else {
            Cell::none()
        }
    }
}

impl ModelRow {
    fn rates(&self) -> Option<Rates> {
        let text = |price: &Option<Box<RawValue>>| Some(price.as_ref()?.get().to_owned());
        Some(Rates {
            input: text(&self.input_rate)?.parse().ok()?,
            output: text(&self.output_rate)?.parse().ok()?,
            cached_input: text(&self.cached_input_rate).and_then(|rate| rate.parse().ok()),
            base_fee: text(&self.base_fee)?.parse().ok()?,
        })
    }

    fn of(model: &config::Model) -> Self {
        let rates = model.rates;
        Self {
            model: model.name.clone(),
            upstream_model: model.upstream.clone(),
            input_rate: exact(rates.map(|rates| rates.input)),
            output_rate: exact(rates.map(|rates| rates.output)),
            cached_input_rate: exact(rates.map(|rates| rates.cached_rate())),
            base_fee: exact(rates.map(|rates| rates.base_fee)),
            circuit: None,
            probe_due_ms: None,
            suspended_ms: None,
            price_age_secs: None,
            first_event_ms: None,
            answer_ms: None,
        }
    }
}

fn ask_providers(server: SocketAddr, token: Option<&Secret>) -> Result<Vec<ProviderRow>, AskError> {
    let body = ask::get(server, "/providers", token)?;
    read_providers(&body).map_err(|_| AskError::NotArbstr)
}

fn read_providers(body: &[u8]) -> serde_json::Result<Vec<ProviderRow>> {
    let Data { data } = serde_json::from_slice(body)?;
    let read = |said: Box<RawValue>| {
        let listed: ProviderRow = serde_json::from_str(said.get())?;
        Ok(ProviderRow {
            said: Some(said),
            ..listed
        })
    };
    data.into_iter().map(read).collect()
}

/// Where a listener on all addresses is reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr providers
  arbstr providers -c /etc/arbstr/config.toml --json

Asks an arbstr that runs at the config's server.listen for circuits; needs none to list providers and prices. \
Shows no key, only how it begins.";

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let providers = read_providers(
            br#"{"data":[
            {"name":"alpha","url":"https://a.example/v1","tier":"standard","key":"cashuA\u2026***","circuit":"closed",
             "suspended_ms":null,"cooling_ms":null,"in_flight":1,"concurrency_limit":null,"models":[
              {"model":"gpt-4o","upstream_model":"gpt-4o","input_rate":10000,"output_rate":30000,"cached_input_rate":5000,
               "base_fee":1,"circuit":"closed","suspended_ms":null,"first_event_ms":12,"answer_ms":null},
              {"model":"mini\u001b[31m","upstream_model":"m","input_rate":0.125,"output_rate":null,"cached_input_rate":null,
               "base_fee":null,"circuit":"open","suspended_ms":null,"first_event_ms":null,"answer_ms":null},
              {"model":"waits","upstream_model":"w","input_rate":1,"output_rate":2,"cached_input_rate":1,"base_fee":0,
               "circuit":"open","probe_due_ms":12001,"suspended_ms":null,"first_event_ms":null,"answer_ms":null},
              {"model":"due","upstream_model":"d","input_rate":1,"output_rate":2,"cached_input_rate":1,"base_fee":0,
               "circuit":"open","probe_due_ms":0,"suspended_ms":null,"first_event_ms":null,"answer_ms":null}]},
            {"name":"beta","url":"http://127.0.0.1:1","tier":"local","key":null,"circuit":"closed","suspended_ms":59001,
             "cooling_ms":null,"in_flight":0,"concurrency_limit":4,"models":[],"of_a_later_version":{"x":5},
             "discovery":{"models":0,"age_secs":5,"failing_secs":null,"error":null}}]}"#,
        )
        .unwrap();
        Listing {
            server: config::DEFAULT_LISTEN,
            no_answer: None,
            providers,
        }
    }

    #[test]
    fn shows_prices_and_the_worst_of_each_circuit() {
        let mut out = Vec::new();
        listing().print_table(Screen::PLAIN, &mut out).unwrap();
        let expected = "\
sats per 1,000,000 tokens, fee in sats per request

PROVIDER  TIER      KEY         MODEL               INPUT  OUTPUT  CACHED  FEE  CIRCUIT
alpha     standard  cashuA…***  gpt-4o          10000       30000    5000    1  closed
alpha     standard  cashuA…***  mini\\u{1b}[31m      0.125       -       -    -  open
alpha     standard  cashuA…***  waits               1           2       1    0  open 13 s
alpha     standard  cashuA…***  due                 1           2       1    0  open, probe due
beta      local     -           -                   -           -       -    -  suspended 60 s

circuits as http://127.0.0.1:8080 has them now
beta: models listed: 0, read 5 s ago
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_is_what_the_server_says_exactly() {
        let mut out = Vec::new();
        listing().print_json(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("\"input_rate\":0.125,\"output_rate\":null"),
            "{text}"
        );
        assert!(text.contains("\"suspended_ms\":59001"), "{text}");
        assert!(text.contains("\"of_a_later_version\":{\"x\":5}"), "{text}");
    }

    #[test]
    fn reaches_a_listener_on_all_addresses_through_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:81", "[::1]:81"),
            ("192.0.2.1:82", "192.0.2.1:82"),
        ] {
            let listen: SocketAddr = listen.parse().unwrap();
            assert_eq!(reachable(listen).to_string(), reached);
        }
    }
}
