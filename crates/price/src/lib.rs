//! Turns usage and rates into exact sats.
//!
//! Money is whole nanosats in 128-bit integers from the config's text to the shown decimal; no float ever touches
//! it. Unknown is `None`, never zero: an offer without a price is `Option<Rates>::None`, and an answer whose tokens
//! are not known has no cost.
//!
//! ```
//! use arbstr_price::{Rates, cost, quote, Tokens};
//! use arbstr_wire::Usage;
//!
//! let rates = Rates {
//!     input: "10000".parse()?,
//!     output: "30000.5".parse()?,
//!     base_fee: "1".parse()?,
//!     ..Rates::default()
//! };
//!
//! // Before the call: what these tokens would cost, by part.
//! let expected = quote(&Tokens { input: 100, cached_input: 0, output: 50 }, &rates);
//! assert_eq!(expected.total().to_string(), "3.500025");
//!
//! // After the call: what the reported tokens did cost.
//! let mut usage = Usage::default();
//! usage.input = Some(100);
//! assert_eq!(cost(&usage, &rates), None); // the output is not known
//! usage.output = Some(50);
//! assert_eq!(cost(&usage, &rates), Some(expected.total()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

mod cost;
mod decimal;
mod published;
mod quote;
mod rates;
mod sats;

pub use cost::{cost, disagrees, input_cost, reported_cost};
pub use decimal::Decimal;
pub use published::{BtcPrice, ParseBtcPriceError, PublishedPriceError, published_rates};
pub use quote::{Quote, Tokens, quote};
pub use rates::{ParseRateError, Rate, Rates};
pub use sats::{ParseSatsError, Sats};
