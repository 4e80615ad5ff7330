//! Old rows go, what they came to stays, and the file stops growing.

use arbstr_store::{GroupBy, Selection, StatsQuery, Store};

use crate::samples::{completion, opening};
use crate::scratch::{PATIENCE, Scratch, wait_until};

const HOUR: i64 = 3_600_000;
/// A full hour.
const START: i64 = 1_699_999_200_000;

/// One request each ten minutes of `hours`.
fn write(store: &Store, hours: std::ops::Range<i64>) {
    for nth in hours.start * 6..hours.end * 6 {
        let mut opening = opening(&nth.to_string());
        opening.timestamp_ms = START + nth * HOUR / 6;
        opening.plan = Some("p".repeat(1000));
        store.open_request(&opening);
        store.complete(&completion(&nth.to_string()));
    }
    assert!(store.flush(PATIENCE).is_empty());
}

/// How old rows may get.
const AGE: i64 = 200 * HOUR;

fn expire(scratch: &Scratch, store: &Store, before: i64) {
    store.expire(before + AGE, AGE);
    let sql = format!(
        "SELECT count(*) FROM requests WHERE owner IS NULL AND timestamp < {}",
        before - HOUR
    );
    wait_until("old rows are deleted", || scratch.number(&sql) == 0);
    assert!(store.flush(PATIENCE).is_empty());
}

#[test]
fn rows_go_by_whole_hours_and_their_sums_stay() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..100);
    let mut late = opening("still open");
    late.timestamp_ms = START;
    store.open_request(&late);
    assert!(store.flush(PATIENCE).is_empty());
    let stats = |since_ms, until_ms| {
        let query = StatsQuery {
            selection: Selection {
                since_ms,
                until_ms,
                ..Selection::all()
            },
            group_by: Some(GroupBy::Model),
        };
        store.reader().stats(&query).unwrap()
    };
    let before = stats(i64::MIN, i64::MAX);
    assert_eq!(before.totals.requests, 601);
    // In the middle of the fortieth hour: that hour stays.
    expire(&scratch, &store, START + 40 * HOUR + HOUR / 2);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 361);
    assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 720);
    assert_eq!(stats(i64::MIN, i64::MAX), before);
    let quarters = "SELECT min(start) FROM rollup_quarters";
    assert_eq!(scratch.number(quarters), START + 40 * HOUR);
    // Within a deleted hour, the whole hour is the answer, and says so.
    let half = START + 3 * HOUR + HOUR / 2;
    let coarse = stats(half, half + HOUR);
    let covered = (START + 3 * HOUR, START + 5 * HOUR);
    assert_eq!((coarse.since_ms, coarse.until_ms), covered);
    assert_eq!(coarse.totals.requests, 12);
    // Within a kept hour, it is exact.
    let half = START + 60 * HOUR + HOUR / 2;
    let fine = stats(half, half + HOUR);
    assert_eq!((fine.since_ms, fine.until_ms), (half, half + HOUR));
    assert_eq!(fine.totals.requests, 6);
    // The open row's end is counted where it began.
    store.complete(&completion("still open"));
    assert!(store.flush(PATIENCE).is_empty());
    let after = stats(i64::MIN, i64::MAX).totals;
    assert_eq!((after.requests, after.in_progress), (601, 0));
    assert_eq!(after.successes, 601);
}

#[test]
fn clock_far_ahead_deletes_nothing_until_a_request_bears_it_out() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let year = 365 * 24;
    // On an empty ledger it leaves no mark: later statistics are exact still.
    store.expire(START + year * HOUR + AGE, AGE);
    write(&store, 0..100);
    store.expire(START + year * HOUR + AGE, AGE);
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 600);
    assert_eq!(scratch.number("SELECT count(*) FROM retention"), 0);
    // Nobody has used it for a year, and now somebody does, for a little while: the clock may still be wrong.
    write(&store, year + 1..year + 2);
    store.expire(START + year * HOUR + AGE, AGE);
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 606);
    assert_eq!(scratch.number("SELECT count(*) FROM retention"), 0);
    // But not if it goes on.
    write(&store, year + 2..year + 3);
    expire(&scratch, &store, START + year * HOUR);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 12);
    // What was not there to be deleted is not coarse.
    let deleted = "SELECT expired_before FROM retention";
    assert_eq!(scratch.number(deleted), START + 100 * HOUR);
}

#[test]
fn what_is_used_once_in_a_while_still_forgets() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let week = 7 * 24;
    for nth in 0..4 {
        write(&store, nth * week..nth * week + 1);
        store.expire(START + nth * week * HOUR + HOUR, 24 * HOUR);
        assert!(store.flush(PATIENCE).is_empty());
    }
    // The last two weeks': by the last, the one before it has been.
    let oldest = "SELECT min(timestamp) FROM requests";
    wait_until("old rows are deleted", || {
        scratch.number(oldest) == START + 2 * week * HOUR
    });
}

#[test]
fn records_are_written_while_rows_are_deleted() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..1000);
    store.expire(START + 900 * HOUR + AGE, AGE);
    write(&store, 1000..1100);
    assert_eq!(
        scratch.number("SELECT count(*) FROM requests WHERE timestamp >= 1703599200000"),
        600
    );
    expire(&scratch, &store, START + 900 * HOUR);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 1200);
    // A second look deletes nothing more.
    expire(&scratch, &store, START + 900 * HOUR);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 1200);
    assert_eq!(store.status(0).dropped, 0);
}

#[test]
fn file_stops_growing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut sizes = Vec::new();
    for day in 0..12 {
        write(&store, day * 24..(day + 1) * 24);
        expire(&scratch, &store, START + (day - 1) * 24 * HOUR);
        sizes.push(scratch.number("PRAGMA page_count"));
    }
    // Two to three days' rows are kept; what roll-ups add is next to nothing.
    assert!(sizes[11] * 10 <= sizes[4] * 11, "{sizes:?}");
}
