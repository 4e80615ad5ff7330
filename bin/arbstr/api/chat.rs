//! `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings`: the body is read here, the rest is the flow's.

use std::sync::Arc;
use std::time::Duration;

use arbstr_wire::Endpoint;
use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response};

use super::error::{ApiError, ok_json};
use super::{RequestBody, ResponseBody, request_body};
use crate::app::App;
use crate::arrival::Arrival;
use crate::buffer_pool;
use crate::flow;
use crate::records::plan;
use crate::{clock, due};

/// Reads the body and sends the request on its way.
///
/// # Errors
/// 400, 408 or 413 for a body that cannot be read, 503 when arbstr ends before; what the flow refuses.
pub(crate) async fn serve(
    app: &Arc<App>,
    arrival: &Arrival,
    endpoint: Endpoint,
    request: &mut Request<&mut dyn RequestBody>,
) -> Result<Response<ResponseBody>, ApiError> {
    let body = read(app, request).await?;
    flow::run(
        app,
        flow::InboundRequest {
            arrival: Arrival {
                read_at: clock::now(),
                ..arrival.clone()
            },
            endpoint,
            headers: std::mem::take(request.headers_mut()),
            body,
        },
    )
    .await
}

/// `POST /v1/cost`: what a chat request would cost at each candidate; nothing is sent upstream.
///
/// # Errors
/// As for the request itself.
pub(crate) async fn cost(
    app: &Arc<App>,
    request: &mut Request<&mut dyn RequestBody>,
) -> Result<Response<ResponseBody>, ApiError> {
    let body = read(app, request).await?;
    let live = app.keep_live();
    let asked = arbstr_wire::Request::parse(Endpoint::Chat, &body)
        .map_err(|error| ApiError::malformed(&error))?;
    let policy = flow::policy(request.headers())?;
    let plan = flow::preview(&live, policy, &asked)?;
    let whole = plan::whole(&plan, clock::now());
    Ok(ok_json(&plan::Shown(&whole)))
}

/// The body, whole. Of the request nothing is moved: a future holds what is moved into it twice.
async fn read(app: &App, request: &mut Request<&mut dyn RequestBody>) -> Result<Bytes, ApiError> {
    let limit = app.live().config.server.max_body_bytes;
    if is_coded(request.headers()) {
        return Err(ApiError::coded_body());
    }
    let incoming = request.body_mut();
    let too_large = || ApiError::too_large(limit as u64);
    if incoming.announced() > limit as u64 {
        return Err(too_large());
    }
    // One piece stays as it is.
    let mut body = Vec::new();
    let mut started = None;
    while !incoming.is_over() {
        let earned = Duration::from_secs((body.len() / BODY_BYTES_PER_SEC) as u64);
        let due = || *started.get_or_insert_with(clock::now) + BODY_TIME + earned;
        let read = tokio::select! {
            biased;
            read = due::before(due, request_body::read(*incoming, &mut body)) => read,
            // Polled, and so made, only where the client is waited for.
            () = app.shutdown.until_cut() => return Err(ApiError::shutting_down()),
        };
        match read {
            Some(Ok(())) => make_room(&mut body, incoming.announced()),
            Some(Err(error)) => {
                return Err(ApiError::invalid_request(
                    "unreadable_body",
                    None,
                    format!("the request body broke off: {error}"),
                ));
            }
            None => return Err(ApiError::request_timeout()),
        }
        if body.len() > limit {
            return Err(too_large());
        }
    }
    Ok(buffer_pool::share(body))
}

/// Room for what a client announces, within reason, once what there was is full: it may announce what it never sends.
fn make_room(body: &mut Vec<u8>, announced: u64) {
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > 0 && body.len() == body.capacity() {
        let mut larger = buffer_pool::take(body.len() + announced.min(RESERVED_BYTES));
        larger.extend_from_slice(body);
        *body = larger;
    }
}

/// Whether the body is compressed or the like (RFC 9110, section 8.4): a size limit then says little about it.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// For a client's body to begin with; what has come of it earns it more time.
const BODY_TIME: Duration = Duration::from_secs(30);
const BODY_BYTES_PER_SEC: usize = 16 * 1024;
/// At most this much is set aside before it has come. It is address space: memory is taken as it is written to.
const RESERVED_BYTES: usize = 16 * 1024 * 1024;
