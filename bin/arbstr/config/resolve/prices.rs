//! What dollars are worth: a figure of the operator's, an address to read it from, or both.
//!
//! The address is a second party that decides over money, so it is asked over TLS (or on this machine), and what it
//! says is believed within bounds only; with a figure beside it, the figure holds until the first answer and no answer
//! counts that is more than double or less than half of it.

use std::time::Duration;

use arbstr_price::BtcPrice;
use hyper::Uri;
use hyper::http::uri::Scheme;

use super::super::base_url::is_loopback;
use super::super::problem::{At, Problem};
use super::super::raw;
use super::super::value::{Least, Values};
use super::super::{BtcSource, Prices};
use crate::config::expand::Template;

/// Resolves `[prices]`.
pub(super) fn resolve(raw: &raw::BtcPrices, values: &mut Values<'_>) -> Prices {
    let usd_per_btc = raw.usd_per_btc.as_ref().and_then(|At { value, place }| {
        let price = value.0.replace('_', "").parse::<BtcPrice>().ok();
        if price.is_none() {
            let expected = "US dollars for one bitcoin, from 1000 to 100000000";
            values.reject(place, &value.0, expected);
        }
        price
    });
    let every = values.seconds(raw.btc_price_secs.as_ref(), EVERY, Least::AboveZero);
    Prices {
        usd_per_btc,
        source: source(raw, every.max(LEAST_EVERY), values),
    }
}

fn source(raw: &raw::BtcPrices, every: Duration, values: &mut Values<'_>) -> Option<BtcSource> {
    let (url, pointer) = match (&raw.btc_price_url, &raw.btc_price_pointer) {
        (Some(url), Some(pointer)) => (url, pointer),
        (Some(alone), None) | (None, Some(alone)) => {
            let fault = "found alone, expected btc_price_url and btc_price_pointer together";
            values.problems.push(Problem::new(&alone.place, fault));
            return None;
        }
        (None, None) => return None,
    };
    let url = price_url(url, values);
    let pointer = values.parsed(pointer, "a JSON pointer such as \"/bitcoin/usd\"", |text| {
        (text.is_empty() || text.starts_with('/')).then(|| text.to_owned())
    });
    Some(BtcSource {
        url: url?,
        pointer: pointer?,
        every,
    })
}

/// What was found is not quoted: a query may carry a key.
fn price_url(at: &At<Template>, values: &mut Values<'_>) -> Option<Uri> {
    const EXPECTED: &str =
        "an https URL (http only on this machine), without a user name or fragment";
    let text = values.text(at)?.text;
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let is_safe = uri.scheme() == Some(&Scheme::HTTPS)
            || (uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some_and(is_loopback));
        is_safe && !authority.contains('@') && !text.contains('#')
    });
    if uri.is_none() {
        values.reject(&at.place, "another address", EXPECTED);
    }
    uri
}

/// How often the price is read where the file does not say.
const EVERY: Duration = Duration::from_secs(900);
/// Nobody is asked more often.
const LEAST_EVERY: Duration = Duration::from_secs(1);
