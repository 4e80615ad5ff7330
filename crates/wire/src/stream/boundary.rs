//! Where between events the client's bytes stand.
//!
//! What arbstr adds must start on a line of its own, whatever was released before it: a whole event, half of one that
//! was too large to hold back, or nothing.

/// The last bytes that were released, as far as line ends go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boundary {
    /// The last three bytes; before the first ones, line ends stand in.
    last: [u8; 3],
}

/// How the LF of a last line that is empty stands to the line ends before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLf {
    /// As they do.
    Right,
    /// They were CRLF, and only the CR is there.
    Missing,
    /// They were CR, and a LF came after it.
    Stray,
}

impl Boundary {
    pub(super) const fn new() -> Self {
        Self { last: *b"\n\n\n" }
    }

    /// Takes note of released bytes.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.last = [self.last[1], self.last[2], byte];
        }
    }

    /// What has to be written before a new event may begin.
    pub(super) const fn missing(&self) -> &'static str {
        match self.last {
            [b'\r' | b'\n', b'\r', b'\n'] | [_, b'\n', b'\n'] | [_, b'\r' | b'\n', b'\r'] => "",
            [_, _, b'\r' | b'\n'] => "\n",
            _ => "\n\n",
        }
    }

    /// Whether the last line ends with a LF just as the one before it.
    pub(super) const fn last_lf(&self) -> LastLf {
        match self.last {
            [_, b'\n', b'\r'] => LastLf::Missing,
            [b'\r', b'\r', b'\n'] => LastLf::Stray,
            _ => LastLf::Right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_depends_on_the_line_ends_released() {
        let cases = [
            ("", ""),
            ("data: x\n\n", ""),
            ("data: x\r\n\r\n", ""),
            ("data: x\r\r", ""),
            ("data: x\r\n\r", ""),
            ("\n", ""),
            ("data: x\n", "\n"),
            ("data: x\r\n", "\n"),
            ("data: x\r", "\n"),
            ("data: x", "\n\n"),
            ("x", "\n\n"),
        ];
        for (released, missing) in cases {
            let mut whole = Boundary::new();
            whole.pass(released.as_bytes());
            assert_eq!(whole.missing(), missing, "{released:?}");
            let mut bytewise = Boundary::new();
            for byte in released.as_bytes().chunks(1) {
                bytewise.pass(byte);
            }
            assert_eq!(bytewise.missing(), missing, "{released:?}");
        }
    }

    #[test]
    fn the_last_lf_is_judged_by_the_line_before() {
        let cases = [
            ("data: x\r\n\r", LastLf::Missing),
            ("data: x\r\r\n", LastLf::Stray),
            ("data: x\r\r", LastLf::Right),
            ("data: x\r\n\r\n", LastLf::Right),
            ("data: x\n\n", LastLf::Right),
            ("", LastLf::Right),
        ];
        for (released, expected) in cases {
            let mut boundary = Boundary::new();
            boundary.pass(released.as_bytes());
            assert_eq!(boundary.last_lf(), expected, "{released:?}");
        }
    }
}
