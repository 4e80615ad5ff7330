//! The attempts of one request: who is asked next, after which pause, and when to give up.
//!
//! ```text
//!               next(): somebody to ask
//!   Choosing ──────────────────────────────▶ Trying ── accepted, returned as is, stopped ──▶ Over
//!    ▲   │ ▲                                  │   │
//!    │   │ └──── on_outcome(): next one ──────┘   │ on_outcome(): the same once more
//!    │   │                                        ▼
//!    │   │       next(): no place, or its pause  Same ── next() ──▶ Trying
//!    │   │                 is not over
//!    │   └─▶ nobody left, attempts or time used up, client gone ──▶ Over
//!    └─ Wait
//! ```
//!
//! Each candidate comes once before any comes twice. Those passed over (an open circuit, a suspension, a cooldown)
//! come when everybody else has failed, the one due soonest first. A candidate comes again only if its fault was a
//! passing one and nobody else is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::Sats;

use crate::candidate::{Offer, Skip};
use crate::circuit::Urgency;
use crate::permit::{Admission, Permit};
use crate::plan::Plan;
use crate::verdict::{Action, AttemptOutcome, Failure, Retryable, TimeoutKind, Verdict};

mod attempts_header;
mod choose;
mod pause;
mod wait;

use attempts_header::push_attempt;
pub use pause::Retry;

/// What to do now.
#[derive(Debug)]
pub enum Step {
    /// Ask this one.
    Attempt(Attempt),
    /// Wait so long, then call [`Waterfall::next`] again.
    Wait(Duration),
    /// It is over.
    Finish(Finish),
}

/// Leave to ask one candidate once. Dropping it unsettled gives its place and its probe back.
#[derive(Debug)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// Its place in the plan's candidates.
    pub candidate: usize,
    /// Whom to ask, for which model.
    pub offer: Arc<Offer>,
    /// Nobody else could be asked after it, so a stream may take as long as a response for its first event.
    pub last: bool,
    /// Put no `stream_options` in: this provider turns them down.
    pub omit_stream_options: bool,
    /// What it cost although it failed, where the provider tells; for whoever makes the attempt to fill in.
    pub sunk_cost: Option<Sats>,
    permit: Permit,
}

/// What [`Waterfall::on_outcome`] made of an attempt.
#[derive(Debug)]
pub struct Settled {
    /// What the outcome means.
    pub verdict: Verdict,
    /// For an accepted attempt: keep it until the answer's last byte, then [`Permit::finish`] it.
    pub permit: Option<Permit>,
}

/// How the attempts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An attempt was accepted.
    Accepted,
    /// The last attempt's answer goes to the client as it is: its request is at fault.
    ReturnLast,
    /// There was only one candidate: the client gets what it said last, or what its silence amounts to.
    Transparent(Failure),
    /// Nobody could serve it.
    AllFailed {
        /// When somebody may be able to, as far as that is known.
        retry_after: Option<Duration>,
    },
    /// The client left.
    ClientGone,
    /// The time for the request ran out.
    OutOfTime,
}

/// One attempt, as it went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FinishedAttempt {
    /// Its place in the plan's candidates.
    pub candidate: usize,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What that meant.
    pub verdict: Verdict,
    /// When it began.
    pub started: Instant,
    /// How long until its outcome.
    pub took: Duration,
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Waterfall {
    plan: Plan,
    deadline: Option<Instant>,
    progress: Vec<Progress>,
    sole: bool,
    begun: u32,
    tried: Vec<FinishedAttempt>,
    state: State,
    waiting_since: Option<Instant>,
    probe_since: Option<Instant>,
    paused: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Choosing,
    Same {
        candidate: usize,
        not_before: Option<Instant>,
    },
    Trying {
        candidate: usize,
        started: Instant,
    },
    Over(Finish),
}

/// How far one candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    state: CandidateState,
    tries: u32,
    quick: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CandidateState {
    /// Not asked yet.
    Fresh,
    /// Was busy; may be asked again.
    Busy {
        since: Instant,
        asked_for: Duration,
        due: Option<Instant>,
    },
    /// Not to be asked again, or not at all.
    Spent,
}

impl Attempt {
    /// How long to wait for a stream's first event when the config says `auto`.
    #[must_use]
    pub fn first_event_auto(&self) -> Duration {
        self.offer.first_event_auto()
    }

    /// The client left after having waited for `waited`. To be called at that moment, even if the attempt goes on: others
    /// are asked first for a while where that was an unusually long wait.
    pub fn on_client_gone(&self, waited: Duration, now: Instant) {
        self.permit.on_client_gone(waited, now);
    }
}

