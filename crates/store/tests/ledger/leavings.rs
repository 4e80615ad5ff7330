//! What dead processes left, in bad shape: it costs itself at most, and is told by name.

use std::path::PathBuf;
use std::time::Duration;

use arbstr_store::{Opening, Selection, StatsQuery, Store};

use crate::samples::{completion, cost_of, opening};
use crate::scratch::{PATIENCE, Scratch};

/// A file that nobody can open, not even root: a link to itself.
fn block(path: &PathBuf) {
    std::os::unix::fs::symlink(path, path).unwrap();
}

fn serve(store: &Store, ids: std::ops::Range<u32>) {
    for nth in ids {
        let id = format!("r{nth}");
        store.open_request(&opening(&id));
        store.complete(&completion(&id));
    }
}

/// Serves `r0` to `r99` and opens `late`, of which only the journal knows. Returns where that lies.
fn leave_journal(scratch: &Scratch) -> PathBuf {
    let store = scratch.open();
    let other = scratch.peek();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    serve(&store, 0..100);
    store.open_request(&opening("late"));
    assert!(!store.close(Duration::from_millis(50)).is_empty());
    other.execute_batch("COMMIT").unwrap();
    scratch.folder().join("arbstr.db.ledger-0-1")
}

/// That everything which [`leave_journal`] left is in the database, with what else succeeded.
fn assert_taken_in(scratch: &Scratch, successes: i64) {
    let number = |sql| scratch.number(sql);
    assert_eq!(number("SELECT sum(success) FROM requests"), successes);
    let interrupted = "SELECT count(*) FROM requests WHERE error_message = 'interrupted'";
    assert_eq!(number(interrupted), 1);
}

#[test]
fn slot_file_that_cannot_be_opened_costs_its_slot_alone() {
    let scratch = Scratch::new();
    block(&scratch.folder().join("arbstr.db.owner-0"));
    let store = scratch.open();
    serve(&store, 0..10);
    assert!(store.flush(PATIENCE).is_empty());
    let status = store.status(0);
    assert!(status.journal_ready && !status.is_degraded(), "{status:?}");
    assert!(scratch.files().contains(&"arbstr.db.ledger-1-1".to_owned()));
    assert!(store.close(PATIENCE).is_empty());
}

#[test]
fn segment_that_cannot_be_read_waits_until_it_can() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let kept = scratch.folder().join("kept");
    std::fs::rename(&path, &kept).unwrap();
    block(&path);
    let store = scratch.open();
    serve(&store, 100..110);
    assert!(store.flush(PATIENCE).is_empty());
    assert_eq!(store.status(0).last_error, None);
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 10);
    assert!(store.close(PATIENCE).is_empty());
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&kept, &path).unwrap();
    let _store = scratch.open();
    assert_taken_in(&scratch, 110);
    assert!(!path.exists());
}

#[test]
fn segment_of_a_newer_arbstr_waits_for_it() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let known = std::fs::read(&path).unwrap();
    // The mark, length, checksum and kind of a record that nobody knows yet.
    let payload = [200, 1, 2, 3];
    let mut bytes = known.clone();
    bytes.extend_from_slice(b"aLg1\x04\0\0\0");
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    std::fs::write(&path, &bytes).unwrap();
    let store = scratch.open();
    serve(&store, 100..110);
    assert!(store.close(PATIENCE).is_empty());
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 10);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    std::fs::write(&path, &known).unwrap();
    let _store = scratch.open();
    assert_taken_in(&scratch, 110);
    assert!(!path.exists());
}

#[test]
fn file_that_a_dead_process_was_to_use_again_is_removed_unread() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let spares = [0, 1].map(|slot| {
        let name = format!("arbstr.db.ledger-{slot}-spare");
        scratch.folder().join(name)
    });
    // It died before it had made them zeros, and another that had slot 1 did so too.
    std::fs::write(scratch.folder().join("arbstr.db.owner-1"), []).unwrap();
    for spare in &spares {
        std::fs::copy(&path, spare).unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    let store = scratch.open();
    assert_eq!(scratch.number("SELECT count(*) FROM requests"), 0);
    assert!(spares.iter().all(|spare| !spare.exists()));
    assert!(store.close(PATIENCE).is_empty());
}

