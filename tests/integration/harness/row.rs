//! A row of the database as an outsider reads it.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// Every column of one row, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(BTreeMap<String, Value>);

impl Row {
    /// The rows a query gives; none while there is no file or no such table, or while it is being made.
    #[track_caller]
    pub(crate) fn read(path: &Path, sql: &str, parameters: &[&str]) -> Vec<Self> {
        match Self::try_read(path, sql, parameters) {
            Ok(rows) => rows,
            Err(error)
                if ["no such table", "unable to open", "locked", "busy"]
                    .iter()
                    .any(|word| error.to_string().contains(word)) =>
            {
                Vec::new()
            }
            Err(error) => panic!("{error} in {sql}"),
        }
    }

    fn try_read(path: &Path, sql: &str, parameters: &[&str]) -> rusqlite::Result<Vec<Self>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        let mut statement = connection.prepare(sql)?;
        let names: Vec<String> = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
            names
                .iter()
                .enumerate()
                .map(|(at, name)| Ok((name.clone(), row.get(at)?)))
                .collect()
        })?;
        rows.map(|row| row.map(Self)).collect()
    }

    /// The value of a column; a column that is not there is a broken contract.
    #[track_caller]
    pub(crate) fn value(&self, column: &str) -> &Value {
        self.0
            .get(column)
            .unwrap_or_else(|| panic!("no column {column} among {:?}", self.0.keys()))
    }

    #[track_caller]
    pub(crate) fn int(&self, column: &str) -> Option<i64> {
        match self.value(column) {
            Value::Null => None,
            Value::Integer(number) => Some(*number),
            other => panic!("{column} is {other:?}, no integer"),
        }
    }

    #[track_caller]
    pub(crate) fn text(&self, column: &str) -> Option<String> {
        match self.value(column) {
            Value::Null => None,
            Value::Text(text) => Some(text.clone()),
            other => panic!("{column} is {other:?}, no text"),
        }
    }

    /// What `success`, `error_message` say, in one word each.
    #[track_caller]
    pub(crate) fn verdict(&self) -> (bool, Option<String>) {
        (self.int("success") == Some(1), self.text("error_message"))
    }

    /// Whether its request is over.
    pub(crate) fn is_settled(&self) -> bool {
        self.text("error_message").as_deref() != Some("in_progress")
    }

    #[track_caller]
    pub(crate) fn assert_success(&self) {
        assert_eq!(self.verdict(), (true, None), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_failure(&self, message: &str) {
        assert_eq!(
            self.verdict(),
            (false, Some(message.to_owned())),
            "{self:?}"
        );
    }
}

/// Looks again and again until `met` or `within` is over; says which.
pub(crate) fn wait_until(within: Duration, mut met: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if met() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
