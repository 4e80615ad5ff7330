//! `GET /metrics`: what Prometheus scrapes.

use std::sync::Arc;

use hyper::Response;
use hyper::header::{self, HeaderValue};

use super::ResponseBody;
use super::error::ApiError;
use crate::app::App;
use crate::metrics::scrape;

/// All metrics, put together on a thread that may take its time: many models make many series.
///
/// # Errors
/// 500 when that thread was lost.
pub(crate) async fn metrics(app: &Arc<App>) -> Result<Response<ResponseBody>, ApiError> {
    let shared = Arc::clone(app);
    let text = tokio::task::spawn_blocking(move || scrape::text(&shared))
        .await
        .map_err(|_| ApiError::internal("the metrics could not be put together"))?;
    let mut response = Response::new(ResponseBody::whole(text));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    Ok(response)
}
