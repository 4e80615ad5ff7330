//! A small document fetched whole: a provider's model list, the price of bitcoin.
//!
//! What comes back is somebody else's word, so it is bounded in bytes and in time, and no redirect leads elsewhere.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode, Uri};

use super::body::{BodyError, UnknownCoding};
use super::client::{Client, OutgoingRequest, tls_config};
use super::error::{AttemptError, AttemptErrorKind};
use super::headers::Fields;
use super::{Body, RequestTarget, Upstream};

/// Why there is no document. In words for the operator; nothing of the document is quoted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// No connection, or none that lasted.
    #[error("{0}")]
    Unsent(AttemptErrorKind),
    /// Too slow.
    #[error("no whole answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It is said to be elsewhere.
    #[error("HTTP {}: a redirect, which arbstr does not follow; put the final address in the config", .0.as_u16())]
    Redirect(StatusCode),
    /// Any other status that is no success.
    #[error("HTTP {}{}", .0.as_u16(), meaning(*.0))]
    Status(StatusCode),
    /// More than is read.
    #[error("the answer is over {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// A coding that cannot be read.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// Cut or damaged.
    #[error(transparent)]
    Broken(#[from] BodyError),
}

impl FetchError {
    /// Whether the provider did not accept the key.
    pub(crate) fn is_key_refused(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.as_u16(), 401 | 403))
    }
}

impl Upstream {
    /// The body of the provider's `GET /models`, asked with its key and headers.
    ///
    /// # Errors
    /// When it does not come whole, in time and within bounds.
    pub(crate) async fn list_models(&self) -> Result<Bytes, FetchError> {
        Fetch::new(&self.models, self.headers.clone(), LIST_BYTES)
            .fetch(&self.client)
            .await
    }

    /// Whether the list is there for everybody, so that getting it says nothing about the key.
    pub(crate) async fn lists_without_key(&self) -> bool {
        let mut headers = self.headers.clone();
        headers.remove(header::AUTHORIZATION);
        Fetch::new(&self.models, headers, LIST_BYTES)
            .fetch(&self.client)
            .await
            .is_ok()
    }
}

/// A document from an address that is no provider's.
///
/// # Errors
/// When it does not come whole, in time and within bounds.
pub(crate) async fn fetch_document(uri: &Uri, most: usize) -> Result<Bytes, FetchError> {
    let is_https = uri.scheme_str() == Some("https");
    let client = Client::new(tls_config(is_https), CONNECT);
    let headers = HeaderMap::new();
    let target = RequestTarget::new(Method::GET, uri.clone(), &headers);
    Fetch::new(&target, headers, most).fetch(&client).await
}

struct Fetch<'a> {
    target: &'a RequestTarget,
    headers: HeaderMap,
    most: usize,
}

impl<'a> Fetch<'a> {
    fn new(target: &'a RequestTarget, mut headers: HeaderMap, most: usize) -> Self {
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "arbstr/",
                env!("CARGO_PKG_VERSION")
            )));
        Self {
            target,
            headers,
            most,
        }
    }

    async fn fetch(&self, client: &Client) -> Result<Bytes, FetchError> {
        tokio::time::timeout(WITHIN, self.fetch_slowly(client))
            .await
            .unwrap_or(Err(FetchError::Timeout(WITHIN)))
    }

    async fn fetch_slowly(&self, client: &Client) -> Result<Bytes, FetchError> {
        let unsent = |error| FetchError::Unsent(AttemptError::unsent(&error).kind);
        let response = match client.send(self.request()).await {
            // The connection was idle and may just have been closed.
            Err(error) if error.is_stale => client.send_fresh(self.request()).await,
            sent => sent,
        };
        let head = response.map_err(unsent)?;
        if head.status.is_redirection() {
            return Err(FetchError::Redirect(head.status));
        }
        if !head.status.is_success() {
            return Err(FetchError::Status(head.status));
        }
        let mut body = Body::new(&head.headers, head.body)?;
        let mut read = BytesMut::new();
        while let Some(chunk) = body.chunk().await {
            let chunk = chunk?;
            if read.len() + chunk.len() > self.most {
                return Err(FetchError::TooLarge(self.most));
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read.freeze())
    }

    fn request(&self) -> OutgoingRequest<'_> {
        static NO_BODY: Bytes = Bytes::new();
        OutgoingRequest {
            target: self.target,
            fields: Fields::own(&self.headers),
            body: &NO_BODY,
        }
    }
}

fn meaning(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => ": the key was not accepted",
        402 => ": the key has no balance",
        404 => ": there is no list at this address",
        429 => ": asked too often",
        _ => "",
    }
}

/// The longest list that is read; the longest known one has less than a tenth of it.
const LIST_BYTES: usize = 8 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// From the sending to the last byte.
const WITHIN: Duration = Duration::from_secs(20);
