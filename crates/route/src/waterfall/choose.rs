//! Who is asked next: each candidate once, then those passed over, then whoever was busy.

use std::time::{Duration, Instant};

use super::{CandidateState, Step, Waterfall};
use crate::candidate::Skip;
use crate::circuit::Urgency;

impl Waterfall {
    pub(super) fn choose(&mut self, now: Instant, dice: u64) -> Step {
        let urgency = if self.sole {
            Urgency::Sole
        } else {
            Urgency::Ready
        };
        for candidate in 0..self.progress.len() {
            if self.progress[candidate].state == CandidateState::Fresh
                && let Some(step) = self.attempt(candidate, urgency.into(), now)
            {
                return step;
            }
        }
        let fresh = self.places(|progress| progress.state == CandidateState::Fresh);
        if let Some(step) = self.choose_passed_over(&fresh, now) {
            return step;
        }
        let due = self.earliest_retry(now, dice);
        if let Some((candidate, _)) = due.filter(|(_, due)| *due <= now) {
            if let Some(step) = self.retry(candidate, now) {
                return step;
            }
            return self.choose(now, dice);
        }
        let place = self
            .wait_for_place(&fresh, now, dice)
            .or_else(|| self.wait_for_probe(&fresh, now, dice));
        match (place, due.map(|(_, due)| due - now)) {
            (Some(Step::Wait(place)), Some(retry)) => Step::Wait(place.min(retry)),
            (Some(step), _) => step,
            (None, Some(retry)) => Step::Wait(retry),
            (None, None) => self.give_up(now),
        }
    }

    /// Nobody else can serve: those passed over, the one due soonest first. While somebody's probe is out, no other open
    /// circuit is probed: one request at a time finds out whether anybody is back.
    pub(super) fn choose_passed_over(&mut self, fresh: &[usize], now: Instant) -> Option<Step> {
        let obstacles: Vec<(usize, Skip)> = fresh
            .iter()
            .filter_map(|&candidate| {
                Some((
                    candidate,
                    self.offer(candidate).obstacle(now, Urgency::Ready)?,
                ))
            })
            .collect();
        let probing = obstacles.iter().any(|(_, skip)| *skip == Skip::Probing);
        let mut passed_over: Vec<(Duration, usize)> = obstacles
            .iter()
            .filter(|(_, skip)| !(probing && matches!(skip, Skip::CircuitOpen { .. })))
            .filter_map(|(candidate, skip)| Some((skip.left()?, *candidate)))
            .collect();
        passed_over.sort_unstable();
        let mut candidates = passed_over.into_iter().map(|(_, candidate)| candidate);
        candidates.find_map(|candidate| self.attempt(candidate, Urgency::Desperate.into(), now))
    }
}
