//! Prints the events of standard input, one JSON object a line, and where the stream ended.
//!
//! `--chunk N` reads N bytes at a time. `--openai` takes the events for those of an OpenAI stream, and prints what its
//! observer found instead of them.

use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use arbstr_sse::{Event, Item, Limits, Parser};
use arbstr_wire::{Observation, Observer};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    match options.and_then(|options| options.print_events()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("events: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    /// Bytes a read.
    chunk: usize,
    openai: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> io::Result<Self> {
        let usage = || io::Error::other("usage: events [--chunk N] [--openai] < stream");
        let mut options = Self {
            chunk: 16 * 1024,
            openai: false,
        };
        while let Some(arg) = args.next() {
            if arg == "--openai" {
                options.openai = true;
                continue;
            }
            let value = match arg.strip_prefix("--chunk") {
                Some("") => args.next(),
                Some(value) => value.strip_prefix('=').map(str::to_owned),
                None => None,
            };
            let chunk = value.and_then(|value| value.parse().ok());
            options.chunk = chunk.filter(|chunk| *chunk > 0).ok_or_else(usage)?;
        }
        Ok(options)
    }

    fn print_events(&self) -> io::Result<()> {
        let mut input = io::stdin().lock();
        let mut output = BufWriter::new(io::stdout().lock());
        let mut parser = Parser::new(Limits::default());
        let mut observer = Observer::new(1);
        let mut buffer = vec![0; self.chunk];
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
                    Item::Event(event) if self.openai => observer.observe(event.data()),
                    Item::Event(event) => writeln!(output, "{}", describe(event))?,
                    other => {
                        eprintln!("events: left out, over the limit: bytes {:?}", other.span())
                    }
                }
            }
        }
        if self.openai {
            writeln!(output, "{}", describe_observation(&observer.observation()))?;
        }
        parser.finish();
        let id = String::from_utf8_lossy(parser.last_event_id());
        let end = json!({ "end": { "id": id, "retry": millis(parser.retry()) } });
        writeln!(output, "{end}")?;
        output.flush()
    }
}

fn describe(event: Event<'_>) -> Value {
    json!({
        "event": event.event_type_str(),
        "data": event.data_str(),
        "id": event.id_str(),
        "retry": millis(event.retry()),
    })
}

fn describe_observation(seen: &Observation<'_>) -> Value {
    let usage = seen.usage.map(|usage| {
        json!({
            "input": usage.input,
            "output": usage.output,
            "cached_input": usage.cached_input,
            "reasoning": usage.reasoning,
        })
    });
    json!({ "openai": {
        "usage": usage,
        "finish_reason": seen.finish_reason,
        "done": seen.done,
        "error": seen.error.map(|error| &error.message),
        "id": seen.id,
        "model": seen.model,
        "events": seen.events,
    } })
}

fn millis(retry: Option<Duration>) -> Option<u64> {
    retry.and_then(|retry| retry.as_millis().try_into().ok())
}
