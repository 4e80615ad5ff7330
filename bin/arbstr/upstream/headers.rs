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

/// What goes along with one request: the listed headers of the client, then the provider's, which win. Nothing is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    client: Option<&'a HeaderMap>,
    provider: &'a HeaderMap,
}

impl<'a> Fields<'a> {
    /// The headers of a client's request on its way to a provider that gets `provider` with every request.
    pub(crate) fn passed_on(client: &'a HeaderMap, provider: &'a HeaderMap) -> Self {
        Self {
            client: Some(client),
            provider,
        }
    }

    /// arbstr's own request, with these headers and no others.
    pub(crate) fn own(headers: &'a HeaderMap) -> Self {
        Self {
            client: None,
            provider: headers,
        }
    }

    /// One after another.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let provider = self.provider;
        // The one header where the client knows better what it sends.
        let typed = self
            .client
            .is_some_and(|client| client.contains_key(header::CONTENT_TYPE));
        let of_client = self.client.into_iter().flatten().filter(move |(name, _)| {
            FORWARDED.contains(name)
                && (*name == header::CONTENT_TYPE || !provider.contains_key(*name))
        });
        let of_provider = provider
            .iter()
            .filter(move |(name, _)| !(typed && *name == header::CONTENT_TYPE));
        of_client.chain(of_provider)
    }
}

/// Leaves of a provider's headers what its client may see. `rewritten`: the body's length or coding changed.
pub(crate) fn strip(headers: &mut HeaderMap, rewritten: bool) {
    let named_by_connection: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            HOP_BY_HOP.contains(name)
                || named_by_connection.contains(name)
                || OF_ITS_SITE.contains(name)
                || name.as_str().starts_with("x-arbstr-")
                || name.as_str().starts_with("access-control-")
                || (rewritten
                    && (*name == header::CONTENT_LENGTH || *name == header::CONTENT_ENCODING))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
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

const FORWARDED: [HeaderName; 9] = [
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
