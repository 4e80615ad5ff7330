//! The life of a request, stage by stage.
//!
//! ```text
//! parse ─► plan ─► attempts (record ─► waterfall ⇄ upstream) ─► answer (JSON, or a relayed stream)
//! ```
//!
//! JSON and streams share every stage; they part where the answer is written. The record is opened before the first
//! upstream byte, when it is known who gets it, and completed by whichever stage learns the outcome.

mod answer;
mod attempts;
mod disconnect;
mod explain;
mod headers;

use std::sync::Arc;

use arbstr_route::{Facts, Plan, PlanError};
use arbstr_wire::{Endpoint, Request};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderMap, HeaderName};

use self::answer::Answered;
use self::attempts::{InFlight, Planned, RequestOptions};
use self::disconnect::{DetachOnDrop, Disconnect};
use crate::api::ResponseBody;
use crate::api::error::ApiError;
use crate::app::{App, Live};
use crate::arrival::Arrival;
use crate::buffer_pool;
use crate::clock;
use crate::cohort;
use crate::ledger::{Bill, RequestInfo, RequestOutcome, RequestRecord};
use crate::records::plan;

/// One request as it came from a client.
pub(crate) struct InboundRequest {
    /// When, and the request's name.
    pub(crate) arrival: Arrival,
    /// Which API.
    pub(crate) endpoint: Endpoint,
    /// The client's headers.
    pub(crate) headers: HeaderMap,
    /// The body, whole.
    pub(crate) body: Bytes,
}

impl Drop for InboundRequest {
    fn drop(&mut self) {
        buffer_pool::keep_headers(std::mem::take(&mut self.headers));
    }
}

/// Serves one request; when its client leaves, the work goes on as far as it should.
///
/// # Errors
/// What arbstr itself refuses or could not do.
pub(crate) async fn run(
    app: &Arc<App>,
    inbound: InboundRequest,
) -> Result<Response<ResponseBody>, ApiError> {
    let disconnect = Disconnect::default();
    DetachOnDrop::new(
        serve(Arc::clone(app), inbound, disconnect.clone()),
        disconnect,
        &app.shutdown,
    )
    .await
}

async fn serve(
    app: Arc<App>,
    inbound: InboundRequest,
    disconnect: Disconnect,
) -> Result<Response<ResponseBody>, ApiError> {
    let _member = cohort::join();
    let mut in_flight = begin(app, inbound, disconnect)?;
    let end = in_flight.attempts().await;
    cohort::rejoin().await;
    let Answered {
        response,
        completion,
    } = in_flight.answer(end);
    if let Some(completion) = completion {
        completion.written().await;
    }
    Ok(response)
}

/// Plans a request. Apart from [`serve`], whose future would else carry what is needed only here.
fn begin(
    app: Arc<App>,
    inbound: InboundRequest,
    disconnect: Disconnect,
) -> Result<Box<InFlight>, ApiError> {
    let live = app.keep_live();
    let request = Request::parse(inbound.endpoint, &inbound.body)
        .map_err(|error| ApiError::malformed(&error))?;
    let policy = policy(&inbound.headers)?;
    let info = RequestInfo::of(&request, policy, &inbound.headers);
    let facts = Facts::of(&request, policy);
    let now = inbound.arrival.read_at;
    let plan = match live.market.plan(&facts, now) {
        Ok(plan) => plan,
        Err(error) => return Err(refuse(&app, &live, &inbound, info, &error)),
    };
    let on_record = plan::on_record(&plan, now);
    let planned = Planned {
        record: RequestRecord::new(
            &app,
            &live,
            &inbound.arrival,
            info.planned(&plan, on_record),
        ),
        options: RequestOptions::of(&request),
        plan,
    };
    Ok(InFlight::begin(app, live, inbound, disconnect, planned))
}

/// The policy that a client asks for.
///
/// # Errors
/// A name that is not text.
pub(crate) fn policy(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let not_text = |_| {
        ApiError::invalid_request(
            "unknown_policy",
            None,
            "the x-arbstr-policy header is not plain text",
        )
    };
    headers
        .get(&POLICY)
        .map(|name| name.to_str().map_err(not_text))
        .transpose()
}

/// The ranked candidates of a request that is not going to be sent.
///
/// # Errors
/// An unknown model or policy, or a policy that leaves nobody.
pub(crate) fn preview(
    live: &Live,
    policy: Option<&str>,
    request: &Request<'_>,
) -> Result<Plan, ApiError> {
    live.market
        .preview(&Facts::of(request, policy), clock::now())
        .map_err(|error| ApiError::refused(&error))
}

/// A request that nobody could serve is on record too, with what a policy has against each candidate.
fn refuse(
    app: &App,
    live: &Arc<Live>,
    inbound: &InboundRequest,
    info: RequestInfo,
    error: &PlanError,
) -> ApiError {
    let info = match error {
        PlanError::NothingAllowed { plan } => {
            info.planned(plan, plan::on_record(plan, clock::now()))
        }
        _ => info,
    };
    let error = ApiError::refused(error);
    let mut record = RequestRecord::new(app, live, &inbound.arrival, info);
    drop(record.complete(
        &RequestOutcome::Refused(error.status(), error.code().to_owned()),
        &Bill::default(),
        None,
        clock::now(),
    ));
    error
}

static POLICY: HeaderName = HeaderName::from_static("x-arbstr-policy");
