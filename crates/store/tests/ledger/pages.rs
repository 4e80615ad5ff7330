//! Pages, exports and rows as they come.

use std::time::Duration;

use arbstr_store::{
    Filter, Options, Page, PageQuery, QueryError, ReadError, Reader, RequestRow, Selection, Sort,
    SortBy, Store,
};
use proptest::prelude::*;

use crate::model::{any_cases, select};
use crate::samples::{completion, opening};
use crate::scratch::{PATIENCE, Scratch};
use crate::stats::{any_selection, serve};

fn key(row: &RequestRow, by: SortBy) -> Option<i128> {
    match by {
        SortBy::Timestamp => Some(row.timestamp_ms.into()),
        SortBy::Cost => row.cost.map(|cost| cost.nanosats()),
        SortBy::Duration => row.duration.map(|span| span.as_millis().cast_signed()),
        SortBy::Latency => row.latency.map(|span| span.as_millis().cast_signed()),
        SortBy::InputTokens => row.input_tokens.map(i128::from),
        SortBy::OutputTokens => row.output_tokens.map(i128::from),
    }
}

/// All pages of `query`, one after another.
fn leaf(reader: &Reader, mut query: PageQuery) -> Vec<RequestRow> {
    let mut rows = Vec::new();
    loop {
        let page = reader.requests(&query).unwrap();
        assert!(page.rows.len() <= query.limit as usize);
        assert!(page.next.is_none() || page.rows.len() == query.limit as usize);
        rows.extend(page.rows);
        query.cursor = page.next;
        if query.cursor.is_none() {
            return rows;
        }
    }
}

fn ids(rows: &[RequestRow]) -> Vec<&str> {
    rows.iter().map(|row| row.correlation_id.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn pages_are_the_sorted_selection_cut_up(
        cases in any_cases(50),
        selections in proptest::collection::vec(any_selection(), 1..6),
        limit in 1..9_u32,
    ) {
        let scratch = Scratch::new();
        let store = scratch.open();
        serve(&store, &cases);
        for selection in selections {
            let expected = select(&cases, &selection);
            for by in SortBy::ALL {
                for descending in [false, true] {
                    let sort = Sort { by, descending };
                    let query = PageQuery { selection: selection.clone(), sort, limit, cursor: None };
                    let found = leaf(store.reader(), query);
                    let order = |pair: &[RequestRow]| {
                        let (Some(a), Some(b)) = (key(&pair[0], by), key(&pair[1], by)) else {
                            return key(&pair[1], by).is_none();
                        };
                        if descending { a >= b } else { a <= b }
                    };
                    assert!(found.windows(2).all(order), "{sort:?}");
                    let (mut a, mut b) = (ids(&found), ids(&expected));
                    a.sort_unstable();
                    b.sort_unstable();
                    assert_eq!(a, b, "{:?} {:?}", sort, selection);
                }
            }
            let exported: Vec<_> = store.reader().export(&selection).map(Result::unwrap).collect();
            assert!(exported.is_sorted_by_key(|row| row.timestamp_ms));
            assert_eq!(exported.len(), expected.len());
            assert!(exported.iter().all(|row| expected.contains(row)));
        }
        assert!(store.close(PATIENCE).is_empty());
    }
}

fn write(store: &Store, ids: std::ops::Range<u32>) {
    for nth in ids {
        let mut opening = opening(&nth.to_string());
        opening.timestamp_ms += i64::from(nth / 3);
        store.open_request(&opening);
        store.complete(&completion(&nth.to_string()));
    }
    assert!(store.flush(PATIENCE).is_empty());
}

fn newest(limit: u32, cursor: Option<String>) -> PageQuery {
    PageQuery {
        selection: Selection::all(),
        sort: Sort::default(),
        limit,
        cursor,
    }
}

#[test]
fn rows_that_arrive_between_pages_shift_nothing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..100);
    let Page { rows, next } = store.reader().requests(&newest(40, None)).unwrap();
    write(&store, 100..150);
    let rest = leaf(store.reader(), newest(40, next));
    let found: Vec<_> = [ids(&rows), ids(&rest)].concat();
    let expected: Vec<_> = (0..100).rev().map(|nth| nth.to_string()).collect();
    assert_eq!(found, expected);
}

#[test]
fn cursor_of_another_query_is_refused_and_one_of_a_moved_range_is_not() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..30);
    let cursor = store.reader().requests(&newest(10, None)).unwrap().next;
    let mut moved = newest(10, cursor.clone());
    moved.selection.since_ms = 5;
    assert_eq!(store.reader().requests(&moved).unwrap().rows.len(), 10);
    let mut other = newest(10, cursor);
    other.selection.filter.success = Some(true);
    assert!(matches!(
        store.reader().requests(&other),
        Err(QueryError::Cursor)
    ));
    let nonsense = newest(10, Some("../../etc/passwd".to_owned()));
    assert!(matches!(
        store.reader().requests(&nonsense),
        Err(QueryError::Cursor)
    ));
}

#[test]
fn page_size_is_held_within_bounds() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..1100);
    let length = |limit| {
        store
            .reader()
            .requests(&newest(limit, None))
            .unwrap()
            .rows
            .len()
    };
    assert_eq!((length(0), length(u32::MAX)), (1, 1000));
}

