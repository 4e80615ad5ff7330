//! Which rows a query is about: a range of time, and what they have in common.

use hashbrown::HashMap;
use rusqlite::Connection;

use crate::record::RequestRow;
use crate::rollup::{SERIES_COLUMNS, Series};

/// Rows that arrived in a range and pass a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Start, in milliseconds since the epoch, UTC.
    pub since_ms: i64,
    /// End, not included.
    pub until_ms: i64,
    /// What else they have in common.
    pub filter: Filter,
}

/// What rows have in common; `None` lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The model as asked.
    pub model: Option<String>,
    /// The provider that answered, or was tried last.
    pub provider: Option<String>,
    /// Whether the client got the whole answer. A row in progress is neither.
    pub success: Option<bool>,
    /// Whether the client asked for a stream.
    pub streaming: Option<bool>,
}

/// The series that pass a filter, by number.
pub(super) type Chosen = HashMap<i64, Series<'static>>;

impl Selection {
    /// Every row there is.
    #[must_use]
    pub fn all() -> Self {
        Self {
            since_ms: i64::MIN,
            until_ms: i64::MAX,
            filter: Filter::default(),
        }
    }
}

impl Filter {
    /// Whether all rows pass.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `row` passes.
    pub(super) fn passes_row(&self, row: &RequestRow) -> bool {
        let success = (!row.is_in_progress()).then_some(row.success);
        self.passes(&row.model, row.provider.as_deref(), row.streaming, success)
    }

    /// The series that pass.
    pub(super) fn choose(&self, connection: &Connection) -> Result<Chosen, rusqlite::Error> {
        let sql = format!("SELECT id, {SERIES_COLUMNS} FROM series");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, Series::read(row, 1)?)))?;
        let wanted = rows.filter(|row| {
            row.as_ref().map_or(true, |(_, series)| {
                let provider = series.provider.as_deref();
                self.passes(&series.model, provider, series.streaming, series.success)
            })
        });
        wanted.collect()
    }

    fn passes(
        &self,
        model: &str,
        provider: Option<&str>,
        streaming: bool,
        success: Option<bool>,
    ) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        is(&self.model, Some(model))
            && is(&self.provider, provider)
            && (self.success.is_none() || self.success == success)
            && self.streaming.is_none_or(|wanted| wanted == streaming)
    }
}
