//! What was learned, as bytes that outlive the process.
//!
//! A version, then sections that are each counted. Numbers are little-endian. Times are ages, since a monotonic clock does
//! not outlive its process. What is read is bounded like what was learned, and anything odd makes all of it void: a
//! router that begins afresh serves well, one that believes garbage does not.

use std::time::{Duration, Instant};

mod parts;

pub(crate) use parts::Stored;

/// Why saved bytes are not taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Written by another version of arbstr.
    #[error("has the format {found}, expected {VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
    /// Cut short, or not what it claims to be.
    #[error("is damaged")]
    Damaged,
}

/// The moment that ages are reckoned from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// By the clock of this process.
    pub(crate) now: Instant,
    /// How long ago the bytes were written; nothing when writing.
    pub(crate) since: Duration,
}

/// Bytes being written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// Bytes being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl Writer {
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn small(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn float(&mut self, value: f32) {
        self.small(value.to_bits());
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        values.iter().for_each(|value| self.float(*value));
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.small(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How long ago that was, in milliseconds.
    pub(crate) fn age(&mut self, at: Instant, moment: Moment) {
        let age = moment.now.saturating_duration_since(at);
        self.small(u32::try_from(age.as_millis()).unwrap_or(u32::MAX));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn number(&mut self) -> Result<u64, LoadError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn small(&mut self) -> Result<u32, LoadError> {
        self.take().map(u32::from_le_bytes)
    }

    /// A number that is one.
    pub(crate) fn float(&mut self) -> Result<f32, LoadError> {
        let value = f32::from_bits(self.small()?);
        if value.is_finite() {
            Ok(value)
        } else {
            Err(LoadError::Damaged)
        }
    }

    /// A logarithm of something that can be: its exponential is a number too.
    pub(crate) fn log(&mut self) -> Result<f32, LoadError> {
        self.float().and_then(|value| {
            if value.abs() <= LARGEST_LOG {
                Ok(value)
            } else {
                Err(LoadError::Damaged)
            }
        })
    }

    /// A number that is not below zero, as counts and variances are.
    pub(crate) fn amount(&mut self) -> Result<f32, LoadError> {
        self.float().and_then(|value| {
            if value >= 0.0 {
                Ok(value)
            } else {
                Err(LoadError::Damaged)
            }
        })
    }

    pub(crate) fn count(&mut self, most: usize) -> Result<usize, LoadError> {
        let count = self.small()? as usize;
        if count <= most {
            Ok(count)
        } else {
            Err(LoadError::Damaged)
        }
    }

    /// When that was, by the clock of this process; `None` when it began later than that.
    pub(crate) fn age(&mut self, moment: Moment) -> Result<Option<Instant>, LoadError> {
        let age = Duration::from_millis(u64::from(self.small()?)).saturating_add(moment.since);
        Ok(moment.now.checked_sub(age))
    }

    pub(crate) fn end(&self) -> Result<(), LoadError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(LoadError::Damaged)
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (taken, left) = self.left.split_first_chunk().ok_or(LoadError::Damaged)?;
        self.left = left;
        Ok(*taken)
    }
}

/// Counts go up to 2^64.
const LARGEST_LOG: f32 = 45.0;

/// The format written.
pub(crate) const VERSION: u32 = 2;
