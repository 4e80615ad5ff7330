//! Whether arbstr holds its word for as long as its providers keep failing.
//!
//! Five providers on loopback flap by a seed, the release binary stands in front of them, and thousands of requests go
//! through it. Everybody keeps books: the clients, the providers, arbstr's log and its database. The run ends with a
//! table of what was seen; an entry that contradicts another, or a promise, is a violation and the exit code is 1.
//! `benches/README.md` says what is held against what.
#![expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]

mod books;
mod client;
mod dice;
mod house;
mod http;
mod ledger;
mod log;
mod options;
mod proxy;
mod report;
mod schedule;
mod script;
mod street;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};

use client::Crowd;
use options::Options;
use proxy::{Proxy, Vitals};
use report::Report;
use street::Street;

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1)).and_then(|options| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(soak(&options))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the soak could not be carried out: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// One run; whether nothing was violated.
async fn soak(options: &Options) -> Result<bool> {
    ensure!(
        !cfg!(debug_assertions),
        "only a release build is worth soaking: cargo bench --bench soak"
    );
    println!(
        "seed {}, {} requests, {} clients",
        options.seed, options.requests, options.clients
    );
    let street = Street::open(options.seed).await?;
    let mut proxy = Proxy::start(street.addresses()).await?;
    tokio::time::sleep(PAUSE).await;
    let fresh = proxy.vitals()?;
    let crowd = Arc::new(Crowd::new(options, proxy.address()));
    let warm_up = options.requests / 10;
    crowd.send(0..warm_up).await;
    let warm = settle(&street, &proxy, fresh).await?;
    eprintln!("warm: {warm}");
    crowd.send(warm_up..options.requests).await;
    let tired = settle(&street, &proxy, warm).await?;
    eprintln!("tired: {tired}");
    let ended_well = proxy.stop().await;

    let mut report = Report::default();
    report.process(fresh, warm, tired);
    report.check("a clean end", ended_well.map_err(|error| error.to_string()));
    books::compare(&mut report, options, &street, &crowd, &proxy)?;
    println!("{report}");
    let sound = report.is_sound();
    if sound {
        proxy.clean_up();
    } else {
        println!(
            "log and database stay in {} (seed {})",
            proxy.folder().display(),
            options.seed
        );
    }
    Ok(sound)
}

/// Waits until what the clients left behind has ended, lets the providers hang up, and looks at the process once it has
/// come down to `before`, or does not come down any more.
async fn settle(street: &Street, proxy: &Proxy, before: Vitals) -> Result<Vitals> {
    let begun = std::time::Instant::now();
    loop {
        tokio::time::sleep(PAUSE).await;
        if street.is_idle() {
            street.hang_up();
        }
        let vitals = proxy.vitals()?;
        let is_down = vitals.sockets <= before.sockets && vitals.threads <= before.threads;
        if (is_down && begun.elapsed() > REST) || begun.elapsed() > TIMEOUT {
            return Ok(vitals);
        }
    }
}

const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
/// The least time between the last answer and the weighing.
const REST: std::time::Duration = std::time::Duration::from_secs(4);
/// Longer than an idle thread of the runtime stays.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(25);
