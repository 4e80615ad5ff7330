//! The clients: each asks one question after another, some leave before the end, and all write down what they got.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::dice::Dice;
use crate::options::Options;
use crate::script;

/// All clients of a run.
#[derive(Debug)]
pub(crate) struct Crowd {
    address: SocketAddr,
    seed: u64,
    clients: u32,
    visits: Mutex<Vec<Visit>>,
}

/// One request, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) request: u32,
    pub(crate) model: usize,
    pub(crate) streaming: bool,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) head: Head,
    pub(crate) end: End,
}

/// What arbstr said in the head of its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) id: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) attempts: Option<String>,
    /// For a stream, from arbstr's event.
    pub(crate) cost: Option<String>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With all that was asked for.
    Whole,
    /// A stream that broke after its first event, and said so.
    Broken,
    /// The client left after the first event.
    LeftMidStream,
    /// The client left before it had anything.
    LeftEarly,
    /// A failure before the first event.
    Failed(String),
    /// An answer that is not what it should be.
    Wrong(String),
}

/// What a client means to do.
struct Intent {
    request: u32,
    model: usize,
    /// `None` for JSON, else whether usage is asked for.
    stream: Option<bool>,
    leave_early: Option<Duration>,
    leave_after: Option<u64>,
    rest: Duration,
}

type Http = Client<HttpConnector, Full<Bytes>>;

impl Crowd {
    pub(crate) fn new(options: &Options, address: SocketAddr) -> Self {
        Self {
            address,
            seed: options.seed,
            clients: options.clients,
            visits: Mutex::default(),
        }
    }

    /// Sends all of `requests` and waits for their ends.
    pub(crate) async fn send(self: &Arc<Self>, requests: Range<u32>) {
        let next = Arc::new(AtomicU32::new(requests.start));
        let http: Http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..self.clients {
            let (this, next, http) = (Arc::clone(self), Arc::clone(&next), http.clone());
            crowd.spawn(async move {
                loop {
                    let request = next.fetch_add(1, Ordering::Relaxed);
                    if request >= requests.end {
                        return;
                    }
                    let intent = Intent::draw(this.seed, request);
                    let visit = this.visit(&http, &intent).await;
                    this.visits().push(visit);
                    tokio::time::sleep(intent.rest).await;
                    if request % 1_000 == 999 {
                        eprintln!("{} requests", request + 1);
                    }
                }
            });
        }
        crowd.join_all().await;
    }

    pub(crate) fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn visit(&self, http: &Http, intent: &Intent) -> Visit {
        let began = Instant::now();
        let mut head = Head::default();
        let call = self.call(http, intent, &mut head);
        let end = match intent.leave_early {
            Some(patience) => tokio::time::timeout(patience, call)
                .await
                .unwrap_or(End::LeftEarly),
            None => tokio::time::timeout(HUNG, call)
                .await
                .unwrap_or_else(|_| End::Wrong(format!("no end within {HUNG:?}"))),
        };
        Visit {
            request: intent.request,
            model: intent.model,
            streaming: intent.stream.is_some(),
            began,
            took: began.elapsed(),
            head,
            end,
        }
    }

    async fn call(&self, http: &Http, intent: &Intent, head: &mut Head) -> End {
        let response = match self.ask(http, intent).await {
            Ok(response) => response,
            Err(error) => return End::Failed(format!("{error:#}")),
        };
        *head = Head::read(&response);
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return End::Failed(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let read = match intent.stream {
            None => read_whole(response, intent).await,
            Some(usage) => read_stream(response, intent, usage, head).await,
        };
        read.unwrap_or_else(|error| End::Wrong(format!("{error:#}")))
    }

    async fn ask(&self, http: &Http, intent: &Intent) -> Result<Response<Incoming>> {
        let question = script::question(intent.request, intent.model, intent.stream);
        let request = Request::post(format!("http://{}/v1/chat/completions", self.address))
            .header("content-type", "application/json")
            .header("x-request-id", script::user(intent.request))
            .body(Full::new(Bytes::from(question)))?;
        Ok(http.request(request).await?)
    }
}

impl Intent {
    fn draw(seed: u64, request: u32) -> Self {
        let mut dice = Dice::new(seed, (1 << 40) + u64::from(request));
        let stream = dice.chance(60).then(|| dice.chance(30));
        let leaves = stream.is_some() && dice.chance(8);
        let leaves_early = dice.chance(3);
        Self {
            request,
            model: usize::try_from(dice.below(script::PROVIDERS as u64)).unwrap_or(0),
            stream,
            leave_early: leaves_early.then(|| dice.millis(0, 40)),
            leave_after: leaves.then(|| 1 + dice.below(3)),
            rest: dice.millis(0, 400),
        }
    }
}

impl Head {
    fn read(response: &Response<Incoming>) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            id: header("x-arbstr-request-id"),
            provider: header("x-arbstr-provider"),
            attempts: header("x-arbstr-attempts"),
            cost: header("x-arbstr-cost-sats"),
        }
    }
}

async fn read_whole(response: Response<Incoming>, intent: &Intent) -> Result<End> {
    let body = response.into_body().collect().await?.to_bytes();
    let expected = script::answer(intent.request, &script::model(intent.model));
    ensure!(
        body == expected.as_bytes(),
        "not the provider's bytes: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(End::Whole)
}

async fn read_stream(
    response: Response<Incoming>,
    intent: &Intent,
    usage: bool,
    head: &mut Head,
) -> Result<End> {
    let mut body = response.into_body();
    let mut text = String::new();
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        text.push_str(std::str::from_utf8(&data)?);
        frames += 1;
        if intent.leave_after == Some(frames) && !text.contains("[DONE]") {
            return Ok(End::LeftMidStream);
        }
    }
    if !text.contains("data: {") {
        return Ok(End::Failed(format!("200, but a stream of {text:?}")));
    }
    if text.contains("upstream_stream_interrupted") {
        ensure!(
            !text.contains("[DONE]"),
            "an error event and [DONE]: {text}"
        );
        return Ok(End::Broken);
    }
    head.cost = cost_in(&text);
    let expected = script::events(intent.request, &script::model(intent.model), usage);
    let Some(rest) = without_comments(&text)
        .strip_prefix(&expected.concat())
        .map(str::to_owned)
    else {
        bail!("not the provider's events: {text}");
    };
    let is_trailer = rest.contains(r#""arbstr":{"#) && rest.ends_with("data: [DONE]\n\n");
    ensure!(is_trailer, "no event of arbstr's at the end: {text}");
    ensure!(
        text.contains(&script::word(intent.request)),
        "another's answer: {text}"
    );
    Ok(End::Whole)
}

fn without_comments(text: &str) -> String {
    text.replace(": one moment\n\n", "")
}

fn cost_in(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once(r#""cost_sats":"#)?;
    let end = rest.find([',', '}'])?;
    Some(rest[..end].to_owned())
}

/// Longer than any answer takes: a second for every silent provider, and the wait for a place at a full one.
const HUNG: Duration = Duration::from_secs(60);