#[test]
fn follower_sees_each_row_once_when_it_ends() {
    let scratch = Scratch::new();
    let store = scratch.open();
    write(&store, 0..5);
    store.open_request(&opening("long"));
    assert!(store.flush(PATIENCE).is_empty());
    let reader = Reader::open(scratch.database()).unwrap();
    let mut follow = reader.follow(&Filter::default()).unwrap();
    let mut failures = reader
        .follow(&Filter {
            success: Some(false),
            ..Filter::default()
        })
        .unwrap();
    assert_eq!(follow.poll().unwrap(), []);
    write(&store, 5..7);
    store.open_request(&opening("longer"));
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(ids(&follow.poll().unwrap()), ["5", "6"]);
    assert_eq!(follow.poll().unwrap(), []);
    store.complete(&completion("longer"));
    store.complete(&completion("long"));
    assert!(store.flush(PATIENCE).is_empty());
    let mut found = follow.poll().unwrap();
    found.sort_by(|a, b| a.correlation_id.cmp(&b.correlation_id));
    assert_eq!(ids(&found), ["long", "longer"]);
    assert_eq!(follow.poll().unwrap(), []);
    assert_eq!(failures.poll().unwrap(), []);
}

#[test]
fn file_is_read_where_nothing_may_be_made_beside_it() {
    let scratch = Scratch::new();
    let path = scratch.folder().join("100% #1?.db");
    let store = Store::open(Options::new(&path, 1)).unwrap();
    store.open_request(&opening("r"));
    store.complete(&completion("r"));
    assert!(store.close(PATIENCE).is_empty());
    drop(store);
    let beside = |end: &str| scratch.folder().join(format!("100% #1?.db{end}"));
    for end in ["-wal", "-shm"] {
        drop(std::fs::remove_file(beside(end)));
    }
    // SQLite follows no link, and so can no more make its file than in a folder without the right to write.
    std::os::unix::fs::symlink("nowhere", beside("-shm")).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.request("r").unwrap().unwrap().row.success);
    // What a server is about to change is not read as if nobody did.
    std::fs::write(beside("-wal"), "something").unwrap();
    assert!(matches!(
        Reader::open(&path).unwrap_err(),
        ReadError::Unreadable { .. }
    ));
}

#[test]
fn another_process_reads_beside_a_server_and_learns_what_is_wrong_with_a_file() {
    let scratch = Scratch::new();
    let missing = Reader::open(scratch.database()).unwrap_err();
    assert!(matches!(missing, ReadError::Missing { .. }), "{missing}");
    let store = scratch.open();
    write(&store, 0..3);
    let reader = Reader::open(scratch.database()).unwrap();
    assert_eq!(reader.count(&Selection::all()).unwrap(), 3);
    assert!(reader.request("2").unwrap().unwrap().row.success);
    write(&store, 3..4);
    assert_eq!(reader.count(&Selection::all()).unwrap(), 4);
    drop(reader);
    assert!(store.request("3").unwrap().is_some());
    // The thread of the pool that opened a connection for this holds it a moment longer.
    std::thread::sleep(Duration::from_millis(100));
    assert!(store.close(PATIENCE).is_empty());
    let beside = ["arbstr.db", "arbstr.db.owner-0"];
    assert_eq!(scratch.files(), beside, "closing leaves one file");
    // And after it, with no write-ahead log there.
    let reader = Reader::open(scratch.database()).unwrap();
    assert_eq!(reader.count(&Selection::all()).unwrap(), 4);
    drop(reader);
    let version = |version: i64| {
        let sql = format!("PRAGMA user_version = {version}");
        scratch.peek().execute_batch(&sql).unwrap();
        Reader::open(scratch.database()).unwrap_err()
    };
    assert!(matches!(
        version(99),
        ReadError::NewerSchema { found: 99, .. }
    ));
    assert!(matches!(
        version(1),
        ReadError::OlderSchema { found: 1, .. }
    ));
    assert!(matches!(version(0), ReadError::Foreign { .. }));
    std::fs::write(scratch.database(), "no database").unwrap();
    let error = Reader::open(scratch.database()).unwrap_err();
    assert!(matches!(error, ReadError::Unreadable { .. }), "{error}");
}

#[test]
fn saved_state_is_there_after_a_restart() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(store.reader().load_state("learned").unwrap(), None);
    store.save_state("learned", b"first".to_vec());
    store.save_state("learned", b"second".to_vec());
    store.save_state("else", Vec::new());
    assert!(store.flush(PATIENCE).is_empty());
    let load = |store: &Store, name| store.reader().load_state(name).unwrap();
    assert_eq!(load(&store, "learned").as_deref(), Some(&b"second"[..]));
    store.save_state("learned", b"third".to_vec());
    assert!(store.close(PATIENCE).is_empty());
    let store = scratch.open();
    assert_eq!(load(&store, "learned").as_deref(), Some(&b"third"[..]));
    assert_eq!(load(&store, "else"), Some(Vec::new()));
    // Also while nothing else happens.
    std::thread::sleep(Duration::from_millis(100));
    store.save_state("learned", b"fourth".to_vec());
    crate::scratch::wait_until("it is saved", || {
        load(&store, "learned").as_deref() == Some(&b"fourth"[..])
    });
}
