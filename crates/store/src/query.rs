//! Answers questions about rows.

mod requests;

pub(crate) use requests::find;

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The database cannot be opened, or all readers are busy.
    #[error("the ledger cannot be read at the moment")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused the query.
    #[error("the query could not be answered")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}
