//! Requests in each of the formats: a table for people, CSV and JSON lines for machines.

use std::io::{self, Write};

use arbstr_store::{IN_PROGRESS, RequestRow};

use super::Format;
use crate::cli::json_line;
use crate::cli::screen::{Screen, printable};
use crate::cli::table::{Cell, Column, Layout, Table, Tone};
use crate::clock::whole_ms;
use crate::records::row::{COLUMNS, Record, Value};
use crate::records::timestamp;

/// Prints rows one by one.
#[derive(Debug)]
pub(super) struct Printer {
    format: Format,
    screen: Screen,
    layout: Option<Layout>,
}

impl Printer {
    /// Prints in `format` on `screen`.
    pub(super) fn new(format: Format, screen: Screen) -> Self {
        Self {
            format,
            screen,
            layout: None,
        }
    }

    /// Prints a list that is complete.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(super) fn print_all(mut self, rows: &[RequestRow], out: &mut dyn Write) -> io::Result<()> {
        if self.format == Format::Table && rows.is_empty() {
            return writeln!(out, "no requests found");
        }
        self.begin(rows, out)?;
        rows.iter().try_for_each(|row| self.print(row, out))
    }

    /// Prints what comes before the rows; a table's widths are those of the `first` of them.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(super) fn begin(&mut self, first: &[RequestRow], out: &mut dyn Write) -> io::Result<()> {
        match self.format {
            Format::Jsonl => Ok(()),
            Format::Csv => {
                let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
                writeln!(out, "{}", names.join(","))
            }
            Format::Table => {
                let mut table = Table::new(columns());
                first.iter().for_each(|row| table.row(cells(row)));
                let layout = table.layout(self.screen);
                layout.print_titles(out)?;
                self.layout = Some(layout);
                Ok(())
            }
        }
    }

    /// Prints one row.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(super) fn print(&self, row: &RequestRow, out: &mut dyn Write) -> io::Result<()> {
        match (self.format, &self.layout) {
            (Format::Jsonl, _) => json_line(&Record(row), out),
            (Format::Csv, _) => self.print_csv(row, out),
            (Format::Table, Some(layout)) => layout.print_row(&cells(row), out),
            (Format::Table, None) => Ok(()),
        }
    }

    /// One line by RFC 4180, but ended by a mere line feed; what is not known is empty.
    fn print_csv(&self, row: &RequestRow, out: &mut dyn Write) -> io::Result<()> {
        for (place, column) in COLUMNS.iter().enumerate() {
            if place > 0 {
                out.write_all(b",")?;
            }
            match column.of(row) {
                Value::Null => {}
                Value::Flag(flag) => write!(out, "{flag}")?,
                Value::Number(number) => write!(out, "{number}")?,
                Value::Count(count) => write!(out, "{count}")?,
                Value::Amount(amount) => write!(out, "{amount}")?,
                // A file gets the text as it is, a terminal what it can show.
                Value::Text(text) if self.screen.width.is_some() => {
                    write_field(&printable(&text), out)?;
                }
                Value::Text(text) => write_field(&text, out)?,
            }
        }
        out.write_all(b"\n")
    }
}

/// A text that begins like a formula gets an apostrophe before it, and one that begins with an apostrophe another: a
/// spreadsheet runs neither, and whoever takes one apostrophe off has the text again. A client may name a model as it likes.
fn write_field(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let guard = if text.starts_with(LIKE_A_FORMULA) {
        "'"
    } else {
        ""
    };
    if text.contains(['"', ',', '\r', '\n']) {
        write!(out, "\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        write!(out, "{guard}{text}")
    }
}

/// What makes a cell a formula to one spreadsheet or another, as OWASP lists it; and what is put before it.
const LIKE_A_FORMULA: [char; 12] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠', '\'',
];

fn columns() -> Vec<Column> {
    vec![
        Column::text("TIME (UTC)")
            .whole()
            .like("2026-01-31 12:00:00"),
        Column::text("MODEL").like("gpt-4o-mini").of_anybody(),
        Column::text("PROVIDER").like("a-provider"),
        Column::text("STREAM").dispensable(6),
        Column::number("INPUT").like("12345").dispensable(3),
        Column::number("OUTPUT").dispensable(3),
        Column::number("COST").like("0.0001"),
        Column::number("FIRST MS").dispensable(5),
        Column::number("MS").like("12345").dispensable(2),
        Column::number("TRIES").dispensable(4),
        Column::text("OUTCOME").like("in progress"),
        Column::text("ID").whole().dispensable(7),
    ]
}

fn cells(row: &RequestRow) -> Vec<Cell> {
    vec![
        Cell::text(&timestamp::plain(row.timestamp_ms)),
        Cell::text(&row.model),
        row.provider.as_deref().into(),
        Cell::text(if row.streaming { "yes" } else { "no" }),
        Cell::number(row.input_tokens),
        Cell::number(row.output_tokens),
        cost(row),
        Cell::number(row.latency.map(whole_ms)),
        Cell::number(row.duration.map(whole_ms)),
        Cell::number(row.attempts),
        outcome(row),
        Cell::text(&row.correlation_id),
    ]
}

/// The exact cost, else `~` and the estimate.
fn cost(row: &RequestRow) -> Cell {
    match (row.cost, row.estimated_cost) {
        (None, Some(estimate)) => Cell::text(&format!("~{estimate}")).toned(Tone::Doubtful),
        (cost, _) => Cell::number(cost),
    }
}

fn outcome(row: &RequestRow) -> Cell {
    match row.error_message.as_deref() {
        None if row.success => Cell::text("ok").toned(Tone::Good),
        None => Cell::text("failed").toned(Tone::Bad),
        Some(IN_PROGRESS) => Cell::text("in progress").toned(Tone::Faint),
        Some(message) => {
            let status = row.error_status.map(|status| format!("{status} "));
            let told = format!("{}{message}", status.unwrap_or_default());
            Cell::text(&told).toned(Tone::Bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_csv_is_a_formula_and_every_text_can_be_had_back() {
        for (text, field) in [
            ("gpt-4o", "gpt-4o"),
            ("a=b", "a=b"),
            ("=1+2", "'=1+2"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("\n=1", "\"'\n=1\""),
            ("＝1", "'＝1"),
            ("=\"a,b\"", "\"'=\"\"a,b\"\"\""),
            ("'quoted'", "''quoted'"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            write_field(text, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), field, "{text:?}");
        }
    }
}
