//! What all requests share: the settings in force, the market, the providers' connections and the store.
//!
//! Everything that a reload replaces is in [`Live`], swapped whole; a request keeps the one it started with.

mod market;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arbstr_price::BtcPrice;
use arbstr_route::{Market, Offer};
use arbstr_store::Store;
use arbstr_wire::redact::{Prefilter, echoes_any};
use arc_swap::{ArcSwap, Guard};

use crate::clock;
use crate::config::{Config, Provider};
use crate::discover::{self, BtcPriceStatus, DiscoveryStatus, DiscoveryTarget, Findings, Reading};
use crate::metrics::{Meters, Metrics};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::trace::Tracer;
use crate::upstream::{Upstream, tls_config};
use tokio::sync::Notify;

/// What lives as long as the process.
#[derive(Debug)]
pub(crate) struct App {
    live: ArcSwap<Live>,
    /// Held while a new one is made of the one in force, so that a reload and a discovery do not undo each other.
    changing: Mutex<()>,
    changed: Notify,
    /// The records.
    pub(crate) store: Store,
    /// What is counted over all settings.
    pub(crate) metrics: Arc<Metrics>,
    /// Shutdown.
    pub(crate) shutdown: Shutdown,
    /// Traces, where they are wanted.
    pub(crate) tracer: Option<Tracer>,
    listen: SocketAddr,
    started_ms: i64,
}

/// What a valid config makes, in force until the next one.
#[derive(Debug)]
pub(crate) struct Live {
    /// The settings.
    pub(crate) config: Config,
    /// Who sells what, and how they have been doing.
    pub(crate) market: Market,
    /// Connections, in the order of `config.providers`.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// What the providers say of themselves.
    findings: Findings,
    /// Tells what need not be searched for secrets.
    secret_prefilter: Prefilter,
    /// What is counted under them.
    pub(crate) meters: Meters,
}

impl App {
    /// A process that listens at `listen`.
    pub(crate) fn new(live: Live, store: Store, listen: SocketAddr, started_ms: i64) -> Self {
        Self {
            metrics: Arc::clone(live.meters.metrics()),
            live: ArcSwap::from_pointee(live),
            changing: Mutex::new(()),
            changed: Notify::new(),
            store,
            shutdown: Shutdown::new(),
            tracer: None,
            listen,
            started_ms,
        }
    }

    /// The same, with traces.
    pub(crate) fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Puts in force what `make` makes of what is in force, for requests to come.
    ///
    /// # Errors
    /// Those of `make`; then nothing changes.
    pub(crate) fn update(
        &self,
        make: impl FnOnce(&Live) -> Result<Live, String>,
    ) -> Result<(), String> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let live = make(&self.live.load())?;
        self.live.store(Arc::new(live));
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something else is in force.
    pub(crate) async fn replaced(&self) {
        self.changed.notified().await;
    }

    /// Has records deleted that are older than the settings in force keep them.
    pub(crate) fn expire_records(&self, now_ms: i64) {
        if let Some(retention) = self.live().config.database.retention {
            let age_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
            self.store.expire(now_ms, age_ms);
        }
    }

    /// The settings in force, for a short look.
    pub(crate) fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// The settings in force, to keep for the life of a request.
    pub(crate) fn keep_live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Whether only this machine can reach the listener.
    pub(crate) fn listens_on_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    /// When the process started, in seconds since the epoch.
    pub(crate) fn started_secs(&self) -> u64 {
        u64::try_from(self.started_ms / 1000).unwrap_or(0)
    }
}

impl arbstr_wire::Secrets for Live {
    fn for_each(&self, f: &mut dyn FnMut(&str)) {
        self.secrets().into_iter().for_each(f);
    }
}

impl Live {
    /// What `config` says, put in force; `previous` hands on what was learned under the one before.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) fn from_config(config: Config, previous: Option<&Self>) -> Result<Self, String> {
        let findings =
            Findings::inherit(&config, previous.map(|live| (&live.config, &live.findings)));
        let tls = tls_config(
            config
                .providers
                .iter()
                .any(|provider| provider.url.is_https()),
        );
        let upstreams = config
            .providers
            .iter()
            .map(|provider| Upstream::new(provider, &tls).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Self::assemble(config, findings, upstreams, previous)
    }

