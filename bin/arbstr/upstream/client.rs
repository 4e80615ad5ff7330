//! Connections to one provider: dialled with a time limit, pooled, and able to say whether they were used before.
//!
//! A request that dies on a pooled connection before any byte came back may only have met a keep-alive that the
//! provider had just closed; the attempt is then made once more on a fresh connection ([`Client::send_fresh`]).
//! Redirects are not followed and proxy environment variables are not read: hyper does neither by itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::fault::{ConnectTimeout, DnsFault, find_source};

/// A pooled HTTP client for one provider.
#[derive(Clone)]
pub(crate) struct Client {
    pooled: legacy::Client<Dialer, Full<Bytes>>,
    fresh: legacy::Client<Dialer, Full<Bytes>>,
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
        let dialer = Dialer {
            https,
            limit: connect_limit,
        };
        let build = |idle: usize| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(idle)
                .http2_keep_alive_interval(Some(H2_PING))
                .http1_max_buf_size(READ_BUFFER)
                .http2_initial_stream_window_size(H2_STREAM_WINDOW)
                .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
                .build(dialer.clone())
        };
        Self {
            pooled: build(POOL_CONNECTIONS),
            fresh: build(0),
        }
    }

    /// Sends on a pooled connection, or on a new one when none is idle.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFault> {
        let sent = self.pooled.request(request).await;
        match sent {
            Ok(response) => {
                if let Some(history) = response.extensions().get::<History>() {
                    history.mark_used();
                }
                Ok(response)
            }
            Err(error) => {
                let reused = was_reused(&error);
                Err(SendFault { error, reused })
            }
        }
    }

    /// Sends on a connection of its own, which is not pooled afterwards.
    pub(crate) async fn send_fresh(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFault> {
        self.fresh
            .request(request)
            .await
            .map_err(|error| SendFault {
                error,
                reused: false,
            })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A request that got no response head.
#[derive(Debug)]
pub(crate) struct SendFault {
    /// What hyper says.
    pub(crate) error: legacy::Error,
    /// An earlier request had been answered on the same connection.
    pub(crate) reused: bool,
}

/// Whether the connection had carried an answer before, so that the fault may be no more than a keep-alive that the
/// provider had closed. Not so where something came back, or where one of many requests on an HTTP/2 connection failed.
fn was_reused(error: &legacy::Error) -> bool {
    let Some(connection) = error
        .connect_info()
        .filter(|connection| !connection.is_negotiated_h2())
    else {
        return false;
    };
    let came_back = find_source::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
    let mut extensions = hyper::http::Extensions::new();
    connection.get_extras(&mut extensions);
    !came_back && extensions.get::<History>().is_some_and(History::was_used)
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

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialing = self.https.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, dialing).await {
                Ok(stream) => Ok(Dialed {
                    stream: stream?,
                    history: History::default(),
                }),
                Err(_) => Err(Box::new(ConnectTimeout(limit)) as Self::Error),
            }
        })
    }
}

/// Whether a connection has carried an answer before.
#[derive(Debug, Clone, Default)]
struct History(Arc<AtomicBool>);

impl History {
    fn mark_used(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn was_used(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that carries its [`History`].
struct Dialed {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    history: History,
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.history.clone())
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Dialed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// The system's resolver, with a failure that can be told from other connection faults.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = DnsFault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsFault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DnsFault>> {
        self.0.poll_ready(cx).map_err(DnsFault)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let looking_up = self.0.call(name);
        Box::pin(async move { looking_up.await.map_err(DnsFault) })
    }
}

const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Idle connections that are kept; each holds its buffers.
const POOL_CONNECTIONS: usize = 128;
const POOL_IDLE: Duration = Duration::from_secs(90);
const H2_PING: Duration = Duration::from_secs(30);
/// What one stream may have in hand before its client takes it.
const READ_BUFFER: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
/// Wide, so that a stream whose client does not read cannot use it up for the others.
const H2_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
