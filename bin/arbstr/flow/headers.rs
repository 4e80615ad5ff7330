//! The headers of an answer: what its provider said that is for its client, and how it came about.
//!
//! Whatever a provider answered passes here, good or bad, whole or streamed: all but what belongs to one connection, to
//! the provider's own site or to its coding of the body, what only arbstr may say, and what echoes a key. How long the
//! body is, arbstr knows better: a provider may frame it in two ways and mean only one (RFC 9112, section 6.3).

use arbstr_price::Decimal;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::attempts::InFlight;
use crate::app::Live;
use crate::clock;

impl InFlight {
    /// What the client gets of a provider's headers, with how the answer came about.
    pub(super) fn told(&self, mut of_provider: HeaderMap) -> HeaderMap {
        strip(&mut of_provider, &self.live);
        self.tell(&mut of_provider);
        of_provider
    }

    /// Adds how the answer came about, if anybody was asked.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let Some(last) = self.waterfall.attempts().last() else {
            return;
        };
        let latency = self
            .record
            .winner()
            .map_or(last.took, |winner| winner.latency);
        let (_, upstream) = self.live.provider(self.waterfall.offer_of(last));
        if let Some(name) = upstream.name() {
            headers.insert(PROVIDER.clone(), name.clone());
        }
        if let Ok(attempts) = HeaderValue::try_from(self.waterfall.attempts_header()) {
            headers.insert(ATTEMPTS.clone(), attempts);
        }
        headers.insert(RETRIES.clone(), number(self.record.retries().into()));
        headers.insert(LATENCY.clone(), number(clock::whole_ms(latency)));
    }
}

/// Adds what the answer cost, in sats.
pub(super) fn tell_cost(headers: &mut HeaderMap, sats: &Decimal) {
    if let Ok(sats) = HeaderValue::from_str(sats.as_str()) {
        headers.insert(COST.clone(), sats);
    }
}

/// Leaves what is for the client.
fn strip(headers: &mut HeaderMap, live: &Live) {
    // In nearly every answer, and so not left to the list below.
    headers.remove(header::CONTENT_LENGTH);
    let named_by_connection: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let dropped: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| {
            OF_THE_CONNECTION.contains(name)
                || named_by_connection.contains(name)
                || OF_ITS_SITE.contains(name)
                || *name == header::CONTENT_ENCODING
                || name.as_str().starts_with("x-arbstr-")
                || name.as_str().starts_with("access-control-")
                || live.is_echoed_in(value.as_bytes())
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// `HeaderValue::from` would take memory twice for it; for one digit this takes none.
fn number(number: u64) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let digit = usize::try_from(number).ok().and_then(|at| DIGITS.get(at));
    digit.map_or_else(
        || {
            HeaderValue::from_str(itoa::Buffer::new().format(number))
                .expect("digits are a valid header value")
        },
        |digit| HeaderValue::from_static(digit),
    )
}

static OF_THE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a provider says about its own site would, said by arbstr, hold for arbstr's.
static OF_ITS_SITE: [HeaderName; 5] = [
    header::SET_COOKIE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("nel"),
];

static PROVIDER: HeaderName = HeaderName::from_static("x-arbstr-provider");
static ATTEMPTS: HeaderName = HeaderName::from_static("x-arbstr-attempts");
static COST: HeaderName = HeaderName::from_static("x-arbstr-cost-sats");
static RETRIES: HeaderName = HeaderName::from_static("x-arbstr-retries");
static LATENCY: HeaderName = HeaderName::from_static("x-arbstr-latency-ms");