    /// The same with `reading` of `target` taken in. What nobody wants any more changes nothing.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) fn learn(
        &self,
        target: &DiscoveryTarget,
        reading: Reading,
        now: Instant,
    ) -> Result<Self, String> {
        let mut findings = self.findings.clone();
        let has_btc = self.btc_price().is_some();
        let place = |provider: &Provider| discover::target(provider) == *target;
        match (reading, self.config.providers.iter().position(place)) {
            (Reading::List(read), Some(index)) => {
                let list = &mut findings.lists[index];
                let read = discover::without_echoes(read, &self.secrets());
                list.on_read(read.map(Arc::new), now);
                let name = &self.config.providers[index].name;
                discover::log_list(name, &self.findings.lists[index], list, has_btc, now);
            }
            (Reading::Bitcoin(read), _) => {
                findings.btc.on_read(read, now);
                discover::log_bitcoin(&self.findings.btc, &findings.btc, now);
            }
            (Reading::List(_), None) => {}
        }
        Self::assemble(
            self.config.clone(),
            findings,
            self.upstreams.clone(),
            Some(self),
        )
    }

    fn assemble(
        config: Config,
        findings: Findings,
        upstreams: Vec<Arc<Upstream>>,
        previous: Option<&Self>,
    ) -> Result<Self, String> {
        let spec = market::spec(&config, &findings);
        let market = Market::build(spec, previous.map(|live| &live.market))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            meters: Meters::build(
                &market.snapshot(clock::now()),
                &config.virtual_models,
                previous.map(|live| &live.meters),
            ),
            secret_prefilter: Prefilter::of(&config.secrets().collect::<Vec<_>>()),
            config,
            market,
            upstreams,
            findings,
        })
    }

    /// How the discovery of the provider at `index` of the config stands; `None` when it is not discovered.
    pub(crate) fn discovery(&self, index: usize, now: Instant) -> Option<DiscoveryStatus> {
        self.config.providers[index].discover?;
        Some(DiscoveryStatus::of(&self.findings.lists[index], now))
    }

    /// How the price of bitcoin stands; `None` when the config says nothing of it.
    pub(crate) fn btc_price_status(&self, now: Instant) -> Option<BtcPriceStatus> {
        BtcPriceStatus::of(&self.findings, &self.config, now)
    }

    /// What a bitcoin costs in dollars, if anybody said so.
    pub(crate) fn btc_price(&self) -> Option<BtcPrice> {
        self.findings
            .btc_price(&self.config)
            .map(|(price, _)| price)
    }

    /// The provider behind an offer of this market, and the way to it.
    pub(crate) fn provider(&self, offer: &Offer) -> (&Provider, &Upstream) {
        let index = offer.provider_index();
        (&self.config.providers[index], &self.upstreams[index])
    }

    /// Logs what changed in the standing of providers.
    pub(crate) fn log_changes(&self) {
        market::log_changes(&self.market, self.meters.metrics());
    }

    /// `text` of a provider's making without any key it may echo.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.secret_prefilter.may_hold(text.as_bytes()) {
            arbstr_wire::redact_text(text, &self.secrets())
        } else {
            Cow::Borrowed(text)
        }
    }

    /// Everything that must never be shown, as far as it can be told from other text.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        self.config.secrets().collect()
    }

    /// Whether a secret is echoed in a header's value.
    pub(crate) fn is_echoed_in(&self, value: &[u8]) -> bool {
        self.secret_prefilter.may_hold(value) && echoes_any(value, &self.secrets())
    }

    /// What clients must send as Bearer, if anything.
    pub(crate) fn auth_token(&self) -> Option<&Secret> {
        self.config.server.auth_token.as_ref()
    }

    /// Whether pages of `origin` may use this arbstr.
    pub(crate) fn is_listed_origin(&self, origin: &str) -> bool {
        self.config
            .server
            .cors_origins
            .iter()
            .any(|listed| listed == origin)
    }
}
