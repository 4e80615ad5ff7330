//! Black-box tests: the real binary between scripted providers and scripted clients, judged by what each end saw and by the database row.
//!
//! Written from the contract alone. Each file stands for one part of it; the harness knows sockets and files, never arbstr's inside.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test measures time as it passes outside"
)]

mod accept;
mod api;
mod architecture;
mod cli;
mod config;
mod cost;
mod dashboard;
mod discovery;
mod durability;
#[cfg(test)]
mod harness;
mod http1;
mod learning;
mod log;
mod metrics;
mod openapi;
mod query;
mod readme;
mod recorded;
mod regression;
mod reload;
mod routing;
mod shutdown;
mod stream;
mod trace;
mod upstream;
mod waterfall;
