//! Why a candidate stands where it stands, or is passed over: as data, and in words for a plan.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arbstr_price::Sats;

use crate::policy::Objection;

/// Why a candidate is passed over. All but a policy hold only while another can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// Its circuit, or that of its provider's connections, is open.
    CircuitOpen {
        /// Until a probe is due.
        due_in: Duration,
    },
    /// Its circuit is half-open and another request is the probe.
    Probing,
    /// It refused for reasons of its own: key, balance, model list.
    Suspended {
        /// For this much longer.
        left: Duration,
    },
    /// It asked to be left alone.
    CoolingDown {
        /// For this much longer.
        left: Duration,
    },
    /// As many requests as it takes are in flight.
    AtCapacity {
        /// How many it takes.
        limit: u32,
    },
    /// The policy does not allow it.
    Policy {
        /// The policy's name.
        policy: Arc<str>,
        /// What speaks against it.
        objection: Objection,
    },
}

/// Why a candidate stands where it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum Rank {
    /// It is expected to cost least.
    #[default]
    Cheapest,
    /// It costs hardly more than a slower one behind it.
    Faster,
    /// It is expected to cost so much more than the cheapest, in percent.
    Dearer {
        /// How much more; 100 is twice as much.
        percent: f64,
    },
    /// Dearer by expectation, but asked first to find out what it really charges.
    Tried {
        /// What that is expected to cost.
        premium: Sats,
    },
    /// One answer shows whether it is faster: its time is not known, or was measured long ago.
    TimeUnknown,
    /// By its usual time, under `lowest_latency`.
    ByLatency,
    /// In turn, under `round_robin`.
    InTurn,
    /// Behind all others, because nobody knows what it charges.
    PriceUnknown,
}

impl Skip {
    /// How long it lasts, as far as that is known.
    #[must_use]
    pub const fn left(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { due_in: left }
            | Self::Suspended { left }
            | Self::CoolingDown { left } => Some(*left),
            Self::Probing | Self::AtCapacity { .. } | Self::Policy { .. } => None,
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen { due_in } => write!(f, "circuit open, due in {}", Secs(*due_in)),
            Self::Probing => f.write_str("circuit half-open, a probe is out"),
            Self::Suspended { left } => write!(f, "suspended for {}", Secs(*left)),
            Self::CoolingDown { left } => write!(f, "cooling down for {}", Secs(*left)),
            Self::AtCapacity { limit } => write!(f, "at capacity ({limit} in flight)"),
            Self::Policy { policy, objection } => write!(f, "policy {policy}: {objection}"),
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cheapest => f.write_str("cheapest"),
            Self::Faster => f.write_str("within 1 % of a cheaper one, and faster"),
            Self::Dearer { percent } if percent.is_finite() => {
                write!(f, "costs {percent:.1} % more")
            }
            Self::Dearer { .. } => f.write_str("costs more"),
            Self::Tried { premium } => {
                write!(f, "tried to learn what it charges, for {premium} sats more")
            }
            Self::TimeUnknown => f.write_str("asked to see how fast it is"),
            Self::ByLatency => f.write_str("by its usual time to a first byte"),
            Self::InTurn => f.write_str("in turn"),
            Self::PriceUnknown => f.write_str("price unknown"),
        }
    }
}

/// A duration in whole seconds, rounded up.
struct Secs(Duration);

impl fmt::Display for Secs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        write!(f, "{secs}s")
    }
}
