//! Read-only connections for queries.
//!
//! Opened when first wanted, so that a database that appears late is found then. Readers see the last commit and
//! never wait for the writer (WAL).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::query::QueryError;

/// The pool.
#[derive(Clone)]
pub(crate) struct Readers {
    path: PathBuf,
    pool: Arc<RwLock<Pool<Opener>>>,
}

impl Readers {
    /// Sets up an empty pool for the database at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        let pool = Arc::new(RwLock::new(fill(&path)));
        Self { path, pool }
    }

    /// The database.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lends a connection, waiting a moment when all are lent or the database cannot be opened.
    pub(crate) fn lend(
        &self,
    ) -> Result<PooledConnection<impl ManageConnection<Connection = Connection> + use<>>, QueryError>
    {
        self.pool()
            .get()
            .map_err(|error| QueryError::Unavailable(Box::new(error)))
    }

    /// Closes all connections that are not lent: SQLite removes its write-ahead log with the last one, if that is the
    /// writer's.
    pub(crate) fn rest(&self) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        *pool = fill(&self.path);
    }

    fn pool(&self) -> Pool<Opener> {
        let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
        pool.clone()
    }
}

/// A pool that opens connections when they are wanted.
fn fill(path: &Path) -> Pool<Opener> {
    Pool::builder()
        .max_size(MAX_READERS)
        .min_idle(Some(0))
        .connection_timeout(PATIENCE)
        .test_on_check_out(false)
        .error_handler(Box::new(NopErrorHandler))
        .build_unchecked(Opener {
            path: path.to_owned(),
        })
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.pool().state();
        out.debug_struct("Readers")
            .field("open", &state.connections)
            .field("idle", &state.idle_connections)
            .finish()
    }
}

#[derive(Debug)]
struct Opener {
    path: PathBuf,
}

impl ManageConnection for Opener {
    type Connection = Connection;
    type Error = rusqlite::Error;

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        connect(&self.path)
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), rusqlite::Error> {
        connection.query_row("SELECT 1", [], |_| Ok(()))
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false
    }
}

/// Opens the database at `path` for reading alone.
///
/// SQLite wants to make its two files beside it even then. Where it may not, as in a folder that cannot be written, the
/// file is read as one that nobody changes, unless a log beside it tells of changes.
pub(crate) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = match open(path, OpenFlags::empty()) {
        Err(error) if is_about_its_files(&error) => {
            let uri = unchanging(path).ok_or(error)?;
            open(Path::new(&uri), OpenFlags::SQLITE_OPEN_URI)?
        }
        result => result?,
    };
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    // Else a statement is compiled anew for each set of values, in case that one suggests another way to find its rows.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn open(path: &Path, more: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags | more)?;
    // Nothing is opened before something is read.
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    Ok(connection)
}

/// Whether the files are to blame that SQLite keeps beside a database.
fn is_about_its_files(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// How a file is named that nobody changes; `None` if somebody may, or if it has no such name.
fn unchanging(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let log = std::fs::metadata(format!("{path}-wal"));
    if !Path::new(path).is_file() || log.is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let mut name = String::from("file:");
    for letter in path.chars() {
        match letter {
            '%' => name.push_str("%25"),
            '?' => name.push_str("%3f"),
            '#' => name.push_str("%23"),
            _ => name.push(letter),
        }
    }
    name.push_str("?immutable=1");
    Some(name)
}

const MAX_READERS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(1);
