//! Under load: concurrency, an exclusive lock of ten seconds, and a disk that is full.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arbstr_store::{Options, Selection, StatsQuery, Store};

use crate::samples::{completion, cost_of, opening};
use crate::scratch::{PATIENCE, Scratch, wait_until};

fn serve(store: &Store, id: &str) {
    store.open_request(&opening(id));
    store.complete(&completion(id));
}

/// What is on record for requests `r0` to `r{count-1}`, by the rows and by the roll-ups.
fn assert_complete(scratch: &Scratch, store: &Store, count: u32) {
    let billed: i64 = (0..count).map(|nth| cost_of(&format!("r{nth}"))).sum();
    assert_eq!(
        scratch.number("SELECT count(*) FROM requests"),
        i64::from(count)
    );
    assert_eq!(
        scratch.number("SELECT sum(success) FROM requests"),
        i64::from(count)
    );
    assert_eq!(
        scratch.number("SELECT sum(cost_nanosats) FROM requests"),
        billed
    );
    let query = StatsQuery {
        selection: Selection::all(),
        group_by: None,
    };
    let totals = store.reader().stats(&query).unwrap().totals;
    assert_eq!(
        (totals.requests, totals.successes),
        (count.into(), count.into())
    );
    assert_eq!(totals.cost.amount.nanosats(), billed.into());
    let status = store.status(0);
    assert_eq!((status.dropped, status.unmatched), (0, 0));
}

#[test]
fn five_thousand_requests_at_concurrency_64_are_five_thousand_completed_rows() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= 5000 {
                        break;
                    }
                    let id = format!("r{nth}");
                    store.open_request(&opening(&id));
                    std::thread::sleep(Duration::from_millis(u64::from(nth % 20)));
                    store.complete(&completion(&id));
                }
            });
        }
    });
    assert!(store.flush(PATIENCE).is_empty());
    assert_complete(&scratch, &store, 5000);
}

#[test]
fn ten_seconds_of_an_exclusive_lock_under_load_lose_nothing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let locked = AtomicBool::new(true);
    let served = AtomicU32::new(0);
    let slowest = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while locked.load(Ordering::Relaxed) {
                let nth = served.fetch_add(1, Ordering::Relaxed);
                let start = Instant::now();
                serve(&store, &format!("r{nth}"));
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_micros(500));
            }
            slowest
        });
        let other = scratch.peek();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        std::thread::sleep(Duration::from_secs(10));
        assert!(store.status(0).is_degraded());
        other.execute_batch("COMMIT").unwrap();
        locked.store(false, Ordering::Relaxed);
        server.join().unwrap()
    });
    let count = served.load(Ordering::Relaxed);
    assert!(count > 1000, "{count}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(store.flush(PATIENCE).is_empty());
    assert_complete(&scratch, &store, count);
}

/// The process on a full disk: every file it writes, journal and database alike, may grow to `ulimit -f` alone.
#[test]
fn cramped() {
    let Ok(database) = std::env::var(DATABASE) else {
        return;
    };
    let store = Store::open(Options::new(database, 1)).unwrap();
    let mut plan = opening("plan");
    plan.plan = Some("p".repeat(2000));
    for nth in 0..CRAMPED {
        store.open_request(&arbstr_store::Opening {
            correlation_id: format!("r{nth}"),
            ..plan.clone()
        });
        store.complete(&completion(&format!("r{nth}")));
    }
    wait_until("it is told", || store.status(0).last_error.is_some());
    let status = store.status(0);
    assert!(status.is_degraded() && status.memory_only > 0, "{status:?}");
    assert_eq!(status.dropped, 0);
    assert!(!store.flush(Duration::from_millis(300)).is_empty());
    // An operator makes room; this process has to go on without a restart.
    assert!(
        Command::new("prlimit")
            .args(["--fsize=unlimited", "--pid"])
            .arg(std::process::id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(store.flush(PATIENCE).is_empty());
    assert!(store.close(PATIENCE).is_empty());
}

#[test]
fn full_disk_under_load_loses_nothing_that_memory_holds() {
    let scratch = Scratch::new();
    let child = Command::new("sh")
        .arg("-c")
        // Writes beyond the limit fail like those to a full disk once the signal is ignored.
        .arg("trap '' XFSZ; ulimit -S -f 2000; exec \"$0\" --exact full::cramped --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env(DATABASE, scratch.database())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let store = scratch.open();
    assert_complete(&scratch, &store, CRAMPED);
}

const DATABASE: &str = "ARBSTR_CRAMPED_DATABASE";
const CRAMPED: u32 = 4000;
