//! Answers after which the price of their provider is in doubt: counted all, told in the log now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arbstr_store::Completion;
use prometheus::IntCounterVec;

/// What a provider did that its price does not explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It says that it charged something else.
    CostDisagrees,
    /// It used units that no rate covers.
    UncoveredUnits,
    /// It reports tokens that the answer cannot have.
    ImplausibleUsage,
}

/// What was counted, and when it was told last.
#[derive(Debug)]
pub(super) struct Doubts {
    pub(super) counters: IntCounterVec,
    told: Mutex<HashMap<(String, &'static str), Instant>>,
}

impl Doubt {
    /// All there are.
    pub(super) const ALL: [Self; 3] = [
        Self::CostDisagrees,
        Self::UncoveredUnits,
        Self::ImplausibleUsage,
    ];

    /// As the column that has it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::CostDisagrees => "cost_disagrees",
            Self::UncoveredUnits => "uncovered_units",
            Self::ImplausibleUsage => "implausible_usage",
        }
    }

    /// For the log.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::CostDisagrees => {
                "the provider says that it charged something else than its rates give: compare them"
            }
            Self::UncoveredUnits => "the provider used units that no rate of it covers",
            Self::ImplausibleUsage => {
                "the provider reports more output tokens than its answer can have"
            }
        }
    }

    fn is_in(self, row: &Completion<&str>) -> bool {
        match self {
            Self::CostDisagrees => row.cost_disagrees,
            Self::UncoveredUnits => row.uncovered_units,
            Self::ImplausibleUsage => row.implausible_usage,
        }
    }
}

impl Doubts {
    pub(super) fn new(counters: IntCounterVec) -> Self {
        Self {
            counters,
            told: Mutex::default(),
        }
    }

    /// A provider that may be counted from now on: a rate needs a first value to rise from.
    pub(super) fn expect(&self, provider: &str) {
        for doubt in Doubt::ALL {
            self.counters.with_label_values(&[provider, doubt.word()]);
        }
    }

    /// Counts what `row` gives rise to; what of it is to be told, which is each kind once a minute for each provider.
    pub(super) fn count(&self, row: &Completion<&str>, now: Instant) -> Vec<Doubt> {
        let found = Doubt::ALL.into_iter().filter(|doubt| doubt.is_in(row));
        let Some(provider) = row.provider else {
            return Vec::new();
        };
        let counted = found.inspect(|doubt| {
            let labels = [provider, doubt.word()];
            self.counters.with_label_values(&labels).inc();
        });
        counted
            .filter(|doubt| self.is_due(provider, *doubt, now))
            .collect()
    }

    fn is_due(&self, provider: &str, doubt: Doubt, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, last| now.saturating_duration_since(*last) < TOLD_EVERY);
        let key = (provider.to_owned(), doubt.word());
        let is_due = !told.contains_key(&key);
        if is_due {
            told.insert(key, now);
        }
        is_due
    }
}

const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

    #[test]
    fn everything_is_counted_and_each_kind_told_once_a_minute_for_each_provider() {
        let counters = IntCounterVec::new(Opts::new("a", "b"), &["provider", "kind"]);
        let doubts = Doubts::new(counters.unwrap());
        let start = crate::clock::now();
        let row = |provider, cost_disagrees, implausible_usage| Completion {
            provider: Some(provider),
            cost_disagrees,
            implausible_usage,
            ..Completion::default()
        };
        let (costs, usage) = (Doubt::CostDisagrees, Doubt::ImplausibleUsage);
        for (secs, provider, cost, implausible, told) in [
            (0, "a", true, false, vec![costs]),
            (1, "a", true, false, vec![]),
            (2, "a", true, true, vec![usage]),
            (2, "b", true, true, vec![costs, usage]),
            (59, "a", true, false, vec![]),
            (60, "a", true, false, vec![costs]),
            (61, "a", false, false, vec![]),
        ] {
            let now = start + Duration::from_secs(secs);
            assert_eq!(doubts.count(&row(provider, cost, implausible), now), told);
        }
        let count = |labels: &[&str]| doubts.counters.with_label_values(labels).get();
        assert_eq!(count(&["a", "cost_disagrees"]), 5);
        assert_eq!(count(&["a", "implausible_usage"]), 1);
        assert_eq!(count(&["b", "cost_disagrees"]), 1);
    }
}
