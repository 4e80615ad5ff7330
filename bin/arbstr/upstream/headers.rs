//! Which headers go to a provider: a client's by a list, so that its credentials and cookies can never leave by accident.

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
