//! Sockets: serving clients, bounding what they may cost, and ending in order.

mod closing;
mod door;
mod http1;
mod http2;
mod preface;
mod stall;
pub(crate) mod workers;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::closing::Closing;
use self::http2::Http2;
use self::preface::Preface;
use self::workers::Workers;
use crate::api::error::ApiError;
use crate::app::App;

/// A socket on which connections wait to be accepted.
///
/// # Errors
/// As for `bind(2)`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Or the connections of an arbstr that has just ended would keep the next one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves clients until `stop` is told, then shuts down in order: no new connections, a grace period for what runs, an
/// error event for streams that run past it. Told again, it cuts the grace period short.
///
/// # Errors
/// When the serving threads cannot be started.
pub(crate) async fn run(
    app: Arc<App>,
    listener: TcpListener,
    mut stop: mpsc::Receiver<()>,
) -> io::Result<()> {
    let mut workers = Workers::start(&app, listener.into_std()?)?;
    let _ = stop.recv().await;
    finish(&app, &mut workers, stop).await;
    workers.end().await;
    if timeout(LINGER, app.shutdown.all_released()).await.is_err() {
        tracing::warn!("some requests did not end in time; the next start completes their records");
    }
    Ok(())
}

fn serve(
    app: &Arc<App>,
    http2: &Arc<Http2>,
    closing: &Arc<Closing>,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
) {
    // Without TCP_NODELAY a lone event waits for the client's delayed ACK: tens of milliseconds.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "client left while it was accepted");
        return;
    }
    let (app, http2, closing) = (Arc::clone(app), Arc::clone(http2), Arc::clone(closing));
    let open = app.metrics.connection();
    connections.spawn(async move {
        let _open = open;
        if let Err(error) = speak(app, http2, stream, closing).await {
            tracing::debug!(%error, "client connection ended early");
        }
    });
}

/// Serves a connection to its end, in the version of HTTP that its client speaks.
async fn speak(
    app: Arc<App>,
    http2: Arc<Http2>,
    mut stream: TcpStream,
    closing: Arc<Closing>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut due = pin!(sleep(HEAD_TIME));
    let mut seen = Vec::new();
    let preface = tokio::select! {
        biased;
        read = preface::read(&mut stream, &mut seen) => read?,
        () = closing.told() => return Ok(()),
        () = due.as_mut() => {
            // Who keeps a connection ready would take a word for the answer to the first request (RFC 9110, section 15.5.9).
            if !seen.is_empty() {
                http1::refuse(&app, stream, ApiError::head_timeout()).await?;
            }
            return Ok(());
        }
    };
    match preface {
        Preface::Http1(ahead) => http1::serve(app, stream, ahead, closing, due).await?,
        // Boxed, so that the usual connection does not carry the room for this one.
        Preface::Http2(ahead) => Box::pin(http2.serve(app, stream, ahead, closing)).await?,
    }
    Ok(())
}

async fn finish(app: &App, workers: &mut Workers, mut stop: mpsc::Receiver<()>) {
    let grace = app.live().config.server.shutdown_grace;
    tracing::info!(
        grace_secs = grace.as_secs(),
        "shutting down: streams in flight may finish; a second signal ends them"
    );
    let all_done = async {
        // A connection that waits for its next request must not hold up the end.
        tokio::select! {
            () = workers.close() => {}
            () = async { app.shutdown.all_released().await; sleep(LINGER).await } => {}
        }
        app.shutdown.all_released().await;
    };
    tokio::pin!(all_done);
    tokio::select! {
        () = &mut all_done => return,
        () = sleep(grace) => tracing::warn!("the grace period is over: breaking off what still runs"),
        _ = stop.recv() => tracing::warn!("told to stop again: breaking off what still runs"),
    }
    app.shutdown.cut();
    if timeout(CUT_TIME, all_done).await.is_err() {
        tracing::warn!("some clients did not take their last bytes in time");
    }
}

/// Connections that may wait to be accepted, as far as the system allows (`net.core.somaxconn`). To one more it does not answer:
/// that client asks again after a second, and then after twice the time. The usual 128 come in a few milliseconds.
const BACKLOG: u32 = 4096;
/// For the whole head of a request: from its first byte, the first of a connection from the connection's beginning.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Between two requests on a connection; longer than the pools of common clients keep theirs.
const IDLE_TIME: Duration = Duration::from_secs(180);
/// For the last bytes of the last answers to leave.
const LINGER: Duration = Duration::from_millis(500);
/// For error events to leave after the cut.
const CUT_TIME: Duration = Duration::from_secs(2);
