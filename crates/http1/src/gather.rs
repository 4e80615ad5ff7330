//! The bytes of one head, out of whatever pieces they come in.

use memchr::memchr_iter;

/// Gathers heads, each with the blank line behind it. Blank lines before a head are passed over (RFC 9112, section 2.2).
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    seen: Vec<u8>,
    /// Bytes of earlier heads and of blank lines before heads.
    passed: usize,
    /// The line that `seen` ends in has something in it.
    in_line: bool,
}

/// What one push gave.
pub(crate) enum Gathered {
    /// There must come more.
    Part,
    /// All that was gathered is longer than [`MAX_HEAD`].
    TooLarge,
    /// A head, and how many of the bytes pushed belonged to it and to what was before it.
    Head(Vec<u8>, usize),
}

impl Gatherer {
    /// Takes in what came next.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Gathered {
        let mut at = 0;
        loop {
            let whole = self.take_head(&bytes[at..]);
            if self.passed + self.seen.len() > MAX_HEAD {
                return Gathered::TooLarge;
            }
            let Some(length) = whole else {
                return Gathered::Part;
            };
            at += length;
            self.passed += self.seen.len();
            let head = std::mem::take(&mut self.seen);
            if !matches!(&*head, b"\r\n" | b"\n") {
                return Gathered::Head(head, at);
            }
        }
    }

    /// What came of a head that is not whole.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Whether anything came.
    pub(crate) const fn has_begun(&self) -> bool {
        self.passed > 0 || !self.seen.is_empty()
    }

    /// Moves bytes of one head into `seen`; tells how many once the blank line behind it has come.
    fn take_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        let room = &bytes[..bytes.len().min(MAX_HEAD + 1)];
        for end in memchr_iter(b'\n', room) {
            let is_blank = !self.in_line && has_no_text(&room[at..end]);
            self.in_line = false;
            at = end + 1;
            if is_blank {
                self.seen.extend_from_slice(&room[..at]);
                return Some(at);
            }
        }
        self.in_line |= !has_no_text(&room[at..]);
        self.seen.extend_from_slice(room);
        None
    }
}

fn has_no_text(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b'\r')
}

/// The most bytes that the head of a request, or all heads of one answer, may have.
pub const MAX_HEAD: usize = 64 * 1024;
