//! Sats counted exactly, although Prometheus only knows doubles.
//!
//! Adding doubles up loses a little at every request. Here whole nanosats are added as integers, and only the total
//! becomes a double, at each scrape anew: exact to the nanosat below nine million sats, and to one part in 2^53 above.

use std::sync::atomic::{AtomicU64, Ordering};

use arbstr_price::Sats;
use arbstr_store::Completion;

/// What one model at one provider has cost.
#[derive(Debug)]
pub(super) struct Spending {
    /// As clients ask for it.
    pub(super) model: String,
    /// By name.
    pub(super) provider: String,
    /// What was charged.
    pub(super) cost: Total,
    /// What it would have cost at the dearest candidates.
    pub(super) reference: Total,
    /// What requests seem to have cost whose cost is an estimate.
    pub(super) estimated: Total,
    /// How many those were.
    pub(super) estimates: AtomicU64,
    /// Requests of which not even that is known.
    pub(super) unknown: AtomicU64,
}

/// A sum of money that only grows.
#[derive(Debug, Default)]
pub(super) struct Total {
    sats: AtomicU64,
    nanosats: AtomicU64,
}

impl Spending {
    /// Nothing spent yet.
    pub(super) fn new(model: &str, provider: &str) -> Self {
        Self {
            model: model.to_owned(),
            provider: provider.to_owned(),
            cost: Total::default(),
            reference: Total::default(),
            estimated: Total::default(),
            estimates: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    /// Adds a request that reached a provider.
    pub(super) fn add(&self, row: &Completion<&str>) {
        match (row.cost, row.estimated_cost) {
            (Some(_), _) => {}
            (None, Some(_)) => drop(self.estimates.fetch_add(1, Ordering::Relaxed)),
            (None, None) => drop(self.unknown.fetch_add(1, Ordering::Relaxed)),
        }
        self.cost.add(row.cost);
        self.reference.add(row.reference_cost);
        self.estimated.add(row.estimated_cost);
    }
}

impl Total {
    /// Adds an amount, if it is known.
    pub(super) fn add(&self, amount: Option<Sats>) {
        let Some(nanosats) = amount.and_then(|amount| u128::try_from(amount.nanosats()).ok())
        else {
            return;
        };
        let whole = u64::try_from(nanosats / PER_SAT).unwrap_or(u64::MAX);
        let rest = u64::try_from(nanosats % PER_SAT).unwrap_or(0);
        for (part, more) in [(&self.sats, whole), (&self.nanosats, rest)] {
            if more > 0 {
                part.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// In sats.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has only doubles")]
    pub(super) fn as_f64(&self) -> f64 {
        let sats = u128::from(self.sats.load(Ordering::Relaxed));
        let nanosats = u128::from(self.nanosats.load(Ordering::Relaxed));
        (sats * PER_SAT + nanosats) as f64 / 1e9
    }
}

const PER_SAT: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_where_doubles_would_lose_it() {
        let total = Total::default();
        let mut doubles = 0.0;
        for _ in 0..1_000_000 {
            total.add(Some(Sats::from_nanosats(100_000_001)));
            doubles += 0.100_000_001;
        }
        assert_eq!(total.as_f64(), 100_000.001);
        assert_ne!(doubles, 100_000.001);
    }

    #[test]
    fn unknown_adds_nothing_and_the_absurd_does_not_wrap() {
        let total = Total::default();
        total.add(None);
        assert_eq!(total.as_f64(), 0.0);
        for _ in 0..1000 {
            total.add(Some(Sats::from_nanosats(1_099_511_627_776 * 999_999_999)));
        }
        assert!(total.as_f64() > 1e15);
    }
}
