//! What routing costs beyond what it had to: markets drawn by seed, against an oracle that knows true tokens and who is
//! up.
//!
//! `cargo bench --bench market -- [--http] [--seeds FROM..TO] [--requests N] [--why] [CLIMATE…]`. See benches/README.md.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a market is drawn in floats, of which whole tokens and sats are made"
)]

mod dice;
mod direct;
mod http;
mod talk;
mod world;

use std::ops::Range;
use std::sync::Arc;

use anyhow::Context;
use world::{Climate, World};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let http = has("--http");
    let seeds = value("--seeds").unwrap_or_else(|| "1000..1020".to_owned());
    let (from, to) = seeds.split_once("..").context("--seeds FROM..TO")?;
    let seeds = from.parse()?..to.parse()?;
    let requests = match value("--requests") {
        Some(text) => text.parse()?,
        None if http => 600,
        None => 2000,
    };
    let named = Climate::ALL.iter().any(|climate| has(climate.name()));
    for climate in Climate::ALL {
        if !named || has(climate.name()) {
            measure(climate, seeds.clone(), requests, http, has("--why"))?;
        }
    }
    Ok(())
}

/// Prints the regret of each seed, and the median.
fn measure(
    climate: Climate,
    seeds: Range<u64>,
    requests: usize,
    http: bool,
    why: bool,
) -> anyhow::Result<()> {
    let mut columns: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for seed in seeds {
        let world = Arc::new(World::new(climate, seed, requests));
        let mut results = direct::compare(&world, why);
        if http {
            let (paid, off) = http::run(&world, seed)?;
            results.insert(0, ("ledger off by", off));
            results.insert(0, ("over http", direct::regret(&world, &paid)));
        }
        print!(
            "{:<8} {seed:>5} {:>3} sellers",
            climate.name(),
            world.sellers.len()
        );
        for (place, (name, percent)) in results.into_iter().enumerate() {
            print!("  {name} {percent:>7.2} %");
            match columns.get_mut(place) {
                Some((_, values)) => values.push(percent),
                None => columns.push((name, vec![percent])),
            }
        }
        println!();
    }
    print!("{:<8} median {:>9}", climate.name(), "");
    for (name, values) in &mut columns {
        values.sort_by(f64::total_cmp);
        print!("  {name} {:>7.2} %", values[values.len() / 2]);
    }
    println!("   (bar {} %)", climate.bar());
    Ok(())
}
