//! A file of every earlier schema becomes one of the present, with nothing lost.

use arbstr_store::{
    Filter, GroupBy, PageQuery, Reader, Selection, Sort, SortBy, StatsQuery, Store,
};

use crate::scratch::{PATIENCE, Scratch};

/// The migrations that led to the schemas which released versions have left behind.
const EARLIER: [&str; 6] = [
    include_str!("../../../../migrations/0001_requests.sql"),
    include_str!("../../../../migrations/0002_rollups.sql"),
    include_str!("../../../../migrations/0003_attempts.sql"),
    include_str!("../../../../migrations/0004_quarters.sql"),
    include_str!("../../../../migrations/0005_open_index.sql"),
    include_str!("../../../../migrations/0006_asked.sql"),
];

/// What an arbstr of the first schema may have written: completed, failed, interrupted and open.
const FIRST_ROWS: &str = "
INSERT INTO requests (correlation_id, timestamp, ended, endpoint, model, served_model, provider, tier, policy,
    streaming, input_tokens, output_tokens, cost_nanosats, reference_cost_nanosats, latency_ms, duration_ms,
    finish_reason, attempts, success, plan)
VALUES ('a', 7200000, 7201000, 'chat.completions', 'm', 'm-1', 'p', 't', NULL, 1, 10, 20, 5000000001, 7000000001,
    12, 1000, 'stop', 1, 1, '{\"plan\":1}');
INSERT INTO requests (correlation_id, timestamp, ended, endpoint, model, streaming, duration_ms, attempts,
    error_status, error_message, plan)
