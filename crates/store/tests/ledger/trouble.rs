//! Locked, missing and broken: nothing is lost that there is room to hold.

use std::time::{Duration, Instant};

use arbstr_store::{Behind, Opening, Options, Reader, Store};

use crate::samples::{completion, opening};
use crate::scratch::{PATIENCE, Scratch, wait_until};

fn serve(store: &Store, ids: std::ops::Range<u32>) {
    for nth in ids {
        let id = format!("r{nth}");
        store.open_request(&opening(&id));
        store.complete(&completion(&id));
    }
}

#[test]
fn locked_database_delays_nobody_and_loses_nothing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let other = scratch.peek();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    serve(&store, 0..500);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    let now_ms = 1_700_000_000_000 + 7_000;
    wait_until("it is told", || store.status(now_ms).last_error.is_some());
    let status = store.status(now_ms);
    assert!(status.is_degraded());
    assert_eq!((status.depth, status.memory_only), (1000, 0));
    assert_eq!(status.lag, Duration::from_secs(7));
    assert_eq!(store.flush(Duration::from_millis(300)).records, 1000);
    let reader = Reader::open(scratch.database()).unwrap();
    let waiting = Behind {
        records: 1000,
        oldest_ms: Some(1_700_000_000_000),
    };
    assert_eq!(reader.behind().unwrap(), waiting);
    other.execute_batch("COMMIT").unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    wait_until("it is well again", || !store.status(now_ms).is_degraded());
    assert_eq!(reader.behind().unwrap(), Behind::default());
    // Of what is applied and what is not in one segment, only that which is not.
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    serve(&store, 500..503);
    assert_eq!(reader.behind().unwrap().records, 6);
    other.execute_batch("COMMIT").unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 503);
}

#[test]
fn broken_database_is_waited_for_only_with_something_for_it() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.database()).unwrap();
    let store = scratch.open();
    let start = Instant::now();
    assert!(store.close(PATIENCE).is_empty());
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());

    let store = scratch.open();
    serve(&store, 0..1);
    let start = Instant::now();
    let patience = Duration::from_millis(400);
    assert_eq!(store.close(patience).records, 2);
    assert!(start.elapsed() >= patience);
}

#[test]
fn records_that_the_writer_has_not_even_read_lag_behind_too() {
    let scratch = Scratch::new();
    assert!(scratch.open().close(PATIENCE).is_empty());
    let other = scratch.peek();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let store = scratch.open();
    serve(&store, 0..10);
    let now_ms = 1_700_000_000_000 + 7_000;
    let status = store.status(now_ms);
    assert_eq!((status.depth, status.lag), (20, Duration::from_secs(7)));
    assert!(!status.database_ready);
    other.execute_batch("COMMIT").unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(store.status(now_ms).lag, Duration::ZERO);
}

#[test]
fn closing_under_a_lock_leaves_the_journal_for_the_next_start() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let other = scratch.peek();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    serve(&store, 0..100);
    let left = store.close(Duration::from_millis(300));
    assert_eq!((left.records, left.memory_only), (200, 0));
    other.execute_batch("COMMIT").unwrap();
    let store = scratch.open();
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 100);
    assert_eq!(store.status(0).unmatched, 0);
}

#[test]
fn missing_folder_that_cannot_be_made_is_tried_again() {
    let scratch = Scratch::new();
    let blocked = scratch.folder().join("folder");
    std::fs::write(&blocked, "a file where the folder should be").unwrap();
    let store = Store::open(Options::new(blocked.join("arbstr.db"), 1)).unwrap();
    serve(&store, 0..50);
    let status = store.status(0);
    assert!(status.is_degraded() && !status.journal_ready && !status.database_ready);
    assert_eq!(status.memory_only, 100);
    assert!(store.request("r0").is_err());
    std::fs::remove_file(&blocked).unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    assert!(store.request("r49").unwrap().unwrap().row.success);
    wait_until("it is well again", || !store.status(0).is_degraded());
}

#[test]
fn file_that_is_no_database_is_left_as_it_is() {
    let scratch = Scratch::new();
    let note = "not a database, but dear to somebody".repeat(100);
    std::fs::write(scratch.database(), &note).unwrap();
    let store = scratch.open();
    serve(&store, 0..10);
    wait_until("it is told", || store.status(0).last_error.is_some());
    assert_eq!(store.status(0).memory_only, 0);
    assert!(!store.close(Duration::from_millis(200)).is_empty());
    assert_eq!(std::fs::read_to_string(scratch.database()).unwrap(), note);
    // Moved out of the way, it makes room for the ledger, and the journal is applied.
    std::fs::remove_file(scratch.database()).unwrap();
    let store = scratch.open();
    assert!(store.request("r9").unwrap().unwrap().row.success);
}

#[test]
fn records_beyond_all_room_are_counted() {
    let scratch = Scratch::new();
    let blocked = scratch.folder().join("folder");
    std::fs::write(&blocked, "").unwrap();
    let mut options = Options::new(blocked.join("arbstr.db"), 1);
    options.queue_bound = 60;
    let store = Store::open(options).unwrap();
    serve(&store, 0..50);
    let status = store.status(0);
    assert_eq!((status.memory_only, status.dropped), (60, 40));
    std::fs::remove_file(&blocked).unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    assert!(store.request("r29").unwrap().unwrap().row.success);
    assert_eq!(store.request("r30").unwrap(), None);
    assert!(store.status(0).is_degraded());
}

#[test]
fn long_records_fill_memory_before_their_number_does() {
    let scratch = Scratch::new();
    let blocked = scratch.folder().join("folder");
    std::fs::write(&blocked, "").unwrap();
    let mut options = Options::new(blocked.join("arbstr.db"), 1);
    options.queue_bytes = 10_000;
    let store = Store::open(options).unwrap();
    for nth in 0..20 {
        store.open_request(&Opening {
            plan: Some("p".repeat(900)),
            ..opening(&format!("r{nth}"))
        });
    }
    let status = store.status(0);
    assert_eq!((status.memory_only, status.dropped), (10, 10));
    // A short one still fits.
    store.complete(&completion("r3"));
    assert_eq!(store.status(0).dropped, 10);
    std::fs::remove_file(&blocked).unwrap();
    assert!(store.flush(PATIENCE).is_empty());
    assert!(store.request("r3").unwrap().unwrap().row.success);
    assert!(store.request("r9").unwrap().is_some());
    assert_eq!(store.request("r10").unwrap(), None);
}

#[test]
fn torn_and_damaged_journals_cost_only_what_is_damaged() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let other = scratch.peek();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    serve(&store, 0..100);
    assert!(!store.close(Duration::from_millis(100)).is_empty());
    other.execute_batch("COMMIT").unwrap();
    let name = scratch
        .files()
        .into_iter()
        .find(|name| name.contains(".ledger-"))
        .unwrap();
    let path = scratch.folder().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    // A torn end, and one damaged bit inside the opening of r40.
    bytes.truncate(bytes.len() - 5);
    let at = bytes.windows(3).position(|at| at == b"r40").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let store = scratch.open();
    let success = |id: &str| store.request(id).unwrap().map(|found| found.row.success);
    assert_eq!(success("r39"), Some(true));
    assert_eq!(success("r40"), None);
    assert_eq!(success("r41"), Some(true));
    let last = store.request("r99").unwrap().unwrap().row;
    assert_eq!(last.error_message.as_deref(), Some("interrupted"));
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 98);
    assert!(!path.exists());
}
