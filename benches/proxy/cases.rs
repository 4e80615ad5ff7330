//! The cases: which load tells which figure, and the bar that each is held to.

use std::time::Duration;

use anyhow::Result;

use crate::figures::{Bar, Line, Sample, median};
use crate::load::{Plan, Until};
use crate::script::{PACED_CHUNKS, Shape};
use crate::subject::{Memory, Stage, Subject, Turn};

/// A named measurement.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Stage) -> Result<Vec<Line>>,
}

/// In the order of the table.
pub(crate) const ALL: [Case; 9] = [
    Case {
        name: "json",
        run: json,
    },
    Case {
        name: "rate",
        run: rate,
    },
    Case {
        name: "latency",
        run: latency,
    },
    Case {
        name: "prompt",
        run: prompt,
    },
    Case {
        name: "burst",
        run: burst,
    },
    Case {
        name: "nulls",
        run: nulls,
    },
    Case {
        name: "paced",
        run: paced,
    },
    Case {
        name: "idle",
        run: idle,
    },
    Case {
        name: "start",
        run: start,
    },
];

fn json(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = for_seconds(stage, Shape::Json, 32, 3.0);
    let rounds = take_turns(stage, &plan, 7)?;
    Ok(vec![cpu_per_request(
        "JSON, 32 connections: CPU per request",
        1.5,
        &rounds,
    )])
}

fn rate(stage: &mut Stage) -> Result<Vec<Line>> {
    let mut plan = for_seconds(stage, Shape::Json, 32, 4.0);
    plan.rate = Some(RATE);
    let rounds = take_turns(stage, &plan, 9)?;
    for round in &rounds {
        for turn in [&round.floor, &round.proxy].into_iter().chain(&round.nginx) {
            let rate = turn.outcome.requests as f64 / turn.outcome.seconds;
            if rate < RATE * 0.97 {
                eprintln!(
                    "  the machine is too busy: only {rate:.0} requests per second were sent"
                );
            }
        }
    }
    Ok(vec![cpu_per_request(
        "JSON at 2,000/s: CPU per request",
        1.4,
        &rounds,
    )])
}

fn latency(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = for_seconds(stage, Shape::Json, 1, 1.5);
    let rounds = take_turns(stage, &plan, 9)?;
    let mut line = Line::new(
        "JSON, 1 connection: added p50 latency",
        "µs",
        Bar::Ratio(1.4),
    );
    for round in &rounds {
        let direct = round.direct.outcome.latency_p50;
        let added = |turn: &Turn| (turn.outcome.latency_p50 - direct) / 1e3;
        line.push(round.sample(added));
    }
    Ok(vec![line])
}

fn prompt(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = for_seconds(stage, Shape::Prompt, 4, 3.0);
    let rounds = take_turns(stage, &plan, 5)?;
    Ok(vec![cpu_per_request(
        "JSON, 1 MB prompt: CPU per request",
        1.6,
        &rounds,
    )])
}

fn burst(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = for_seconds(stage, Shape::Burst, 8, 3.0);
    let rounds = take_turns(stage, &plan, 5)?;
    let name = "stream, 200 chunks back to back: CPU per chunk";
    Ok(vec![cpu_per_chunk(name, Bar::Ratio(0.6), &rounds)])
}

fn nulls(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = for_seconds(stage, Shape::Nulls, 8, 3.0);
    let rounds = take_turns(stage, &plan, 3)?;
    let name = "the same, `\"usage\":null` taken out of each: CPU per chunk";
    Ok(vec![cpu_per_chunk(name, Bar::None, &rounds)])
}

fn paced(stage: &mut Stage) -> Result<Vec<Line>> {
    let plan = Plan {
        shape: Shape::Paced,
        connections: 50,
        until: Until::Count(if stage.options.quick { 1 } else { 3 }),
        rate: None,
        prompt: Shape::Paced.prompt_bytes(),
    };
    let rounds = take_turns(stage, &plan, 9)?;
    let name = format!("stream, {PACED_CHUNKS} chunks 20 ms apart x 50: CPU per chunk");
    let mut p50 = Line::new("the same: relay delay p50", "µs", Bar::Ratio(1.05));
    let mut p99 = Line::new("the same: relay delay p99", "µs", Bar::Ratio(1.1));
    for round in &rounds {
        p50.push(round.sample(|turn| turn.outcome.delay_p50 / 1e3));
        p99.push(round.sample(|turn| turn.outcome.delay_p99 / 1e3));
    }
    Ok(vec![
        cpu_per_chunk(&name, Bar::Ratio(1.15), &rounds),
        p50,
        p99,
    ])
}

fn idle(stage: &mut Stage) -> Result<Vec<Line>> {
    let mut lines = idle_of(stage, 1_000)?;
    if stage.options.many {
        lines.extend(idle_of(stage, 5_000)?);
    }
    Ok(lines)
}

