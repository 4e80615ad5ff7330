//! The readers in turn, round after round, and their ratios within the run.
//!
//! On a shared machine absolute figures move by tens of percent between runs; what moves both sides of a ratio alike
//! does not move the ratio. The least time of all
//! rounds is taken for each.

mod contestants;

use std::time::{Duration, Instant};

use contestants::{Corpus, Reader, corpora, readers};

fn main() {
    let only = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let readers = readers();
    print!("{:<15}", "GB/s");
    for reader in &readers {
        print!("{:>14}", reader.name);
    }
    for &(name, than) in RATIOS {
        print!("{:>18}", format!("{}/{than}", short(name)));
    }
    println!();
    for corpus in corpora() {
        if only.as_ref().is_none_or(|only| corpus.name.contains(only)) {
            report(&corpus, &readers);
        }
    }
}

fn report(corpus: &Corpus, readers: &[Reader]) {
    let best = measure(corpus, readers);
    let gigabytes = |time: Duration| corpus.bytes.len() as f64 / time.as_nanos() as f64;
    print!("{:<15}", corpus.name);
    for time in &best {
        print!("{:>14.2}", time.map_or(f64::NAN, gigabytes));
    }
    let speed = |name: &str| {
        let place = readers
            .iter()
            .position(|reader| reader.name == name)
            .expect("a reader's name");
        best[place].map_or(f64::NAN, gigabytes)
    };
    let peer = speed("sse-stream")
        .max(speed("sse-core"))
        .max(speed("eventsource"));
    let (_, floor_bar, peers_bar) = BARS
        .into_iter()
        .find(|bar| bar.0 == corpus.name)
        .expect("every corpus has bars");
    for &(name, than) in RATIOS {
        let (than, bar) = match than {
            "floor" => (speed("floor"), floor_bar),
            _ => (peer, peers_bar),
        };
        let ratio = speed(name) / than;
        // The bars are of what is lent: a string of its own for each event is the peers' way.
        let missed = name != "arbstr String" && name != "EventStream" && ratio < bar;
        let mark = if missed {
            format!(" <{bar}")
        } else {
            String::new()
        };
        print!("{:>18}", format!("{ratio:.2}{mark}"));
    }
    println!();
}

fn short(name: &str) -> &str {
    name.trim_start_matches("arbstr ")
}

/// The least time of each reader; `None` for one that is too slow to take part.
#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn measure(corpus: &Corpus, readers: &[Reader]) -> Vec<Option<Duration>> {
    let mut best = vec![None; readers.len()];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 5 || start.elapsed() < BUDGET {
        for (reader, best) in readers.iter().zip(&mut best) {
            if rounds > 0 && best.is_none_or(|best| best > TOO_SLOW) {
                continue;
            }
            let turn = Instant::now();
            while {
                let begin = Instant::now();
                corpus.run(reader);
                let time = begin.elapsed();
                *best = Some(best.map_or(time, |best: Duration| best.min(time)));
                turn.elapsed() < TURN
            } {}
        }
        rounds += 1;
    }
    best
}

/// Who is divided by whom. The peers' readers make a string of each event's data, as the last two do.
const RATIOS: &[(&str, &str)] = &[
    ("arbstr bytes", "floor"),
    ("arbstr str", "peer"),
    ("arbstr String", "peer"),
    #[cfg(feature = "stream")]
    ("EventStream", "peer"),
];
/// Per corpus, the least ratios that are to hold: of the borrowed bytes to the floor, of the decoded text to the best
/// peer. One that does not is marked with its bar.
const BARS: [(&str, f64, f64); 10] = [
    ("chat whole", 0.85, 1.5),
    ("chat 16 KiB", 0.85, 1.5),
    ("chat 1460 B", 0.78, 1.5),
    ("chat one event", 0.65, 1.5),
    ("chat 1 B", 0.75, 1.0),
    ("crlf 16 KiB", 0.78, 1.5),
    ("tiny 16 KiB", 0.75, 1.8),
    ("multi 16 KiB", 0.65, 1.8),
    ("big whole", 0.95, 1.0),
    ("big 16 KiB", 0.95, 1.0),
];
const BUDGET: Duration = Duration::from_secs(3);
/// How long a reader goes on before the next has its turn: long enough for the processor to learn its branches.
const TURN: Duration = Duration::from_millis(10);
const TOO_SLOW: Duration = Duration::from_millis(100);
