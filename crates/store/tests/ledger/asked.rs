//! Who has a request is on record before it is over.

use std::time::Duration;

use arbstr_store::{
    Asked, Attempt, Completion, Filter, GroupBy, GroupKey, INTERRUPTED, NextAttempt, Opening,
    PageQuery, RequestDetail, Selection, Sort, StatsQuery, Store,
};

use crate::samples::{completion, opening};
use crate::scratch::{PATIENCE, Scratch};

fn asked(provider: &str, started_ms: u64) -> Asked {
    Asked {
        provider: provider.to_owned(),
        model: format!("{provider}-model"),
        tier: "standard".to_owned(),
        started_after: Duration::from_millis(started_ms),
    }
}

fn opened() -> Opening {
    Opening {
        asked: Some(asked("alpha", 0)),
        ..opening("r")
    }
}

fn failed() -> Attempt {
    Attempt {
        provider: "alpha".to_owned(),
        model: "alpha-model".to_owned(),
        outcome: "status=500".to_owned(),
        status: Some(500),
        duration: Duration::from_millis(20),
        ..Attempt::default()
    }
}

fn next() -> NextAttempt {
    NextAttempt {
        correlation_id: "r".to_owned(),
        timestamp_ms: 1_700_000_000_021,
        number: 2,
        asked: asked("beta", 21),
        failed: Some(failed()),
    }
}

/// What is on record, as those who look for it by its provider find it too.
#[track_caller]
fn found_at(store: &Store, provider: &str) -> RequestDetail {
    let selection = Selection {
        filter: Filter {
            provider: Some(provider.to_owned()),
            ..Filter::default()
        },
        ..Selection::all()
    };
    let query = PageQuery {
        selection,
        sort: Sort::default(),
        limit: 10,
        cursor: None,
    };
    let rows = store.reader().requests(&query).unwrap().rows;
    let found = store.request("r").unwrap().unwrap();
    assert_eq!(rows, std::slice::from_ref(&found.row));
    let query = StatsQuery {
        selection: Selection::all(),
        group_by: Some(GroupBy::Provider),
    };
    let groups = store.reader().stats(&query).unwrap().groups;
    let keys: Vec<_> = groups.into_iter().map(|group| group.key).collect();
    assert_eq!(keys, [GroupKey::Name(Some(provider.to_owned()))]);
    found
}

#[test]
fn request_in_progress_or_interrupted_says_who_has_it() {
    // In one transaction, or in one each.
    for apart in [false, true] {
        let scratch = Scratch::new();
        let store = scratch.open();
        store.open_request(&opened());
        if apart {
            assert!(store.flush(PATIENCE).is_empty());
            let found = found_at(&store, "alpha");
            assert_eq!(found.asked, Some(asked("alpha", 0)));
            assert_eq!((found.row.attempts, found.attempts.len()), (Some(1), 0));
        }
        store.begin_attempt(&next());
        assert!(store.flush(PATIENCE).is_empty());
        let found = found_at(&store, "beta");
        assert!(found.row.is_in_progress());
        assert_eq!(found.row.served_model.as_deref(), Some("beta-model"));
        assert_eq!(found.row.tier.as_deref(), Some("standard"));
        assert_eq!(found.row.attempts, Some(2));
        assert_eq!(found.attempts, [failed()]);
        assert_eq!(found.asked, Some(asked("beta", 21)));

        // Dropped, it would still be ending when the next one looks who is alive.
        assert!(store.close(PATIENCE).is_empty());
        let store = scratch.open();
        let interrupted = found_at(&store, "beta");
        let mut expected = found;
        expected.row.error_message = Some(INTERRUPTED.to_owned());
        assert_eq!(interrupted, expected);
        let shown = "SELECT group_concat(number || ' ' || provider || ' ' || outcome, ', ')
             FROM (SELECT * FROM attempts ORDER BY number)";
        let shown: String = scratch
            .peek()
            .query_row(shown, [], |row| row.get(0))
            .unwrap();
        assert_eq!(shown, "1 alpha status=500, 2 beta interrupted");
    }
}

#[test]
fn request_that_is_over_says_who_had_it_itself() {
    let done = Completion {
        served_model: Some("beta-model".to_owned()),
        provider: Some("beta".to_owned()),
        ..completion("r")
    };
    // Each in a transaction of its own, and all in one.
    for apart in [false, true] {
        let scratch = Scratch::new();
        let store = scratch.open();
        let flush = |at: bool| assert!(!at || store.flush(PATIENCE).is_empty());
        store.open_request(&opened());
        flush(apart);
        store.begin_attempt(&next());
        flush(apart);
        store.complete(&done);
        flush(apart);
        // It took another way, on which it was overtaken.
        store.begin_attempt(&NextAttempt {
            number: 3,
            ..next()
        });
        flush(true);
        let found = found_at(&store, "beta");
        assert!(found.row.success);
        assert_eq!(found.attempts, done.attempts);
        assert_eq!((found.row.attempts, found.asked), (Some(2), None));
        assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 2);
        assert_eq!(store.status(0).unmatched, 0);
    }
}

#[test]
fn attempt_does_not_take_the_place_of_a_later_one() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.open_request(&opening("r"));
    assert!(store.flush(PATIENCE).is_empty());
    for (number, provider) in [(3, "gamma"), (2, "beta")] {
        store.begin_attempt(&NextAttempt {
            number,
            asked: asked(provider, 30),
            ..next()
        });
    }
    assert!(store.flush(PATIENCE).is_empty());
    let found = found_at(&store, "gamma");
    assert_eq!(found.row.attempts, Some(3));
}
