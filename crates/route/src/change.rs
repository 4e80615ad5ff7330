//! What changed in the standing of providers, each change once.
//!
//! Changes happen deep inside permits, some of them in a drop, where nobody could be handed a result. So they queue
//! here as data, and the binary takes and logs them. The queue is locked only when there is a change; asking an empty
//! one is a single atomic load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::circuit::Transition;

/// Something about a provider that the operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model as clients ask for it; `None` when all of the provider is meant.
    pub model: Option<Arc<str>>,
    /// What happened.
    pub event: ProviderEvent,
}

/// What happened to a provider, or to one of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderEvent {
    /// Its circuit opened, or opened again after a failed probe.
    Opened,
    /// A probe went out.
    Probing,
    /// The probe came back without news: open as before.
    Returned,
    /// Its circuit closed.
    Closed,
    /// It refused for reasons that the operator has to look after.
    Suspended {
        /// Left out for this long while others can serve.
        length: Duration,
    },
    /// Clients left without an answer after a wait that is unusual for it.
    WaitedInVain {
        /// Left out for this long while others can serve.
        length: Duration,
    },
    /// It asked to be left alone.
    CoolingDown {
        /// Left out for this long while others can serve.
        length: Duration,
    },
}

/// The queue of changes, shared by the markets that follow one another.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Change>>,
}

impl From<Transition> for ProviderEvent {
    fn from(transition: Transition) -> Self {
        match transition {
            Transition::Opened => Self::Opened,
            Transition::Probing => Self::Probing,
            Transition::Returned => Self::Returned,
            Transition::Closed => Self::Closed,
        }
    }
}

impl ChangeLog {
    /// Queues a change; when nobody takes them, the oldest is dropped.
    pub(crate) fn push(&self, change: Change) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == CAPACITY {
            queue.pop_front();
        }
        queue.push_back(change);
        self.waiting.store(queue.len(), Ordering::Release);
    }

    /// Whether there is anything to take.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Takes all changes, oldest first.
    pub(crate) fn take(&self) -> Vec<Change> {
        if !self.is_waiting() {
            return Vec::new();
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(0, Ordering::Release);
        queue.drain(..).collect()
    }
}

/// Changes that wait at most.
const CAPACITY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(model: usize) -> Change {
        Change {
            provider: "alpha".into(),
            model: Some(model.to_string().into()),
            event: ProviderEvent::Opened,
        }
    }

    #[test]
    fn each_change_is_taken_once_and_in_order() {
        let log = ChangeLog::default();
        assert_eq!(log.take(), []);
        log.push(change(1));
        log.push(change(2));
        assert_eq!(log.take(), [change(1), change(2)]);
        assert_eq!(log.take(), []);
    }

    #[test]
    fn a_log_that_nobody_reads_stays_bounded() {
        let log = ChangeLog::default();
        for index in 0..CAPACITY + 3 {
            log.push(change(index));
        }
        let taken = log.take();
        assert_eq!(taken.len(), CAPACITY);
        assert_eq!(taken[0], change(3));
    }
}
