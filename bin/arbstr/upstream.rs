//! One provider as the proxy reaches it: its connections, addresses and headers.

pub(crate) mod attempt;
mod body;
mod client;
mod connection;
pub(crate) mod error;
pub(crate) mod fetch;
mod headers;
mod http2;
mod pool;
mod target;

use std::time::Instant;

use arbstr_wire::{Endpoint, Rewriter};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

pub(crate) use self::body::Body;
pub(crate) use self::client::{Client, OutgoingRequest, tls_config};
pub(crate) use self::headers::{Fields, reported_cost};
pub(crate) use self::target::RequestTarget;
use crate::config::Provider;

/// The head of a provider's answer.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers, as they came.
    pub(crate) headers: HeaderMap,
    /// When it came.
    pub(crate) first_byte: Instant,
}

/// A stream whose first event has come.
#[derive(Debug)]
pub(crate) struct OpenedStream {
    /// What is still to come.
    pub(crate) body: Body,
    /// The machine that reads it and writes it for the client.
    pub(crate) rewriter: Box<Rewriter>,
    /// What may go to the client already.
    pub(crate) released: Bytes,
}

/// A provider's connections and what every request to it carries.
#[derive(Debug)]
pub(crate) struct Upstream {
    name: Option<HeaderValue>,
    client: Client,
    chat: RequestTarget,
    completions: RequestTarget,
    embeddings: RequestTarget,
    models: RequestTarget,
    headers: HeaderMap,
}

impl Upstream {
    /// The way to `provider`.
    ///
    /// # Errors
    /// A sentence naming the provider and the header that cannot be sent.
    pub(crate) fn new(provider: &Provider, tls: &rustls::ClientConfig) -> Result<Self, String> {
        let headers = headers::provider_headers(provider.api_key.as_ref(), &provider.headers)
            .map_err(|name| {
                format!(
                    "provider `{}`: the value of header `{name}` cannot be sent over HTTP",
                    provider.name
                )
            })?;
        let posted = |endpoint: Endpoint| {
            let uri = provider.url.endpoint(endpoint.path());
            RequestTarget::new(Method::POST, uri, &headers)
        };
        Ok(Self {
            name: HeaderValue::from_str(&provider.name).ok(),
            client: Client::new(tls.clone(), provider.timeouts.connect),
            chat: posted(Endpoint::Chat),
            completions: posted(Endpoint::Completions),
            embeddings: posted(Endpoint::Embeddings),
            models: RequestTarget::new(Method::GET, provider.url.endpoint("/models"), &headers),
            headers,
        })
    }

    /// What the provider is called, where a header can say it.
    pub(crate) const fn name(&self) -> Option<&HeaderValue> {
        self.name.as_ref()
    }

    const fn target(&self, endpoint: Endpoint) -> &RequestTarget {
        match endpoint {
            Endpoint::Chat => &self.chat,
            Endpoint::Completions => &self.completions,
            Endpoint::Embeddings => &self.embeddings,
        }
    }
}
