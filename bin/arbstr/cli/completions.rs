//! `arbstr completions`: what a shell needs to complete arbstr's commands and options.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, printed};

/// `arbstr completions`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Prints the completion script.
///
/// # Errors
/// When it cannot be printed.
pub(crate) fn run(options: &Completions, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "arbstr", &mut script);
    printed(out.write_all(&script))
}

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr completions bash > ~/.local/share/bash-completion/completions/arbstr
  arbstr completions zsh > ~/.zfunc/_arbstr
  arbstr completions fish > ~/.config/fish/completions/arbstr.fish";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            run(&Completions { shell: *shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
