//! What arbstr costs beyond a proxy that does nothing.
//!
//! One program in four roles: the bench itself, and as its own child processes the mock provider, the floor proxy and the
//! load generator, so that the CPU time and the memory of each proxy are those of one process and nothing else.
//! `README.md` beside this file says what is measured and how to read it.
#![expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]

mod cases;
mod figures;
mod floor;
mod ledger;
mod load;
mod nginx;
mod options;
mod process;
mod scale;
mod script;
mod subject;
mod table;
mod upstream;

use anyhow::{Context as _, Result, bail, ensure};

use options::Options;
use subject::Stage;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("upstream") => upstream::run(),
        Some("floor") => floor::run(args.get(1).context("floor takes an address")?.parse()?),
        Some("load") => load::run(&args[1..]),
        _ => bench(Options::parse(args)?),
    }
}

fn bench(options: Options) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "only a release build tells anything: cargo bench --bench proxy"
    );
    let cases: Vec<_> = cases::ALL
        .iter()
        .filter(|case| options.wants(case.name))
        .collect();
    if cases.is_empty() {
        let names: Vec<_> = cases::ALL.iter().map(|case| case.name).collect();
        bail!("no such case; there are {}", names.join(", "));
    }
    let mode = describe(&options);
    if options.scale {
        print!("{}", scale::run(&mut Stage::new(options)?)?);
        return Ok(());
    }
    let mut stage = Stage::new(options)?;
    stage.look_for_nginx();
    let mut lines = Vec::new();
    for case in cases {
        eprintln!("{} …", case.name);
        let found = (case.run)(&mut stage).with_context(|| format!("case {}", case.name))?;
        for line in &found {
            eprintln!("  {}", table::describe(line));
        }
        lines.extend(found);
    }
    print!("{}", table::render(&lines, &mode, stage.nginx_version()));
    Ok(())
}

fn describe(options: &Options) -> String {
    let length = if options.quick {
        "Quick run"
    } else {
        "Full run"
    };
    let mut other = String::new();
    if options.floor_twice {
        other += ", a second floor in arbstr's place";
    }
    if let Some(binary) = &options.against {
        other += &format!(", {} in the floor's place", binary.display());
    }
    format!("{length}{other}")
}
