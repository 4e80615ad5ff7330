//! The life of a request, stage by stage.
//!
//! ```text
//! parse ─► plan ─► open the record ─► attempts (waterfall ⇄ upstream) ─► answer (JSON, or a relayed stream)
//! ```
//!
//! JSON and streams share every stage; they part where the answer is written. The record is opened before the first
//! upstream byte and completed by whichever stage learns the outcome.

mod answer;
mod attempts;
mod departure;
pub(crate) mod explain;
mod headers;

use std::sync::Arc;

use arbstr_route::{Facts, Plan};
use arbstr_wire::{Endpoint, Request};
use bytes::Bytes;
use hyper::{HeaderMap, Response};

use self::attempts::{Journey, Wish};
use self::departure::{Attended, Departure};
use crate::api::Reply;
use crate::api::fault::Fault;
use crate::app::{App, Live};
use crate::arrival::Arrival;
use crate::buffer_pool;
use crate::clock;
use crate::ledger::{About, Bill, Ending, Entry};

/// What a client asked, as it came.
pub(crate) struct Asked {
    /// When, and the request's name.
    pub(crate) arrival: Arrival,
    /// Which API.
    pub(crate) endpoint: Endpoint,
    /// The client's headers.
    pub(crate) headers: HeaderMap,
    /// The body, whole.
    pub(crate) body: Bytes,
}

impl Drop for Asked {
    fn drop(&mut self) {
        buffer_pool::keep_headers(std::mem::take(&mut self.headers));
    }
}

/// Serves one request; when its client leaves, the work goes on as far as it should.
///
/// # Errors
/// What arbstr itself refuses or could not do.
pub(crate) async fn run(app: &Arc<App>, asked: Asked) -> Result<Response<Reply>, Fault> {
    let departure = Departure::default();
    let token = app.shutdown.token();
    Attended::new(
        serve(Arc::clone(app), asked, departure.clone()),
        departure,
        token,
    )
    .await
}

async fn serve(
    app: Arc<App>,
    asked: Asked,
    departure: Departure,
) -> Result<Response<Reply>, Fault> {
    let mut journey = begin(&app, asked, departure)?;
    let end = journey.attempts().await;
    journey.answer(end)
}

/// Plans a request and puts it on record. Apart from [`serve`], whose future would else carry what is needed only here.
fn begin(app: &App, asked: Asked, departure: Departure) -> Result<Journey, Fault> {
    let live = app.keep_live();
    let request =
        Request::parse(asked.endpoint, &asked.body).map_err(|error| Fault::malformed(&error))?;
    let policy = policy(&asked.headers)?;
    let about = About::of(&request, policy, &asked.headers);
    let plan = match plan(&live, policy, &request) {
        Ok(plan) => plan,
        Err(fault) => return Err(refuse(app, &live, &asked, about, fault)),
    };
    let entry = Entry::open(
        app,
        &live,
        &asked.arrival,
        about.planned(&plan, explain::plan(&plan)),
    );
    let wish = Wish::of(&request);
    Ok(Journey::begin(
        app,
        live,
        asked,
        wish,
        departure,
        (entry, plan),
    ))
}

/// The policy that a client asks for.
///
/// # Errors
/// A name that is not text.
pub(crate) fn policy(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let not_text = |_| {
        Fault::invalid_request(
            "unknown_policy",
            None,
            "the x-arbstr-policy header is not plain text",
        )
    };
    headers
        .get("x-arbstr-policy")
        .map(|name| name.to_str().map_err(not_text))
        .transpose()
}

/// The ranked candidates of a request.
///
/// # Errors
/// An unknown model or policy, or a policy that leaves nobody.
pub(crate) fn plan(
    live: &Live,
    policy: Option<&str>,
    request: &Request<'_>,
) -> Result<Plan, Fault> {
    live.market
        .plan(&Facts::of(request, policy), clock::now())
        .map_err(|refusal| Fault::refused(&refusal))
}

/// The ranked candidates of a request that is not going to be sent.
///
/// # Errors
/// As for [`plan`].
pub(crate) fn preview(
    live: &Live,
    policy: Option<&str>,
    request: &Request<'_>,
) -> Result<Plan, Fault> {
    live.market
        .preview(&Facts::of(request, policy), clock::now())
        .map_err(|refusal| Fault::refused(&refusal))
}

/// A request that nobody could serve is on record too.
fn refuse(app: &App, live: &Arc<Live>, asked: &Asked, about: About, fault: Fault) -> Fault {
    let entry = Entry::open(app, live, &asked.arrival, about);
    entry.complete(
        &Ending::Refused(fault.status(), fault.code().to_owned()),
        &Bill::default(),
        None,
    );
    fault
}
