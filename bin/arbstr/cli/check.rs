//! `arbstr check`: everything that is wrong with a config in one go, or what it comes to.

mod online;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use arbstr_store::{ReadError, Reader};
use clap::Args;
use serde::Serialize;

use super::screen::Screen;
use super::table::{Cell, Column, Table};
use super::{Failure, json_line, printed};
use crate::config::{self, Config, Env, LoadError, Options, Provider};
use crate::database;

/// `arbstr check`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// Config file [default: ./arbstr.toml, else ~/.config/arbstr/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check for a serve that is given --allow-open too
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// Ask every provider for its list of models, with its key, and compare it with the config
    #[arg(long)]
    pub(crate) online: bool,
    /// Print every key that a config can have, as Markdown, and check nothing
    #[arg(long, exclusive = true)]
    pub(crate) reference: bool,
    /// Print as JSON: what the config comes to, or with --online what the providers say; of a bad config its problems
    #[arg(long)]
    pub(crate) json: bool,
}

/// Checks a config file and prints what it comes to, without any key.
///
/// # Errors
/// When there is no config or it is wrong, or its database cannot be; with `--online` when a provider does not give its list,
/// or lacks a model there.
pub(crate) fn run(options: &Check, env: Env<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    if options.reference {
        return printed(out.write_all(config::reference_page().as_bytes()));
    }
    let (file, config) = match load(options, env) {
        Ok(loaded) => loaded,
        Err(Rejected { failure, found }) => {
            if options.json {
                printed(json_line(&found, out))?;
            }
            return Err(failure);
        }
    };
    let screen = Screen::of_stdout();
    if !options.json {
        printed(print(&file, &config, screen, out))?;
    }
    if !options.online {
        return match options.json {
            true => printed(json_line(&Summary::of(&file, &config), out)),
            false => Ok(()),
        };
    }
    let report = online::ask(&config)?;
    printed(if options.json {
        report.print_json(out)
    } else {
        writeln!(out).and_then(|()| report.print_table(screen, out))
    })?;
    match report.failed() {
        None => Ok(()),
        Some(failed) => Err(Failure::Failed(failed)),
    }
}

