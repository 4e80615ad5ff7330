//! `arbstr stats`: what was asked, what it cost and what was saved.

use std::io::{self, Write};

use arbstr_store::{Group, GroupBy, GroupKey, Percentiles, Stats, StatsQuery, Sum, Totals};
use clap::Args;

use super::ledger::QueryArgs;
use super::screen::Screen;
use super::table::{Cell, Column, Table, Tone};
use super::{Failure, json_line, printed};
use crate::clock::{self, whole_ms};
use crate::config::Env;
use crate::records::figures::{self, StatsJson};
use crate::records::parameters::InvalidParameter;
use crate::records::timestamp;

/// `arbstr stats`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatsCommand {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// By model, provider, policy, tier, day or hour (UTC)
    #[arg(short, long, value_name = "WHAT")]
    pub(crate) group_by: Option<String>,
    /// Print JSON, in the shape of GET /v1/stats
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints totals, or a line for each group.
///
/// # Errors
/// When an option is not understood or the database cannot be read.
pub(crate) fn run(
    options: &StatsCommand,
    env: Env<'_>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let now_ms = clock::unix_ms();
    let mut parameters = options.query.parameters();
    if let Some(group_by) = &options.group_by {
        parameters.add("group_by", group_by);
    }
    let query = parameters.stats(now_ms)?;
    refuse_to_begin_after(now_ms, &query)?;
    let stats = options.query.open(env)?.stats(&query)?;
    printed(if options.json {
        json_line(&StatsJson::of(&stats, &query, now_ms), out)
    } else {
        print(&stats, &query, now_ms, Screen::of_stdout(), out)
    })
}

/// A range without an end goes until now, so it cannot begin later.
fn refuse_to_begin_after(now_ms: i64, query: &StatsQuery) -> Result<(), InvalidParameter> {
    let asked = &query.selection;
    if asked.until_ms != i64::MAX || asked.since_ms <= now_ms {
        return Ok(());
    }
    let (since, now) = (timestamp::iso(asked.since_ms), timestamp::iso(now_ms));
    let fault = format!("found {since}, expected a time before now, which is {now}, or an --until");
    Err(InvalidParameter::new("since", fault))
}

fn print(
    stats: &Stats,
    query: &StatsQuery,
    now_ms: i64,
    screen: Screen,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (since, until) = figures::range(stats, query, now_ms);
    let since = since.map_or_else(|| "the beginning".to_owned(), timestamp::plain);
    writeln!(out, "from {since} to {} UTC\n", timestamp::plain(until))?;
    match query.group_by {
        None => summary(&stats.totals).print_rows(out, screen),
        Some(by) => by_group(by, stats).print(out, screen),
    }
}

/// A line of the summary: a figure, and what it leaves open.
struct Line {
    name: &'static str,
    figure: Cell,
    note: String,
}

impl Line {
    fn new(name: &'static str, figure: Cell, note: impl Into<String>) -> Self {
        Self {
            name,
            figure,
            note: note.into(),
        }
    }
}

/// One figure a line.
fn summary(totals: &Totals) -> Table {
    let columns = [Column::text(""), Column::number(""), Column::text("")];
    let mut table = Table::new(columns.to_vec());
    let lines = [counts(totals), amounts(totals), times(totals)];
    for Line { name, figure, note } in lines.into_iter().flatten() {
        table.row([Cell::text(name), figure, Cell::text(&note)]);
    }
    table
}

fn counts(totals: &Totals) -> Vec<Line> {
    let whole = |number: u128| Cell::number(Some(number));
    let rate = percent(totals).map(|rate| format!("{rate} % of those that have ended"));
    vec![
        Line::new("requests", whole(totals.requests.into()), ""),
        Line::new(
            "succeeded",
            whole(totals.successes.into()),
            rate.unwrap_or_default(),
        ),
        Line::new("failed", whole(figures::failures(totals).into()), ""),
        Line::new("in progress", whole(totals.in_progress.into()), ""),
        Line::new("input tokens", whole(totals.input_tokens), cached(totals)),
        Line::new(
            "output tokens",
            whole(totals.output_tokens),
            reasoning(totals),
        ),
    ]
}

/// What requests cost and saved, and of how many it is not known.
fn amounts(totals: &Totals) -> Vec<Line> {
    let sats = |sum: &Sum| Cell::number(Some(sum.amount));
    let mut lines = vec![Line::new("cost", sats(&totals.cost), of(&totals.cost))];
    let estimated = &totals.estimated_cost;
    if estimated.rows > 0 {
        let note = format!("sats more, estimated for {}", requests(estimated.rows));
        lines.push(Line::new("estimated", sats(estimated), note));
    }
    if totals.unknown_cost > 0 {
        let note = format!("{} whose cost is not known", requests(totals.unknown_cost));
        lines.push(Line::new("unknown", Cell::none(), note));
    }
    if totals.unsent > 0 {
        let note = format!("{} that reached no provider", requests(totals.unsent));
        lines.push(Line::new("unsent", Cell::none(), note));
    }
    let sunk = &totals.sunk_cost;
    if sunk.rows > 0 {
        let note = format!("sats more, for failed attempts of {}", requests(sunk.rows));
        lines.push(Line::new("lost", sats(sunk), note));
    }
    let note = format!("{}, against the dearest candidate", of(&totals.savings));
    lines.push(Line::new("saved", sats(&totals.savings), note));
    lines
}

