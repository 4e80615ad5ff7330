//! Records, asked for by clients: totals, lists, and what a request cost, where it went and why.

use std::sync::Arc;
use std::time::Duration;

use arbstr_store::{QueryError, Reader};
use hyper::Response;
use serde::Serialize;

use super::ResponseBody;
use super::error::{ApiError, ok_json};
use crate::app::App;
use crate::clock;
use crate::records::figures::StatsJson;
use crate::records::parameters::{InvalidParameter, Parameters};
use crate::records::row::{Detail, Record};

/// `GET /v1/stats`: totals over a range, by group if asked.
///
/// # Errors
/// 400 for a bad parameter, 503 while the database cannot be read.
pub(crate) async fn stats(
    app: &Arc<App>,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ApiError> {
    let now_ms = clock::unix_ms();
    let asked = Parameters::of_query(query)
        .and_then(|parameters| parameters.stats(now_ms))
        .map_err(|invalid| bad_parameter(&invalid))?;
    let wanted = asked.clone();
    let stats = read(app, move |reader| reader.stats(&wanted)).await?;
    Ok(ok_json(&StatsJson::of(&stats, &asked, now_ms)))
}

/// `GET /v1/requests`: one page of records.
///
/// # Errors
/// 400 for a bad parameter, 503 while the database cannot be read.
pub(crate) async fn list(
    app: &Arc<App>,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ApiError> {
    let asked = Parameters::of_query(query)
        .and_then(|parameters| parameters.page(clock::unix_ms()))
        .map_err(|invalid| bad_parameter(&invalid))?;
    let page = read(app, move |reader| reader.requests(&asked)).await?;
    let data = page.rows.iter().map(Record).collect();
    Ok(ok_json(&PageJson {
        data,
        next_cursor: page.next.as_deref(),
    }))
}

/// `GET /v1/requests/{id}`: one record with its plan and attempts.
///
/// # Errors
/// 404 for an unknown id, 400 for any parameter, 503 while the database cannot be read, or is behind and does not know
/// the id.
pub(crate) async fn request(
    app: &Arc<App>,
    id: &str,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ApiError> {
    Parameters::of_query(query)
        .and_then(|parameters| parameters.check(&[]))
        .map_err(|invalid| bad_parameter(&invalid))?;
    let wanted = id.to_owned();
    // Asked first, so that what is written meanwhile is found and not denied.
    let is_behind = app.store.status(clock::unix_ms()).is_behind();
    match read(app, move |reader| reader.request(&wanted)).await? {
        Some(detail) => Ok(ok_json(&Detail(&detail))),
        None if is_behind => Err(ApiError::unavailable(
            "records_unavailable",
            format!("the database is behind, and does not know yet whether `{id}` is on record"),
            Some(SOON),
        )),
        None => Err(ApiError::not_found(
            "request_not_found",
            format!("no request `{id}` is on record"),
        )),
    }
}

#[derive(Serialize)]
struct PageJson<'a> {
    data: Vec<Record<'a>>,
    next_cursor: Option<&'a str>,
}

/// Asks the database where waiting harms nobody.
async fn read<T: Send + 'static>(
    app: &App,
    ask: impl FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = app.store.clone();
    let answer = tokio::task::spawn_blocking(move || ask(store.reader()))
        .await
        .map_err(|error| ApiError::internal(format!("the query was lost: {error}")))?;
    answer.map_err(|error| match error {
        QueryError::Cursor => bad_parameter(&InvalidParameter::new("cursor", error.to_string())),
        QueryError::TooMuch { .. } => {
            bad_parameter(&InvalidParameter::new("sort", error.to_string()))
        }
        QueryError::Unavailable(ref cause) | QueryError::Failed(ref cause) => {
            tracing::warn!(%error, %cause, "records cannot be read");
            let message = format!("records cannot be read now: {error}");
            ApiError::unavailable("records_unavailable", message, None)
        }
    })
}

fn bad_parameter(invalid: &InvalidParameter) -> ApiError {
    let parameter = Some(invalid.parameter.clone());
    ApiError::invalid_request("invalid_parameter", parameter, invalid.to_string())
}

/// How often a database that was locked or broken is tried again.
const SOON: Duration = Duration::from_secs(1);