/// Reads the config and looks whether its database can be used.
fn load(options: &Check, env: Env<'_>) -> Result<(PathBuf, Config), Rejected> {
    let exists = |path: &Path| path.exists();
    let file = config::locate(options.config.as_deref(), env, &exists).map_err(|error| {
        let found = Problem::of_all(error.to_string());
        Rejected::new(None, vec![found], error.into())
    })?;
    let from_command_line = Options {
        allow_open: options.allow_open,
        ..Options::default()
    };
    let config = config::load(&file, env, &from_command_line).map_err(|error| {
        let problems = match &error {
            LoadError::Bad(problems) => problems.list.iter().map(Problem::of).collect(),
            LoadError::Unreadable { .. } => vec![Problem::of_all(error.to_string())],
        };
        Rejected::new(Some(&file), problems, error.into())
    })?;
    let path = &config.database.path;
    let obstacle = database::obstacle(path).or_else(|| match Reader::open(path) {
        Err(error @ (ReadError::NewerSchema { .. } | ReadError::Foreign { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    });
    match obstacle {
        None => Ok((file, config)),
        Some(obstacle) => {
            let told = format!("{}: database.path: {obstacle}", file.display());
            let problem = Problem {
                line: None,
                key: Some("database.path".to_owned()),
                fault: obstacle,
            };
            let failure = Failure::Failed(told);
            Err(Rejected::new(Some(&file), vec![problem], failure))
        }
    }
}

/// A config that cannot be used: for people, and for machines.
struct Rejected {
    failure: Failure,
    found: Found,
}

/// What is wrong, for machines.
#[derive(Serialize)]
struct Found {
    /// `null` when there is none.
    file: Option<String>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    line: Option<usize>,
    /// `null` for the file as a whole.
    key: Option<String>,
    fault: String,
}

impl Rejected {
    fn new(file: Option<&Path>, problems: Vec<Problem>, failure: Failure) -> Self {
        let file = file.map(|file| file.display().to_string());
        let found = Found { file, problems };
        Self { failure, found }
    }
}

impl Problem {
    fn of(problem: &config::Problem) -> Self {
        let key = &problem.place.key;
        Self {
            line: problem.place.line,
            key: (!key.is_empty()).then(|| key.clone()),
            fault: problem.fault.clone(),
        }
    }

    fn of_all(fault: String) -> Self {
        Self {
            line: None,
            key: None,
            fault,
        }
    }
}

/// What a config comes to, for machines.
#[derive(Serialize)]
struct Summary<'a> {
    file: String,
    listen: SocketAddr,
    needs_token: bool,
    database: String,
    providers: Vec<ProviderSummary<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct ProviderSummary<'a> {
    name: &'a str,
    tier: &'static str,
    /// Where its key comes from.
    key: String,
    url: String,
    models: Vec<&'a str>,
    /// More models come from its own list.
    discovers: bool,
}

impl<'a> Summary<'a> {
    fn of(file: &Path, config: &'a Config) -> Self {
        let provider = |provider: &'a Provider| ProviderSummary {
            name: &provider.name,
            tier: provider.tier.as_str(),
            key: provider.key_source.to_string(),
            url: provider.url.to_string(),
            models: provider.models.iter().map(|model| &*model.name).collect(),
            discovers: provider.discover.is_some(),
        };
        Self {
            file: file.display().to_string(),
            listen: config.server.listen,
            needs_token: config.server.auth_token.is_some(),
            database: config.database.path.display().to_string(),
            providers: config.providers.iter().map(provider).collect(),
            warnings: &config.warnings,
        }
    }
}

fn print(file: &Path, config: &Config, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let protected = match config.server.auth_token {
        Some(_) => "clients need the token",
        None => "clients need no token",
    };
    writeln!(out, "{}: good", file.display())?;
    writeln!(out, "listens on {}; {protected}", config.server.listen)?;
    writeln!(out, "records go to {}\n", config.database.path.display())?;
    table(&config.providers).print(out, screen)?;
    if !config.warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn table(providers: &[Provider]) -> Table {
    let mut table = Table::new(vec![
        Column::text("PROVIDER"),
        Column::text("TIER").dispensable(1),
        Column::text("KEY"),
        Column::text("URL"),
        Column::text("MODELS"),
    ]);
    for provider in providers {
        let models = provider.models_shown();
        let (key, url) = (provider.key_source.to_string(), provider.url.to_string());
        let texts = [&provider.name, provider.tier.as_str(), &key, &url, &models];
        table.row(texts.map(Cell::text));
    }
    table
}

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr check
  arbstr check -c /etc/arbstr/config.toml
  arbstr check --online
  arbstr check --json
  arbstr check --online --json
  arbstr check --reference

Reports every problem of the file at once, with its line and key; with --json also on stdout, as file and problems. \
Calls nobody, unless --online. Prints no key.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    const FILE: &str = r#"
        [server]
        auth_token = "${TOKEN}"
        [[providers]]
        name = "alpha"
        url = "https://a.example/v1"
        api_key = "${ALPHA_KEY}"
        models = ["gpt-4o", "gpt-4o-mini"]
        input_rate = 1
        output_rate = 2
        [[providers]]
        name = "a-rather-long-name"
        url = "http://127.0.0.1:11434/v1"
        models = ["llama"]
        tier = "local"
        [[providers]]
        name = "gamma"
        url = "https://c.example"
        api_key = "sk-literal-literal-literal"
        models = ["gpt-4o"]
        input_rate = 1
        output_rate = 2
    "#;

    #[test]
    fn prints_what_a_config_comes_to_without_any_key() {
        let env = |name: &str| Some(format!("secret-of-{name}"));
        let source = Source {
            file: Path::new("a.toml"),
            text: FILE,
            mode: Some(0o644),
        };
        let config = config::read(&source, &env, &Options::default()).unwrap();
        let mut out = Vec::new();
        print(source.file, &config, Screen::PLAIN, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown, EXPECTED);
        let summary = serde_json::to_value(Summary::of(source.file, &config)).unwrap();
        assert_eq!(summary["listen"], "127.0.0.1:8080");
        assert_eq!(summary["needs_token"], true);
        assert_eq!(summary["providers"][0]["models"][1], "gpt-4o-mini");
        assert_eq!(summary["warnings"].as_array().unwrap().len(), 3);
        let shown = shown + &summary.to_string();
        assert!(!shown.contains("secret-of") && !shown.contains("sk-literal"));
    }

    const EXPECTED: &str = "\
a.toml: good
listens on 127.0.0.1:8080; clients need the token
records go to ./arbstr.db

PROVIDER            TIER      KEY                                URL                        MODELS
alpha               standard  ${ALPHA_KEY}                       https://a.example/v1       gpt-4o, gpt-4o-mini
a-rather-long-name  local     ARBSTR_A_RATHER_LONG_NAME_API_KEY  http://127.0.0.1:11434/v1  llama
gamma               standard  written in the file                https://c.example          gpt-4o

warning: provider a-rather-long-name: no price for llama; what it costs stays unknown
warning: providers[2].api_key is written in the file; \"${ARBSTR_GAMMA_API_KEY}\" would keep it out
warning: a.toml can be read by others than its owner (mode 0644): chmod 600 a.toml
";
}
