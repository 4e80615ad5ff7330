//! A line on standard error that says how far a long work is; only where somebody watches and nothing else is shown.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::clock;

/// How far a work of `total` steps is.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    watched: bool,
}

impl Progress {
    /// Nothing is done yet.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            done: 0,
            began: clock::now(),
            shown: None,
            watched: io::stderr().is_terminal() && !io::stdout().is_terminal(),
        }
    }

    /// One more step is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if !self.watched || !self.done.is_multiple_of(LOOK_AFTER) {
            return;
        }
        let now = clock::now();
        if self.shown.is_some_and(|shown| now - shown < SHOW_EVERY) {
            return;
        }
        self.shown = Some(now);
        let line = line(self.what, self.done, self.total, now - self.began);
        show(&format!("\r{line:<LENGTH$}"));
    }
}

impl Drop for Progress {
    /// Leaves nothing of the line.
    fn drop(&mut self) {
        if self.shown.is_some() {
            show(&format!("\r{:LENGTH$}\r", ""));
        }
    }
}

/// A progress that cannot be shown is no reason to stop the work.
fn show(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// `exporting [#####---------------]  25 %  500 of 2000, 3 s left`
fn line(what: &str, done: u64, total: u64, took: Duration) -> String {
    // Rows may arrive while others are exported.
    let total = total.max(done).max(1);
    let percent = u128::from(done) * 100 / u128::from(total);
    let filled = usize::try_from(percent / 5).unwrap_or(0);
    let bar = format!("{:-<20}", "#".repeat(filled));
    let left = took.as_millis() * u128::from(total - done) / u128::from(done.max(1));
    let seconds = left.div_ceil(1000);
    format!("{what} [{bar}] {percent:3} %  {done} of {total}, {seconds} s left")
}

const LOOK_AFTER: u64 = 64;
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// Of the line, so that a shorter one leaves nothing of a longer one; fits every terminal.
const LENGTH: usize = 78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_much_is_done_and_how_long_it_takes() {
        for (done, total, millis, expected) in [
            (
                500,
                2000,
                1000,
                "x [#####---------------]  25 %  500 of 2000, 3 s left",
            ),
            (
                64,
                0,
                10,
                "x [####################] 100 %  64 of 64, 0 s left",
            ),
            (
                0,
                10,
                10,
                "x [--------------------]   0 %  0 of 10, 1 s left",
            ),
            (
                2000,
                2000,
                9,
                "x [####################] 100 %  2000 of 2000, 0 s left",
            ),
        ] {
            let shown = line("x", done, total, Duration::from_millis(millis));
            assert_eq!(shown, expected);
        }
        let longest = line(
            "exporting",
            u64::MAX / 2,
            u64::MAX,
            Duration::from_secs(9999),
        );
        assert!(longest.len() < 100, "{longest}");
    }
}
