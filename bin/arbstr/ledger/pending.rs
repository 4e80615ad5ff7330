//! Records on their way to the journal.
//!
//! The requests of a cohort leave theirs in one place of their thread, and the first to go on writes them all: a write costs as
//! much for sixteen records as for one, give or take.

use std::cell::RefCell;

use arbstr_store::{Records, Store};

use crate::cohort;

/// Records of one request, in the journal at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    store: Store,
    /// Which write of this thread they go with.
    write: u64,
}

/// What a thread has to write, always to one store: it serves one app.
#[derive(Default)]
struct Unwritten {
    records: Records,
    /// Writes until now.
    writes: u64,
}

impl Pending {
    /// Leaves what `add` adds for the next write to `store`.
    pub(super) fn add(store: &Store, add: impl FnOnce(&mut Records)) -> Self {
        let write = UNWRITTEN.with_borrow_mut(|unwritten| {
            add(&mut unwritten.records);
            unwritten.writes
        });
        Self {
            store: store.clone(),
            write,
        }
    }

    /// Resolves once they are in the journal, and what the rest of the cohort left beside them too.
    pub(crate) async fn written(self) {
        cohort::rejoin().await;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        UNWRITTEN.with_borrow_mut(|unwritten| {
            if unwritten.writes == self.write {
                unwritten.writes += 1;
                self.store.append(&mut unwritten.records);
            }
        });
    }
}

thread_local! {
    static UNWRITTEN: RefCell<Unwritten> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arbstr_store::{Opening, Options, Store};

    use super::Pending;

    const IDS: [&str; 4] = [
        "0191e8a2-0000-7000-8000-000000000001",
        "0191e8a2-0000-7000-8000-000000000002",
        "0191e8a2-0000-7000-8000-000000000003",
        "0191e8a2-0000-7000-8000-000000000004",
    ];

    /// That `id` is opened.
    fn opening(store: &Store, id: &str) -> Pending {
        Pending::add(store, |records| {
            records.open_request(&Opening {
                correlation_id: id,
                timestamp_ms: 1_700_000_000_000,
                model: "model-a",
                ..Opening::default()
            });
        })
    }

    #[test]
    fn the_first_to_go_on_writes_for_all() {
        for first in 0..3 {
            let folder =
                std::env::temp_dir().join(format!("arbstr-pending-{}-{first}", std::process::id()));
            let store = Store::open(Options::new(folder.join("arbstr.db"), 0)).expect("a database");
            let mut cohort = [0, 1, 2].map(|at| Some(opening(&store, IDS[at])));
            assert_eq!(recorded(&store), 0, "nobody has gone on");
            drop(cohort[first].take());
            assert_eq!(recorded(&store), 3);
            let late = opening(&store, IDS[3]);
            drop(cohort);
            assert_eq!(
                recorded(&store),
                3,
                "nothing is written twice, or too early"
            );
            drop(late);
            assert_eq!(recorded(&store), 4);
            assert!(store.close(Duration::from_secs(5)).is_empty());
            std::fs::remove_dir_all(folder).expect("the folder was made");
        }
    }

    /// How many of [`IDS`] are on record.
    fn recorded(store: &Store) -> usize {
        assert!(store.flush(Duration::from_secs(5)).is_empty());
        let is_there = |id: &&&str| store.request(id).expect("a database").is_some();
        IDS.iter().filter(is_there).count()
    }
}
