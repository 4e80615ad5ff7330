//! A provider's offers: what the config says, completed by what its list says.
//!
//! The config is stronger: a model it names is offered whether listed or not, and a price it sets holds. A model
//! without a price in the config gets the published one, else the provider's general rates, else none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arbstr_price::{BtcPrice, PublishedPriceError, Rates, published_rates};
use arbstr_route::OfferSpec;
use arbstr_wire::{Catalog, Currency, PublishedPrice};

use super::Tracked;
use crate::config::Provider;

/// What a bitcoin costs, and when that was read; no time when it is the operator's own word.
pub(crate) type Btc = (BtcPrice, Option<Instant>);

/// Everything that `provider` offers.
pub(crate) fn offers(
    provider: &Provider,
    list: &Tracked<Arc<Catalog>>,
    btc: Option<Btc>,
) -> Vec<OfferSpec> {
    let configured = provider.models.iter().map(|model| OfferSpec {
        model: model.name.clone(),
        upstream_model: model.upstream.clone(),
        rates: model.rates,
        ..OfferSpec::default()
    });
    let mut offers: Vec<OfferSpec> = configured.collect();
    let Some((catalog, read_at)) = &list.latest else {
        return offers;
    };
    let list_prices = PriceList {
        prices: prices(catalog),
        read_at: *read_at,
        btc,
    };
    for offer in offers.iter_mut().filter(|offer| offer.rates.is_none()) {
        list_prices.price(offer);
    }
    let named: HashMap<&str, ()> = provider
        .models
        .iter()
        .map(|model| (model.name.as_str(), ()))
        .collect();
    let listed = catalog.models.iter();
    let new = listed.filter(|listed| !named.contains_key(listed.id.as_str()));
    offers.extend(new.map(|listed| {
        let mut offer = OfferSpec {
            model: listed.id.clone(),
            upstream_model: listed.id.clone(),
            ..OfferSpec::default()
        };
        list_prices.price(&mut offer);
        offer.rates = offer.rates.or(provider.rates);
        offer
    }));
    offers
}

/// What a published price comes to, and since when it is known.
///
/// # Errors
/// Why it comes to nothing.
pub(crate) fn published(
    price: &PublishedPrice,
    read_at: Instant,
    btc: Option<Btc>,
) -> Result<(Rates, Instant), PublishedPriceError> {
    let rates = published_rates(price, btc.map(|(price, _)| price))?;
    let priced_at = match (price.currency, btc) {
        (Currency::Dollars, Some((_, Some(btc_at)))) => read_at.min(btc_at),
        _ => read_at,
    };
    Ok((rates, priced_at))
}

/// The prices of one list.
struct PriceList<'a> {
    prices: HashMap<&'a str, &'a PublishedPrice>,
    read_at: Instant,
    btc: Option<Btc>,
}

impl PriceList<'_> {
    fn price(&self, offer: &mut OfferSpec) {
        let price = self.prices.get(offer.upstream_model.as_str());
        let known = price.and_then(|price| published(price, self.read_at, self.btc).ok());
        if let Some((rates, priced_at)) = known {
            offer.rates = Some(rates);
            offer.priced_at = Some(priced_at);
        }
    }
}

fn prices(catalog: &Catalog) -> HashMap<&str, &PublishedPrice> {
    let priced = || {
        let listed = catalog.models.iter();
        listed.filter_map(|listed| Some((listed.id.as_str(), listed.price.as_ref()?)))
    };
    let per_million = priced().filter(|(_, price)| is_per_million(price)).count();
    let free = priced().filter(|(_, price)| is_free(price)).count();
    // The few cheap ones among many that are for a million tokens are so too, small as they look.
    if 2 * per_million > priced().count() - free {
        return HashMap::new();
    }
    priced().collect()
}

fn is_free(price: &PublishedPrice) -> bool {
    let is_zero = |text: &str| text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    is_zero(&price.input) && is_zero(&price.output)
}

/// Whether a price makes sense for a million tokens only.
pub(super) fn is_per_million(price: &PublishedPrice) -> bool {
    published_rates(price, None) == Err(PublishedPriceError::PerMillion)
}
