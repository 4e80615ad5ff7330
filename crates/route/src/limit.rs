//! How many requests a provider takes at once.
//!
//! The operator may say so. Otherwise it is learned from 429s: what a provider carries while it refuses one more is what
//! it can take, and each whole answer widens that a little, so that it is asked now and then whether it takes more by now.
//! A burst that is refused altogether says that it takes less, but not how much: as in TCP, that cuts the limit to a part.
//! What is refused again and again at one width is tried there more and more seldom.

use std::num::NonZeroU32;

/// A place among the requests in flight; given back exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    cuts: u64,
}

/// Requests in flight at one provider, and how many there may be.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    /// What the operator says.
    explicit: Option<NonZeroU32>,
    in_flight: u32,
    learned: Option<f64>,
    /// What the latest burst of refusals leaves at least.
    least: f64,
    /// How many were in flight when it was refused last, and how often running it was just as many.
    refused_at: u32,
    repeats: u32,
    cuts: u64,
}

impl Limit {
    /// Takes over what the operator says now, for whoever waits already too.
    pub(crate) const fn set_explicit(&mut self, explicit: Option<NonZeroU32>) {
        self.explicit = explicit;
    }

    /// Whether the operator says it.
    pub(crate) const fn is_explicit(&self) -> bool {
        self.explicit.is_some()
    }

    /// The limit in force, if there is one: the operator's, else the learned.
    pub(crate) fn bound(&self) -> Option<u32> {
        self.explicit
            .map(NonZeroU32::get)
            .or_else(|| self.learned.map(whole))
    }

    /// Whether no further request may go out now.
    pub(crate) fn is_full(&self) -> bool {
        self.bound().is_some_and(|bound| self.in_flight >= bound)
    }

    /// Counts one more request in flight.
    pub(crate) fn enter(&mut self) -> Slot {
        self.in_flight = self.in_flight.saturating_add(1);
        Slot { cuts: self.cuts }
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The provider had too much to do when the request of `slot` came: it can take what it carries without that. Those
    /// that were sent before the latest cut leave no less than that one does: others may have ended since.
    pub(crate) fn on_congestion(&mut self, slot: Slot) {
        let carried = f64::from(self.in_flight);
        let mut from = self.learned.unwrap_or(carried);
        if slot.cuts == self.cuts {
            from = from.min(carried);
            self.least = (from * CUT).max(1.0);
            self.cuts += 1;
            let is_again = self.refused_at == self.in_flight;
            self.repeats = if is_again { self.repeats + 1 } else { 0 };
            self.refused_at = self.in_flight;
        }
        self.learned = Some(from.min(carried - 1.0).max(self.least));
    }

    /// A whole answer came.
    pub(crate) fn on_success(&mut self) {
        let Some(learned) = self.learned else {
            return;
        };
        if self.in_flight >= self.refused_at {
            self.repeats = 0;
        }
        let is_next_refused = whole(learned) + 1 == self.refused_at;
        let patience = if is_next_refused {
            1 << self.repeats.min(MOST_DOUBLINGS)
        } else {
            1
        };
        let wider = learned + 1.0 / (learned * f64::from(patience));
        self.learned = Some(wider).filter(|learned| *learned <= FORGET_ABOVE);
    }

    /// Requests in flight.
    pub(crate) const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

/// What a burst of refusals leaves at least of the requests in flight.
const CUT: f64 = 0.7;

/// A width that was refused often is tried again after 32 times as many answers as at first.
const MOST_DOUBLINGS: u32 = 5;

/// A learned limit as wide as this is none.
const FORGET_ABOVE: f64 = 1024.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a learned limit lies between 1 and FORGET_ABOVE"
)]
const fn whole(learned: f64) -> u32 {
    learned as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_operator_says_is_obeyed() {
        let mut limit = Limit::default();
        limit.set_explicit(NonZeroU32::new(2));
        assert!(!limit.is_full());
        limit.enter();
        let slot = limit.enter();
        assert!(limit.is_full());
        limit.on_congestion(slot);
        assert_eq!(limit.bound(), Some(2));
        limit.leave();
        assert!(!limit.is_full());
    }

    /// A refusal cut the limit to 70 % of what was in flight, so that a cheap provider had places to spare most of the
    /// time: that was three quarters of what bursts cost too much.
    #[test]
    fn one_request_too_many_leaves_room_for_the_others() {
        for (sent, taken) in [(2, 1), (4, 3), (9, 8), (20, 19), (25, 20)] {
            let mut limit = Limit::default();
            let slots: Vec<Slot> = (0..sent).map(|_| limit.enter()).collect();
            for slot in slots.into_iter().skip(taken) {
                limit.on_congestion(slot);
                limit.leave();
            }
            assert_eq!(limit.bound(), u32::try_from(taken).ok(), "{sent}");
        }
    }

    #[test]
    fn a_burst_of_refusals_cuts_once() {
        let mut limit = Limit::default();
        let slots: Vec<Slot> = (0..10).map(|_| limit.enter()).collect();
        for slot in slots {
            limit.on_congestion(slot);
            limit.leave();
        }
        assert_eq!(limit.bound(), Some(7));
    }

    /// One that takes one at a time was refused every second time, for ever.
    #[test]
    fn what_is_refused_again_and_again_is_tried_more_and_more_seldom() {
        for (takes, most_refused) in [(1, 40), (5, 10), (20, 4)] {
            let mut limit = Limit::default();
            let mut refused = 0;
            for _ in 0..1_000 {
                let mut slots = Vec::new();
                while !limit.is_full() && slots.len() <= takes {
                    slots.push(limit.enter());
                }
                for slot in slots.drain(takes.min(slots.len())..) {
                    limit.on_congestion(slot);
                    limit.leave();
                    refused += 1;
                }
                for _ in slots {
                    limit.on_success();
                    limit.leave();
                }
            }
            assert!(
                refused <= most_refused * takes,
                "{refused} of some {} at {takes}",
                1_000 * takes
            );
            // It takes twice as many now: that is found out.
            for _ in 0..1_000 {
                while !limit.is_full() && (limit.in_flight() as usize) < 2 * takes {
                    limit.enter();
                }
                while limit.in_flight() > 0 {
                    limit.on_success();
                    limit.leave();
                }
            }
            assert!(
                limit
                    .bound()
                    .is_none_or(|bound| bound as usize >= 2 * takes),
                "{takes}"
            );
        }
    }

    #[test]
    fn answers_widen_a_learned_limit_until_it_is_forgotten() {
        let mut limit = Limit::default();
        let slot = limit.enter();
        limit.on_congestion(slot);
        assert_eq!(limit.bound(), Some(1));
        limit.on_success();
        assert_eq!(limit.bound(), Some(2));
        for _ in 0..600_000 {
            limit.on_success();
        }
        assert_eq!(limit.bound(), None);
    }

    proptest! {
        #[test]
        fn a_learned_limit_always_lets_one_through(events in prop::collection::vec(0..3_u8, 0..300)) {
            let mut limit = Limit::default();
            let mut slots = Vec::new();
            for event in events {
                match event {
                    0 if !limit.is_full() => slots.push(limit.enter()),
                    1 => if let Some(slot) = slots.pop() { limit.on_congestion(slot); limit.leave(); },
                    _ => if slots.pop().is_some() { limit.on_success(); limit.leave(); },
                }
                prop_assert_eq!(limit.in_flight() as usize, slots.len());
                prop_assert!(limit.bound().is_none_or(|bound| bound >= 1));
            }
        }
    }
}
