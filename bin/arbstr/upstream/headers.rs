//! Which headers cross arbstr, in both directions.
//!
//! Towards the provider by a list: a client's credentials and cookies can never leave by accident. Towards the
//! client everything but what belongs to one connection or to the provider's own site, and what only arbstr may say.

use arbstr_price::Sats;
use arbstr_wire::ReportedCost;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::secret::Secret;

/// What a provider gets with every request: its key and the operator's own headers.
///
/// # Errors
/// The name of the header whose value cannot be sent.
pub(crate) fn provider_headers(
    key: Option<&Secret>,
    extra: &[(HeaderName, Secret)],
) -> Result<HeaderMap, HeaderName> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(key) = key {
        let text = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
        headers.insert(
            header::AUTHORIZATION,
            sensitive(&text).ok_or(header::AUTHORIZATION)?,
        );
    }
    for (name, value) in extra {
        headers.insert(
            name.clone(),
            sensitive(value.expose()).ok_or_else(|| name.clone())?,
        );
    }
    Ok(headers)
}

/// The headers of one upstream request: the listed ones of the client, then the provider's, which win.
pub(crate) fn upstream_headers(client: &HeaderMap, provider: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(FORWARDED.len() + provider.len());
    for name in &FORWARDED {
        for value in client.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    for (name, value) in provider {
        if name != header::CONTENT_TYPE || !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

/// The headers of a provider's answer that its client may see. `rewritten`: the body's length or coding changed.
pub(crate) fn client_headers(provider: &HeaderMap, rewritten: bool) -> HeaderMap {
    let named_by_connection: Vec<HeaderName> = provider
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut headers = HeaderMap::with_capacity(provider.len() + 8);
    for (name, value) in provider {
        let dropped = HOP_BY_HOP.contains(name)
            || named_by_connection.contains(name)
            || OF_ITS_SITE.contains(name)
            || name.as_str().starts_with("x-arbstr-")
            || name.as_str().starts_with("access-control-")
            || (rewritten
                && (*name == header::CONTENT_LENGTH || *name == header::CONTENT_ENCODING));
        if !dropped {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// A cost that a provider reports in a header of its answer.
pub(crate) fn reported_cost(headers: &HeaderMap) -> Option<Sats> {
    let value = headers.get(&ROUTSTR_COST)?.to_str().ok()?;
    match ReportedCost::from_msats_header(value)? {
        ReportedCost::Nanosats(nanosats) => Some(Sats::from_nanosats(i128::from(nanosats))),
        _ => None,
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

static ROUTSTR_COST: HeaderName = HeaderName::from_static("x-routstr-cost-msats");

static FORWARDED: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("http-referer"),
    HeaderName::from_static("x-title"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

static HOP_BY_HOP: [HeaderName; 9] = [
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
