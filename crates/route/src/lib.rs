//! Decides who is asked, in what order, and what an outcome means.
//!
//! Nothing here opens a socket, reads a clock or rolls dice: `now` and randomness are arguments, so that every
//! decision can be replayed. A [`Market`] knows what is for sale, a [`Plan`] ranks it for one request, a [`Waterfall`]
//! carries the plan out, and a [`Verdict`] says what each outcome means.
//!
//! ```
//! use std::time::Instant;
//! use arbstr_price::Rates;
//! use arbstr_route::*;
//! use arbstr_wire::{Endpoint, Request};
//!
//! // Once per config: what is for sale.
//! let offer = |output: &str| OfferSpec {
//!     model: "gpt-4o".into(),
//!     upstream_model: "gpt-4o".into(),
//!     rates: Some(Rates { output: output.parse().unwrap(), ..Rates::default() }),
//!     ..OfferSpec::default()
//! };
//! let provider = |name: &str, output: &str| ProviderSpec {
//!     name: name.into(),
//!     offers: vec![offer(output)],
//!     ..ProviderSpec::default()
//! };
//! let providers = vec![provider("dear", "30000"), provider("cheap", "10000")];
//! let market = Market::build(MarketSpec { providers, ..MarketSpec::default() }, None)?;
//!
//! // Once per request: who is asked, in which order.
//! let body = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;
//! let request = Request::parse(Endpoint::Chat, body)?;
//! # #[expect(clippy::disallowed_methods, reason = "an example may look at the clock")]
//! let now = Instant::now();
//! let plan = market.plan(&Facts::of(&request, None), now)?;
//! assert_eq!(plan.candidates[0].offer.provider(), "cheap");
//!
//! // Action attempts, until one is good or none is left.
//! let mut waterfall = Waterfall::new(plan, None);
//! let mut outcomes = [AttemptOutcome::Closed, AttemptOutcome::Good { status: 200 }].into_iter();
//! let permit = loop {
//!     match waterfall.next(now, 4) {
//!         Step::Attempt(attempt) => {
//!             // … here the binary sends the request to `attempt.offer` …
//!             let outcome = outcomes.next().unwrap();
//!             let after = waterfall.on_outcome(attempt, outcome, now);
//!             if let Some(permit) = after.permit {
//!                 break permit;
//!             }
//!         }
//!         Step::Wait(pause) => unreachable!("would sleep for {pause:?}"),
//!         Step::Finish(finish) => unreachable!("somebody answers: {finish:?}"),
//!     }
//! };
//! assert_eq!(waterfall.attempts_header(), "cheap;error=closed, dear;status=200");
//!
//! // And when the last byte of the answer is through, what it took.
//! permit.finish(PermitEnd::Complete, &Report::default(), now);
//! assert!(market.take_changes().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod candidate;
mod change;
mod circuit;
mod cooldown;
mod estimate;
mod latency;
mod learn;
mod limit;
mod market;
mod permit;
mod plan;
mod policy;
mod shape;
mod snapshot;
#[cfg(test)]
mod testing;
mod verdict;
mod waterfall;

pub use candidate::{Candidate, Offer, Rank, Skip, Tier};
pub use change::{Change, ProviderEvent};
pub use circuit::{CircuitSettings, CircuitState};
pub use cooldown::{parse_retry_after, parse_retry_after_ms};
pub use learn::save::LoadError;
pub use market::{BuildError, Listing, Market, MarketSpec, OfferSpec, ProviderSpec, VirtualModel};
pub use permit::{Permit, PermitEnd, Report};
pub use plan::{Facts, Plan, PlanError};
pub use policy::{Objection, Policies, Rule, Strategy, Texts};
pub use shape::Shape;
pub use snapshot::{Experience, Health, OfferSnapshot, ProviderSnapshot};
pub use verdict::{
    Action, AttemptOutcome, Blame, ConnectError, ErrorEvent, ErrorResponse, Failure, Retryable,
    SUSPENSION, Scope, TimeoutKind, Verdict,
};
pub use waterfall::{Attempt, Finish, FinishedAttempt, Retry, Settled, Step, Waterfall};
