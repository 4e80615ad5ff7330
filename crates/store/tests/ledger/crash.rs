//! `kill -9` at random moments: nothing acknowledged is missing, nothing is there twice.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arbstr_price::Sats;
use arbstr_store::{Options, Selection, StatsQuery, Store};

use crate::samples::{completion, cost_of, opening};
use crate::scratch::{PATIENCE, Scratch};

const DATABASE: &str = "ARBSTR_CRASH_DATABASE";
const ROUND: &str = "ARBSTR_CRASH_ROUND";
const ROUNDS: u32 = 60;
/// Requests, over all rounds. On a busy machine a victim may die before it has served one, so that it takes more rounds.
const ENOUGH: usize = 1000;

/// The process to be killed: serves until it dies, and says what it was done with. Does nothing on its own.
#[test]
fn victim() {
    let (Ok(database), Ok(round)) = (std::env::var(DATABASE), std::env::var(ROUND)) else {
        return;
    };
    let store = Store::open(Options::new(database, 1)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, round) = (store.clone(), &round);
            scope.spawn(move || {
                for nth in 0.. {
                    serve_one(&store, &format!("{round}-{thread}-{nth}"), nth);
                }
            });
        }
    });
}

fn serve_one(store: &Store, id: &str, nth: u32) {
    let say = |what: &str| {
        let line = format!("\n{what} {id}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    };
    store.open_request(&opening(id));
    say("opened");
    if nth.is_multiple_of(5) {
        std::thread::sleep(Duration::from_millis(u64::from(nth % 25)));
    }
    if !nth.is_multiple_of(11) {
        store.complete(&completion(id));
        say("completed");
    }
}

#[test]
fn no_record_is_lost_or_doubled_by_kill_9() {
    let scratch = Scratch::new();
    let (mut opened, mut completed) = (HashSet::new(), HashSet::new());
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..5 * ROUNDS {
        if round >= ROUNDS && opened.len() > ENOUGH {
            break;
        }
        let mut child = start_victim(&scratch, round);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        std::thread::sleep(Duration::from_millis(10 + dice % 120));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            match line.split_once(' ') {
                Some(("opened", id)) => opened.insert(id.to_owned()),
                Some(("completed", id)) => completed.insert(id.to_owned()),
                _ => continue,
            };
        }
    }
    assert!(
        opened.len() > ENOUGH,
        "the victims did next to nothing: {}",
        opened.len()
    );
    // Every victim but the last was buried by a later one, under load.
    let store = scratch.open();
    check_books(&scratch, &opened, &completed);
    check_sums(&scratch, &store);
    assert_eq!(store.status(0).depth, 0);
    assert!(store.close(PATIENCE).is_empty());
    let rest: Vec<_> = scratch
        .files()
        .into_iter()
        .filter(|name| name.contains(".ledger-"))
        .collect();
    assert_eq!(rest, Vec::<String>::new());
}

fn start_victim(scratch: &Scratch, round: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::victim",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DATABASE, scratch.database())
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The roll-ups, which every killed process had a hand in, say what the rows say.
fn check_sums(scratch: &Scratch, store: &Store) {
    let query = StatsQuery {
        selection: Selection::all(),
        group_by: None,
    };
    let totals = store.reader().stats(&query).unwrap().totals;
    let number = |sql| u64::try_from(scratch.number(sql)).unwrap();
    assert_eq!(totals.requests, number("SELECT count(*) FROM requests"));
    assert_eq!(
        totals.successes,
        number("SELECT sum(success) FROM requests")
    );
    let billed = scratch.number("SELECT sum(cost_nanosats) FROM requests");
    assert_eq!(totals.cost.amount, Sats::from_nanosats(billed.into()));
    assert_eq!(totals.in_progress, 0);
}

fn check_books(scratch: &Scratch, opened: &HashSet<String>, completed: &HashSet<String>) {
    let connection = scratch.peek();
    let mut statement = connection
        .prepare(
            "SELECT correlation_id, success, error_message, cost_nanosats,
                (SELECT count(*) FROM attempts WHERE attempts.correlation_id = requests.correlation_id)
             FROM requests",
        )
        .unwrap();
    type Book = (String, bool, Option<String>, Option<i64>, i64);
    let books: HashMap<String, Book> = statement
        .query_map([], |row| Ok((row.get(0)?, row.try_into()?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for id in opened {
        assert!(
            books.contains_key(id),
            "{id} was opened and is not on record"
        );
    }
    for id in completed {
        assert!(books[id].1, "{id} was completed and is {:?}", books[id]);
    }
    for (id, success, message, cost, attempts) in books.values() {
        if *success {
            assert_eq!(
                (message, *cost, *attempts),
                (&None, Some(cost_of(id)), 2),
                "{id}"
            );
        } else {
            let interrupted = (Some("interrupted"), None, 0);
            assert_eq!((message.as_deref(), *cost, *attempts), interrupted, "{id}");
        }
    }
}
