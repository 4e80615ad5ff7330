//! One client's connection, in HTTP/1.
//!
//! ```text
//!     ┌──────────────────────────────────────────────────────────────────────┐ both sides keep it open
//!     ▼                                                                      │
//!  wait for a head ─┬─► answer: whoever does reads the body ─► write ─► read what is left of the body ─► end
//!                   ├─► no head in time, or none at all: refuse ─► end
//!                   └─► the client closes, or arbstr does ─► end
//! ```
//!
//! Nothing stands behind a connection but this one future: no task, no channel, and no buffer while it waits.

mod date;
mod incoming;
mod outgoing;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arbstr_http1::server::Head;
use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Version};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};

use self::incoming::{Incoming, NoHead};
use self::outgoing::{Asked, Outgoing};
use super::closing::Closing;
use super::{HEAD_TIME, IDLE_TIME};
use crate::api::error::ApiError;
use crate::api::{self, RequestBody};
use crate::app::App;
use crate::clock;

/// Serves a connection, of which `ahead` was read before, to its end; once `closing` is told, to that of its request. The
/// first head must come before `due`.
///
/// # Errors
/// Why it ended early.
pub(super) async fn serve(
    app: Arc<App>,
    mut socket: TcpStream,
    ahead: Bytes,
    closing: Arc<Closing>,
    due: Pin<&mut Sleep>,
) -> io::Result<()> {
    let has_all = AtomicBool::new(true);
    let (reading, writing) = socket.split();
    let stall_limit = app.live().config.timeouts.client_stall;
    let mut outgoing = Outgoing::new(writing, stall_limit, &has_all);
    let mut waiting = Waiting {
        incoming: Incoming::new(reading, ahead, &has_all),
        told_to_close: pin!(closing.told()),
        due,
        limit: Limit::First,
        has_read: false,
    };
    loop {
        match poll_fn(|cx| waiting.poll_head(cx)).await {
            Ok(Some(head)) => {
                let incoming = &mut waiting.incoming;
                if !exchange(&app, incoming, &mut outgoing, head, &closing).await? {
                    break;
                }
            }
            Ok(None) => return Ok(()),
            Err(NoHead::Broken(error)) => return Err(error),
            Err(NoHead::Refused(error)) => {
                outgoing.answer(api::refuse(&app, error), REFUSED).await?;
                break;
            }
        }
    }
    outgoing.end().await;
    // Closed at once under a client that still sends, the connection would break before the answer is read.
    let _ = timeout(CLOSE_TIME, waiting.incoming.waste()).await;
    Ok(())
}

/// Refuses a connection of which no head could be read.
///
/// # Errors
/// When the client does not take the answer.
pub(super) async fn refuse(app: &App, mut socket: TcpStream, error: ApiError) -> io::Result<()> {
    let has_all = AtomicBool::new(true);
    let (_, writing) = socket.split();
    let stall_limit = app.live().config.timeouts.client_stall;
    let mut outgoing = Outgoing::new(writing, stall_limit, &has_all);
    outgoing.answer(api::refuse(app, error), REFUSED).await?;
    outgoing.end().await;
    Ok(())
}

/// Answers one request; tells whether another may follow.
async fn exchange(
    app: &Arc<App>,
    incoming: &mut Incoming<'_>,
    outgoing: &mut Outgoing<'_>,
    head: Head,
    closing: &Closing,
) -> io::Result<bool> {
    let mut asked = Asked {
        head_only: head.request.method() == Method::HEAD,
        is_old: head.request.version() == Version::HTTP_10,
        persists: head.persists,
    };
    // A page is soon there, whether its client still sends or not.
    let watches = head.request.method() == Method::POST;
    // Held until the answer is out.
    let held = app.shutdown.hold();
    let response = {
        let request = head
            .request
            .map(|()| &mut *incoming as &mut dyn RequestBody);
        let mut answering = pin!(api::answer(app, request));
        poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending if watches => outgoing.poll_left(cx).map(Err),
            Poll::Pending => Poll::Pending,
        })
        .await?
    };
    asked.persists &=
        !closing.has_begun() && !incoming.is_unreadable() && !says_close(response.headers());
    let persists = outgoing.answer(response, asked).await?;
    drop(held);
    incoming.unread(outgoing.take_early());
    Ok(persists && (incoming.is_over() || api::skip(incoming).await))
}

fn says_close(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// A connection between two requests.
struct Waiting<'a, F> {
    incoming: Incoming<'a>,
    told_to_close: Pin<&'a mut F>,
    due: Pin<&'a mut Sleep>,
    /// What `due` was set for.
    limit: Limit,
    /// A head was read since.
    has_read: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// The first head of the connection.
    First,
    /// A head that has begun.
    Head,
    /// A head to begin.
    Idle,
}

impl<F: Future<Output = ()>> Waiting<'_, F> {
    /// The next head; `None` when there will be none.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, NoHead>> {
        if let Poll::Ready(read) = self.incoming.poll_head(cx) {
            self.has_read = true;
            return Poll::Ready(read);
        }
        let is_in_head = self.incoming.is_in_head();
        if !is_in_head && self.told_to_close.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(None));
        }
        match self.limit {
            _ if self.has_read && is_in_head => self.set(Limit::Head),
            Limit::Idle if is_in_head => self.set(Limit::Head),
            // It was a blank line.
            Limit::Head if !is_in_head => self.set(Limit::Idle),
            _ => {}
        }
        // The timer is not set anew for each request: when it fires, it is.
        loop {
            ready!(self.due.as_mut().poll(cx));
            match self.limit {
                _ if self.has_read => self.set(Limit::Idle),
                Limit::Idle => return Poll::Ready(Ok(None)),
                Limit::First | Limit::Head => {
                    return Poll::Ready(Err(NoHead::Refused(ApiError::head_timeout())));
                }
            }
        }
    }

    fn set(&mut self, limit: Limit) {
        let time = match limit {
            Limit::First | Limit::Head => HEAD_TIME,
            Limit::Idle => IDLE_TIME,
        };
        self.due.as_mut().reset((clock::now() + time).into());
        self.limit = limit;
        self.has_read = false;
    }
}

const REFUSED: Asked = Asked {
    head_only: false,
    is_old: false,
    persists: false,
};
/// For a client to close, once nothing more comes.
const CLOSE_TIME: Duration = Duration::from_millis(500);
