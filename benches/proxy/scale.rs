//! How arbstr's cost grows with what it has to carry: open streams, providers, bodies, rows on record.
//!
//! No floor runs beside it: the question is the shape of the curve, not its height. Each point is a fresh process.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::load::{Plan, Until};
use crate::script::Shape;
use crate::subject::{Setup, Stage};

/// One point of a curve.
struct Point {
    size: usize,
    figure: f64,
}

/// Measures all curves; the answer is a table in Markdown.
pub(crate) fn run(stage: &mut Stage) -> Result<String> {
    let mut text = String::from("| what grows | to | figure | unit | size | figure |\n");
    text.push_str("| - | -: | -: | - | -: | -: |\n");
    let most = if stage.options.many { 5_000 } else { 1_000 };
    let streams: Vec<usize> = [100, 300, 1_000, 3_000, 5_000]
        .into_iter()
        .filter(|count| *count <= most)
        .collect();
    let [memory, cpu] = streams_open(stage, &streams)?;
    add(&mut text, "streams open: memory, all", "MiB", &memory);
    add(
        &mut text,
        "streams open: CPU to open and end all",
        "ms",
        &cpu,
    );
    let found = providers(stage, &[1, 10, 50, 200])?;
    add(
        &mut text,
        "providers of the model: CPU per request",
        "µs",
        &found,
    );
    let found = bodies(stage, &[1_000, 10_000, 100_000, 1_000_000, 8_000_000])?;
    add(
        &mut text,
        "bytes of the request: CPU per request",
        "µs",
        &found,
    );
    let rows: &[usize] = if stage.options.many {
        &[0, 100_000, 1_000_000, 10_000_000]
    } else {
        &[0, 10_000, 100_000]
    };
    let found = rows_on_record(stage, rows)?;
    add(&mut text, "rows on record: CPU per request", "µs", &found);
    Ok(text)
}

/// The two last columns say how many times the first point's size and figure this is.
fn add(text: &mut String, what: &str, unit: &str, points: &[Point]) {
    let Some(first) = points.first() else { return };
    for point in points {
        let grown = point.size as f64 / first.size.max(1) as f64;
        let factor = point.figure / first.figure;
        writeln!(
            text,
            "| {what} | {} | {:.1} | {unit} | {grown:.0} x | {factor:.1} x |",
            point.size, point.figure
        )
        .expect("a string takes all that is written");
    }
    eprintln!("  {what}: done");
}

fn streams_open(stage: &mut Stage, counts: &[usize]) -> Result<[Vec<Point>; 2]> {
    let (mut memory, mut cpu) = (Vec::new(), Vec::new());
    for &size in counts {
        let mut subject = stage.proxy()?;
        subject.load(&requests(Shape::Json, 8, Until::Count(50)))?;
        let plan = requests(Shape::Idle, size, Until::Count(1));
        let held = subject.hold(&plan, stage)?;
        subject.stop()?;
        memory.push(Point {
            size,
            figure: (held.open - held.before) / 1024.0 / 1024.0,
        });
        cpu.push(Point {
            size,
            figure: held.cpu / 1e6,
        });
    }
    Ok([memory, cpu])
}

fn providers(stage: &mut Stage, counts: &[usize]) -> Result<Vec<Point>> {
    let plan = timed(stage, Shape::Json, 8);
    let of = |count| Setup {
        providers: count,
        rows: 0,
    };
    counts
        .iter()
        .map(|count| measure(stage, of(*count), &plan, *count))
        .collect()
}

fn bodies(stage: &mut Stage, sizes: &[usize]) -> Result<Vec<Point>> {
    let mut plan = timed(stage, Shape::Prompt, 4);
    sizes
        .iter()
        .map(|size| {
            plan.prompt = *size;
            measure(stage, Setup::default(), &plan, *size)
        })
        .collect()
}

fn rows_on_record(stage: &mut Stage, counts: &[usize]) -> Result<Vec<Point>> {
    let plan = timed(stage, Shape::Json, 8);
    let of = |rows| Setup { providers: 1, rows };
    counts
        .iter()
        .map(|count| measure(stage, of(*count), &plan, *count))
        .collect()
}

/// CPU per request in µs, after a turn that is not counted.
fn measure(stage: &mut Stage, setup: Setup, plan: &Plan, size: usize) -> Result<Point> {
    let mut subject = stage.proxy_of(setup)?;
    subject.load(plan)?;
    let turn = subject.load(plan)?;
    subject.stop()?;
    Ok(Point {
        size,
        figure: turn.cpu / turn.outcome.requests as f64 / 1e3,
    })
}

fn timed(stage: &Stage, shape: Shape, connections: usize) -> Plan {
    let time = Duration::from_secs_f64(stage.options.seconds(2.0));
    requests(shape, connections, Until::Elapsed(time))
}

fn requests(shape: Shape, connections: usize, until: Until) -> Plan {
    Plan {
        shape,
        connections,
        until,
        rate: None,
        prompt: shape.prompt_bytes(),
    }
}
