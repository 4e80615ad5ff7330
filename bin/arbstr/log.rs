//! The log: one line for each event, on stderr, without a request ever waiting for it.
//!
//! Events come from the `tracing` macros. [`line`](mod@line) writes one as text, for people or for machines; [`queue`] takes the
//! text in and a thread of its own writes it, many lines at a time. When nobody reads stderr, lines are dropped and
//! counted; requests go on. Control characters are escaped, so that nothing a client or provider says can forge a line.

mod line;
mod queue;
mod stamp;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::line::is_hidden;
use self::line::{Json, Pretty, Style};
use self::queue::Queue;
use crate::clock;

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: a message, then `name=value`.
    #[default]
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// The running log; what it has taken in is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Log(());

impl Log {
    /// Starts the log of this process, at `info` unless `RUST_LOG` says otherwise.
    pub(crate) fn start(format: Format) -> Self {
        let (targets, misread) = targets(std::env::var("RUST_LOG").ok().as_deref());
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style {
            color: io::stderr().is_terminal() && !no_color,
        };
        // A duplicate, so that a write that hangs does not hold the lock of the standard library's stderr.
        let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        let spawned = stderr.and_then(|stderr| {
            let writer = thread::Builder::new().name("log".to_owned());
            writer.spawn(move || QUEUE.write_to(stderr, tell_dropped))
        });
        if spawned.is_ok() {
            let lines = Lines {
                targets,
                format,
                style,
            };
            // An error means that there is a log already.
            let _ = lines.try_init();
            std::panic::set_hook(Box::new(on_panic));
        }
        if let Some(directives) = misread {
            tracing::warn!(
                directives,
                "RUST_LOG is not understood, expected for instance info or info,arbstr::flow=debug"
            );
        }
        Self(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        QUEUE.flush(FLUSH_TIME);
    }
}

/// How many lines were dropped because nobody took them.
pub(crate) fn dropped_lines() -> u64 {
    QUEUE.dropped()
}

fn tell_dropped(lines: u64) {
    tracing::warn!(lines, "log lines were dropped: stderr did not take them");
}

/// What is logged, and `RUST_LOG` where it says nothing sensible.
fn targets(rust_log: Option<&str>) -> (Targets, Option<String>) {
    let given = rust_log.map(str::trim).filter(|text| !text.is_empty());
    let usual = || {
        // A dependency's news are none of an operator's.
        let foreign = ("rusqlite_migration", LevelFilter::WARN);
        Targets::from_iter([foreign]).with_default(LevelFilter::INFO)
    };
    match given.map(str::parse) {
        None => (usual(), None),
        Some(Ok(targets)) => (targets, None),
        Some(Err(_)) => (usual(), given.map(str::to_owned)),
    }
}

/// Turns events into lines. There are no spans: a line names its request itself.
struct Lines {
    targets: Targets,
    format: Format,
    style: Style,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && self
                .targets
                .would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<NoSubscriber>::max_level_hint(&self.targets)
    }

    fn event(&self, event: &Event<'_>) {
        BUFFER.with(|buffer| match buffer.try_borrow_mut() {
            Ok(mut buffer) => self.write(event, &mut buffer),
            // An event about the writing of an event.
            Err(_) => self.write(event, &mut Vec::new()),
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Lines {
    fn write(&self, event: &Event<'_>, buffer: &mut Vec<u8>) {
        buffer.clear();
        let (level, micros) = (*event.metadata().level(), clock::unix_micros());
        let record = |visit: &mut dyn Visit| event.record(visit);
        match self.format {
            Format::Pretty => Pretty::write(buffer, self.style, level, micros, record),
            Format::Json => Json::write(buffer, level, micros, record),
        }
        QUEUE.push(buffer);
    }
}

/// A panic is a line like any other. What it quotes at its end may be a piece of a body and is left out.
fn on_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let reason = without_quote(text.unwrap_or("no reason given"));
    let place = panic.location().map(ToString::to_string);
    let thread = thread::current();
    tracing::error!(
        place,
        thread = thread.name(),
        reason,
        "panicked: this is a bug in arbstr"
    );
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        tracing::error!("{}", std::backtrace::Backtrace::capture());
    }
    QUEUE.flush(PANIC_TIME);
}

fn without_quote(text: &str) -> &str {
    let ends_quoted = text.ends_with('`') || text.ends_with("`[...]");
    let from = text.find('`').filter(|_| ends_quoted);
    from.map_or(text, |from| text[..from].trim_end())
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A process has one stderr.
static QUEUE: Queue = Queue::new();
/// For the last lines to leave at the end of the process.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// A panicking thread waits no longer than this for a stderr that nobody reads.
const PANIC_TIME: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn rust_log_sets_levels_and_nonsense_is_told() {
        let (usual, misread) = targets(None);
        assert!(
            usual.would_enable("any", &Level::INFO) && !usual.would_enable("any", &Level::DEBUG)
        );
        assert!(!usual.would_enable("rusqlite_migration", &Level::INFO));
        assert_eq!(misread, None);
        let (given, misread) = targets(Some("warn,arbstr::flow=debug"));
        assert!(given.would_enable("arbstr::flow::attempts", &Level::DEBUG));
        assert!(!given.would_enable("arbstr", &Level::INFO));
        assert_eq!(misread, None);
        let (fallback, misread) = targets(Some("arbstr=loud"));
        assert!(fallback.would_enable("any", &Level::INFO));
        assert_eq!(misread.as_deref(), Some("arbstr=loud"));
    }

    #[test]
    fn a_panic_does_not_quote_what_it_was_given() {
        let sliced = std::panic::catch_unwind(|| {
            let at = std::hint::black_box(1);
            "éclair of a prompt"[..at].len()
        });
        let text = sliced.unwrap_err();
        let text = text.downcast_ref::<String>().map_or("", String::as_str);
        assert!(
            !text.is_empty() && !without_quote(text).contains("prompt"),
            "{text}"
        );
        assert_eq!(
            without_quote("called `f()` on a None value"),
            "called `f()` on a None value"
        );
    }
}
