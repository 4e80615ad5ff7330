//! Keeps one row per request and answers queries over them.
//!
//! A request is opened before its first upstream byte and completed once. Neither call waits for a transaction: both
//! append to a journal that outlives `kill -9`, and one thread moves the journal into SQLite in group commits.
//!
//! ```
//! use arbstr_store::{Completion, Opening, Options, Store};
//! use std::time::Duration;
//!
//! # let folder = std::env::temp_dir().join(format!("arbstr-store-doc-{}", std::process::id()));
//! let store = Store::open(Options::new(folder.join("arbstr.db"), 1_700_000_000_000))?;
//! store.open_request(&Opening {
//!     correlation_id: "0191e8a2-0000-7000-8000-000000000001",
//!     timestamp_ms: 1_700_000_000_500,
//!     model: "gpt-4o",
//!     ..Opening::default()
//! });
//! store.complete(&Completion {
//!     correlation_id: "0191e8a2-0000-7000-8000-000000000001",
//!     ended_ms: 1_700_000_001_500,
//!     provider: Some("alpha"),
//!     success: true,
//!     ..Completion::default()
//! });
//! assert!(store.flush(Duration::from_secs(5)).is_empty());
//!
//! let found = store.request("0191e8a2-0000-7000-8000-000000000001")?.expect("it was just written");
//! assert_eq!(found.row.provider.as_deref(), Some("alpha"));
//! assert_eq!(found.row.cost, None); // unknown is not zero
//! # assert!(store.close(Duration::from_secs(5)).is_empty());
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod apply;
mod behind;
mod chores;
mod histogram;
mod intake;
mod journal;
mod owner;
mod pool;
mod query;
mod reader;
mod record;
mod records;
mod recover;
mod rollup;
mod schema;
mod status;
mod store;
mod sums;
mod writer;

pub use behind::Behind;
pub use histogram::Percentiles;
pub use query::{
    Export, Filter, Follow, Group, GroupBy, GroupKey, Page, PageQuery, QueryError, Selection, Sort,
    SortBy, Stats, StatsQuery, Sum, Totals, UnknownGroup, UnknownSort,
};
pub use reader::{ReadError, Reader};
pub use record::{
    Asked, Attempt, Completion, IN_PROGRESS, INTERRUPTED, MAX_AMOUNT, NextAttempt, Opening,
    RequestDetail, RequestRow,
};
pub use records::Records;
pub use status::{Status, Unwritten};
pub use store::{OpenError, Options, Store};
