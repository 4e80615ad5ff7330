//! `arbstr init`: a config to start from.
//!
//! Whatever is at the given place already is never touched, and what is written can be read by its owner alone: the
//! next thing that happens to it may be that a key is pasted in.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;

/// `arbstr init`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Init {
    /// Where to write it
    #[arg(value_name = "FILE", default_value = "./arbstr.toml")]
    pub(crate) file: PathBuf,
}

/// Writes the starter config and says what to do next.
///
/// # Errors
/// When the file exists or cannot be written.
pub(crate) fn run(options: &Init, out: &mut dyn Write) -> Result<(), Failure> {
    let file = &options.file;
    let shown = file.display();
    write_new(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::Failed(format!("{shown} exists already; it was left as it is"))
        }
        _ => Failure::Failed(format!("cannot write {shown}: {error}")),
    })?;
    let named = match file.to_str() {
        Some("./arbstr.toml" | "arbstr.toml") => String::new(),
        Some(plain) if plain.bytes().all(is_plain) => format!(" -c {plain}"),
        _ => format!(" -c '{}'", shown.to_string().replace('\'', r"'\''")),
    };
    let said = writeln!(
        out,
        "wrote {shown}; next:\n  \
         1. put your provider's url, models and prices in it\n  \
         2. export ALPHA_KEY=<your key>\n  \
         3. arbstr check{named} && arbstr serve{named}"
    );
    said.map_err(|error| Failure::Failed(format!("cannot print: {error}")))
}

/// Creates the file whole or, when that fails half way, not at all.
fn write_new(file: &Path) -> io::Result<()> {
    if let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    let written = open
        .write_all(STARTER.as_bytes())
        .and_then(|()| open.sync_all());
    if written.is_err() {
        // The error that matters is the first one; a leftover would only block the next try.
        let _ = fs::remove_file(file);
    }
    written
}

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr init
  arbstr init ~/.config/arbstr/config.toml

An existing file is never overwritten.";

/// The starter config.
const STARTER: &str = include_str!("starter.toml");

/// Whether a shell takes a byte for itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+:@,%=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{self, Config, Options, Source};

    fn read(text: &str) -> Config {
        let env = |name: &str| (name == "ALPHA_KEY").then(|| "sk-of-alpha".to_owned());
        let source = Source {
            file: Path::new("starter.toml"),
            text,
            mode: Some(0o600),
        };
        config::read(&source, &env, &Options::default())
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn scratch(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("arbstr-init-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    /// Everything that the starter shows as a comment, switched on.
    fn uncommented() -> String {
        let lines = STARTER.lines().map(|line| match line.strip_prefix("#") {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_starter_is_a_good_config_without_warnings() {
        let config = read(STARTER);
        assert_eq!(config.warnings, Vec::<String>::new());
        assert_eq!(config.providers.len(), 1);
    }

    #[test]
    fn the_settings_shown_as_comments_are_the_defaults() {
        let text = uncommented();
        let (general, _) = text
            .split_once("[[providers]]")
            .expect("the starter has providers");
        let (_, provider) = STARTER
            .split_once("[[providers]]")
            .expect("the starter has providers");
        // The token alone has no default.
        let general: Vec<&str> = general
            .lines()
            .filter(|line| !line.starts_with("auth_token"))
            .collect();
        let general = general.join("\n");
        let shown = read(&format!("{general}\n[[providers]]{provider}"));
        let plain = read(STARTER);
        assert_ne!(
            general.lines().filter(|line| line.contains(" = ")).count(),
            0
        );
        assert_eq!(format!("{shown:?}"), format!("{plain:?}"));
    }

    #[test]
    fn everything_shown_as_a_comment_is_understood() {
        let text = uncommented();
        let env = |name: &str| Some(format!("value-of-{name}"));
        let source = Source {
            file: Path::new("starter.toml"),
            text: &text,
            mode: None,
        };
        let config = config::read(&source, &env, &Options::default())
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.providers.len() > 1);
        assert!(!config.policies.rules.is_empty());
        assert!(!config.virtual_models.is_empty());
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn writes_for_the_owner_alone_and_makes_the_folder() {
        let directory = scratch("new");
        let file = directory.join("deep/arbstr.toml");
        let mut out = Vec::new();
        run(&Init { file: file.clone() }, &mut out).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), STARTER);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let said = String::from_utf8(out).unwrap();
        assert!(
            said.contains(&format!("arbstr serve -c {}", file.display())),
            "{said}"
        );
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn never_overwrites() {
        let directory = scratch("old");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("arbstr.toml");
        fs::write(&file, "mine").unwrap();
        let failure = run(&Init { file: file.clone() }, &mut Vec::new()).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains("exists already"), "{failure}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        fs::remove_dir_all(directory).unwrap();
    }
}
