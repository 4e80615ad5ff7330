//! What routing costs beyond what it had to: markets drawn by seed, against an oracle that knows true tokens and who is
//! up.
//!
//! `cargo bench --bench market -- [--seeds FROM..TO] [--requests N] [CLIMATE…]`. See benches/README.md.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a market is drawn in floats, of which whole tokens and sats are made"
)]

mod dice;
mod direct;
mod talk;
mod world;

use world::{Climate, World};

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let seeds = value("--seeds").unwrap_or_else(|| "1000..1020".to_owned());
    let (from, to) = seeds.split_once("..").expect("--seeds FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a seed"), to.parse().expect("a seed"));
    let requests: usize = value("--requests").map_or(2000, |text| text.parse().expect("a count"));
    for climate in Climate::ALL {
        let named = args
            .iter()
            .any(|arg| Climate::ALL.iter().any(|each| each.name() == arg));
        if named && !args.iter().any(|arg| arg == climate.name()) {
            continue;
        }
        let mut regrets = Vec::new();
        for seed in from..to {
            let world = World::new(climate, seed, requests);
            let results = direct::compare(&world, args.iter().any(|arg| arg == "--why"));
            print!(
                "{:<8} {seed:>5} {:>3} sellers",
                climate.name(),
                world.sellers.len()
            );
            for (name, regret) in &results {
                print!("  {name} {regret:>7.2} %");
            }
            println!();
            regrets.push(results);
        }
        print!("{:<8} median", climate.name());
        for column in 0..regrets[0].len() {
            let mut values: Vec<f64> = regrets.iter().map(|row| row[column].1).collect();
            values.sort_by(f64::total_cmp);
            let median = values[values.len() / 2];
            print!("  {} {median:>7.2} %", regrets[0][column].0);
        }
        println!("   (bar {} %)", climate.bar());
    }
}
