//! The command line of the bench.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Short turns and few of them: for a look, not for a figure to keep.
    pub(crate) quick: bool,
    /// 5,000 idle streams besides the 1,000; with `scale` 10,000,000 rows too.
    pub(crate) many: bool,
    /// A second floor in arbstr's place: every ratio should be near 1.
    pub(crate) floor_twice: bool,
    /// The curves instead of the cases.
    pub(crate) scale: bool,
    /// Turns of each side; `None` leaves it to `quick`.
    pub(crate) repeats: Option<usize>,
    /// The binary to measure.
    pub(crate) arbstr: PathBuf,
    /// Another one in the floor's place, from before a change perhaps.
    pub(crate) against: Option<PathBuf>,
    /// Only cases whose name contains one of these; none: all.
    pub(crate) names: Vec<String>,
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self {
            quick: false,
            many: false,
            floor_twice: false,
            scale: false,
            repeats: None,
            arbstr: PathBuf::from(env!("CARGO_BIN_EXE_arbstr")),
            against: None,
            names: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--many" => options.many = true,
                "--floor-twice" => options.floor_twice = true,
                "--scale" => options.scale = true,
                "--repeats" => {
                    options.repeats =
                        Some(args.next().context("--repeats takes a number")?.parse()?)
                }
                "--arbstr" => options.arbstr = args.next().context("--arbstr takes a file")?.into(),
                "--against" => {
                    options.against = Some(args.next().context("--against takes a file")?.into());
                }
                // Cargo adds this to every bench.
                "--bench" => {}
                _ if arg.starts_with('-') => bail!("unknown option {arg}; known: {KNOWN}"),
                _ => options.names.push(arg),
            }
        }
        Ok(options)
    }

    /// Whether the case called `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    /// `full`, or a part of it that is enough for a look.
    pub(crate) fn turns(&self, full: usize) -> usize {
        let turns = if self.quick { full.div_ceil(3) } else { full };
        self.repeats.unwrap_or(turns)
    }

    /// Seconds of a load that would last `full` seconds.
    pub(crate) fn seconds(&self, full: f64) -> f64 {
        if self.quick { full / 3.0 } else { full }
    }
}

const KNOWN: &str = "--quick, --many, --floor-twice, --scale, --repeats N, --arbstr FILE, --against FILE, and names of cases";
