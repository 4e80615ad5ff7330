//! `arbstr`: sends each LLM request to the cheapest provider that can serve it.
//!
//! From arguments to exit code: 0 ok, 1 failure, 2 usage or bad config.

mod allocator;
mod api;
mod app;
mod arrival;
mod buffer_pool;
mod cli;
mod clock;
mod cohort;
mod config;
mod database;
mod discover;
mod due;
mod flow;
mod learned_state;
mod ledger;
mod log;
mod metrics;
mod mock;
mod open_files;
mod read_buffer;
mod records;
mod relay;
mod secret;
mod serve;
mod server;
mod shutdown;
mod trace;
mod unwritten;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = |name: &str| std::env::var(name).ok();
    let mut out = std::io::stdout().lock();
    let done = match &cli.command {
        Command::Serve(options) => serve::run(options),
        Command::Init(options) => cli::init::run(options, &mut out),
        Command::Check(options) => cli::check::run(options, &env, &mut out),
        Command::Providers(options) => cli::providers::run(options, &env, &mut out),
        Command::Cost(options) => cli::cost::run(options, &env, &mut out),
        Command::Stats(options) => cli::stats::run(options, &env, &mut out),
        Command::Logs(options) => cli::logs::run(options, &env, &mut out),
        Command::Completions(options) => cli::completions::run(options, &mut out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(Failure::exit_code(&failure))
        }
    }
}
