//! Records as the journal holds them, made ready without touching it.
//!
//! The caller fills one and hands it in by one write; the writer thread reads the same bytes back into another. Texts
//! are copied once on either way, and never owned one by one.

use crate::journal::frame;
use crate::record::{Completion, NextAttempt, Opening};

/// Records that are made ready, one after another. Empty at first, and again once [`crate::Store::append`] has taken
/// them; it keeps its room.
#[derive(Debug, Default)]
pub struct Records {
    /// Whole frames.
    bytes: Vec<u8>,
    /// How many of them are records; that which opens a segment is none.
    count: usize,
    /// Of what was read back.
    oldest_ms: Option<i64>,
    /// Records too long to be made one.
    refused: u64,
}

impl Records {
    /// Adds that a request is opened.
    pub fn open_request<T: AsRef<str>>(&mut self, opening: &Opening<T>) {
        let fits = frame::encode_opening(&mut self.bytes, opening);
        self.note(fits);
    }

    /// Adds that another attempt begins.
    pub fn begin_attempt<T: AsRef<str>>(&mut self, next: &NextAttempt<T>) {
        let fits = frame::encode_next_attempt(&mut self.bytes, next);
        self.note(fits);
    }

    /// Adds that a request is completed.
    pub fn complete<T: AsRef<str>>(&mut self, completion: &Completion<T>) {
        let fits = frame::encode_completion(&mut self.bytes, completion);
        self.note(fits);
    }

    /// Adds one whole frame that was read back.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        if frame::is_owner(frame) {
            return;
        }
        self.count += 1;
        if let Some(at_ms) = frame::at_ms(frame) {
            let oldest_ms = self.oldest_ms.get_or_insert(at_ms);
            *oldest_ms = at_ms.min(*oldest_ms);
        }
    }

    /// Takes all of them out.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.oldest_ms = None;
        self.refused = 0;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When the oldest of those that were read back was handed in, in milliseconds since the epoch.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }

    /// All frames as they are to be written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One frame after another.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (frame, behind) = rest.split_at_checked(frame::length(rest)?)?;
            rest = behind;
            Some(frame)
        })
    }

    /// How many are lost because each alone is longer than the journal takes.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    fn note(&mut self, fits: bool) {
        if fits {
            self.count += 1;
        } else {
            self.refused += 1;
        }
    }
}
