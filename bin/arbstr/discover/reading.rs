//! One reading: whom to ask, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arbstr_price::BtcPrice;
use arbstr_wire::json::scalar_at;
use arbstr_wire::redact::echoes_any;
use arbstr_wire::{Catalog, CatalogError, ListedModel, redact_text};

use crate::app::Live;
use crate::config::{BtcSource, Provider};
use crate::upstream::Upstream;
use crate::upstream::fetch::{FetchError, fetch_document};

/// Something that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum DiscoveryTarget {
    /// The list of this provider, with the fingerprint of its address and key.
    Provider(String, u64),
    /// The price of bitcoin, at this address.
    Bitcoin(String),
}

/// What a reading brought: the thing itself, or why not.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A provider's list.
    List(Result<Catalog, String>),
    /// The price of bitcoin.
    Bitcoin(Result<BtcPrice, String>),
}

impl Reading {
    /// Whether the reading failed.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Self::List(Err(_)) | Self::Bitcoin(Err(_)))
    }
}

impl fmt::Display for DiscoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name, _) => write!(f, "provider {name}"),
            Self::Bitcoin(_) => f.write_str("prices.btc_price_url"),
        }
    }
}

/// Everything that `live` wants read, and how often.
pub(super) fn targets(live: &Live) -> Vec<(DiscoveryTarget, Duration)> {
    let providers = live.config.providers.iter();
    let lists = providers.filter_map(|provider| Some((target(provider), provider.discover?)));
    let source = live.config.prices.source.as_ref();
    let bitcoin = source.map(|source| (bitcoin(source), source.every));
    lists.chain(bitcoin).collect()
}

/// The name under which the list of `provider` is read.
pub(crate) fn target(provider: &Provider) -> DiscoveryTarget {
    DiscoveryTarget::Provider(provider.name.clone(), provider.fingerprint())
}

/// The name under which `source` is read.
pub(crate) fn bitcoin(source: &BtcSource) -> DiscoveryTarget {
    DiscoveryTarget::Bitcoin(format!("{} {}", source.url, source.pointer))
}

/// Reads `target` as `live` knows it.
pub(super) async fn read(live: Arc<Live>, wanted: DiscoveryTarget) -> (DiscoveryTarget, Reading) {
    let place = |provider: &Provider| target(provider) == wanted;
    let reading = match (
        live.config.providers.iter().position(place),
        &live.config.prices.source,
    ) {
        (Some(index), _) => {
            let read = read_list(&live.upstreams[index]).await;
            Reading::List(read.map_err(|error| error.to_string()))
        }
        (None, Some(source)) => {
            Reading::Bitcoin(read_bitcoin(source, live.config.prices.usd_per_btc).await)
        }
        (None, None) => Reading::List(Err("no longer wanted".to_owned())),
    };
    (wanted, reading)
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// No answer.
    #[error(transparent)]
    Unfetched(#[from] FetchError),
    /// An answer that is none.
    #[error("the answer {0}")]
    Unreadable(#[from] CatalogError),
}

impl ListError {
    /// Whether the provider did not accept the key.
    pub(crate) fn is_key_refused(&self) -> bool {
        matches!(self, Self::Unfetched(error) if error.is_key_refused())
    }
}

/// A provider's list.
///
/// # Errors
/// Why there is none.
pub(crate) async fn read_list(upstream: &Upstream) -> Result<Catalog, ListError> {
    let body = upstream.list_models().await?;
    // Megabytes take their time.
    Ok(tokio::task::block_in_place(|| Catalog::read(&body))?)
}

/// A list that names no model by one of `secrets`, since names are shown and written down, or an error that quotes none.
///
/// # Errors
/// What it was given as one.
pub(crate) fn without_echoes(
    read: Result<Catalog, String>,
    secrets: &[&str],
) -> Result<Catalog, String> {
    let mut catalog = read.map_err(|why| redact_text(&why, secrets).into_owned())?;
    let listed = catalog.models.len();
    let is_echo = |model: &ListedModel| echoes_any(model.id.as_bytes(), secrets);
    catalog.models.retain(|model| !is_echo(model));
    catalog.unusable += listed - catalog.models.len();
    Ok(catalog)
}

/// The price of bitcoin as `source` has it; with one that the operator `expected`, only near that.
///
/// # Errors
/// Why there is none, in words.
pub(crate) async fn read_bitcoin(
    source: &BtcSource,
    expected: Option<BtcPrice>,
) -> Result<BtcPrice, String> {
    let body = fetch_document(&source.url, PRICE_BYTES)
        .await
        .map_err(|error| error.to_string())?;
    let found = scalar_at(&body, &source.pointer)
        .map_err(|error| format!("the answer is not JSON: {error}"))?;
    let text = found.ok_or_else(|| format!("the answer has no number at {:?}", source.pointer))?;
    let price: BtcPrice = text
        .trim()
        .parse()
        .map_err(|error| format!("what is at {:?} {error}", source.pointer))?;
    match expected.filter(|expected| price.is_far_from(*expected)) {
        None => Ok(price),
        Some(expected) => Err(format!(
            "{price} US dollars is too far from prices.usd_per_btc = {expected} to be believed"
        )),
    }
}

/// The longest answer with a price in it that is read.
const PRICE_BYTES: usize = 256 << 10;
