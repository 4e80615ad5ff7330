//! The way to one provider: connections dialled with a time limit, pooled, and able to say whether they were used before.
//!
//! A request that dies on a connection in use before any byte came back may only have met a keep-alive that the
//! provider had just closed; the attempt is then made once more on a fresh connection ([`Client::send_fresh`]).
//! Redirects are not followed and proxy environment variables are not read.
//!
//! HTTP/1.1 is spoken by [`Connection`], HTTP/2 by hyper on connections that requests share ([`Http2Pool`]); TLS decides
//! between them.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::{StatusCode, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connection::{Connection, ExchangeError, Http1Body};
use super::error::{ConnectTimeout, DnsError};
use super::headers::Fields;
use super::http2::{Http2Pool, Http2SendError, StreamCount};
use super::pool::Pool;
use super::target::RequestTarget;
use crate::server::workers;

/// An HTTP client for one provider.
pub(crate) struct Client {
    dialer: Dialer,
    /// One for each serving thread and one for all others: a connection wakes the thread that it was opened on.
    per_thread: Box<[ThreadConnections]>,
}

/// The open connections of one thread.
#[derive(Default)]
struct ThreadConnections {
    http1: Pool,
    http2: Http2Pool,
}

/// A request to a provider, of which nothing is copied before it is written.
#[derive(Clone, Copy)]
pub(crate) struct OutgoingRequest<'a> {
    /// Where to.
    pub(crate) target: &'a RequestTarget,
    /// What goes along.
    pub(crate) fields: Fields<'a>,
    /// The body.
    pub(crate) body: &'a Bytes,
}

/// The head of an answer, its body still to be read.
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// What reads its body.
    pub(crate) body: BodySource,
}

/// Where the bytes of an answer come from.
#[derive(Debug)]
pub(crate) enum BodySource {
    /// A connection of its own.
    Http1(Box<Http1Body>),
    /// A stream of a shared one.
    Http2 {
        /// What is still to come.
        incoming: Incoming,
        /// The stream's place on its connection.
        _count: StreamCount,
    },
}

/// A request that got no response head.
#[derive(Debug)]
pub(crate) struct SendError {
    /// What happened.
    pub(crate) cause: Box<dyn Error + Send + Sync>,
    /// No connection was made.
    pub(crate) is_connect: bool,
    /// An earlier request had been answered on the same connection, and nothing came back this time.
    pub(crate) is_stale: bool,
}

impl Client {
    /// A client that gives a new connection at most `connect_limit`, name lookup and TLS handshake included.
    pub(crate) fn new(tls: rustls::ClientConfig, connect_limit: Duration) -> Self {
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_connect_timeout(Some(connect_limit));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        Self {
            dialer: Dialer {
                https,
                limit: connect_limit,
            },
            per_thread: (0..=workers::count())
                .map(|_| ThreadConnections::default())
                .collect(),
        }
    }

    /// Sends on a connection that is open, or on a new one when none is free.
    pub(crate) async fn send(&self, request: OutgoingRequest<'_>) -> Result<Response, SendError> {
        match self.connections().http1.take().await {
            Some(connection) => self.exchange(connection, request).await,
            // Boxed, so that the usual request does not carry, and move, the room for dialling.
            None => Box::pin(self.send_shared(request)).await,
        }
    }

    /// Sends on a new connection, which cannot have grown stale.
    pub(crate) async fn send_fresh(
        &self,
        request: OutgoingRequest<'_>,
    ) -> Result<Response, SendError> {
        let http2 = &self.connections().http2;
        let stream = self
            .dialer
            .dial(request.target.uri.clone())
            .await
            .map_err(SendError::connecting)?;
        if !stream.connected().is_negotiated_h2() {
            return self.exchange(Connection::new(stream), request).await;
        }
        // Boxed like the dialling: a handshake has more to keep in mind than the exchange that follows it.
        let slot = Box::pin(http2.open(stream))
            .await
            .map_err(|error| SendError::connecting(error.into()))?;
        slot.send(request).await.map_err(|error| match error {
            Http2SendError::Failed(error) => error,
            Http2SendError::NotProcessed => SendError::sending("a new connection takes no request"),
        })
    }

    /// Sends on an HTTP/2 connection that has room, or on a new one.
    async fn send_shared(&self, request: OutgoingRequest<'_>) -> Result<Response, SendError> {
        if let Some(slot) = self.connections().http2.reserve() {
            match slot.send(request).await {
                Ok(response) => return Ok(response),
                Err(Http2SendError::Failed(error)) => return Err(error),
                Err(Http2SendError::NotProcessed) => {}
            }
        }
        self.send_fresh(request).await
    }

    async fn exchange(
        &self,
        connection: Connection,
        request: OutgoingRequest<'_>,
    ) -> Result<Response, SendError> {
        let OutgoingRequest {
            target,
            fields,
            body,
        } = request;
        let head = target.opening.head(fields.iter(), body.len());
        let home = &self.connections().http1;
        let (head, answer) = connection.exchange(head, body.clone(), home).await?;
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: BodySource::Http1(Box::new(answer)),
        })
    }

    fn connections(&self) -> &ThreadConnections {
        &self.per_thread[workers::index()]
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl BodySource {
    /// The next bytes, never empty; `None` at a clean end.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>> {
        match self {
            Self::Http1(answer) => answer
                .poll_data(cx)
                .map(|read| read.map(|read| read.map_err(Into::into))),
            Self::Http2 { incoming, .. } => loop {
                match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                        // Trailers and empty frames say nothing to anyone.
                        _ => {}
                    },
                }
            },
        }
    }
}

impl SendError {
    fn connecting(cause: Box<dyn Error + Send + Sync>) -> Self {
        Self {
            cause,
            is_connect: true,
            is_stale: false,
        }
    }

    pub(super) fn sending(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: cause.into(),
            is_connect: false,
            is_stale: false,
        }
    }
}

impl From<ExchangeError> for SendError {
    fn from(error: ExchangeError) -> Self {
        Self {
            is_stale: error.is_stale,
            ..Self::sending(error.cause)
        }
    }
}

/// The roots and versions every provider is verified with: the system's roots, or Mozilla's where the system has none.
///
/// Reading the system's roots takes milliseconds, so they are left out when no provider is `needed` by https.
pub(crate) fn tls_config(needed: bool) -> rustls::ClientConfig {
    use hyper_rustls::ConfigBuilderExt;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default TLS versions")
    };
    if !needed {
        return builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    }
    match builder().with_native_roots() {
        Ok(config) => config.with_no_client_auth(),
        Err(error) => {
            tracing::debug!(%error, "no system certificate roots, using the built-in ones");
            builder().with_webpki_roots().with_no_client_auth()
        }
    }
}

/// Opens connections, with one limit over name lookup, TCP and TLS together.
#[derive(Clone)]
struct Dialer {
    https: HttpsConnector<HttpConnector<Resolver>>,
    limit: Duration,
}

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Dialer {
    async fn dial(&self, uri: Uri) -> Result<Stream, Box<dyn Error + Send + Sync>> {
        let mut https = self.https.clone();
        let dialing = async {
            std::future::poll_fn(|cx| https.poll_ready(cx)).await?;
            https.call(uri).await
        };
        match tokio::time::timeout(self.limit, dialing).await {
            Ok(stream) => stream,
            Err(_) => Err(Box::new(ConnectTimeout(self.limit))),
        }
    }
}

/// The system's resolver, with a failure that can be told from other connection faults.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        self.0.poll_ready(cx).map_err(DnsError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let looking_up = self.0.call(name);
        Box::pin(async move { looking_up.await.map_err(DnsError) })
    }
}

const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
