//! The writer turn by turn: what fails is kept, what is applied goes, and nothing is applied twice.

use std::io;
use std::path::PathBuf;

use super::*;
use crate::journal::Sink;
use crate::record::{Completion, Opening};

/// A folder with a ledger in it, its writer not yet running.
struct Bench {
    folder: PathBuf,
    intake: Arc<Intake>,
}

/// For that many records of any length.
fn room(records: u64) -> Load {
    let bytes = u64::MAX;
    Load { records, bytes }
}

impl Bench {
    fn new(name: &str, bound: u64) -> Self {
        let folder =
            std::env::temp_dir().join(format!("arbstr-writer-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            intake: Arc::new(Intake::new(room(bound))),
        }
    }

    fn connect(&self) -> Connection {
        schema::connect(&self.folder.join("db")).unwrap()
    }

    fn writer(&self, connection: Connection) -> Writer {
        let home = Home::new(&self.folder.join("db"));
        Writer::new(Arc::clone(&self.intake), home, 1, Some(connection))
    }

    fn open(&self, opening: Opening) {
        let mut records = Records::default();
        records.open_request(&opening);
        self.intake.append(&records);
    }

    fn complete(&self, completion: Completion) {
        let mut records = Records::default();
        records.complete(&completion);
        self.intake.append(&records);
    }

    fn serve(&self, ids: std::ops::Range<u32>) {
        for id in ids {
            self.open(Opening {
                correlation_id: id.to_string(),
                plan: Some("p".repeat(2000)),
                ..Opening::default()
            });
            self.complete(Completion {
                correlation_id: id.to_string(),
                success: true,
                ..Completion::default()
            });
        }
    }

    fn count(&self) -> i64 {
        let sql = "SELECT coalesce(sum(success), 0) FROM requests";
        self.connect().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

#[derive(Debug)]
struct Full;

impl Sink for Full {
    fn append(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// Lets the journal refuse everything. Gives back what makes it work again.
fn fill_disk(bench: &Bench) -> Arc<dyn Sink> {
    let mut whole = None;
    bench.intake.journal.divert(|sink| {
        whole = Some(sink);
        Arc::new(Full)
    });
    whole.unwrap()
}

fn turn_until_drained(writer: &mut Writer) {
    while writer.turn().unwrap() == Turn::More {}
}

#[test]
fn full_database_keeps_everything_in_the_journal() {
    let bench = Bench::new("full-db", 10);
    let connection = bench.connect();
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = |pages: i64| format!("PRAGMA max_page_count = {pages}");
    connection.execute_batch(&limit(pages + 40)).unwrap();
    let mut writer = bench.writer(connection);
    bench.serve(0..200);
    let trouble = loop {
        match writer.turn() {
            Ok(_) => bench.serve(200..300),
            Err(trouble) => break trouble,
        }
    };
    assert!(trouble.to_string().contains("full"), "{trouble}");
    writer.give_way(&trouble);
    assert!(writer.turn().is_err());
    assert_eq!(bench.intake.memory_only(), 0);
    assert!(bench.intake.status(0).last_error.is_some());
    // The same connection goes on once there is room.
    let connection = writer.connection.as_ref().unwrap();
    connection.execute_batch(&limit(100_000)).unwrap();
    bench.serve(300..310);
    turn_until_drained(&mut writer);
    assert_eq!(bench.intake.depth(), 0);
    assert!(bench.count() >= 210);
    assert_eq!(bench.intake.status(0).dropped, 0);
}

/// SQLite went on writing to the file that was gone, and every record of that time with it.
#[test]
fn records_wait_in_the_journal_while_the_database_is_gone() {
    let mut bench = Bench::new("gone", 10);
    let mut writer = bench.writer(bench.connect());
    bench.serve(0..10);
    turn_until_drained(&mut writer);
    let (here, away) = (bench.folder.join("db"), bench.folder.join("away"));
    std::fs::rename(&here, &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            std::fs::write(&here, "another").unwrap();
        }
        bench.serve(10..20);
        let trouble = writer.turn().unwrap_err();
        assert!(trouble.to_string().contains("put it back"), "{trouble}");
        writer.give_way(&trouble);
    }
    std::fs::rename(&away, &here).unwrap();
    turn_until_drained(&mut writer);
    assert_eq!(bench.count(), 20);
    // For good, and arbstr is started again: a new file takes what was waiting, and what the journal still has of before.
    std::fs::remove_file(&here).unwrap();
    bench.serve(20..30);
    assert!(writer.turn().is_err());
    drop(writer);
    bench.intake = Arc::new(Intake::new(room(10)));
    let mut next = bench.writer(bench.connect());
    turn_until_drained(&mut next);
    assert_eq!(bench.count(), 30);
}

#[test]
fn full_journal_is_bridged_by_memory_in_any_mixture() {
    let bench = Bench::new("full-journal", 1000);
    let mut writer = bench.writer(bench.connect());
    let opening = |id: &str| {
        bench.open(Opening {
            correlation_id: id.into(),
            ..Opening::default()
        });
    };
    let completion = |id: &str| {
        bench.complete(Completion {
            correlation_id: id.into(),
            success: true,
            ..Completion::default()
        });
    };
    opening("journal then memory");
    let whole = fill_disk(&bench);
    completion("journal then memory");
    opening("memory then journal");
    opening("memory and memory");
    completion("memory and memory");
    bench.intake.journal.divert(|_| whole);
    completion("memory then journal");
    assert_eq!(bench.intake.memory_only(), 4);
    turn_until_drained(&mut writer);
    turn_until_drained(&mut writer);
    assert_eq!(bench.count(), 3);
    let status = bench.intake.status(0);
    assert_eq!(
        (status.depth, status.memory_only, status.unmatched),
        (0, 0, 0)
    );
}

#[test]
fn full_disk_leaves_the_journal_the_room_of_its_spare() {
    let bench = Bench::new("spare", 100);
    let mut writer = bench.writer(bench.connect());
    // More than a segment takes.
    bench.serve(0..4500);
    turn_until_drained(&mut writer);
    turn_until_drained(&mut writer);
    assert!(writer.spare.is_some());
    fill_disk(&bench);
    bench.serve(4500..4510);
    assert_eq!(bench.intake.memory_only(), 20);
    writer.keep_journal();
    assert!(writer.spare.is_none());
    bench.serve(4510..4520);
    assert_eq!(bench.intake.memory_only(), 20);
    // There is only one.
    fill_disk(&bench);
    writer.keep_journal();
    bench.serve(4520..4530);
    assert_eq!(bench.intake.memory_only(), 40);
    turn_until_drained(&mut writer);
    turn_until_drained(&mut writer);
    assert_eq!((bench.count(), bench.intake.depth()), (4530, 0));
}

#[test]
fn records_handed_in_together_are_in_the_journal_as_far_as_it_took_them() {
    /// Takes only the first bytes of each write.
    #[derive(Debug)]
    struct Narrow(Arc<dyn Sink>, usize);
    impl Sink for Narrow {
        fn append(&self, bytes: &[u8]) -> io::Result<usize> {
            self.0.append(&bytes[..self.1])
        }
    }
    let bench = Bench::new("together", 3);
    let mut writer = bench.writer(bench.connect());
    let mut records = Records::default();
    for id in ["a", "b", "c"] {
        records.open_request(&Opening {
            correlation_id: id,
            ..Opening::default()
        });
        records.complete(&Completion {
            correlation_id: id,
            success: true,
            ..Completion::default()
        });
    }
    // All of the first request and one byte of the second.
    let length = records.bytes().len() / 3 + 1;
    let narrow = |whole| -> Arc<dyn Sink> { Arc::new(Narrow(whole, length)) };
    bench.intake.journal.divert(narrow);
    bench.intake.append(&records);
    let status = bench.intake.status(0);
    assert_eq!(
        (status.depth, status.memory_only, status.dropped),
        (5, 3, 1)
    );
    turn_until_drained(&mut writer);
    turn_until_drained(&mut writer);
    // The one record too many was the completion of the third.
    assert_eq!(bench.count(), 2);
    assert_eq!(bench.intake.depth(), 0);
}

#[test]
fn what_is_applied_from_memory_makes_room_in_it() {
    let mut bench = Bench::new("room", 0);
    let (records, bytes) = (10, 10_000);
    bench.intake = Arc::new(Intake::new(Load { records, bytes }));
    let mut writer = bench.writer(bench.connect());
    fill_disk(&bench);
    for nth in 0..3 {
        // Two by two: an opening of some 2 KB and a short completion. There is room for four openings.
        bench.serve(nth * 10..nth * 10 + 4);
        turn_until_drained(&mut writer);
        turn_until_drained(&mut writer);
        let status = bench.intake.status(0);
        assert_eq!((status.memory_only, status.dropped), (0, 0));
    }
    assert_eq!(bench.count(), 12);
    bench.serve(40..46);
    let status = bench.intake.status(0);
    // The last two openings are too long; their completions are not.
    assert_eq!((status.memory_only, status.dropped), (10, 2));
}

#[test]
fn completion_in_memory_waits_for_its_opening_in_a_long_journal() {
    let bench = Bench::new("long-journal", 10);
    let mut writer = bench.writer(bench.connect());
    let long = u32::try_from(BATCH).unwrap();
    bench.serve(0..long);
    bench.open(Opening {
        correlation_id: "late".into(),
        ..Opening::default()
    });
    fill_disk(&bench);
    bench.complete(Completion {
        correlation_id: "late".into(),
        success: true,
        ..Completion::default()
    });
    turn_until_drained(&mut writer);
    assert_eq!(bench.count(), i64::from(long) + 1);
    assert_eq!(bench.intake.status(0).unmatched, 0);
}

#[test]
fn applying_a_journal_twice_changes_nothing() {
    let mut bench = Bench::new("twice", 10);
    let mut writer = bench.writer(bench.connect());
    bench.serve(0..50);
    turn_until_drained(&mut writer);
    // As after a crash between the commit and the removal of the journal, with the progress lost as well.
    let connection = bench.connect();
    connection
        .execute("DELETE FROM ledger_progress", [])
        .unwrap();
    drop((writer, connection));
    bench.intake = Arc::new(Intake::new(room(10)));
    let mut next = bench.writer(bench.connect());
    turn_until_drained(&mut next);
    assert_eq!(bench.count(), 50);
    assert_eq!(segments(&bench).len(), 1);
}

/// The files of the journal.
fn segments(bench: &Bench) -> Vec<String> {
    let left = std::fs::read_dir(&bench.folder).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.contains(".ledger-")).collect();
    names.sort();
    names
}

#[test]
fn file_of_a_segment_is_used_again_and_a_crash_replays_what_is_fresh_in_it() {
    let mut bench = Bench::new("used-again", 10);
    let mut writer = bench.writer(bench.connect());
    // More than a segment's worth, of which each is some 2 KB.
    for nth in 0..3 {
        bench.serve(nth * 5000..nth * 5000 + 5000);
        turn_until_drained(&mut writer);
    }
    // The present one was the second, the spare the third, which was the first.
    assert_eq!(segments(&bench), ["db.ledger-0-4", "db.ledger-0-spare"]);
    let length = |name: &str| bench.folder.join(name).metadata().unwrap().len();
    assert!(length("db.ledger-0-4") > 8 << 20 && length("db.ledger-0-spare") > 8 << 20);
    // Forgets all that the former uses of the file held: what is replayed shows.
    let connection = bench.connect();
    connection.execute("DELETE FROM requests", []).unwrap();
    bench.serve(15_000..15_100);
    drop(writer);
    bench.intake = Arc::new(Intake::new(room(10)));
    let mut next = bench.writer(bench.connect());
    turn_until_drained(&mut next);
    assert_eq!(bench.count(), 100);
    assert_eq!(segments(&bench), ["db.ledger-0-5"]);
    assert_eq!(bench.intake.status(0).unmatched, 0);
    next.retire();
    assert_eq!(segments(&bench), [""; 0]);
}

/// Makes the database refuse request 7 for good.
const REFUSE: &str = "CREATE TRIGGER refuse BEFORE INSERT ON requests WHEN new.correlation_id = '7'
    BEGIN SELECT raise(ABORT, 'never'); END";

#[test]
fn record_that_the_database_refuses_costs_itself_alone() {
    let bench = Bench::new("refused", 10);
    let connection = bench.connect();
    connection.execute_batch(REFUSE).unwrap();
    let mut writer = bench.writer(connection);
    bench.serve(0..20);
    turn_until_drained(&mut writer);
    let status = bench.intake.status(0);
    assert_eq!((bench.count(), status.depth, status.dropped), (19, 0, 1));
    // Its completion found no row.
    assert_eq!(status.unmatched, 1);
}

#[test]
fn record_that_a_full_database_refuses_is_counted_once() {
    let bench = Bench::new("refused-full", 10);
    let connection = bench.connect();
    connection.execute_batch(REFUSE).unwrap();
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = |pages: i64| format!("PRAGMA max_page_count = {pages}");
    connection.execute_batch(&limit(pages + 20)).unwrap();
    let mut writer = bench.writer(connection);
    bench.serve(0..200);
    for _ in 0..3 {
        let trouble = writer.turn().unwrap_err();
        assert!(trouble.to_string().contains("full"), "{trouble}");
        writer.give_way(&trouble);
    }
    let connection = writer.connection.as_ref().unwrap();
    connection.execute_batch(&limit(100_000)).unwrap();
    turn_until_drained(&mut writer);
    let status = bench.intake.status(0);
    assert_eq!((bench.count(), status.depth), (199, 0));
    assert_eq!((status.dropped, status.unmatched), (1, 1));
}

#[test]
fn completion_finds_its_opening_in_memory_also_beside_a_record_that_is_refused() {
    let bench = Bench::new("refused-memory", 10);
    let connection = bench.connect();
    connection.execute_batch(REFUSE).unwrap();
    let mut writer = bench.writer(connection);
    bench.serve(7..8);
    let whole = fill_disk(&bench);
    bench.open(Opening {
        correlation_id: "8".into(),
        ..Opening::default()
    });
    bench.intake.journal.divert(|_| whole);
    bench.complete(Completion {
        correlation_id: "8".into(),
        success: true,
        ..Completion::default()
    });
    turn_until_drained(&mut writer);
    assert_eq!(bench.count(), 1);
}

#[test]
fn roll_ups_hold_every_row_whoever_writes_beside_and_whatever_fails() {
    let bench = Bench::new("roll-ups", 10);
    let beside = Bench {
        folder: bench.folder.clone(),
        intake: Arc::new(Intake::new(room(10))),
    };
    let (mut writer, mut other) = (
        bench.writer(bench.connect()),
        beside.writer(bench.connect()),
    );
    let expect = |requests: i64| {
        for table in ["rollup_quarters", "rollup_hours", "rollup_days"] {
            let sql = format!("SELECT sum(requests) FROM {table} WHERE series = 0");
            let found: i64 = bench
                .connect()
                .query_row(&sql, [], |row| row.get(0))
                .unwrap();
            assert_eq!(found, requests, "{table}");
        }
    };
    bench.serve(0..5);
    turn_until_drained(&mut writer);
    bench.serve(5..10);
    turn_until_drained(&mut writer);
    expect(10);
    // Another instance on the same file.
    beside.serve(10..20);
    turn_until_drained(&mut other);
    bench.serve(20..30);
    turn_until_drained(&mut writer);
    beside.serve(30..40);
    turn_until_drained(&mut other);
    expect(40);
    // The same connection, beside the records.
    bench.serve(40..45);
    turn_until_drained(&mut writer);
    let connection = writer.connection.as_ref().unwrap();
    for table in ["rollup_quarters", "rollup_hours", "rollup_days"] {
        connection
            .execute(&format!("DELETE FROM {table}"), [])
            .unwrap();
    }
    bench.serve(45..50);
    turn_until_drained(&mut writer);
    expect(5);
    // A transaction that fails, and one that finds a record which is refused.
    let pages: i64 = connection_value(&writer, "PRAGMA page_count");
    let limit = |writer: &Writer, pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        connection_value(writer, &sql)
    };
    limit(&writer, pages + 1);
    bench.serve(50..150);
    let trouble = writer.turn().unwrap_err();
    writer.give_way(&trouble);
    limit(&writer, 100_000);
    turn_until_drained(&mut writer);
    expect(105);
    let refuse = REFUSE.replace("'7'", "'157'");
    writer
        .connection
        .as_ref()
        .unwrap()
        .execute_batch(&refuse)
        .unwrap();
    bench.serve(150..160);
    turn_until_drained(&mut writer);
    bench.serve(160..170);
    turn_until_drained(&mut writer);
    expect(124);
}

fn connection_value(writer: &Writer, sql: &str) -> i64 {
    let connection = writer.connection.as_ref().unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn writer_that_is_never_idle_looks_for_dead_processes_all_the_same() {
    let bench = Bench::new("never-idle", 10);
    let mut writer = bench.writer(bench.connect());
    turn_until_drained(&mut writer);
    let call = bench.intake.call();
    // News, and nobody to linger for.
    bench.intake.stop();
    for (is_busy, rests) in [(true, RESTS), (false, RESTS / QUIET_REST)] {
        writer.is_busy = is_busy;
        for _ in 1..rests {
            writer.rest(call);
            assert!(writer.recovered);
        }
        writer.rest(call);
        assert!(!writer.recovered);
        turn_until_drained(&mut writer);
        assert!(writer.recovered);
    }
}
