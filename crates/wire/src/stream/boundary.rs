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

    /// Whether the line ends were CRLF and the last one lacks its LF.
    pub(super) const fn lacks_lf(&self) -> bool {
        matches!(self.last, [_, b'\n', b'\r'])
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
    fn half_a_crlf_is_noticed() {
        for (released, lacks) in [
            ("data: x\r\n\r", true),
            ("data: x\r\r", false),
            ("data: x\r\n\r\n", false),
            ("", false),
        ] {
            let mut boundary = Boundary::new();
            boundary.pass(released.as_bytes());
            assert_eq!(boundary.lacks_lf(), lacks, "{released:?}");
        }
    }
}
