//! What a run found: the table, and whatever contradicts a promise.

use std::fmt;

use crate::proxy::Vitals;

/// The findings of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<[String; 3]>,
    violations: Vec<Violation>,
}

#[derive(Debug)]
struct Violation {
    promise: &'static str,
    found: String,
}

impl Report {
    /// A figure that is held to nothing.
    pub(crate) fn tell(&mut self, what: &str, figure: impl fmt::Display) {
        let line = [what.to_owned(), figure.to_string(), String::new()];
        self.lines.push(line);
    }

    /// A figure that must keep its bound, which is said in words.
    pub(crate) fn bound(
        &mut self,
        promise: &'static str,
        figure: impl fmt::Display,
        bound: &str,
        is_kept: bool,
    ) {
        self.lines
            .push([promise.to_owned(), figure.to_string(), bound.to_owned()]);
        if !is_kept {
            self.violate(promise, format!("{figure}, but promised is {bound}"));
        }
    }

    /// A promise that is kept or not.
    pub(crate) fn check(&mut self, promise: &'static str, kept: Result<(), String>) {
        if let Err(found) = kept {
            self.violate(promise, found);
        }
    }

    /// Something that contradicts a promise.
    pub(crate) fn violate(&mut self, promise: &'static str, found: String) {
        self.violations.push(Violation { promise, found });
    }

    /// How often `promise` was broken, as a line of the table.
    pub(crate) fn sum_up(&mut self, promise: &'static str) {
        let times = self.of(promise).count();
        let line = [promise.to_owned(), times.to_string(), "0".to_owned()];
        self.lines.push(line);
    }

    /// Whether everything was as promised.
    pub(crate) fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    /// What the process holds: after its start, after the warm-up, and at the end, each time with no client there.
    pub(crate) fn process(&mut self, fresh: Vitals, warm: Vitals, tired: Vitals) {
        let path =
            |of: fn(&Vitals) -> u64| format!("{} → {} → {}", of(&fresh), of(&warm), of(&tired));
        let most = warm.resident + warm.resident / 10 + GROWTH_KIB;
        self.bound(
            "memory (KiB): start → warm → end",
            path(|vitals| vitals.resident),
            &format!("≤ {most} (warm + 10 % + 8 MiB)"),
            tired.resident <= most,
        );
        self.bound(
            "sockets: start → warm → end",
            path(|vitals| vitals.sockets),
            "as at the start",
            tired.sockets <= fresh.sockets,
        );
        self.bound(
            "other open files: start → warm → end",
            path(|vitals| vitals.files),
            "as when warm",
            tired.files <= warm.files,
        );
        self.bound(
            "threads: start → warm → end",
            path(|vitals| vitals.threads),
            "as when warm",
            tired.threads <= warm.threads,
        );
    }

    fn of(&self, promise: &'static str) -> impl Iterator<Item = &Violation> {
        self.violations
            .iter()
            .filter(move |violation| violation.promise == promise)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| seen | | bound |\n| - | -: | - |")?;
        for [what, figure, bound] in &self.lines {
            writeln!(f, "| {what} | {figure} | {bound} |")?;
        }
        let mut promises: Vec<_> = self.violations.iter().map(|v| v.promise).collect();
        promises.sort_unstable();
        promises.dedup();
        for promise in promises {
            writeln!(
                f,
                "\nviolated: {promise}, {} times",
                self.of(promise).count()
            )?;
            for violation in self.of(promise).take(SHOWN) {
                writeln!(f, "  {}", violation.found)?;
            }
        }
        Ok(())
    }
}

const GROWTH_KIB: u64 = 8 * 1024;
/// Violations of one kind that are told in full.
const SHOWN: usize = 12;
