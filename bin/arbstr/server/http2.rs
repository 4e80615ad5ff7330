//! Clients that speak HTTP/2, which hyper does.

mod guard;
mod window;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

use self::guard::Guard;
use self::window::StreamTasks;
use super::closing::Closing;
use crate::api::{self, ReadResult, RequestBody};
use crate::app::App;

/// How its connections are served.
pub(super) struct Http2(http2::Builder<StreamTasks>);

impl Http2 {
    pub(super) fn new() -> Self {
        let mut http2 = http2::Builder::new(StreamTasks);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Some(PING));
        Self(http2)
    }

    /// Serves a connection, of which `ahead` was read before, to its end; once `closing` is told, to that of its requests.
    ///
    /// # Errors
    /// Why it ended early.
    pub(super) async fn serve(
        &self,
        app: Arc<App>,
        stream: TcpStream,
        ahead: Bytes,
        closing: Arc<Closing>,
    ) -> hyper::Result<()> {
        let limit = app.live().config.timeouts.client_stall;
        let guard = Guard::new(stream, ahead, limit);
        let service = service_fn(move |request: Request<Incoming>| {
            let app = Arc::clone(&app);
            async move {
                let limit = app.live().config.timeouts.client_stall;
                let (head, incoming) = request.into_parts();
                let mut body = Http2Body {
                    incoming,
                    is_over: false,
                };
                let request = Request::from_parts(head, &mut body as &mut dyn RequestBody);
                let _held = app.shutdown.hold();
                let response = api::answer(&app, request).await;
                Ok::<_, Infallible>(window::watch(response, limit))
            }
        });
        let mut connection = pin!(self.0.serve_connection(guard, service));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = closing.told() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

struct Http2Body {
    incoming: Incoming,
    is_over: bool,
}

impl RequestBody for Http2Body {
    fn is_over(&self) -> bool {
        self.is_over || self.incoming.is_end_stream()
    }

    fn announced(&self) -> u64 {
        self.incoming.size_hint().lower()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<ReadResult> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => self.is_over = true,
            Some(frame) => data.extend_from_slice(&frame?.into_data().unwrap_or_default()),
        }
        Poll::Ready(Ok(()))
    }
}

const STREAMS: u32 = 256;
const HEADERS: u32 = 64 * 1024;
/// What one stream may have in hand before its client takes it.
const SEND_BUFFER: usize = 64 * 1024;
const PING: Duration = Duration::from_secs(30);
