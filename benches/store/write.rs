//! Rows written per second, and what one costs in CPU time: on the request path and in the writer.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use arbstr_store::{Completion, Options, Selection, Store};

use crate::{cpu, record};

/// What was used for some rows.
#[derive(Debug, Default)]
struct Used {
    path: Duration,
    writer: Duration,
    wall: Duration,
}

impl Used {
    fn print(&self, what: &str, rows: u64) {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
        println!(
            "{what}: {:.0} rows/s; CPU per request {:.2} us on its path + {:.2} us in the writer = {:.2} us",
            rows as f64 / self.wall.as_secs_f64(),
            each(self.path),
            each(self.writer),
            each(self.path + self.writer),
        );
    }
}

/// Writes a file of `rows` requests, each completed at once; the store is kept busy without a pause.
pub(crate) fn whole(file: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::open(Options::new(file, 1))?;
    let (before, start) = (cpu::of_thread("ledger"), Instant::now());
    let mut used = Used::default();
    for first in (0..rows).step_by(CHUNK) {
        let chunk: Vec<_> = (first..rows.min(first + CHUNK as u64))
            .map(record::pair)
            .collect();
        used.path += cpu::of_calls(|| {
            for (opening, completion) in &chunk {
                store.open_request(opening);
                complete(&store, completion);
            }
        });
        while store.status(0).depth > FAR_BEHIND {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    finish(&store, &mut used, before, start)?;
    used.print("written, opened and completed in one commit", rows);
    check(&store, rows)?;
    println!("{} bytes a row", std::fs::metadata(file)?.len() / rows);
    Ok(())
}

/// The same with completions that come when the openings are long committed, as those of long answers do.
pub(crate) fn apart(file: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::open(Options::new(file, 1))?;
    let (before, start) = (cpu::of_thread("ledger"), Instant::now());
    let mut used = Used::default();
    for first in (0..rows).step_by(COMMIT) {
        let chunks = || {
            let last = rows.min(first + COMMIT as u64);
            let chunks = (first..last).step_by(CHUNK);
            chunks.map(move |first| (first..last.min(first + CHUNK as u64)).map(record::pair))
        };
        for chunk in chunks() {
            let openings: Vec<_> = chunk.map(|(opening, _)| opening).collect();
            used.path += cpu::of_calls(|| openings.iter().for_each(|one| store.open_request(one)));
        }
        flush(&store)?;
        for chunk in chunks() {
            let completions: Vec<_> = chunk.map(|(_, completion)| completion).collect();
            used.path += cpu::of_calls(|| completions.iter().for_each(|one| complete(&store, one)));
        }
        flush(&store)?;
    }
    finish(&store, &mut used, before, start)?;
    used.print("written, opened and completed in two commits", rows);
    check(&store, rows)
}

/// As the proxy does it, whose record borrows its texts.
fn complete(store: &Store, completion: &Completion) {
    store.complete(&completion.map(String::as_str));
}

fn finish(
    store: &Store,
    used: &mut Used,
    before: Duration,
    start: Instant,
) -> Result<(), Box<dyn Error>> {
    flush(store)?;
    used.wall = start.elapsed();
    used.writer = cpu::of_thread("ledger") - before;
    Ok(())
}

fn flush(store: &Store) -> Result<(), Box<dyn Error>> {
    let left = store.flush(Duration::from_secs(60));
    left.is_empty()
        .then_some(())
        .ok_or_else(|| format!("not written: {left:?}").into())
}

fn check(store: &Store, rows: u64) -> Result<(), Box<dyn Error>> {
    let found = store.reader().count(&Selection::all())?;
    let left = store.close(Duration::from_secs(60));
    if found != rows || !left.is_empty() {
        return Err(format!("{found} rows instead of {rows}, not written: {left:?}").into());
    }
    Ok(())
}

/// Requests made ready at once, so that making them is not measured; few, so that they are still in the processor's cache
/// when they are handed in, as those of the proxy are.
const CHUNK: usize = 64;
/// Requests of one commit, where it matters.
const COMMIT: usize = 2000;
/// Records that the writer may be behind before the bench waits for it.
const FAR_BEHIND: u64 = 60_000;