fn times(totals: &Totals) -> Vec<Line> {
    let line = |name, found: Option<&Percentiles>| Line::new(name, median(found), tail(found));
    vec![
        line("first byte", totals.latency.as_ref()),
        line("whole answer", totals.duration.as_ref()),
    ]
}

fn by_group(by: GroupBy, stats: &Stats) -> Table {
    let mut table = Table::new(vec![
        Column::text(title(by)).of_anybody(),
        Column::number("REQUESTS"),
        Column::number("OK %").dispensable(3),
        Column::number("FAILED").dispensable(6),
        Column::number("OPEN").dispensable(9),
        Column::number("INPUT").dispensable(7),
        Column::number("OUTPUT").dispensable(7),
        Column::number("COST"),
        Column::number("ESTIMATED").dispensable(5),
        Column::number("LOST").dispensable(10),
        Column::number("UNKNOWN").dispensable(2),
        Column::number("SAVED").dispensable(1),
        Column::number("P50 MS").dispensable(4),
        Column::number("P95 MS").dispensable(4),
        Column::number("P99 MS").dispensable(8),
    ]);
    for Group { key, totals } in &stats.groups {
        table.row(cells(name(key, by), totals));
    }
    table.row(cells(Cell::text("all").toned(Tone::Faint), &stats.totals));
    table
}

/// A group's name; a day or an hour only as far as it goes.
fn name(key: &GroupKey, by: GroupBy) -> Cell {
    match key {
        GroupKey::Name(name) => name.as_deref().into(),
        GroupKey::Time(start_ms) => {
            let start = timestamp::plain(*start_ms);
            let length = if by == GroupBy::Day { 10 } else { 16 };
            Cell::text(start.get(..length).unwrap_or(&start))
        }
    }
}

fn cells(key: Cell, totals: &Totals) -> Vec<Cell> {
    let latency = totals.latency.as_ref();
    let ms = |of: fn(&Percentiles) -> std::time::Duration| {
        Cell::number(latency.map(|found| whole_ms(of(found))))
    };
    let known = |sum: &Sum| Cell::number((sum.rows > 0).then_some(sum.amount));
    vec![
        key,
        Cell::number(Some(totals.requests)),
        Cell::number(percent(totals)),
        Cell::number(Some(figures::failures(totals))),
        Cell::number(Some(totals.in_progress)),
        Cell::number(Some(totals.input_tokens)),
        Cell::number(Some(totals.output_tokens)),
        known(&totals.cost),
        known(&totals.estimated_cost),
        known(&totals.sunk_cost),
        Cell::number(Some(totals.unknown_cost)),
        known(&totals.savings),
        ms(|found| found.p50),
        ms(|found| found.p95),
        ms(|found| found.p99),
    ]
}

const fn title(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Model => "MODEL",
        GroupBy::Provider => "PROVIDER",
        GroupBy::Policy => "POLICY",
        GroupBy::Tier => "TIER",
        GroupBy::Day => "DAY (UTC)",
        GroupBy::Hour => "HOUR (UTC)",
    }
}

/// Successes among what has ended, to the nearest tenth; but 100 means all, and 0 none.
fn percent(totals: &Totals) -> Option<String> {
    let successes = u128::from(totals.successes);
    let ended = successes + u128::from(figures::failures(totals));
    let tenths = (successes * 2000 + ended).checked_div(ended * 2)?;
    let tenths = match successes {
        0 => 0,
        all if all == ended => 1000,
        _ => tenths.clamp(1, 999),
    };
    Some(format!("{}.{}", tenths / 10, tenths % 10))
}

fn of(sum: &Sum) -> String {
    format!("sats of {}", requests(sum.rows))
}

fn requests(count: u64) -> String {
    match count {
        1 => "1 request".to_owned(),
        _ => format!("{count} requests"),
    }
}

fn cached(totals: &Totals) -> String {
    match totals.cached_input_tokens {
        0 => String::new(),
        cached => format!("{cached} of them cached"),
    }
}

fn reasoning(totals: &Totals) -> String {
    match totals.reasoning_tokens {
        0 => String::new(),
        reasoning => format!("{reasoning} of them reasoning"),
    }
}

fn median(found: Option<&Percentiles>) -> Cell {
    Cell::number(found.map(|found| whole_ms(found.p50)))
}

fn tail(found: Option<&Percentiles>) -> String {
    found.map_or_else(String::new, |found| {
        let (p95, p99) = (whole_ms(found.p95), whole_ms(found.p99));
        format!("ms median, 95 % within {p95}, 99 % within {p99}")
    })
}

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr stats
  arbstr stats --range 24h --group-by model
  arbstr stats --since 2026-01-01 --until 2026-02-01 --group-by day --json

Reads the database, with or without a running arbstr. What is not known is counted, never added as 0.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_to_the_nearest_tenth_and_all_means_all() {
        for (successes, failures, shown) in [
            (11, 1, Some("91.7")),
            (2, 1, Some("66.7")),
            (1, 2, Some("33.3")),
            (5, 0, Some("100.0")),
            (0, 5, Some("0.0")),
            (99_999, 1, Some("99.9")),
            (1, 99_999, Some("0.1")),
            (0, 0, None),
        ] {
            let totals = Totals {
                requests: successes + failures,
                successes,
                ..Totals::default()
            };
            let shown = shown.map(str::to_owned);
            assert_eq!(
                percent(&totals),
                shown,
                "{successes} of {}",
                totals.requests
            );
        }
    }
}
