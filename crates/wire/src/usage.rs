//! Tokens and costs as a provider reports them.
//!
//! A number is kept only when it is a sane count (SPEC section 8): a whole number from 0 to 2^40. Anything else
//! leaves its field `None` and sets [`Usage::insane`], so that no cost is computed from a lie.

/// The usage object of an answer, reduced to what is billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// All input tokens (`prompt_tokens`), cached ones included.
    pub input: Option<u64>,
    /// All output tokens (`completion_tokens`), reasoning ones included.
    pub output: Option<u64>,
    /// Those of `input` that came from the provider's prefix cache.
    pub cached_input: Option<u64>,
    /// Those of `output` that were spent on reasoning.
    pub reasoning: Option<u64>,
    /// Some reported count was negative, fractional, a string, over 2^40, or a part larger than its whole.
    pub insane: bool,
    /// The provider counted units that no rate covers: cache writes, audio, images.
    pub uncovered: bool,
    /// What the provider says it charged, if it says so.
    pub reported_cost: Option<ReportedCost>,
}

/// A cost stated by the provider itself, exact as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportedCost {
    /// In sats, as whole nanosats (1 sat = 1,000,000,000).
    Nanosats(u64),
    /// In US dollars, as whole nanodollars.
    Nanodollars(u64),
}
