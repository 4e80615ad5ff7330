//! Prints the events of standard input, one JSON object a line, and where the stream ended.
//!
//! `--chunk N` reads N bytes at a time.

use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use arbstr_sse::{Event, Item, Limits, Parser};
use serde_json::{Value, json};

fn main() -> ExitCode {
    match parse_args(std::env::args().skip(1)).and_then(print_events) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("events: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many bytes to read at a time.
fn parse_args(mut args: impl Iterator<Item = String>) -> io::Result<usize> {
    let usage = || io::Error::other("usage: events [--chunk N] < stream");
    let mut chunk = 16 * 1024;
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--chunk") {
            Some("") => args.next(),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        let size = value.and_then(|value| value.parse().ok());
        chunk = size.filter(|size| *size > 0).ok_or_else(usage)?;
    }
    Ok(chunk)
}

fn print_events(chunk: usize) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = BufWriter::new(io::stdout().lock());
    let mut parser = Parser::new(Limits::default());
    let mut buffer = vec![0; chunk];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut read = &buffer[..length];
        while let Some(item) = parser.next(&mut read) {
            match item {
                Item::Event(event) => writeln!(output, "{}", describe(event))?,
                other => eprintln!("events: left out, over the limit: bytes {:?}", other.span()),
            }
        }
    }
    parser.finish();
    let id = String::from_utf8_lossy(parser.last_event_id());
    let end = json!({ "end": { "id": id, "retry": millis(parser.retry()) } });
    writeln!(output, "{end}")?;
    output.flush()
}

fn describe(event: Event<'_>) -> Value {
    json!({
        "event": event.event_type_str(),
        "data": event.data_str(),
        "id": event.id_str(),
        "retry": millis(event.retry()),
    })
}

fn millis(retry: Option<Duration>) -> Option<u64> {
    retry.and_then(|retry| retry.as_millis().try_into().ok())
}