#[test]
fn journal_that_ends_in_zeros_is_whole() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(bytes.len() + (1 << 20), 0);
    std::fs::write(&path, &bytes).unwrap();
    let _store = scratch.open();
    assert_taken_in(&scratch, 100);
    assert!(!path.exists());
}

#[test]
fn journal_that_does_not_say_whose_it_is_is_applied_all_the_same() {
    // A bit of the mark, the length, the checksum, the kind and the name of the frame that says it.
    for damaged in [0, 5, 9, 12, 20] {
        let scratch = Scratch::new();
        let path = leave_journal(&scratch);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[damaged] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let _store = scratch.open();
        assert_taken_in(&scratch, 100);
        assert!(!path.exists());
    }
}

#[test]
fn applied_journal_that_does_not_say_whose_it_is_counts_nothing_twice() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let mut bytes = std::fs::read(&path).unwrap();
    let store = scratch.open();
    assert_taken_in(&scratch, 100);
    assert!(store.close(PATIENCE).is_empty());
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let store = scratch.open();
    assert_taken_in(&scratch, 100);
    let cost: i64 = (0..100).map(|nth| cost_of(&format!("r{nth}"))).sum();
    let query = StatsQuery {
        selection: Selection::all(),
        group_by: None,
    };
    let totals = store.reader().stats(&query).unwrap().totals;
    assert_eq!((totals.requests, totals.successes), (101, 100));
    assert_eq!(totals.cost.amount.nanosats(), cost.into());
}

#[test]
fn journal_of_which_nothing_can_be_read_is_kept() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let text = b"neither this nor that".repeat(100);
    for nth in 1..3 {
        std::fs::write(&path, &text).unwrap();
        let store = scratch.open();
        serve(&store, nth * 10..nth * 10 + 10);
        assert!(store.close(PATIENCE).is_empty());
        let kept = format!("arbstr.db.ledger-0-1.damaged-{nth}");
        assert_eq!(std::fs::read(scratch.folder().join(kept)).unwrap(), text);
        assert!(!path.exists());
    }
    assert_eq!(scratch.number("SELECT sum(success) FROM requests"), 20);
}

#[test]
fn record_that_the_database_refuses_keeps_no_other_from_being_taken_in() {
    let scratch = Scratch::new();
    let path = leave_journal(&scratch);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON requests WHEN new.correlation_id = 'r7'
        BEGIN SELECT raise(ABORT, 'never'); END";
    scratch.peek().execute_batch(refuse).unwrap();
    let store = scratch.open();
    serve(&store, 100..110);
    assert!(store.flush(PATIENCE).is_empty());
    assert_taken_in(&scratch, 109);
    let status = store.status(0);
    assert_eq!((status.dropped, status.last_error), (1, None));
    assert!(!path.exists());
}

#[test]
fn rows_opened_by_a_process_without_a_slot_are_not_in_progress_for_ever() {
    let scratch = Scratch::new();
    let slots: Vec<PathBuf> = (0..1024)
        .map(|slot| scratch.folder().join(format!("arbstr.db.owner-{slot}")))
        .collect();
    slots.iter().for_each(block);
    let in_progress = || scratch.number("SELECT count(*) FROM requests WHERE owner IS NOT NULL");
    let slotless = scratch.open();
    slotless.open_request(&opening("old"));
    assert!(slotless.flush(PATIENCE).is_empty());
    assert!(!slotless.status(0).journal_ready);
    assert_eq!(in_progress(), 1);
    drop(slotless);
    for slot in &slots {
        std::fs::remove_file(slot).unwrap();
    }
    let old = opening("old").timestamp_ms;
    for (age_ms, left) in [(3_600_000, 1), (25 * 3_600_000, 1), (26 * 3_600_000, 0)] {
        let store = scratch.open();
        assert_eq!(in_progress(), left, "{age_ms}");
        let id = format!("r{age_ms}");
        store.open_request(&Opening {
            timestamp_ms: old + age_ms,
            ..opening(&id)
        });
        store.complete(&completion(&id));
        assert!(store.close(PATIENCE).is_empty());
    }
    let found = "SELECT count(*) FROM requests
        WHERE correlation_id = 'old' AND error_message = 'interrupted'";
    assert_eq!(scratch.number(found), 1);
}
