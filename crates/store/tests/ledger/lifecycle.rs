//! Opened, completed once, read back whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::Sats;
use arbstr_store::{
    Attempt, Completion, INTERRUPTED, OpenError, Opening, Options, Records, Selection, StatsQuery,
    Store,
};
use proptest::prelude::*;

use crate::samples::{any_completion, any_opening, completion, cost_of, expected, opening};
use crate::scratch::{PATIENCE, Scratch, wait_until};

#[test]
fn makes_missing_folder_and_leaves_only_the_database() {
    let scratch = Scratch::new();
    let path = scratch.folder().join("a/b/ledger.db");
    let store = Store::open(Options::new(&path, 1)).unwrap();
    store.open_request(&opening("r"));
    store.complete(&completion("r"));
    assert!(store.close(PATIENCE).is_empty());
    let mut names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // A reader of the pool may keep SQLite's own two files open.
    names.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    names.sort();
    assert_eq!(names, ["ledger.db", "ledger.db.owner-0"]);
}

#[test]
fn open_request_is_in_progress_until_completed() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.open_request(&opening("r"));
    wait_until("the row is there", || store.request("r").unwrap().is_some());
    assert_eq!(
        store.request("r").unwrap().unwrap(),
        expected(&opening("r"), None)
    );
    store.complete(&completion("r"));
    wait_until("it is completed", || {
        store.request("r").unwrap().unwrap().row.success
    });
    assert_eq!(
        store.request("r").unwrap().unwrap(),
        expected(&opening("r"), Some(&completion("r")))
    );
    assert_eq!(store.request("other").unwrap(), None);
    assert_eq!(store.status(0).unmatched, 0);
}

#[test]
fn completion_is_seen_within_a_second() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for nth in 0..20 {
        let id = format!("r{nth}");
        store.open_request(&opening(&id));
        store.complete(&completion(&id));
        let start = Instant::now();
        wait_until("it is there", || store.request(&id).unwrap().is_some());
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn first_completion_counts_and_others_are_reported() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let failed = |id| Completion {
        success: false,
        ..completion(id)
    };
    // Together in one batch, and with the first long committed.
    store.open_request(&opening("together"));
    store.complete(&completion("together"));
    store.complete(&failed("together"));
    store.open_request(&opening("apart"));
    store.complete(&completion("apart"));
    assert!(store.flush(PATIENCE).is_empty());
    store.complete(&failed("apart"));
    store.complete(&failed("never opened"));
    store.open_request(&opening("apart"));
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(store.status(0).unmatched, 4);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 2);
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 2);
    assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 4);
}

#[test]
fn records_that_are_there_already_are_left_alone_among_new_ones() {
    let scratch = Scratch::new();
    let store = scratch.open();
    // Old ones and new ones are in the same statement, of requests that ended and of some that go on.
    let hand_in = |numbers: &[u32], succeeds| {
        let mut records = Records::default();
        for nth in numbers {
            records.open_request(&opening(&nth.to_string()));
            records.open_request(&opening(&format!("{nth} goes on")));
            records.complete(&Completion {
                success: succeeds,
                ..completion(&nth.to_string())
            });
        }
        assert_eq!(records.len(), 3 * numbers.len());
        store.append(&mut records);
        assert!(records.is_empty());
        assert!(store.flush(PATIENCE).is_empty());
    };
    hand_in(&[1, 2, 5, 18], true);
    hand_in(&(0..20).collect::<Vec<_>>(), true);
    hand_in(&(0..20).collect::<Vec<_>>(), false);
    // Each a second time: two openings and a completion.
    assert_eq!(store.status(0).unmatched, 3 * 4 + 3 * 20);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 40);
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 20);
    assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 40);
    let query = StatsQuery {
        selection: Selection::all(),
        group_by: None,
    };
    let totals = store.reader().stats(&query).unwrap().totals;
    assert_eq!((totals.successes, totals.in_progress), (20, 20));
    for nth in 0..20 {
        store.complete(&completion(&format!("{nth} goes on")));
    }
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 40);
}

