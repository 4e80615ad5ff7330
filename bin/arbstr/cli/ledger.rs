//! Which ledger is read, and which of its rows: what `stats` and `logs` have in common.
//!
//! The database file is read as it lies there, whether or not a server writes to it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use arbstr_store::{Behind, QueryError, ReadError, Reader};
use clap::Args;

use super::Failure;
use crate::clock;
use crate::config::{self, Env};
use crate::records::parameters::{InvalidParameter, Parameters};

/// Where the ledger is, and which rows are asked about.
#[derive(Debug, Default, Args)]
pub(crate) struct QueryArgs {
    /// Config file that names the database [default: ./arbstr.toml, else ~/.config/arbstr/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Database file, whatever the config says
    #[arg(long, value_name = "FILE")]
    pub(crate) database: Option<PathBuf>,
    /// The last 1h, 24h, 7d, 30d or any other number of m, h, d or w
    #[arg(long, value_name = "AGE")]
    pub(crate) range: Option<String>,
    /// From then on: 2026-01-31, 2026-01-31T12:00 (UTC), an age such as 24h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only this model, as clients asked for it
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Only this provider
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// Only requests that succeeded, or only those that failed
    #[arg(long, value_name = "true|false")]
    pub(crate) success: Option<String>,
    /// Only streams, or only whole answers
    #[arg(long, value_name = "true|false")]
    pub(crate) streaming: Option<String>,
}

impl QueryArgs {
    /// Opens the ledger for reading.
    ///
    /// # Errors
    /// A config that cannot be read; a database that is not there, or not one of this version.
    pub(crate) fn open(&self, env: Env<'_>) -> Result<Reader, Failure> {
        let path = self.path(env)?;
        let reader = Reader::open(&path).map_err(|error| Failure::Failed(told(&error)))?;
        tell_if_behind(&reader);
        Ok(reader)
    }

    /// The rows asked about, in the terms of the query API.
    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let given = [
            ("range", &self.range),
            ("since", &self.since),
            ("until", &self.until),
            ("model", &self.model),
            ("provider", &self.provider),
            ("success", &self.success),
            ("streaming", &self.streaming),
        ];
        let mut parameters = Parameters::default();
        for (name, value) in given {
            if let Some(value) = value {
                parameters.add(name, value);
            }
        }
        parameters
    }

    /// The file that was named, else the config's, else the one that a server without a config uses.
    fn path(&self, env: Env<'_>) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.database {
            return Ok(path.clone());
        }
        let exists = |path: &Path| path.exists();
        match config::locate(self.config.as_deref(), env, &exists) {
            Ok(file) => Ok(config::load_database_path(&file, env)?),
            Err(_) => Ok(config::DEFAULT_DATABASE.into()),
        }
    }
}

/// Says on stderr what is not in the database yet, where that is more than is on its way.
fn tell_if_behind(reader: &Reader) {
    let Some((before, _)) = overdue(reader) else {
        return;
    };
    // A request that was long in coming is old as soon as it is on record.
    thread::sleep(ON_ITS_WAY);
    let Some((behind, age)) = overdue(reader) else {
        return;
    };
    if behind.oldest_ms != before.oldest_ms {
        return;
    }
    let records = match behind.records {
        1 => "a record waits".to_owned(),
        many => format!("{many} records wait"),
    };
    let seconds = age.as_secs();
    // Whoever closed stderr does not want to know.
    let _ = writeln!(
        io::stderr(),
        "note: the database is behind: {records} in the journal beside it, for up to {seconds} s, and cannot be shown; arbstr writes them as soon as the database lets it, or when it is started"
    );
}

/// What should be in the database, and how old the oldest of it is. What cannot be known now is told by the query itself.
fn overdue(reader: &Reader) -> Option<(Behind, Duration)> {
    let behind = reader.behind().ok()?;
    let age_ms = clock::unix_ms().saturating_sub(behind.oldest_ms?);
    let age = Duration::from_millis(u64::try_from(age_ms).ok()?);
    (age > ON_ITS_WAY).then_some((behind, age))
}

impl From<InvalidParameter> for Failure {
    fn from(invalid: InvalidParameter) -> Self {
        let option = invalid.parameter.replace('_', "-");
        Self::BadUsage(format!("--{option}: {}", invalid.fault))
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        Self::Failed(format!("{error}{cause}"))
    }
}

fn told(error: &ReadError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let hint = match error {
        ReadError::Missing { .. } => "; `arbstr serve` makes one, --database FILE names another",
        _ => "",
    };
    format!("{error}{cause}{hint}")
}

/// No writer that keeps up takes as long.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
