//! The command line: what can be asked of `arbstr`, and how an answer becomes an exit code.
//!
//! 0 is success, 1 a failure, 2 a usage error or a bad config.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod init;
mod ledger;
pub(crate) mod logs;
pub(crate) mod providers;
mod screen;
pub(crate) mod stats;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Config};
use crate::log;

/// Sends each LLM request to the cheapest provider that can serve it.
///
/// arbstr is an OpenAI-compatible proxy: point a client's base URL at it, and when a provider fails, the next one
/// takes over before the client notices.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `arbstr` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy
    Serve(Serve),
    /// Write a commented starter config
    Init(init::Init),
    /// Say whether a config is good, and what it comes to
    Check(check::Check),
    /// List providers, their models and prices, and their circuits when arbstr is running
    Providers(providers::Providers),
    /// Say what each provider would charge for a request, cheapest first
    Cost(cost::Cost),
    /// Say what was asked, what it cost and what was saved
    Stats(stats::StatsCommand),
    /// Show requests, also as they come, or export them
    Logs(logs::Logs),
    /// Print a shell's completion script
    Completions(completions::Completions),
}

/// `arbstr serve`
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct Serve {
    /// Config file [default: ./arbstr.toml, else ~/.config/arbstr/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Route to built-in providers on loopback: needs no file, no key and no network
    #[arg(long)]
    pub(crate) mock: bool,
    /// Listen there instead of where the config says, for instance 127.0.0.1:9000
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve the network without server.auth_token: everybody who reaches arbstr spends your sats
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// How the lines of the log look, on stderr
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: log::Format,
}

impl Serve {
    /// What these arguments add to the config.
    pub(crate) fn options(&self) -> config::Options {
        config::Options {
            listen: self.listen,
            allow_open: self.allow_open,
            mock: self.mock,
            keys_optional: false,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(String),
    /// There is no config, or it is wrong.
    BadConfig(String),
    /// An argument is wrong.
    BadUsage(String),
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::BadConfig(_) | Self::BadUsage(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::BadConfig(message) | Self::BadUsage(message) => {
                f.write_str(message)
            }
        }
    }
}

impl From<config::NoConfig> for Failure {
    fn from(error: config::NoConfig) -> Self {
        Self::BadConfig(error.to_string())
    }
}

impl From<config::LoadError> for Failure {
    fn from(error: config::LoadError) -> Self {
        Self::BadConfig(error.to_string())
    }
}

/// The config as a command reads it that calls nobody: without the keys that are not set here, and whoever may listen.
fn load_config(named: Option<&Path>, env: config::Env<'_>) -> Result<(PathBuf, Config), Failure> {
    let file = config::locate(named, env, &|path: &Path| path.exists())?;
    let options = config::Options {
        allow_open: true,
        keys_optional: true,
        ..config::Options::default()
    };
    let config = config::load(&file, env, &options)?;
    Ok((file, config))
}

/// Prints a value as one line of JSON.
fn json_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    writeln!(out, "{}", screen::harmless_json(&text))
}

/// How printing an answer ended: whoever closes the pipe, such as `head`, has read enough.
fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// An address as the config takes it, and in the config's words when it is none.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| format!("expected {}", config::LISTEN_EXPECTED))
}

const EXAMPLES: &str = "\
Examples:
  arbstr serve --mock      try it: no config, no key, no network
  arbstr init              write ./arbstr.toml to fill in
  arbstr check             see what is wrong with it
  arbstr serve             run
  arbstr providers         see who sells what at which price
  arbstr cost -m gpt-4o    see what a request would cost at each
  arbstr stats             see what was spent and saved
  arbstr logs -f           watch requests as they end

Exit codes: 0 success, 1 failure, 2 usage error or bad config";

const SERVE_EXAMPLES: &str = "\
Examples:
  arbstr serve --mock
  arbstr serve -c /etc/arbstr/config.toml
  arbstr serve --listen 127.0.0.1:9000
  arbstr serve --log-format json

Stops on SIGTERM or SIGINT once streams have ended; reads its config again on SIGHUP or when the file changes. \
The environment variable RUST_LOG sets what is logged, for instance RUST_LOG=debug.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_finds_no_contradiction_in_the_arguments() {
        Cli::command().debug_assert();
    }

    #[test]
    fn understands_its_own_examples() {
        let examples = [
            EXAMPLES,
            SERVE_EXAMPLES,
            init::EXAMPLES,
            check::EXAMPLES,
            providers::EXAMPLES,
            cost::EXAMPLES,
            stats::EXAMPLES,
            logs::EXAMPLES,
            completions::EXAMPLES,
        ]
        .join("\n");
        let mut tried = 0;
        for line in examples
            .lines()
            .filter(|line| line.starts_with("  arbstr "))
        {
            let command = line.trim().split("   ").next().unwrap_or_default();
            let command = command.split(['>', '|']).next().unwrap_or_default();
            let parsed = Cli::try_parse_from(command.split_whitespace());
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
            tried += 1;
        }
        assert!(tried >= 15, "{tried}");
    }

    #[test]
    fn refuses_wrong_usage() {
        for arguments in [
            vec!["arbstr"],
            vec!["arbstr", "server"],
            vec!["arbstr", "serve", "--listen", "8080"],
            vec!["arbstr", "serve", "--mock=yes"],
            vec!["arbstr", "check", "--reference", "--json"],
        ] {
            let error = Cli::try_parse_from(&arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn says_what_can_be_listened_on_in_the_words_of_the_config() {
        for address in ["localhost:35001", "8080", "127.0.0.1", ""] {
            let arguments = ["arbstr", "serve", "--listen", address];
            let error = Cli::try_parse_from(arguments).unwrap_err().to_string();
            let told = "expected an address and a port, such as \"127.0.0.1:8080\"";
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn hands_the_arguments_of_serve_to_the_config() {
        let arguments = ["arbstr", "serve", "--listen", "[::1]:1", "--allow-open"];
        let Command::Serve(serve) = Cli::parse_from(arguments).command else {
            unreachable!("serve was asked for");
        };
        let options = serve.options();
        assert_eq!(options.listen, "[::1]:1".parse().ok());
        assert!(options.allow_open && !options.mock);
    }
}
