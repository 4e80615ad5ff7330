//! The command line: what can be asked of `arbstr`, and how an answer becomes an exit code.
//!
//! 0 is success, 1 a failure, 2 a usage error or a bad config.

pub(crate) mod check;
pub(crate) mod init;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config;

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
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve the network without server.auth_token: everybody who reaches arbstr spends your sats
    #[arg(long)]
    pub(crate) allow_open: bool,
}

impl Serve {
    /// What these arguments add to the config.
    pub(crate) fn options(&self) -> config::Options {
        config::Options {
            listen: self.listen,
            allow_open: self.allow_open,
            mock: self.mock,
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
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::BadConfig(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::BadConfig(message) => f.write_str(message),
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

const EXAMPLES: &str = "\
Examples:
  arbstr serve --mock      try it: no config, no key, no network
  arbstr init              write ./arbstr.toml to fill in
  arbstr check             see what is wrong with it
  arbstr serve             run

Exit codes: 0 success, 1 failure, 2 usage error or bad config";

const SERVE_EXAMPLES: &str = "\
Examples:
  arbstr serve --mock
  arbstr serve -c /etc/arbstr/config.toml
  arbstr serve --listen 127.0.0.1:9000

Stops on SIGTERM or SIGINT once streams have ended; reads its config again on SIGHUP or when the file changes.
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
        let examples = [EXAMPLES, SERVE_EXAMPLES, init::EXAMPLES, check::EXAMPLES].concat();
        let mut tried = 0;
        for line in examples
            .lines()
            .filter(|line| line.starts_with("  arbstr "))
        {
            let command = line.trim().split("   ").next().unwrap_or_default();
            let parsed = Cli::try_parse_from(command.split_whitespace());
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
            tried += 1;
        }
        assert!(tried >= 9, "{tried}");
    }

    #[test]
    fn refuses_wrong_usage() {
        for arguments in [
            vec!["arbstr"],
            vec!["arbstr", "server"],
            vec!["arbstr", "serve", "--listen", "8080"],
            vec!["arbstr", "serve", "--mock=yes"],
            vec!["arbstr", "check", "--online"],
        ] {
            let error = Cli::try_parse_from(&arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
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
