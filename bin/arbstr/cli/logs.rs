//! `arbstr logs`: the requests themselves, as a table or as data, and as they come.

mod print;
mod progress;

use std::collections::HashSet;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use arbstr_store::{Follow, IN_PROGRESS, PageQuery, QueryError, Reader, RequestRow, Selection};
use clap::{Args, ValueEnum};

use self::print::Printer;
use self::progress::Progress;
use super::ledger::QueryArgs;
use super::screen::{self, Screen};
use super::{Failure, printed};
use crate::clock;
use crate::config::Env;

/// `arbstr logs`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// Go on with requests as they end
    #[arg(short, long, conflicts_with_all = ["until", "sort"])]
    pub(crate) follow: bool,
    /// At most so many, the newest [default: 50; with --follow 10; csv and jsonl all, unless sorted]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
    /// By timestamp, cost_sats, duration_ms, latency_ms, input_tokens or output_tokens; with - before it the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// The same as --format jsonl
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

/// How requests are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// All columns, comma-separated; text that begins with = + - @ ' a tab or a line break has a ' before it
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// Prints requests, oldest first unless sorted.
///
/// # Errors
/// When an option is not understood or the database cannot be read.
pub(crate) fn run(options: &Logs, env: Env<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let mut parameters = options.query.parameters();
    if let Some(sort) = &options.sort {
        parameters.add("sort", sort);
    }
    let query = parameters.page(clock::unix_ms())?;
    let reader = options.query.open(env)?;
    let format = if options.json {
        Format::Jsonl
    } else {
        options.format
    };
    let printer = Printer::new(format, Screen::of_stdout());
    let is_everything = options.limit.is_none() && options.sort.is_none();
    if options.follow {
        return follow(&reader, query, options.limit.unwrap_or(10), printer, out);
    }
    if format != Format::Table && is_everything {
        return export(&reader, &query.selection, printer, out);
    }
    let mut rows = newest(&reader, query, options.limit.unwrap_or(50))?;
    if options.sort.is_none() {
        rows.reverse();
    }
    printed(printer.print_all(&rows, out))
}

/// The first `limit` rows in the order of `query`.
fn newest(
    reader: &Reader,
    mut query: PageQuery,
    limit: u32,
) -> Result<Vec<RequestRow>, QueryError> {
    let mut rows = Vec::new();
    let mut left = limit;
    loop {
        query.limit = left.min(PAGE);
        let page = reader.requests(&query)?;
        left = left.saturating_sub(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
        rows.extend(page.rows);
        match page.next {
            Some(next) if left > 0 => query.cursor = Some(next),
            _ => return Ok(rows),
        }
    }
}

/// Every row of a range, one after another.
fn export(
    reader: &Reader,
    selection: &Selection,
    mut printer: Printer,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let total = reader.count(selection)?;
    let mut progress = Progress::new("exporting", total);
    if let Err(error) = printer.begin(&[], out) {
        return printed(Err(error));
    }
    for row in reader.export(selection) {
        if let Err(error) = printer.print(&row?, out) {
            return printed(Err(error));
        }
        progress.step();
    }
    Ok(())
}

/// Some rows that have ended, then each as it ends. Runs until it is stopped or nobody reads.
fn follow(
    reader: &Reader,
    query: PageQuery,
    limit: u32,
    mut printer: Printer,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // Begun before the rows so far are read: a row that ends meanwhile comes twice, and is told apart by its id.
    let mut following = reader.follow(&query.selection.filter)?;
    let mut rows = newest(reader, query, limit)?;
    rows.retain(|row| row.error_message.as_deref() != Some(IN_PROGRESS));
    rows.reverse();
    let mut known: HashSet<String> = rows.iter().map(|row| row.correlation_id.clone()).collect();
    let shown = printer
        .begin(&rows, out)
        .and_then(|()| rows.iter().try_for_each(|row| printer.print(row, out)))
        .and_then(|()| out.flush());
    if let Err(error) = shown {
        return printed(Err(error));
    }
    loop {
        thread::sleep(LOOK_EVERY);
        if screen::is_abandoned() {
            return Ok(());
        }
        let ended = poll(&mut following)?;
        let shown = ended
            .iter()
            .filter(|row| !known.remove(&row.correlation_id))
            .try_for_each(|row| printer.print(row, out));
        if let Err(error) = shown.and_then(|()| out.flush()) {
            return printed(Err(error));
        }
    }
}

/// What has ended by now; a database that cannot be read for a moment is asked again.
fn poll(following: &mut Follow) -> Result<Vec<RequestRow>, QueryError> {
    let began: Instant = clock::now();
    loop {
        match following.poll() {
            Err(_) if clock::now() - began < TIMEOUT => thread::sleep(LOOK_EVERY),
            polled => return polled,
        }
    }
}

const PAGE: u32 = 1000;
const LOOK_EVERY: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr logs
  arbstr logs -f --model gpt-4o
  arbstr logs --success false --range 24h -n 200
  arbstr logs --sort -cost_sats -n 10
  arbstr logs --since 2026-01-01 --format csv > january.csv

Reads the database, with or without a running arbstr. Prompts and answers are not in it.";
