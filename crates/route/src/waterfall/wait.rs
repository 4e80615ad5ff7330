//! What is waited for when nobody can be asked at once: a place, another request's probe, a busy candidate's pause.
//!
//! Nothing is waited for past the request's deadline, and all pauses of a request together are bounded.

use std::time::{Duration, Instant};

use super::pause::{mix, up_to};
use super::{CandidateState, Progress, Step, Waterfall};
use crate::candidate::Skip;
use crate::circuit::Urgency;
use crate::permit::Admission;

impl Waterfall {
    /// A candidate whose house is full is waited for; in the end a limit that is only a guess is passed over.
    pub(super) fn wait_for_place(
        &mut self,
        fresh: &[usize],
        now: Instant,
        dice: u64,
    ) -> Option<Step> {
        let urgency = if self.sole {
            Urgency::Sole
        } else {
            Urgency::Desperate
        };
        let is_full = |&&candidate: &&usize| {
            matches!(
                self.offer(candidate).obstacle(now, urgency),
                Some(Skip::AtCapacity { .. })
            )
        };
        let full: Vec<usize> = fresh.iter().filter(is_full).copied().collect();
        if full.is_empty() {
            return None;
        }
        let since = *self.waiting_since.get_or_insert(now);
        if now.saturating_duration_since(since) < LONGEST_WAIT {
            let pause = POLL + up_to(POLL, dice);
            return Some(Step::Wait(self.cut_to_deadline(pause, now)));
        }
        let mut candidates = full.into_iter();
        let admission = Admission {
            urgency,
            over_limit: true,
        };
        candidates.find_map(|candidate| self.attempt(candidate, admission, now))
    }

    /// Somebody else's probe may be back in a moment: it is waited for, but not for as long as a silent provider keeps it.
    pub(super) fn wait_for_probe(
        &mut self,
        fresh: &[usize],
        now: Instant,
        dice: u64,
    ) -> Option<Step> {
        let is_probed = |&candidate: &usize| {
            self.offer(candidate).obstacle(now, Urgency::Ready) == Some(Skip::Probing)
        };
        if !fresh.iter().any(is_probed) {
            return None;
        }
        let since = *self.probe_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PROBE_WAIT {
            return None;
        }
        let pause = POLL + up_to(POLL, dice);
        Some(Step::Wait(self.cut_to_deadline(pause, now)))
    }

    /// The busy candidate whose pause is over first. Whose circuit will still be open then is not waited for.
    pub(super) fn earliest_retry(&mut self, now: Instant, dice: u64) -> Option<(usize, Instant)> {
        let mut earliest: Option<(usize, Instant)> = None;
        for candidate in
            self.places(|progress| matches!(progress.state, CandidateState::Busy { .. }))
        {
            let Some(due) = self.due(candidate, dice) else {
                self.progress[candidate].state = CandidateState::Spent;
                continue;
            };
            let pauses = self
                .paused
                .saturating_add(due.saturating_duration_since(now));
            let stays_open = !self.sole
                && matches!(
                    self.offer(candidate).obstacle(due, Urgency::Again),
                    Some(Skip::CircuitOpen { .. })
                );
            if self.is_too_late(due) || pauses > LONGEST_WAIT || stays_open {
                self.progress[candidate].state = CandidateState::Spent;
            } else if earliest.is_none_or(|(_, first)| due < first) {
                earliest = Some((candidate, due));
            }
        }
        earliest
    }

    /// When a busy candidate's pause is over; its length is drawn once.
    pub(super) fn due(&mut self, candidate: usize, dice: u64) -> Option<Instant> {
        let Progress { state, tries, .. } = self.progress[candidate];
        let CandidateState::Busy {
            since,
            asked_for,
            due,
        } = state
        else {
            return None;
        };
        if due.is_some() {
            return due;
        }
        let pause = self.backoff(tries, mix(dice, candidate)).max(asked_for);
        let due = since.checked_add(pause);
        self.progress[candidate].state = CandidateState::Busy {
            since,
            asked_for,
            due,
        };
        due
    }

    /// A second try. A candidate whose house is full is looked at again soon; one whose circuit opened meanwhile is
    /// given up.
    pub(super) fn retry(&mut self, candidate: usize, now: Instant) -> Option<Step> {
        let urgency = if self.sole {
            Urgency::Sole
        } else {
            Urgency::Again
        };
        let state = self.progress[candidate].state;
        let step = self.attempt(candidate, urgency.into(), now);
        if let (Some(_), CandidateState::Busy { since, .. }) = (&step, state) {
            self.paused += now.saturating_duration_since(since);
        }
        if step.is_none() {
            let is_full = matches!(
                self.offer(candidate).obstacle(now, urgency),
                Some(Skip::AtCapacity { .. })
            );
            self.progress[candidate].state = match state {
                CandidateState::Busy {
                    since, asked_for, ..
                } if is_full && now.saturating_duration_since(since) < LONGEST_WAIT => {
                    let due = now.checked_add(POLL);
                    CandidateState::Busy {
                        since,
                        asked_for,
                        due,
                    }
                }
                _ => CandidateState::Spent,
            };
        }
        step
    }

    pub(super) fn cut_to_deadline(&self, pause: Duration, now: Instant) -> Duration {
        self.deadline.map_or(pause, |deadline| {
            pause.min(deadline.saturating_duration_since(now))
        })
    }
}

/// The longest wait for a place, and the most that all pauses before further tries come to.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long another request's probe is waited for.
const PROBE_WAIT: Duration = Duration::from_secs(3);
/// How often a full house is looked at, and the spread of it.
const POLL: Duration = Duration::from_millis(25);