impl Waterfall {
    /// The attempts for `plan`, none of which begins at or after `deadline`.
    #[must_use]
    pub fn new(plan: Plan, deadline: Option<Instant>) -> Self {
        let state = |ruled_out| {
            if ruled_out {
                CandidateState::Spent
            } else {
                CandidateState::Fresh
            }
        };
        let progress = |ruled_out| Progress {
            state: state(ruled_out),
            tries: 0,
            quick: 0,
        };
        let progress = plan
            .candidates
            .iter()
            .map(|candidate| progress(candidate.is_ruled_out()))
            .collect();
        let sole = plan.eligible().count() == 1;
        Self {
            plan,
            deadline,
            progress,
            sole,
            begun: 0,
            tried: Vec::new(),
            state: State::Choosing,
            waiting_since: None,
            probe_since: None,
            paused: Duration::ZERO,
        }
    }

    /// What to do at `now`; `dice` is any random number, drawn anew for each call.
    pub fn next(&mut self, now: Instant, dice: u64) -> Step {
        let same = match self.state {
            State::Over(finish) => return Step::Finish(finish),
            State::Trying { candidate, .. } => {
                // Its attempt was dropped without a word.
                self.progress[candidate].state = CandidateState::Spent;
                None
            }
            State::Same {
                candidate,
                not_before,
            } => Some((candidate, not_before)),
            State::Choosing => None,
        };
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return self.finish(Finish::OutOfTime);
        }
        if self.begun >= self.plan.retry.max_attempts.max(1) {
            return self.give_up(now);
        }
        if let Some((candidate, not_before)) = same
            && let Some(step) = self.repeat(candidate, not_before, now, dice)
        {
            return step;
        }
        self.state = State::Choosing;
        self.choose(now, dice)
    }

    /// What became of an attempt. Counts it against the circuits, and for an accepted one hands out the permit.
    pub fn on_outcome(
        &mut self,
        attempt: Attempt,
        outcome: AttemptOutcome,
        now: Instant,
    ) -> Settled {
        let Attempt {
            candidate,
            offer,
            mut permit,
            sunk_cost,
            ..
        } = attempt;
        let started = match self.state {
            State::Trying {
                candidate: trying,
                started,
            } if trying == candidate => started,
            _ => now,
        };
        let took = now.saturating_duration_since(started);
        let verdict = Verdict::of(&outcome);
        permit.settle(&outcome, &verdict, sunk_cost, took, now);
        if verdict.action == Action::WithoutStreamOptions {
            offer.remember_stream_options_refused();
        }
        if !matches!(self.state, State::Over(_)) {
            self.state = self.follow(candidate, &outcome, &verdict, now);
        }
        self.tried.push(FinishedAttempt {
            candidate,
            outcome,
            verdict,
            started,
            took,
        });
        let permit = (verdict.action == Action::Accept).then_some(permit);
        Settled { verdict, permit }
    }

    /// The client left: no new attempt begins.
    pub fn on_client_gone(&mut self) {
        if !matches!(self.state, State::Over(_)) {
            self.state = State::Over(Finish::ClientGone);
        }
    }

    /// The plan that is being carried out.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The attempts so far, in order.
    #[must_use]
    pub fn attempts(&self) -> &[FinishedAttempt] {
        &self.tried
    }

    /// The offer that an attempt asked.
    #[must_use]
    pub fn offer_of(&self, tried: &FinishedAttempt) -> &Arc<Offer> {
        &self.plan.candidates[tried.candidate].offer
    }

    /// The attempts as the value of `x-arbstr-attempts`: `alpha;status=429, beta;error=timeout`.
    #[must_use]
    pub fn attempts_header(&self) -> String {
        let mut header = String::with_capacity(HEADER_BYTES * self.tried.len());
        for tried in &self.tried {
            push_attempt(&mut header, self.offer_of(tried).provider(), &tried.outcome);
        }
        header
    }

    /// Who cannot be asked right now, and why.
    pub fn obstacles(&self, now: Instant) -> impl Iterator<Item = (&Arc<Offer>, Skip)> {
        self.plan.eligible().filter_map(move |candidate| {
            let offer = &candidate.offer;
            Some((offer, offer.obstacle(now, Urgency::Ready)?))
        })
    }

    /// When somebody may be able to serve, as far as providers or circuits say.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        let waits = self.obstacles(now).filter_map(|(_, skip)| match skip {
            Skip::CircuitOpen { due_in: left } | Skip::CoolingDown { left } => Some(left.max(SOON)),
            Skip::Probing | Skip::AtCapacity { .. } => Some(SOON),
            // Nothing says that a key or a balance will be in order by then.
            Skip::Suspended { .. } | Skip::Policy { .. } => None,
        });
        waits.min()
    }

    /// What an outcome leads to.
    fn follow(
        &mut self,
        candidate: usize,
        outcome: &AttemptOutcome,
        verdict: &Verdict,
        now: Instant,
    ) -> State {
        match verdict.action {
            Action::Accept => State::Over(Finish::Accepted),
            Action::ReturnAsIs => State::Over(Finish::ReturnLast),
            Action::Stop if *outcome == AttemptOutcome::Timeout(TimeoutKind::Total) => {
                State::Over(Finish::OutOfTime)
            }
            Action::Stop => State::Over(Finish::ClientGone),
            Action::WithoutStreamOptions => State::Same {
                candidate,
                not_before: Some(now),
            },
            Action::Next => self.pass_on(candidate, verdict, now),
        }
    }

    fn pass_on(&mut self, candidate: usize, verdict: &Verdict, now: Instant) -> State {
        let allowed = self.plan.retry.same_provider_first;
        let progress = &mut self.progress[candidate];
        let asked_for = verdict.cooldown.unwrap_or_default();
        progress.state = match verdict.retryable {
            Retryable::WhenAlone => CandidateState::Busy {
                since: now,
                asked_for,
                due: None,
            },
            Retryable::Never => CandidateState::Spent,
        };
        if !verdict.quick || progress.quick >= allowed {
            return State::Choosing;
        }
        progress.quick += 1;
        let not_before = verdict.cooldown.and_then(|wait| now.checked_add(wait));
        State::Same {
            candidate,
            not_before,
        }
    }

    /// Asks the same candidate once more; `None` when that is not to be.
    fn repeat(
        &mut self,
        candidate: usize,
        not_before: Option<Instant>,
        now: Instant,
        dice: u64,
    ) -> Option<Step> {
        let tries = self.progress[candidate].tries;
        let due = match not_before {
            Some(due) => due,
            None => now.checked_add(self.backoff(tries, dice))?,
        };
        if self.is_too_late(due) {
            return None;
        }
        if now < due {
            self.state = State::Same {
                candidate,
                not_before: Some(due),
            };
            return Some(Step::Wait(due - now));
        }
        let urgency = if self.sole {
            Urgency::Sole
        } else {
            Urgency::Again
        };
        self.attempt(candidate, urgency.into(), now)
    }

    fn attempt(&mut self, candidate: usize, admission: Admission, now: Instant) -> Option<Step> {
        let offer = Arc::clone(self.offer(candidate));
        let expected = self.plan.candidates[candidate].tokens;
        let permit = Permit::request(&offer, &self.plan.traits, expected, admission, now).ok()?;
        self.begun += 1;
        self.progress[candidate].tries += 1;
        self.progress[candidate].state = CandidateState::Spent;
        self.waiting_since = None;
        self.state = State::Trying {
            candidate,
            started: now,
        };
        Some(Step::Attempt(Attempt {
            number: self.begun,
            candidate,
            last: !self.somebody_else_is_ready(now),
            omit_stream_options: offer.refuses_stream_options(),
            sunk_cost: None,
            offer,
            permit,
        }))
    }

    fn give_up(&mut self, now: Instant) -> Step {
        let all_too_long = !self.tried.is_empty()
            && self
                .tried
                .iter()
                .all(|tried| tried.outcome.is_context_overflow());
        let finish = match self.tried.last() {
            // Out of attempts in the middle of a second try: the refusal stands.
            Some(last) if last.verdict.action == Action::WithoutStreamOptions => Finish::ReturnLast,
            Some(_) if all_too_long => Finish::ReturnLast,
            Some(last) if self.sole => Finish::Transparent(last.outcome.failure()),
            _ => Finish::AllFailed {
                retry_after: self.retry_after(now),
            },
        };
        self.finish(finish)
    }

    fn finish(&mut self, finish: Finish) -> Step {
        self.state = State::Over(finish);
        Step::Finish(finish)
    }

    fn offer(&self, candidate: usize) -> &Arc<Offer> {
        &self.plan.candidates[candidate].offer
    }

    fn places(&self, wanted: impl Fn(&Progress) -> bool) -> Vec<usize> {
        let progress = self.progress.iter().enumerate();
        progress
            .filter(|(_, progress)| wanted(progress))
            .map(|(place, _)| place)
            .collect()
    }

    fn somebody_else_is_ready(&self, now: Instant) -> bool {
        let mut progress = self.progress.iter().zip(&self.plan.candidates);
        let ready = |offer: &Offer| offer.obstacle(now, Urgency::Ready).is_none();
        self.begun < self.plan.retry.max_attempts
            && progress
                .any(|(progress, one)| progress.state == CandidateState::Fresh && ready(&one.offer))
    }

    fn is_too_late(&self, due: Instant) -> bool {
        self.deadline.is_some_and(|deadline| due >= deadline)
    }

    fn backoff(&self, tries: u32, dice: u64) -> Duration {
        self.plan.retry.backoff(tries, dice)
    }
}

/// When to come again where nobody can say better.
const SOON: Duration = Duration::from_secs(1);
/// Room for a provider's name and an outcome.
const HEADER_BYTES: usize = 32;

#[cfg(test)]
mod tests;
