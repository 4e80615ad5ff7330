//! The route table: who answers which path, and what is asked of every request before anyone does.
//!
//! Handlers are thin: they read the request, call the flow or the store, and shape the answer. Every answer, refusals
//! included, leaves through [`answer`] and carries the request's id.

pub(crate) mod chat;
pub(crate) mod dashboard;
pub(crate) mod error;
pub(crate) mod gate;
pub(crate) mod health;
mod metrics;
pub(crate) mod models;
pub(crate) mod query;
mod request_body;
mod response_body;

use std::sync::Arc;

use arbstr_wire::Endpoint;
use hyper::body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Version};

use self::error::ApiError;
pub(crate) use self::request_body::{ReadResult, RequestBody, skip};
pub(crate) use self::response_body::ResponseBody;
use crate::app::App;
use crate::arrival::Arrival;

/// Answers one request of one client; whoever calls this keeps the process waiting for it.
pub(crate) async fn answer(
    app: &Arc<App>,
    mut request: Request<&mut dyn RequestBody>,
) -> Response<ResponseBody> {
    let arrival = Arrival::now();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = gate::check(app, &request);
    let answered = match allowed {
        Err(error) => Err(error),
        Ok(()) if request.method() == Method::OPTIONS && origin.is_some() => {
            Ok(gate::preflight(request.headers()))
        }
        Ok(()) => route(app, &arrival, &mut request).await,
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(error) if request.body().is_over() => error.into_response(),
        Err(error) => Box::pin(refuse_unread(app, error, &mut request)).await,
    };
    gate::allow_origin(app, origin.as_ref(), response.headers_mut());
    if request.method() == Method::HEAD && request.version() == Version::HTTP_2 {
        response = without_body(response);
    }
    finish(app, &arrival, &mut response);
    response
}

/// The answer to what is no request.
pub(crate) fn refuse(app: &App, error: ApiError) -> Response<ResponseBody> {
    let mut response = error.into_response();
    finish(app, &Arrival::now(), &mut response);
    response
}

/// Names the answer, and counts it.
fn finish(app: &App, arrival: &Arrival, response: &mut Response<ResponseBody>) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), id_header(arrival));
    app.metrics.answered(response.status());
}

/// The answer to a HEAD: how long it would be, and nothing of it. Over HTTP/1 the connection sees to that.
fn without_body(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, ResponseBody::whole(""))
}

/// Refuses a request of which a part was not read yet. That is read for a moment: a client that is still sending, and has
/// nobody to listen, may see no more than a broken connection.
async fn refuse_unread(
    app: &App,
    error: ApiError,
    request: &mut Request<&mut dyn RequestBody>,
) -> Response<ResponseBody> {
    // A client that waits for `100 Continue` has sent nothing yet and is told at once.
    let waits = request.headers().contains_key(header::EXPECT);
    let body = request.body_mut();
    let is_read = !waits
        && tokio::select! {
            is_read = skip(*body) => is_read,
            () = app.shutdown.until_cut() => false,
        };
    let mut response = error.into_response();
    // Past the time the connection is closed under the client, as announced.
    if !is_read {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn route(
    app: &Arc<App>,
    arrival: &Arrival,
    request: &mut Request<&mut dyn RequestBody>,
) -> Result<Response<ResponseBody>, ApiError> {
    let (path, query) = (request.uri().path(), request.uri().query());
    let route = Route::of(path).ok_or_else(|| {
        ApiError::not_found(
            "unknown_path",
            format!("there is nothing at {path}; see /v1/models, /v1/chat/completions"),
        )
    })?;
    let allow = route.allow();
    let is_allowed = match *request.method() {
        Method::POST => allow == POST,
        Method::GET | Method::HEAD => allow == GET,
        _ => false,
    };
    if !is_allowed {
        return Err(ApiError::method_not_allowed(request.method(), path, allow));
    }
    match route {
        Route::Inference(endpoint) => chat::serve(app, arrival, endpoint, request).await,
        Route::Models => apart(app, models::list).await,
        Route::Model(id) => models::one(app, id),
        Route::Stats => query::stats(app, query).await,
        Route::Requests => query::list(app, query).await,
        Route::Request(id) => query::request(app, id, query).await,
        Route::Health => {
            let trusted = gate::has_token(app, request.headers());
            apart(app, move |app| health::health(app, trusted)).await
        }
        Route::Providers => apart(app, health::providers).await,
        Route::Metrics => metrics::metrics(app).await,
        Route::Cost => chat::cost(app, request).await,
        Route::Page(asset) => Ok(dashboard::serve(asset, request.headers())),
    }
}

/// Writes an answer that grows with the number of offers, thousands perhaps, where no stream has to wait for it.
async fn apart(
    app: &Arc<App>,
    write: impl FnOnce(&Arc<App>) -> Response<ResponseBody> + Send + 'static,
) -> Result<Response<ResponseBody>, ApiError> {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || write(&app))
        .await
        .map_err(|error| ApiError::internal(format!("the answer was lost: {error}")))
}

/// The paths arbstr knows.
enum Route<'a> {
    Inference(Endpoint),
    Models,
    Model(&'a str),
    Stats,
    Requests,
    Request(&'a str),
    Health,
    Providers,
    Metrics,
    Cost,
    Page(&'static dashboard::Asset),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Inference(Endpoint::Chat),
            "/v1/completions" => Self::Inference(Endpoint::Completions),
            "/v1/embeddings" => Self::Inference(Endpoint::Embeddings),
            "/v1/models" => Self::Models,
            "/health" => Self::Health,
            "/providers" => Self::Providers,
            "/metrics" => Self::Metrics,
            "/v1/cost" => Self::Cost,
            "/v1/stats" => Self::Stats,
            "/v1/requests" => Self::Requests,
            _ => {
                if let Some(asset) = dashboard::find(path) {
                    Self::Page(asset)
                } else if let Some(id) =
                    path.strip_prefix("/v1/models/").filter(|id| !id.is_empty())
                {
                    Self::Model(id)
                } else {
                    Self::Request(
                        path.strip_prefix("/v1/requests/")
                            .filter(|id| !id.is_empty() && !id.contains('/'))?,
                    )
                }
            }
        })
    }

    fn allow(&self) -> &'static str {
        match self {
            Self::Inference(_) | Self::Cost => POST,
            Self::Models
            | Self::Model(_)
            | Self::Stats
            | Self::Requests
            | Self::Request(_)
            | Self::Health
            | Self::Providers
            | Self::Metrics
            | Self::Page(_) => GET,
        }
    }
}

fn id_header(arrival: &Arrival) -> HeaderValue {
    HeaderValue::from_str(&arrival.id).expect("a UUID is a valid header value")
}

/// Methods, as `Allow` lists them.
const POST: &str = "POST";
const GET: &str = "GET, HEAD";
static REQUEST_ID: HeaderName = HeaderName::from_static("x-arbstr-request-id");
