//! The table that a run ends with, in Markdown.

use crate::figures::{Bar, Line};

/// The lines of the table, and what they hold for: `mode`, the machine and its nginx.
pub(crate) fn render(lines: &[Line], mode: &str, nginx: &str) -> String {
    let mut rows = vec![
        [
            "measured", "floor", "arbstr", "unit", "ratio", "turns", "bar", "reached", "nginx",
            "ratio",
        ]
        .map(str::to_owned),
        ["-", "-:", "-:", "-", "-:", "-", "-", "-", "-:", "-:"].map(str::to_owned),
    ];
    rows.extend(lines.iter().map(row));
    let mut text: String = rows
        .iter()
        .map(|cells| format!("| {} |\n", cells.join(" | ")))
        .collect();
    text.push_str(&format!("\n{mode}; {}; {nginx}\n", machine()));
    text
}

/// One line for the progress report.
pub(crate) fn describe(line: &Line) -> String {
    row(line).join("  ")
}

fn row(line: &Line) -> [String; 10] {
    let (low, high) = line.spread();
    let turns = if line.floor() > 0.0 && line.proxy() > 0.0 {
        format!("{low:.2} to {high:.2}")
    } else {
        "–".to_owned()
    };
    let bar = match line.bar {
        Bar::None => "–".to_owned(),
        Bar::Ratio(bar) => format!("{bar} x"),
        Bar::Absolute(bar) => format!("{bar:.0} {}", line.unit),
    };
    let reached = match line.reaches_bar() {
        None => "–",
        Some(true) => "yes",
        Some(false) => "no",
    };
    [
        line.name.clone(),
        figure(line.floor()),
        figure(line.proxy()),
        line.unit.to_owned(),
        ratio(line.proxy(), line.floor()),
        format!("{turns} ({})", line.samples.len()),
        bar,
        reached.to_owned(),
        figure(line.nginx()),
        ratio(line.nginx(), line.floor()),
    ]
}

/// How many times the floor, where both are something.
fn ratio(of: f64, floor: f64) -> String {
    if of > 0.0 && floor > 0.0 {
        format!("{:.2}", of / floor)
    } else {
        "–".to_owned()
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |rest| {
        rest.trim_start_matches([' ', '\t', ':'])
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