#[test]
fn completion_of_a_row_that_somebody_deleted_touches_no_other() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.open_request(&opening("a"));
    assert!(store.flush(PATIENCE).is_empty());
    let id = scratch.number("SELECT id FROM requests");
    scratch.peek().execute("DELETE FROM requests", []).unwrap();
    store.open_request(&opening("b"));
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT id FROM requests"), id);
    store.complete(&completion("a"));
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(store.status(0).unmatched, 1);
    assert!(store.request("b").unwrap().unwrap().row.is_in_progress());
}

#[test]
fn only_attempt_that_answers_needs_no_row_of_its_own() {
    let attempt = Attempt {
        provider: "alpha".to_owned(),
        model: "alpha-4o".to_owned(),
        outcome: "status=200".to_owned(),
        status: Some(200),
        started_after: Duration::from_millis(3),
        duration: Duration::from_millis(40),
        sunk_cost: None,
    };
    let of = |attempts: Vec<Attempt>| Completion {
        served_model: Some("alpha-4o".to_owned()),
        attempts,
        ..completion("r")
    };
    let changed = |change: fn(&mut Attempt)| {
        let mut attempt = attempt.clone();
        change(&mut attempt);
        of(vec![attempt])
    };
    let cases = [
        (of(vec![attempt.clone()]), 0),
        (of(Vec::new()), 0),
        (of(vec![attempt.clone(), attempt.clone()]), 2),
        (changed(|attempt| attempt.provider = "beta".to_owned()), 1),
        (changed(|attempt| attempt.model = "gpt-4o".to_owned()), 1),
        (
            changed(|attempt| attempt.outcome = "status=201".to_owned()),
            1,
        ),
        (changed(|attempt| attempt.status = None), 1),
        (changed(|attempt| attempt.sunk_cost = Some(Sats::ZERO)), 1),
    ];
    for (completion, rows) in cases {
        for apart in [false, true] {
            let scratch = Scratch::new();
            let store = scratch.open();
            store.open_request(&opening("r"));
            if apart {
                assert!(store.flush(PATIENCE).is_empty());
            }
            store.complete(&completion);
            assert!(store.flush(PATIENCE).is_empty());
            let found = store.request("r").unwrap().unwrap();
            assert_eq!(found.attempts, completion.attempts);
            let all = i64::try_from(completion.attempts.len()).unwrap();
            assert_eq!(scratch.number("SELECT count(*) FROM attempts"), all);
            assert_eq!(scratch.number("SELECT count(*) FROM attempts_apart"), rows);
        }
    }
}

#[test]
fn columns_are_exact_and_readable() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.open_request(&Opening {
        timestamp_ms: 1_700_000_000_123,
        ..opening("r")
    });
    store.complete(&Completion {
        cost: Some(Sats::from_nanosats(1_500_000_001)),
        estimated_cost: Some(Sats::from_nanosats(i128::from(i64::MAX) + 1)),
        provider_cost: Some(Sats::from_nanosats(i64::MAX.into())),
        latency: Some(Duration::from_micros(1999)),
        ..completion("r")
    });
    assert!(store.flush(PATIENCE).is_empty());
    let sql = "SELECT cost_nanosats, cost_sats, estimated_cost_sats, provider_cost_nanosats, latency_ms FROM requests";
    let row: (i64, f64, Option<f64>, i64, i64) = scratch
        .peek()
        .query_row(sql, [], |row| row.try_into())
        .unwrap();
    assert_eq!(row, (1_500_000_001, 1.500_000_001, None, i64::MAX, 1));
    let sql = "SELECT timestamp, cost_sats, success, streaming FROM requests_readable";
    let row: (String, f64, String, String) = scratch
        .peek()
        .query_row(sql, [], |row| row.try_into())
        .unwrap();
    let expected = ("2023-11-14T22:13:20.123Z", 1.500_000_001, "yes", "no");
    assert_eq!(
        (row.0.as_str(), row.1, row.2.as_str(), row.3.as_str()),
        expected
    );
}

