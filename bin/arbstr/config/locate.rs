//! Finds the config file and loads it: the only part of reading a config that touches the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Config, Env, Options, Problems, Source, read, read_database_path};

/// No config file anywhere. What it says is what a newcomer sees first.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no config file found (looked for {})\n\
     write one with `arbstr init`, or name one with `-c FILE`;\n\
     to try arbstr without any: `arbstr serve --mock`",
    list(.looked_at)
)]
pub(crate) struct NoConfig {
    looked_at: Vec<PathBuf>,
}

/// Why a config file gives no config.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}: {cause}", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Bad(#[from] Problems),
}

/// The config file to use: the one that was named, else `./arbstr.toml`, else the user's.
///
/// # Errors
/// When there is none.
pub(crate) fn locate(
    explicit: Option<&Path>,
    env: Env<'_>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf, NoConfig> {
    if let Some(file) = explicit {
        return Ok(file.to_owned());
    }
    let mut looked_at = vec![PathBuf::from(LOCAL)];
    looked_at.extend(user_file(env));
    match looked_at.iter().find(|file| exists(file)) {
        Some(file) => Ok(file.clone()),
        None => Err(NoConfig { looked_at }),
    }
}

/// Loads a config file.
///
/// # Errors
/// When it cannot be read, or with everything that is wrong with it.
pub(crate) fn load(file: &Path, env: Env<'_>, options: &Options) -> Result<Config, LoadError> {
    with_source(file, |source| read(source, env, options))
}

/// Loads where the database is from a config file.
///
/// # Errors
/// When it cannot be read, is no TOML, or with what is wrong with `[database]`.
pub(crate) fn load_database_path(file: &Path, env: Env<'_>) -> Result<PathBuf, LoadError> {
    with_source(file, |source| read_database_path(source, env))
}

fn with_source<T>(
    file: &Path,
    read: impl FnOnce(&Source<'_>) -> Result<T, Problems>,
) -> Result<T, LoadError> {
    let (text, mode) = read_file(file).map_err(|cause| LoadError::Unreadable {
        file: file.to_owned(),
        cause,
    })?;
    let source = Source {
        file,
        text: &text,
        mode: Some(mode),
    };
    Ok(read(&source)?)
}

/// The text and the permission bits of one and the same file, whatever is renamed meanwhile.
fn read_file(file: &Path) -> io::Result<(Zeroizing<String>, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mut open = File::open(file)?;
    let mode = open.metadata()?.permissions().mode() & 0o7777;
    let mut text = Zeroizing::new(String::new());
    open.read_to_string(&mut text)?;
    Ok((text, mode))
}

/// `$XDG_CONFIG_HOME/arbstr/config.toml`; a relative directory there is to be ignored, says its specification.
fn user_file(env: Env<'_>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let named = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(absolute);
    let usual = || env("HOME").map(|home| Path::new(&home).join(".config"));
    let directory = named.or_else(usual).filter(absolute)?;
    Some(directory.join("arbstr").join("config.toml"))
}

fn list(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    shown.join(" and ")
}

/// The file of this directory.
const LOCAL: &str = "./arbstr.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_here_then_where_the_user_keeps_configs() {
        let xdg = "/x/arbstr/config.toml";
        let home = "/home/u/.config/arbstr/config.toml";
        for (explicit, xdg_home, existing, found) in [
            (Some("other.toml"), None, vec![LOCAL], Some("other.toml")),
            (None, None, vec![LOCAL, home], Some(LOCAL)),
            (None, None, vec![home], Some(home)),
            (None, Some("/x"), vec![xdg, home], Some(xdg)),
            (None, Some("/x"), vec![home], None),
            (None, Some("relative"), vec![home], Some(home)),
            (None, None, vec![], None),
        ] {
            let env = |name: &str| match name {
                "HOME" => Some("/home/u".to_owned()),
                "XDG_CONFIG_HOME" => xdg_home.map(str::to_owned),
                _ => None,
            };
            let exists = |file: &Path| existing.iter().any(|known| Path::new(known) == file);
            let located = locate(explicit.map(Path::new), &env, &exists).ok();
            assert_eq!(located.as_deref(), found.map(Path::new));
        }
    }

    #[test]
    fn says_what_to_do_in_three_lines_when_there_is_none() {
        let env = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        let message = locate(None, &env, &|_| false).unwrap_err().to_string();
        assert_eq!(
            message,
            "no config file found (looked for ./arbstr.toml and /home/u/.config/arbstr/config.toml)\n\
             write one with `arbstr init`, or name one with `-c FILE`;\n\
             to try arbstr without any: `arbstr serve --mock`"
        );
    }
}
