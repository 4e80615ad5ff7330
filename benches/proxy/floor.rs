//! The floor: the least that a proxy built on hyper can do.
//!
//! A server in front, a pooled client behind, `TCP_NODELAY` on both sides, bodies passed on frame by frame as hyper hands
//! them over. Nothing is read, logged or kept, so whatever a proxy does beyond this is its own cost.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::process;

/// Forwards to `upstream` until standard input ends.
pub(crate) fn run(upstream: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(process::listen())?;
    process::announce(listener.local_addr()?)?;
    runtime.spawn(serve(listener, Authority::try_from(upstream.to_string())?));
    process::follow_parent(|| {});
    Ok(())
}

async fn serve(listener: TcpListener, upstream: Authority) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve_connection(socket, client.clone(), upstream.clone()));
    }
}

async fn serve_connection(socket: TcpStream, client: Pool, upstream: Authority) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| forward(request, client.clone(), upstream.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    // A client that leaves in the middle is the client's affair.
    let _ = connection.await;
}

async fn forward(
    mut request: Request<Incoming>,
    client: Pool,
    upstream: Authority,
) -> Result<Answer, Infallible> {
    if request.uri().path() == "/health" {
        return Ok(Response::new(Either::Right(Empty::new())));
    }
    *request.uri_mut() = towards(request.uri(), upstream);
    Ok(match client.request(request).await {
        Ok(answer) => answer.map(Either::Left),
        Err(_) => {
            let mut answer = Response::new(Either::Right(Empty::new()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    })
}

fn towards(uri: &Uri, upstream: Authority) -> Uri {
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let parts = Uri::builder().scheme(Scheme::HTTP).authority(upstream);
    parts
        .path_and_query(path)
        .build()
        .expect("three valid parts make a URI")
}

type Pool = Client<HttpConnector, Incoming>;
type Answer = Response<Either<Incoming, Empty<Bytes>>>;
