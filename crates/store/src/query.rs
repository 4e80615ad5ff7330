//! Answers questions about rows.

mod cursor;
mod export;
mod page;
mod requests;
mod selection;
mod stats;

pub use export::{Export, Follow};
pub use page::{Page, PageQuery, Sort, SortBy, UnknownSort};
pub use selection::{Filter, Selection};
pub use stats::{Group, GroupBy, GroupKey, Stats, StatsQuery, Sum, Totals, UnknownGroup};

pub(crate) use page::page;
pub(crate) use requests::find;
pub(crate) use stats::{count, stats};

use rusqlite::{Connection, OptionalExtension};

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The database cannot be opened, or all readers are busy.
    #[error("the ledger cannot be read at the moment")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused the query.
    #[error("the query could not be answered")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cursor is none, or one of a page with another sort or other filters.
    #[error("the cursor does not belong to this query; begin again without one")]
    Cursor,
    /// The column to sort by has no index, and there are too many rows to sort them now.
    #[error(
        "the range has {rows} requests, and at most {most} can be sorted by this column; narrow the range"
    )]
    TooMuch {
        /// Rows in the range.
        rows: u64,
        /// How many are not too much.
        most: u64,
    },
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What was saved under `name` last.
pub(crate) fn load_state(
    connection: &Connection,
    name: &str,
) -> Result<Option<Vec<u8>>, QueryError> {
    let sql = "SELECT bytes FROM saved_state WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}
