//! What is wrong with a config, and where.
//!
//! Problems are collected, never thrown: a file with five mistakes is read once and reported with five lines. No
//! problem ever quotes a value that may be a secret, nor a value after `${VAR}` was expanded in it.

use std::fmt;
use std::path::PathBuf;

/// Where a value stands: its line and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Counted from 1; `None` for what came from the command line.
    pub(crate) line: Option<usize>,
    /// The full key, for instance `providers[1].input_rate`; empty for the file as a whole.
    pub(crate) key: String,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) place: Place,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) place: Place,
    /// What was found and what was expected.
    pub(crate) fault: String,
}

impl Problem {
    /// A problem in the words of its finder.
    pub(crate) fn new(place: &Place, fault: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            fault: fault.into(),
        }
    }

    /// The usual one: this was found, that was expected.
    pub(crate) fn found(place: &Place, found: impl fmt::Display, expected: &str) -> Self {
        Self::new(place, format!("found {found}, expected {expected}"))
    }
}

/// Everything wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems {
    /// The file they are in.
    pub(crate) file: PathBuf,
    /// At least one.
    pub(crate) list: Vec<Problem>,
}

impl Problems {
    /// The problems of `file`, sorted by line; the same one found twice is told once.
    pub(crate) fn new(file: PathBuf, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (&a.place, &a.fault).cmp(&(&b.place, &b.fault)));
        list.dedup();
        Self { file, list }
    }
}

impl fmt::Display for Problems {
    /// One line for each: `arbstr.toml:12: providers[1].input_rate: found …, expected …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, fault }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match place.line {
                Some(line) => write!(f, "{}:{line}: ", self.file.display())?,
                // What the command line said stands in no file.
                None if place.key.starts_with("--") => {}
                None => write!(f, "{}: ", self.file.display())?,
            }
            if !place.key.is_empty() {
                write!(f, "{}: ", place.key)?;
            }
            f.write_str(fault)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
