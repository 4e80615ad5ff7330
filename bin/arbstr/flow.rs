//! The life of a request, stage by stage.
//!
//! ```text
//! parse ─► plan ─► open the record ─► attempts (waterfall ⇄ upstream) ─► answer (JSON, or a relayed stream)
//! ```
//!
//! JSON and streams share every stage; they part where the answer is written. The record is opened before the first
//! upstream byte and completed by whichever stage learns the outcome.

mod answer;
mod departure;
pub(crate) mod explain;

use std::sync::Arc;
use std::time::Duration;

use arbstr_route::{
    Attempt, Facts, Finish, Offer, Outcome, Permit, Plan, Step, Waterfall, estimate_input,
};
use arbstr_wire::{Edits, Endpoint, Metadata, Request, Rewriter, Settings, Splicer};
use bytes::Bytes;
use hyper::{HeaderMap, Response};

use self::departure::{Attended, Departure};
use crate::api::fault::Fault;
use crate::api::{Arrival, Reply};
use crate::app::{App, Live};
use crate::clock;
use crate::config::{self, FirstEvent, Provider};
use crate::ledger::{self, Bill, Ending, Entry};
use crate::relay::Leaving;
use crate::upstream::Upstream;
use crate::upstream::attempt::{Call, Good, Limits, attempt};
use crate::upstream::fault::Miss;

/// What a client asked, as it came.
#[derive(Debug)]
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

/// Serves one request; when its client leaves, the work goes on as far as it should.
///
/// # Errors
/// What arbstr itself refuses or could not do.
pub(crate) async fn run(app: &Arc<App>, asked: Asked) -> Result<Response<Reply>, Fault> {
    let departure = Departure::default();
    let thread = app.lifeline.hold();
    Attended::new(
        serve(Arc::clone(app), asked, departure.clone()),
        departure,
        thread,
    )
    .await
}

async fn serve(
    app: Arc<App>,
    asked: Asked,
    departure: Departure,
) -> Result<Response<Reply>, Fault> {
    let live = app.keep_live();
    let request =
        Request::parse(asked.endpoint, &asked.body).map_err(|error| Fault::malformed(&error))?;
    let plan = plan(&live, &asked.headers, &request)
        .map_err(|fault| record_refusal(&app, &asked, &request, fault))?;
    let facts = facts(&asked.headers, &request, &plan);
    let entry = Entry::open(&app.store, &asked.arrival, facts);
    let wish = Wish::of(&request);
    drop(request);
    let mut journey = Journey::begin((app, live), asked, wish, departure, entry, plan);
    let end = journey.attempts().await;
    journey.log_changes();
    journey.answer(end)
}

/// What of the request the attempts still need.
#[derive(Debug, Clone, Copy)]
struct Wish {
    splicer: Splicer,
    streaming: bool,
    asked_for_usage: bool,
    choices: u32,
}

/// One request on its way through its candidates.
struct Journey {
    app: Arc<App>,
    live: Arc<Live>,
    asked: Asked,
    wish: Wish,
    departure: Departure,
    entry: Entry,
    fall: Waterfall,
    last_miss: Option<Miss>,
}

/// How the attempts came out.
enum End {
    /// Somebody answered.
    Served {
        good: Box<Good>,
        offer: Arc<Offer>,
        permit: Option<Permit>,
    },
    /// Nobody did, or nobody should be asked any more.
    Unserved(Finish),
    /// The process is ending.
    ShutDown,
}

/// The ranked candidates of a request.
///
/// # Errors
/// An unknown model or policy, or a policy that leaves nobody.
pub(crate) fn plan(live: &Live, headers: &HeaderMap, request: &Request<'_>) -> Result<Plan, Fault> {
    let facts = Facts::of(request, policy(headers)?);
    live.market
        .plan(&facts, clock::now())
        .map_err(|refusal| Fault::refused(&refusal))
}

fn policy(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let not_text = |_| {
        Fault::invalid_request(
            "unknown_policy",
            None,
            "the x-arbstr-policy header is not plain text",
        )
    };
    headers
        .get(POLICY)
        .map(|name| name.to_str().map_err(not_text))
        .transpose()
}

/// A request that nobody could serve is on record too.
fn record_refusal(app: &App, asked: &Asked, request: &Request<'_>, fault: Fault) -> Fault {
    let named = policy(&asked.headers).ok().flatten();
    let entry = Entry::open(
        &app.store,
        &asked.arrival,
        ledger::Facts::without_plan(request, named),
    );
    entry.complete(
        &Ending::Refused(fault.status(), fault.code().to_owned()),
        &Bill::default(),
        None,
    );
    fault
}

fn facts(headers: &HeaderMap, request: &Request<'_>, plan: &Plan) -> ledger::Facts {
    ledger::Facts {
        policy: plan.policy.as_deref().map(str::to_owned),
        plan: Some(explain::plan(plan)),
        candidate_rates: plan
            .candidates
            .iter()
            .filter_map(|candidate| candidate.offer.rates().copied())
            .collect(),
        input_estimate: estimate_input(request),
        client_id: client_id(headers),
        ..ledger::Facts::without_plan(request, None)
    }
}

/// What the client calls its request. `tracing` escapes what could forge a log line.
fn client_id(headers: &HeaderMap) -> Option<String> {
    let named = CLIENT_IDS.iter().find_map(|name| headers.get(*name))?;
    let text = named.to_str().ok()?;
    Some(text.chars().take(CLIENT_ID_CHARS).collect())
}

impl Wish {
    fn of(request: &Request<'_>) -> Self {
        Self {
            splicer: request.splicer(),
            streaming: request.is_stream(),
            asked_for_usage: request.asked_for_usage(),
            choices: request.choices(),
        }
    }
}

