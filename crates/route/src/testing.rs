//! What the tests of several modules share: small markets, and requests walked through them.

use std::time::{Duration, Instant};

use arbstr_price::{Rate, Rates};
use arbstr_wire::Endpoint;

use crate::*;

/// Some moment; tests reckon from it.
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// An offer of `model` at so many sats per million tokens of input and of output.
pub(crate) fn offer(model: &str, input: u64, output: u64) -> OfferSpec {
    let rate = |sats| Rate::from_millisats_per_million(sats * 1000);
    OfferSpec {
        model: model.to_owned(),
        upstream_model: model.to_owned(),
        rates: Some(Rates {
            input: rate(input),
            output: rate(output),
            ..Rates::default()
        }),
        priced_at: None,
    }
}

pub(crate) fn provider(name: &str, offers: Vec<OfferSpec>) -> ProviderSpec {
    ProviderSpec {
        name: name.to_owned(),
        offers,
        ..ProviderSpec::default()
    }
}

/// Providers of the one model `m`, the first the cheapest.
pub(crate) fn spec(names: &[&str]) -> MarketSpec {
    let dearer = |(index, name): (usize, &&str)| {
        provider(name, vec![offer("m", 100, 100 * (index as u64 + 1))])
    };
    MarketSpec {
        providers: names.iter().enumerate().map(dearer).collect(),
        ..MarketSpec::default()
    }
}

pub(crate) fn market(names: &[&str]) -> Market {
    build(spec(names))
}

pub(crate) fn build(spec: MarketSpec) -> Market {
    Market::build(spec, None).expect("a sound spec")
}

/// A small request for `model`.
pub(crate) fn facts(model: &str) -> Facts<'_> {
    Facts {
        model,
        policy: None,
        texts: &(),
        shape: Shape::sized(1000),
        max_output_tokens: None,
        choices: 1,
        streaming: true,
        endpoint: Endpoint::Chat,
    }
}

/// The providers of a plan, best first.
pub(crate) fn order(plan: &Plan) -> Vec<&str> {
    plan.candidates
        .iter()
        .map(|candidate| candidate.offer.provider())
        .collect()
}

pub(crate) fn status(status: u16) -> AttemptOutcome {
    AttemptOutcome::ErrorResponse(ErrorResponse {
        status,
        ..ErrorResponse::default()
    })
}

pub(crate) const GOOD: AttemptOutcome = AttemptOutcome::Good { status: 200 };
