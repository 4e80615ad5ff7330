//! One question to an arbstr that may be running on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::secret::Secret;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum AskError {
    /// Nobody is there.
    Unreachable,
    /// Whatever is there does not answer in time.
    Silent,
    /// The arbstr there wants a token, or another one.
    Unauthorized,
    /// Whatever is there does not talk like this arbstr.
    NotArbstr,
}

impl AskError {
    /// The reason in words.
    pub(super) fn at(&self, server: SocketAddr) -> String {
        match self {
            Self::Unreachable => format!("no arbstr is running at {server}"),
            Self::Silent => format!(
                "what listens at {server} has not answered within {} s",
                TIMEOUT.as_secs()
            ),
            Self::Unauthorized => {
                format!(
                    "the arbstr at {server} wants the token of server.auth_token, which is another one or not set here"
                )
            }
            Self::NotArbstr => format!("what answers at {server} is no arbstr of this version"),
        }
    }
}

/// The body of a good answer to `GET path`.
///
/// # Errors
/// When there is none within a few seconds.
pub(super) fn get(
    server: SocketAddr,
    path: &str,
    token: Option<&Secret>,
) -> Result<Bytes, AskError> {
    if server.port() == 0 {
        return Err(AskError::Unreachable);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|_| AskError::Unreachable)?;
    let mut request = Request::get(path).header(header::HOST, server.to_string());
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose());
        request = request.header(header::AUTHORIZATION, bearer);
    }
    let request = request
        .body(Empty::new())
        .map_err(|_| AskError::Unauthorized)?;
    let answer =
        runtime.block_on(async { tokio::time::timeout(TIMEOUT, fetch(server, request)).await });
    answer.unwrap_or(Err(AskError::Silent))
}

async fn fetch(server: SocketAddr, request: Request<Empty<Bytes>>) -> Result<Bytes, AskError> {
    let stream = TcpStream::connect(server)
        .await
        .map_err(|_| AskError::Unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| AskError::NotArbstr)?;
    tokio::spawn(connection);
    let reply = sender
        .send_request(request)
        .await
        .map_err(|_| AskError::NotArbstr)?;
    match reply.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err(AskError::Unauthorized),
        _ => return Err(AskError::NotArbstr),
    }
    let body = Limited::new(reply.into_body(), MOST_BYTES).collect().await;
    Ok(body.map_err(|_| AskError::NotArbstr)?.to_bytes())
}

const TIMEOUT: Duration = Duration::from_secs(3);
const MOST_BYTES: usize = 64 * 1024 * 1024;
