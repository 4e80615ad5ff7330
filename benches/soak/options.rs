//! The command line of the soak.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Requests in all, the warm-up's tenth included.
    pub(crate) requests: u32,
    /// Clients at once.
    pub(crate) clients: u32,
    /// Decides who fails when and how, and what each client asks for.
    pub(crate) seed: u64,
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            requests: 20_000,
            clients: 64,
            seed: seed_of_today(),
        };
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64> {
                let text = args.next();
                let text = text.with_context(|| format!("{arg} takes a number"))?;
                text.parse()
                    .with_context(|| format!("{arg} {text}: not a whole number"))
            };
            match arg.as_str() {
                "--requests" => options.requests = u32::try_from(number()?)?,
                "--clients" => options.clients = u32::try_from(number()?)?,
                "--seed" => options.seed = number()?,
                // Cargo adds this to every bench.
                "--bench" => {}
                _ => bail!("unknown option {arg}; known: --requests N, --clients N, --seed S"),
            }
        }
        ensure!(
            options.requests >= 10,
            "fewer than 10 requests tell nothing"
        );
        ensure!(options.clients >= 1, "nobody asks");
        Ok(options)
    }
}

fn seed_of_today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
