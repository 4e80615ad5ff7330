//! The handle for questions. A server's store has one; another process can open one on the same file.

use std::path::{Path, PathBuf};

use r2d2::{ManageConnection, PooledConnection};
use rusqlite::Connection;

use crate::behind::{self, Behind};
use crate::owner::Home;
use crate::pool::{self, Readers};
use crate::query::{
    self, Export, Filter, Follow, Page, PageQuery, QueryError, Selection, Stats, StatsQuery,
};
use crate::record::RequestDetail;
use crate::schema::{self, ConnectError};

/// Answers queries, each over the last commit. Cheap to clone. Every call blocks for the database.
#[derive(Debug, Clone)]
pub struct Reader {
    readers: Readers,
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("there is no database {}", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// A newer arbstr has changed the database.
    #[error("database {} was written by a newer arbstr (schema version {found}, this one knows {known}); use that version", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// No arbstr of this version has served on the database yet.
    #[error("database {} was written by an older arbstr (schema version {found}, this one reads {known}); start this version's server on it once", path.display())]
    OlderSchema {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// The file is a database of something else.
    #[error("database {} belongs to another program: it has tables that are not arbstr's", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file cannot be opened, or is no database.
    #[error("database {} cannot be read", path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Reader {
    /// Opens the database at `path` for reading alone, whether or not a server writes to it.
    ///
    /// # Errors
    ///
    /// There is no such file, it cannot be read, or it is not of this program's version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                let path = path.to_owned();
                return Err(ReadError::Missing { path });
            }
            Err(error) => {
                return Err(ReadError::Unreadable {
                    path: path.to_owned(),
                    source: Box::new(error),
                });
            }
        }
        let checked = pool::connect(path)
            .map_err(ConnectError::from)
            .and_then(|connection| schema::check(&connection));
        checked.map_err(|error| refusal(error, path))?;
        Ok(Self::new(path.to_owned()))
    }

    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            readers: Readers::new(path),
        }
    }

    /// One request with its plan and attempts.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn request(&self, correlation_id: &str) -> Result<Option<RequestDetail>, QueryError> {
        query::find(&*self.lend()?, correlation_id)
    }

    /// Totals over a range, and by group.
    ///
    /// Takes milliseconds whatever the number of rows. A range that begins or ends within an hour whose rows are
    /// deleted covers all of that hour; the answer says so.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn stats(&self, query: &StatsQuery) -> Result<Stats, QueryError> {
        query::stats(&*self.lend()?, query)
    }

    /// One page of requests.
    ///
    /// # Errors
    ///
    /// The database cannot be read, the cursor is not of this query, or there are too many rows to sort.
    pub fn requests(&self, query: &PageQuery) -> Result<Page, QueryError> {
        query::page(&*self.lend()?, query)
    }

    /// How many requests there were; as quick as [`Self::stats`], and of whole hours where that is.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn count(&self, selection: &Selection) -> Result<u64, QueryError> {
        query::count(&*self.lend()?, selection)
    }

    /// All rows of a selection, in order of arrival, without holding them in memory.
    #[must_use]
    pub fn export(&self, selection: &Selection) -> Export {
        Export::new(self.clone(), selection.clone())
    }

    /// Rows that end from now on.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn follow(&self, filter: &Filter) -> Result<Follow, QueryError> {
        Follow::new(self.clone(), filter.clone())
    }

    /// What journals beside the database have that is not in it yet. A writer that keeps up leaves records there for some
    /// 200 ms; reads all of them.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn behind(&self) -> Result<Behind, QueryError> {
        let home = Home::new(self.readers.path());
        behind::measure(&*self.lend()?, &home)
    }

    /// What was saved under `name` last.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn load_state(&self, name: &str) -> Result<Option<Vec<u8>>, QueryError> {
        query::load_state(&*self.lend()?, name)
    }

    /// Closes the connections that nobody uses now; they are opened again when wanted.
    pub(crate) fn rest(&self) {
        self.readers.rest();
    }

    pub(crate) fn lend(
        &self,
    ) -> Result<PooledConnection<impl ManageConnection<Connection = Connection> + use<>>, QueryError>
    {
        self.readers.lend()
    }
}

fn refusal(error: ConnectError, path: &Path) -> ReadError {
    let path = path.to_owned();
    match error {
        ConnectError::Newer { found, known } => ReadError::NewerSchema { path, found, known },
        ConnectError::Older { found, known } => ReadError::OlderSchema { path, found, known },
        ConnectError::Foreign => ReadError::Foreign { path },
        error => ReadError::Unreadable {
            path,
            source: Box::new(error),
        },
    }
}