VALUES ('b', 7200001, 7200002, 'chat.completions', 'm', 0, 1, 0, 503, 'no provider', '{\"model\":\"m\",\"candidates\":[
    {\"provider\":\"p\",\"model\":\"n\",\"expected_cost_sats\":2.5,\"cost_parts\":{\"output_sats\":2},\"skipped\":\"open\"}]}');
INSERT INTO requests (correlation_id, timestamp, endpoint, model, streaming, error_message)
VALUES ('c', 10800000, 'chat.completions', 'n', 0, 'interrupted');
INSERT INTO requests (correlation_id, timestamp, endpoint, model, streaming, error_message, owner, plan)
VALUES ('d', 10800001, 'chat.completions', 'n', 1, 'in_progress', '0.1.1.0', '{\"plan\":2}');
INSERT INTO attempts (correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats)
VALUES ('a', 1, 'q', 'm-1', 'status=500', 500, 1, 9, 3), ('a', 2, 'p', 'm-1', 'status=200', 200, 10, 990, NULL);
";

/// The roll-ups that the second schema had of these rows: of all series together, as far as the totals below read them.
const SECOND_ROLLUPS: &str = "
INSERT INTO rollup_days VALUES
    (0, 0, 3, 1, 10, 20, 0, 0, 5000000001, 1, 0, 0, 1, 7000000001, 1, 2000000000, 1, 3, 1, 0, 0, 0, x'', x'');
INSERT INTO rollup_hours VALUES
    (7200000, 0, 2, 1, 10, 20, 0, 0, 5000000001, 1, 0, 0, 1, 7000000001, 1, 2000000000, 1, 3, 1, 0, 0, 0, x'', x''),
    (10800000, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, x'', x'');
";

/// Those by the quarter of an hour, which the fourth added: each of these rows is in the first quarter of its hour.
const FOURTH_ROLLUPS: &str = "INSERT INTO rollup_quarters SELECT * FROM rollup_hours";

/// A file of the schema of that version, with rows in it.
fn write_file(scratch: &Scratch, version: usize) {
    let file = scratch.peek();
    file.execute_batch(EARLIER[0]).unwrap();
    file.execute_batch(FIRST_ROWS).unwrap();
    for migration in &EARLIER[1..version] {
        file.execute_batch(migration).unwrap();
    }
    if version > 1 {
        file.execute_batch(SECOND_ROLLUPS).unwrap();
    }
    if version > 3 {
        file.execute_batch(FOURTH_ROLLUPS).unwrap();
    }
    file.pragma_update(None, "user_version", i64::try_from(version).unwrap())
        .unwrap();
}

/// Newest first.
fn failed_ids(store: &Store) -> Vec<String> {
    let query = PageQuery {
        selection: Selection {
            filter: Filter {
                success: Some(false),
                ..Filter::default()
            },
            ..Selection::all()
        },
        sort: Sort {
            by: SortBy::Timestamp,
            descending: true,
        },
        limit: 10,
        cursor: None,
    };
    let rows = store.reader().requests(&query).unwrap().rows;
    rows.into_iter().map(|row| row.correlation_id).collect()
}

#[test]
fn file_of_every_earlier_schema_is_upgraded() {
    for version in 1..=EARLIER.len() {
        let scratch = Scratch::new();
        write_file(&scratch, version);
        let store = scratch.open();
        let request = |id| store.request(id).unwrap().unwrap();
        let a = request("a");
        assert_eq!(a.row.cost.unwrap().to_string(), "5.000000001");
        assert_eq!(a.plan.as_deref(), Some("{\"plan\":1}"));
        assert_eq!((a.attempts.len(), a.row.implausible_usage), (2, false));
        assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 2);
        assert_eq!(request("b").row.error_status, Some(503));
        let candidate = "SELECT count(*) FROM candidates WHERE (correlation_id, place, provider, model, expected_cost_sats,
            output_sats, skipped) = ('b', 1, 'p', 'n', 2.5, 2, 'open') AND input_sats IS NULL AND ranked IS NULL";
        assert_eq!(scratch.number(candidate), 1);
        let message = |id| request(id).row.error_message;
        assert_eq!(message("c").as_deref(), Some("interrupted"));
        // Its process is gone.
        assert_eq!(message("d").as_deref(), Some("interrupted"));
        assert_eq!(failed_ids(&store), ["d", "c", "b"]);
        let query = StatsQuery {
            selection: Selection::all(),
            group_by: Some(GroupBy::Hour),
        };
        let stats = store.reader().stats(&query).unwrap();
        assert_eq!((stats.totals.requests, stats.totals.successes), (4, 1));
        assert_eq!((stats.totals.unsent, stats.totals.unknown_cost), (1, 2));
        assert_eq!(stats.totals.savings.amount.to_string(), "2");
        assert_eq!(stats.totals.sunk_cost.amount.nanosats(), 3);
        assert_eq!(stats.groups.len(), 2);
        // From the third quarter of an hour on there is only what began later.
        let later = StatsQuery {
            selection: Selection {
                since_ms: 7_200_000 + 1_800_000,
                ..Selection::all()
            },
            group_by: None,
        };
        let later = store.reader().stats(&later).unwrap().totals;
        assert_eq!((later.requests, later.successes), (2, 0));
        let quarters = "SELECT count(*) FROM rollup_quarters WHERE series = 0";
        assert_eq!(scratch.number(quarters), 2);
        assert!(store.close(PATIENCE).is_empty());
    }
}

#[test]
fn upgrade_that_fails_leaves_the_file_as_it_was() {
    let scratch = Scratch::new();
    write_file(&scratch, 1);
    let file = scratch.peek();
    // A table of that name is in the way of the second migration's last steps.
    file.execute_batch("CREATE TABLE rollups_readable (id INTEGER)")
        .unwrap();
    let store = scratch.open();
    assert!(store.status(0).last_error.is_some());
    assert_eq!(scratch.number("PRAGMA user_version"), 1);
    assert_eq!(
        scratch.number("SELECT count(*) FROM requests WHERE plan IS NOT NULL"),
        3
    );
    assert!(Reader::open(scratch.database()).is_err());
    drop(store);
    file.execute_batch("DROP TABLE rollups_readable").unwrap();
    let store = scratch.open();
    assert!(store.request("a").unwrap().is_some());
}