#[test]
fn many_threads_give_as_many_rows() {
    let scratch = Scratch::new();
    let store = Arc::new(scratch.open());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for nth in 0..300 {
                    let id = format!("{thread}-{nth}");
                    store.open_request(&opening(&id));
                    if nth % 7 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    store.complete(&completion(&id));
                }
            });
        }
    });
    assert!(store.close(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 4800);
    assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 9600);
    let billed: i64 = (0..16)
        .flat_map(|thread| (0..300).map(move |nth| cost_of(&format!("{thread}-{nth}"))))
        .sum();
    assert_eq!(
        scratch.number("SELECT sum(cost_nanosats) FROM requests"),
        billed
    );
    assert_eq!(store.status(0).unmatched, 0);
}

#[test]
fn segments_are_dropped_once_applied() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let plan = Some("p".repeat(1 << 20));
    for nth in 0..40 {
        let id = format!("r{nth}");
        store.open_request(&Opening {
            plan: plan.clone(),
            ..opening(&id)
        });
        store.complete(&completion(&id));
    }
    assert!(store.flush(PATIENCE).is_empty());
    store.open_request(&opening("last"));
    assert!(store.flush(PATIENCE).is_empty());
    let segments = |names: Vec<String>| {
        names
            .iter()
            .filter(|name| name.contains(".ledger-"))
            .count()
    };
    wait_until("one segment is left", || segments(scratch.files()) == 1);
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 41);
    drop(store);
}

#[test]
fn refuses_a_newer_schema_and_a_strangers_database() {
    let scratch = Scratch::new();
    assert!(scratch.open().close(PATIENCE).is_empty());
    scratch
        .peek()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let error = Store::open(Options::new(scratch.database(), 1)).unwrap_err();
    assert!(
        matches!(error, OpenError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer arbstr"), "{error}");

    let scratch = Scratch::new();
    scratch
        .peek()
        .execute_batch("CREATE TABLE requests (something INTEGER)")
        .unwrap();
    let error = Store::open(Options::new(scratch.database(), 1)).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn live_second_instance_is_left_alone_and_dead_one_is_closed() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.open(), scratch.open());
    first.open_request(&opening("first"));
    second.open_request(&opening("second"));
    assert!(first.flush(PATIENCE).is_empty());
    assert!(second.flush(PATIENCE).is_empty());

    // Ends with a request open; the row is the next starter's to close.
    assert!(second.close(PATIENCE).is_empty());
    let third = scratch.open();
    let message = |id| third.request(id).unwrap().unwrap().row.error_message;
    assert_eq!(message("first").as_deref(), Some("in_progress"));
    assert_eq!(message("second").as_deref(), Some(INTERRUPTED));
    assert_eq!(message("second").as_deref(), Some("interrupted"));
    first.complete(&completion("first"));
    assert!(first.flush(PATIENCE).is_empty());
    assert!(third.request("first").unwrap().unwrap().row.success);
    // What is closed stays closed.
    third.complete(&completion("second"));
    assert!(third.flush(PATIENCE).is_empty());
    assert_eq!(message("second").as_deref(), Some("interrupted"));
    assert_eq!(third.status(0).unmatched, 1);
}

/// One request of the model: what is handed in, and whether the batch is broken up before the completion.
type Case = (Opening, Option<Completion>, bool);

fn any_case(nth: usize) -> impl Strategy<Value = Case> {
    let id = format!("request-{nth}");
    (
        any_opening(id.clone()),
        proptest::option::weighted(0.8, any_completion(id)),
        proptest::bool::weighted(0.2),
    )
}

fn any_cases() -> impl Strategy<Value = Vec<Case>> {
    (1_usize..40).prop_flat_map(|count| (0..count).map(any_case).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_row_comes_back_as_it_was_handed_in(cases in any_cases()) {
        let scratch = Scratch::new();
        let store = scratch.open();
        for (opening, completion, apart) in &cases {
            store.open_request(opening);
            if *apart {
                prop_assert!(store.flush(PATIENCE).is_empty());
            }
            if let Some(completion) = completion {
                store.complete(completion);
            }
        }
        prop_assert!(store.flush(PATIENCE).is_empty());
        for (opening, completion, _) in &cases {
            let found = store.request(&opening.correlation_id).unwrap().unwrap();
            prop_assert_eq!(found, expected(opening, completion.as_ref()));
        }
        prop_assert_eq!(store.status(0).unmatched, 0);
        assert!(store.close(PATIENCE).is_empty());
    }
}
