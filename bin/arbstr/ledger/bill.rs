//! What an answer costs, by the usage that its provider reports, or by what was seen of it.

use arbstr_price::{Decimal, Rates, Sats};
use arbstr_store::MAX_AMOUNT;
use arbstr_wire::{Endpoint, Observation, Usage};

use super::{RequestRecord, decimal};

/// Tokens and money of an answer, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bill {
    /// What the provider reported, when it can be trusted.
    pub(crate) usage: Usage,
    /// The exact cost.
    pub(crate) cost: Option<Sats>,
    /// What the tokens seen would cost, when the exact cost is unknown.
    pub(crate) estimated: Option<Sats>,
    /// What a stream that did not come to its end cost all the same, by the last usage it reported.
    pub(crate) sunk: Option<Sats>,
    /// The provider reports more output than the answer can have.
    pub(crate) implausible: bool,
}

impl RequestRecord {
    /// What a whole JSON answer costs.
    pub(crate) fn bill_answer(&self, usage: Option<Usage>, answer_bytes: u64) -> Bill {
        let usage = usage.unwrap_or_default();
        let cost = self.cost_of(&usage);
        let estimated = if cost.is_none() {
            self.estimate(&usage, answer_bytes / BYTES_PER_TOKEN)
        } else {
            None
        };
        Bill {
            usage,
            cost,
            estimated,
            sunk: None,
            implausible: false,
        }
    }

    /// What a stream costs; `trusted`: it came to its proper end, so that its usage is final.
    pub(crate) fn bill_stream(&self, seen: &Observation<'_>, trusted: bool) -> Bill {
        let reported = seen.usage.unwrap_or_default();
        let charged = self.cost_of(&reported);
        let (cost, sunk) = if trusted {
            (charged, None)
        } else {
            (None, charged)
        };
        let estimated = if cost.is_none() {
            self.estimate(&reported, streamed_tokens(seen))
        } else {
            None
        };
        Bill {
            usage: if trusted { reported } else { Usage::default() },
            cost,
            estimated,
            sunk,
            implausible: false,
        }
    }

    /// What `usage` costs at the winner's rates. Says so where that is beyond belief, and counts as unknown.
    fn cost_of(&self, usage: &Usage) -> Option<Sats> {
        let offer = &self.winner.as_ref()?.offer;
        let cost = charge(self.info.endpoint, usage, offer.rates()?);
        let believed = cost.filter(is_believed);
        if believed != cost {
            tracing::warn!(
                request_id = &*self.arrival.id,
                provider = offer.provider(),
                cost_sats = decimal(cost).as_ref().map(Decimal::as_str),
                "the tokens that the provider reports would cost more than can be true; the cost counts as unknown"
            );
        }
        believed
    }

    /// The same at the dearest candidate.
    pub(super) fn reference(&self, usage: &Usage) -> Option<Sats> {
        let rates = self.info.candidate_rates.iter();
        rates
            .filter_map(|rates| charge(self.info.endpoint, usage, rates))
            .max()
            .filter(is_believed)
    }

    fn estimate(&self, reported: &Usage, streamed: u64) -> Option<Sats> {
        let mut usage = *reported;
        usage.insane = false;
        let has_output = self.info.endpoint != Endpoint::Embeddings;
        usage.input = reported.input.or(Some(self.info.input_estimate));
        usage.output = reported.output.or_else(|| has_output.then_some(streamed));
        let rates = self.winner.as_ref()?.offer.rates()?;
        charge(self.info.endpoint, &usage, rates).filter(is_believed)
    }
}

/// What a failed attempt cost: the usage it reported at the provider's rates, else what the provider says it charged.
pub(crate) fn sunk_cost(
    endpoint: Endpoint,
    usage: Option<&Usage>,
    rates: Option<&Rates>,
    reported: Option<Sats>,
) -> Option<Sats> {
    let charged = usage
        .zip(rates)
        .and_then(|(usage, rates)| charge(endpoint, usage, rates));
    charged.or(reported).filter(is_believed)
}

/// Whether an answer may cost as much. What the ledger cannot hold nobody is told either.
fn is_believed(cost: &Sats) -> bool {
    *cost <= MAX_AMOUNT
}

fn charge(endpoint: Endpoint, usage: &Usage, rates: &Rates) -> Option<Sats> {
    match endpoint {
        Endpoint::Embeddings => arbstr_price::input_cost(usage, rates),
        Endpoint::Chat | Endpoint::Completions => arbstr_price::cost(usage, rates),
    }
}

/// Output tokens that a stream without usage seems to have had: providers send about one token an event, and events
/// with more show it in their size.
fn streamed_tokens(seen: &Observation<'_>) -> u64 {
    let text_bytes = seen
        .data_bytes
        .saturating_sub(seen.events.saturating_mul(ENVELOPE_BYTES));
    seen.events.max(text_bytes / BYTES_PER_TOKEN)
}

/// The JSON around the text of one `chat.completion.chunk`, in bytes.
const ENVELOPE_BYTES: u64 = 220;
/// English text; other scripts have fewer bytes a token, so that this does not overstate their cost.
const BYTES_PER_TOKEN: u64 = 4;