fn idle_of(stage: &mut Stage, streams: usize) -> Result<Vec<Line>> {
    let mut per_stream = Line::new(
        format!("memory per idle stream, {streams} open"),
        "KiB",
        Bar::Ratio(0.9),
    );
    let mut left = Line::new(
        format!("memory kept after {streams} left"),
        "MiB",
        Bar::None,
    );
    let mut allowed = Vec::new();
    for _ in 0..stage.options.turns(3) {
        let subject = stage.floor()?;
        let floor = weigh(stage, subject, streams)?;
        let subject = stage.proxy()?;
        let proxy = weigh(stage, subject, streams)?;
        let subject = stage.nginx()?;
        let nginx = subject.map(|subject| weigh(stage, subject, streams));
        let nginx = nginx.transpose()?;
        let each = |memory: Memory| (memory.open - memory.before) / streams as f64 / KIB;
        let kept = |memory: Memory| (memory.after - memory.before) / KIB / KIB;
        per_stream.push(Sample {
            floor: each(floor),
            proxy: each(proxy),
            nginx: nginx.map(each),
        });
        left.push(Sample {
            floor: kept(floor),
            proxy: kept(proxy),
            nginx: nginx.map(kept),
        });
        allowed.push(20.0 + proxy.before * 0.1 / KIB / KIB);
    }
    left.bar = Bar::Absolute(median(&allowed));
    Ok(vec![per_stream, left])
}

/// A subject fresh from its start, warmed by some requests, since what an allocator keeps must not be counted twice.
fn weigh(stage: &mut Stage, mut subject: Subject, streams: usize) -> Result<Memory> {
    let mut plan = Plan {
        shape: Shape::Json,
        connections: 8,
        until: Until::Count(50),
        rate: None,
        prompt: Shape::Json.prompt_bytes(),
    };
    subject.load(&plan)?;
    plan.shape = Shape::Idle;
    plan.connections = streams;
    plan.until = Until::Count(1);
    let memory = subject.hold(&plan, stage)?;
    subject.stop()?;
    Ok(memory)
}

fn start(stage: &mut Stage) -> Result<Vec<Line>> {
    let mut line = Line::new("start to first 200 on /health", "ms", Bar::Absolute(30.0));
    for _ in 0..stage.options.turns(15) {
        let floor = stage.floor()?;
        let proxy = stage.proxy()?;
        let nginx = stage.nginx()?;
        let ms = |subject: &Subject| subject.started_in.as_secs_f64() * 1e3;
        line.push(Sample {
            floor: ms(&floor),
            proxy: ms(&proxy),
            nginx: nginx.as_ref().map(ms),
        });
        floor.stop()?;
        proxy.stop()?;
        nginx.map_or(Ok(()), Subject::stop)?;
    }
    Ok(vec![line])
}

/// One turn of each subject.
#[derive(Debug)]
struct Round {
    direct: Turn,
    floor: Turn,
    proxy: Turn,
    nginx: Option<Turn>,
}

impl Round {
    /// What `of` tells of each one's turn.
    fn sample(&self, of: impl Fn(&Turn) -> f64) -> Sample {
        Sample {
            floor: of(&self.floor),
            proxy: of(&self.proxy),
            nginx: self.nginx.as_ref().map(of),
        }
    }
}

/// Loads provider, floor, proxy and nginx in turn, `repeats` times, after a turn of each that is not counted.
fn take_turns(stage: &mut Stage, plan: &Plan, repeats: usize) -> Result<Vec<Round>> {
    let mut direct = stage.direct();
    let mut floor = stage.floor()?;
    let mut proxy = stage.proxy()?;
    let mut nginx = stage.nginx()?;
    let mut load_nginx = |plan: &Plan| nginx.as_mut().map(|nginx| nginx.load(plan)).transpose();
    let mut warm_up = plan.clone();
    if let Until::Elapsed(time) = plan.until {
        warm_up.until = Until::Elapsed(time.min(Duration::from_millis(700)));
    }
    floor.load(&warm_up)?;
    proxy.load(&warm_up)?;
    load_nginx(&warm_up)?;
    let mut rounds = Vec::new();
    for _ in 0..stage.options.turns(repeats) {
        rounds.push(Round {
            direct: direct.load(plan)?,
            floor: floor.load(plan)?,
            proxy: proxy.load(plan)?,
            nginx: load_nginx(plan)?,
        });
    }
    floor.stop()?;
    proxy.stop()?;
    nginx.map_or(Ok(()), Subject::stop)?;
    Ok(rounds)
}

fn for_seconds(stage: &Stage, shape: Shape, connections: usize, seconds: f64) -> Plan {
    let time = Duration::from_secs_f64(stage.options.seconds(seconds));
    Plan {
        shape,
        connections,
        until: Until::Elapsed(time),
        rate: None,
        prompt: shape.prompt_bytes(),
    }
}

fn cpu_per_request(name: &str, bar: f64, rounds: &[Round]) -> Line {
    let mut line = Line::new(name, "µs", Bar::Ratio(bar));
    for round in rounds {
        let each = |turn: &Turn| turn.cpu / turn.outcome.requests as f64 / 1e3;
        line.push(round.sample(each));
    }
    line
}

fn cpu_per_chunk(name: &str, bar: Bar, rounds: &[Round]) -> Line {
    let mut line = Line::new(name, "µs", bar);
    for round in rounds {
        line.push(round.sample(|turn| turn.cpu / turn.outcome.chunks / 1e3));
    }
    line
}

/// Requests per second of the fixed-rate case.
const RATE: f64 = 2_000.0;
const KIB: f64 = 1024.0;