impl Journey {
    fn begin(
        (app, live): (Arc<App>, Arc<Live>),
        asked: Asked,
        wish: Wish,
        departure: Departure,
        entry: Entry,
        plan: Plan,
    ) -> Self {
        let deadline = live
            .config
            .timeouts
            .total
            .map(|total| asked.arrival.at + total);
        Self {
            app,
            live,
            asked,
            wish,
            departure,
            entry,
            fall: Waterfall::new(plan, deadline),
            last_miss: None,
        }
    }

    /// Asks one candidate after another until one gives a good answer or none is left.
    async fn attempts(&mut self) -> End {
        loop {
            if self.departure.is_gone() {
                self.fall.on_client_gone();
            }
            match self.fall.next(clock::now(), self.asked.arrival.dice()) {
                Step::Attempt(attempt) => {
                    if let Some(end) = self.attempt(attempt).await {
                        return end;
                    }
                }
                Step::Wait(duration) => {
                    if self.wait(duration).await.is_err() {
                        return End::ShutDown;
                    }
                }
                Step::Finish(finish) => return End::Unserved(finish),
            }
        }
    }

    async fn attempt(&mut self, attempt: Attempt) -> Option<End> {
        let live = Arc::clone(&self.live);
        let offer = Arc::clone(&attempt.offer);
        let (provider, upstream) = live.provider(&offer);
        self.entry
            .attempt_started(offer.provider(), offer.upstream_model(), clock::now());
        let (result, injected) = self.call(&attempt, provider, upstream).await;
        let now = clock::now();
        let outcome = match &result {
            Ok(good) => Outcome::Good {
                status: good.status(),
            },
            Err(miss) => miss.outcome(self.wish.streaming, injected),
        };
        let status = match &result {
            Ok(good) => Some(good.status()),
            Err(miss) => miss.status(),
        };
        self.entry
            .attempt_ended(&outcome.to_string(), status, None, now);
        let after = self.fall.on_outcome(attempt, outcome, now);
        match result {
            Ok(good) => Some(End::Served {
                good: Box::new(good),
                offer,
                permit: after.permit,
            }),
            Err(miss) => {
                if let Some(tried) = self.fall.attempts().last() {
                    explain::miss(
                        (&self.asked.arrival, &live),
                        &offer,
                        &miss,
                        tried,
                        after.verdict.operator,
                    );
                }
                self.last_miss = Some(miss);
                self.app.lifeline.is_cut().then_some(End::ShutDown)
            }
        }
    }

    /// Asks one provider. Also says whether `stream_options` was added to what it got.
    async fn call(
        &self,
        attempt: &Attempt,
        provider: &Provider,
        upstream: &Upstream,
    ) -> (Result<Good, Miss>, bool) {
        let upstream_model = attempt.offer.upstream_model();
        let edits = Edits {
            model: (upstream_model != self.fall.plan().model).then_some(upstream_model),
            include_usage: !attempt.omit_stream_options,
        };
        let spliced = self.wish.splicer.apply(&self.asked.body, &edits);
        let call = Call {
            upstream,
            endpoint: self.asked.endpoint,
            client_headers: &self.asked.headers,
            body: spliced.body,
            stream: self.wish.streaming.then(|| self.rewriter(provider)),
            limits: self.limits(attempt, provider),
        };
        let thread = self.app.lifeline.hold();
        let result = tokio::select! {
            result = self::attempt(call) => result,
            () = self.departure.is_final(leaving(&self.live, provider)) => Err(Miss::cancelled()),
            () = thread.cut() => Err(Miss::cancelled()),
        };
        (result, spliced.injected_usage)
    }

    async fn wait(&self, duration: Duration) -> Result<(), ShutDown> {
        let thread = self.app.lifeline.hold();
        tokio::select! {
            () = tokio::time::sleep(duration) => Ok(()),
            () = self.departure.is_announced() => Ok(()),
            () = thread.cut() => Err(ShutDown),
        }
    }

    fn rewriter(&self, provider: &Provider) -> Rewriter {
        let settings = Settings {
            endpoint: self.asked.endpoint,
            hide_usage: !self.wish.asked_for_usage,
            metadata: match self.live.config.stream.metadata {
                config::Metadata::Event => Metadata::Event,
                config::Metadata::Comment => Metadata::Comment,
                config::Metadata::Off => Metadata::Off,
            },
            requires_done: provider.requires_done,
            choices: self.wish.choices,
        };
        let live: Arc<Live> = Arc::clone(&self.live);
        Rewriter::new(settings).redacting(live)
    }

    fn limits(&self, attempt: &Attempt, provider: &Provider) -> Limits {
        let timeouts = &provider.timeouts;
        let (first, comments_extend) = match timeouts.first_event {
            _ if !self.wish.streaming || attempt.last => (timeouts.response, false),
            FirstEvent::Fixed(limit) => (limit, false),
            FirstEvent::Auto => (attempt.first_event_auto, true),
        };
        let until = timeouts.total.map(|total| self.asked.arrival.at + total);
        Limits {
            first,
            comments_extend,
            pause: timeouts.response,
            until,
        }
    }

    /// State changes of circuits are logged once each, by whichever request comes to see them.
    fn log_changes(&self) {
        explain::changes(&self.live.market);
    }
}

/// What happens to the provider's answer when the client leaves.
fn leaving(live: &Live, provider: &Provider) -> Leaving {
    Leaving {
        then: provider.on_client_disconnect,
        drain_max: live.config.stream.drain_max,
    }
}

/// The process is ending.
struct ShutDown;

const POLICY: &str = "x-arbstr-policy";
const CLIENT_IDS: [&str; 2] = ["x-request-id", "traceparent"];
const CLIENT_ID_CHARS: usize = 128;
