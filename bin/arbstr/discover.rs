//! What providers say of themselves: their models and prices, read at the start and again and again.
//!
//! One task keeps a timetable over all lists and the price of bitcoin. What a reading brings goes into [`Findings`],
//! which [`crate::app::Live`] holds and every market is built from; a reading that fails leaves the last good one in
//! force and its age in sight. Requests never wait for any of it: until the first answer the config alone holds.

mod findings;
mod offers;
mod reading;
mod report;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub(crate) use self::findings::{BtcPriceStatus, DiscoveryStatus, Findings, Tracked};
pub(crate) use self::offers::{Btc, offers, published};
pub(crate) use self::reading::{
    DiscoveryTarget, Reading, read_bitcoin, read_list, target, without_echoes,
};
pub(crate) use self::report::{log_bitcoin, log_list};
use crate::app::App;
use crate::clock;

/// Keeps everything that is to be discovered fresh. Runs until it is dropped.
pub(crate) async fn run(app: Arc<App>) {
    let mut due: HashMap<DiscoveryTarget, Instant> = HashMap::new();
    let mut readings: JoinSet<(DiscoveryTarget, Reading)> = JoinSet::new();
    loop {
        let intervals = start_due(&app, &mut due, &mut readings);
        let next = due.values().min().copied();
        let wake = next.unwrap_or_else(|| clock::now() + IDLE);
        tokio::select! {
            () = app.replaced() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
            Some(read) = readings.join_next() => {
                let Ok((target, reading)) = read else { continue };
                if let Some(every) = intervals.get(&target) {
                    let pause = if reading.is_bad() { (*every).min(AGAIN) } else { *every };
                    due.insert(target.clone(), clock::now() + jittered(pause));
                    tokio::task::block_in_place(|| take_in(&app, &target, reading));
                }
            }
        }
    }
}

/// Starts every reading that is due, and tells how often each is wanted. What nobody wants any more is forgotten.
fn start_due(
    app: &App,
    due: &mut HashMap<DiscoveryTarget, Instant>,
    readings: &mut JoinSet<(DiscoveryTarget, Reading)>,
) -> HashMap<DiscoveryTarget, Duration> {
    let live = app.keep_live();
    let now = clock::now();
    let wanted = reading::targets(&live);
    due.retain(|target, _| wanted.iter().any(|(other, _)| other == target));
    for (target, every) in &wanted {
        let at = due.entry(target.clone()).or_insert(now);
        // A reload may want it sooner than was planned.
        *at = (*at).min(now + every.saturating_mul(2));
        if *at <= now {
            // In flight; its end sets the next time.
            *at = now + IN_FLIGHT;
            readings.spawn(reading::read(Arc::clone(&live), target.clone()));
        }
    }
    wanted.into_iter().collect()
}

/// Puts a reading in force, and says what is worth knowing: a first list, a change, trouble that begins or ends.
fn take_in(app: &App, target: &DiscoveryTarget, reading: Reading) {
    let changed = app.update(|live| live.learn(target, reading, clock::now()));
    if let Err(error) = changed {
        tracing::error!(target = %target, error, "what was discovered cannot be used");
    }
}

/// Somewhere within a tenth around `pause`, so that many arbstrs do not ask all at once.
fn jittered(pause: Duration) -> Duration {
    let dice = RandomState::new().hash_one(()) % 201;
    pause.mul_f64(0.9 + f64::from(u32::try_from(dice).unwrap_or(100)) / 1000.0)
}

/// After a reading that failed.
const AGAIN: Duration = Duration::from_secs(60);
/// Longer than any reading takes.
const IN_FLIGHT: Duration = Duration::from_secs(120);
/// With nothing to discover.
const IDLE: Duration = Duration::from_secs(3600);
