//! The load generator: sends one shape of request over some connections, verifies every answer, reports what it saw.
//!
//! It runs on one thread of its own process, so that its work is never counted as the proxy's.

mod exchange;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::figures;
use crate::script::{self, PACE_MS, Shape, Tail};
use exchange::{Connection, Expected};

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    pub(crate) until: Until,
    /// Requests per second over all connections together; `None`: each as soon as the one before is answered.
    pub(crate) rate: Option<f64>,
    /// Bytes of the prompt, about.
    pub(crate) prompt: usize,
}

/// When a connection sends no more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// So many requests on each connection.
    Count(u64),
}

/// What a load saw; all answers were verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) chunks: f64,
    pub(crate) seconds: f64,
    /// Request sent to answer read, median, ns.
    pub(crate) latency_p50: f64,
    /// Event stamped by the provider to event read here, ns.
    pub(crate) delay_p50: f64,
    pub(crate) delay_p99: f64,
}

impl Plan {
    /// The arguments that make [`run`] in another process carry this plan out against `to`.
    pub(crate) fn to_args(&self, to: SocketAddr, tail: Tail) -> Vec<String> {
        let until = match self.until {
            Until::Elapsed(time) => format!("{}s", time.as_secs_f64()),
            Until::Count(count) => format!("{count}x"),
        };
        let rate = self.rate.unwrap_or(0.0).to_string();
        let tail = if tail == Tail::Arbstr {
            "arbstr"
        } else {
            "none"
        };
        vec![
            to.to_string(),
            tail.to_owned(),
            self.shape.name().to_owned(),
            self.connections.to_string(),
            until,
            rate,
            self.prompt.to_string(),
        ]
    }

    fn from_args(args: &[String]) -> Result<(Self, SocketAddr, Tail)> {
        let [to, tail, shape, connections, until, rate, prompt] = args else {
            bail!("load takes TO TAIL SHAPE CONNECTIONS UNTIL RATE PROMPT");
        };
        let until = match until.strip_suffix('x') {
            Some(count) => Until::Count(count.parse()?),
            None => Until::Elapsed(Duration::from_secs_f64(
                until.trim_end_matches('s').parse()?,
            )),
        };
        let rate: f64 = rate.parse()?;
        let plan = Self {
            shape: Shape::parse(shape)?,
            connections: connections.parse()?,
            until,
            rate: (rate > 0.0).then_some(rate),
            prompt: prompt.parse()?,
        };
        let tail = if tail == "arbstr" {
            Tail::Arbstr
        } else {
            Tail::None
        };
        Ok((plan, to.parse()?, tail))
    }
}

impl Outcome {
    /// Reads what [`run`] printed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut figures = HashMap::new();
        for pair in text.split_whitespace() {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("not a figure: {pair:?}"))?;
            figures.insert(name, value);
        }
        let find = |name: &str| {
            figures
                .get(name)
                .with_context(|| format!("no {name} in {text:?}"))
        };
        let take = |name: &str| -> Result<f64> { Ok(find(name)?.parse()?) };
        Ok(Self {
            requests: find("requests")?.parse()?,
            chunks: take("chunks")?,
            seconds: take("seconds")?,
            latency_p50: take("latency_p50")?,
            delay_p50: take("delay_p50")?,
            delay_p99: take("delay_p99")?,
        })
    }
}

/// The role: carries a plan out and prints the outcome. With [`Shape::Idle`] it says `open` once all streams are.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (plan, to, tail) = Plan::from_args(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, drive(plan, to, tail))
}

async fn drive(plan: Plan, to: SocketAddr, tail: Tail) -> Result<()> {
    let expected = Rc::new(Expected::new(plan.shape, plan.prompt, tail));
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(Connection::open(to, Rc::clone(&expected)).await?);
    }
    let started = Instant::now();
    let opened = Rc::new(Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        let pace = Pace::new(&plan, index, started);
        tasks.spawn_local(drive_connection(connection, pace, Rc::clone(&opened)));
    }
    if plan.shape == Shape::Idle {
        let all = u32::try_from(plan.connections)?;
        tokio::select! {
            permits = opened.acquire_many(all) => drop(permits?),
            Some(ended) = tasks.join_next() => {
                ended??;
                bail!("a stream ended before all were open");
            }
        }
        println!("open");
    }
    let mut seen = Seen::default();
    while let Some(task) = tasks.join_next().await {
        seen.merge(task??);
    }
    let seconds = started.elapsed().as_secs_f64();
    report(&mut seen, seconds);
    Ok(())
}

async fn drive_connection(
    mut connection: Connection,
    pace: Pace,
    opened: Rc<Semaphore>,
) -> Result<Seen> {
    let mut seen = Seen::default();
    while let Some(due) = pace.due(seen.requests) {
        tokio::time::sleep_until(due.into()).await;
        connection.exchange(&mut seen, &opened).await?;
    }
    ensure!(seen.requests > 0, "a connection sent nothing");
    Ok(seen)
}

fn report(seen: &mut Seen, seconds: f64) {
    seen.latencies.sort_unstable();
    seen.delays.sort_unstable();
    println!(
        "requests={} chunks={} seconds={seconds} latency_p50={} delay_p50={} delay_p99={}",
        seen.requests,
        seen.chunks,
        figures::quantile(&seen.latencies, 0.5),
        figures::quantile(&seen.delays, 0.5),
        figures::quantile(&seen.delays, 0.99),
    );
}

/// When one connection sends its requests.
struct Pace {
    until: Until,
    started: Instant,
    offset: Duration,
    every: Duration,
}

impl Pace {
    fn new(plan: &Plan, index: usize, started: Instant) -> Self {
        let share = index as f64 / plan.connections as f64;
        let every = plan.rate.map_or(0.0, |rate| plan.connections as f64 / rate);
        // Streams are spread over one beat of the provider, idle ones over a ramp that any backlog can take.
        let offset = match plan.shape {
            Shape::Paced => PACE_MS as f64 / 1e3 * share,
            Shape::Idle => index as f64 / 4_000.0,
            _ => every * share,
        };
        Self {
            until: plan.until,
            started,
            offset: Duration::from_secs_f64(offset),
            every: Duration::from_secs_f64(every),
        }
    }

    /// When request number `sent` (from 0) goes, or `None` when no more do.
    fn due(&self, sent: u64) -> Option<Instant> {
        let nth = u32::try_from(sent).ok()?;
        let due = self.started + self.offset + self.every * nth;
        match self.until {
            Until::Count(count) => (sent < count).then_some(due),
            Until::Elapsed(time) => {
                let end = self.started + self.offset + time;
                (due < end && Instant::now() < end).then_some(due)
            }
        }
    }
}

/// What one connection saw, then what all did.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    chunks: u64,
    /// ns
    latencies: Vec<u64>,
    /// ns
    delays: Vec<u64>,
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.chunks += other.chunks;
        self.latencies.extend(other.latencies);
        self.delays.extend(other.delays);
    }

    fn count_event(&mut self, event: &[u8], shape: Shape) {
        if shape == Shape::Paced
            && let Some(sent) = script::read_stamp(event)
        {
            self.delays.push(script::unix_nanos().saturating_sub(sent));
        }
    }
}
