//! When to stop asking a provider that keeps failing, and how to notice that it is back.
//!
//! ```text
//!            failures in a row                 a pass is taken (due, or nobody else can serve)
//!  Closed ────────────────────▶ Open { due } ─────────────────────────▶ HalfOpen
//!    ▲                            ▲   ▲                                  │  │  │
//!    │                            │   └────── the probe fails ───────────┘  │  │
//!    │                            └───── the probe comes back unused ───────┘  │
//!    └────────────────────────── a success ────────────────────────────────────┘
//! ```
//!
//! A sole provider is asked all the same; its success closes a circuit in any state.
//! Half-open *is* the probe being out: whoever holds the probing [`Pass`] must bring it back, and dropping a permit
//! does. Each change to closed or open starts a new generation; what an attempt of an earlier generation has to tell
//! is out of date and is ignored, so that a slow stream from before the trouble neither opens nor closes anything.

use std::time::{Duration, Instant};

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Failures in a row that open it; 0 counts as 1.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open_for: Duration,
}

/// How a circuit stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests pass.
    Closed,
    /// Requests are kept away.
    Open {
        /// Until a probe is due; zero when it is.
        due_in: Duration,
    },
    /// One probe is out.
    HalfOpen,
}

impl CircuitState {
    /// Whether the next request passes, as a probe perhaps.
    #[must_use]
    pub fn lets_pass(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Open { due_in } => due_in.is_zero(),
            Self::HalfOpen => false,
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Requests are kept away from now on.
    Opened,
    /// A probe went out.
    Probing,
    /// The probe came back without news.
    Returned,
    /// Requests pass again.
    Closed,
}

/// How urgently an attempt wants to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Others can serve: only a closed circuit, or a probe that is due.
    Ready,
    /// The same candidate once more: as `Ready`, though it may be cooling down.
    Again,
    /// Nobody else can serve: a probe before its time.
    Desperate,
    /// There is nobody else: never refused.
    Sole,
}

/// How much of an answer was good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It began well; a stream may still break.
    Begun,
    /// All of it.
    Whole,
}

/// Leave to attempt, to be settled by exactly one of the circuit's `on_*` events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    generation: u64,
    probe: bool,
}

impl Pass {
    /// Whether this is the one probe of a half-open circuit.
    pub(crate) const fn is_probe(self) -> bool {
        self.probe
    }
}

/// The circuit of one thing that can fail.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { due: Instant },
    HalfOpen { due: Instant },
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures: 3,
            open_for: Duration::from_secs(30),
        }
    }
}

impl Circuit {
    /// A closed one.
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            generation: 0,
        }
    }

    /// Whether an attempt may pass; changes nothing.
    pub(crate) fn refuses(&self, now: Instant, urgency: Urgency) -> Option<CircuitState> {
        let refused = match (self.state, urgency) {
            (State::Closed { .. }, _) | (_, Urgency::Sole) => false,
            (State::Open { due }, Urgency::Ready | Urgency::Again) => now < due,
            (State::Open { .. }, Urgency::Desperate) => false,
            (State::HalfOpen { .. }, _) => true,
        };
        refused.then(|| self.state(now))
    }

    /// Lets an attempt pass that [`Circuit::refuses`] does not refuse; an open circuit hands out its probe. Who is never
    /// refused takes none before it is due, or a sole provider that is down would open and half open at every attempt.
    pub(crate) fn enter(&mut self, now: Instant, urgency: Urgency) -> (Pass, Option<Transition>) {
        let (probe, transition) = match self.state {
            State::Open { due } if urgency != Urgency::Sole || now >= due => {
                self.state = State::HalfOpen { due };
                (true, Some(Transition::Probing))
            }
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => (false, None),
        };
        let generation = self.generation;
        (Pass { generation, probe }, transition)
    }

    /// The attempt did well. After a mere beginning a circuit that was open keeps one failure in hand, so that a
    /// stream that breaks later opens it again at once.
    pub(crate) fn on_success(
        &mut self,
        pass: &mut Pass,
        proof: Proof,
        settings: &CircuitSettings,
    ) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        match (self.state, proof) {
            (State::Closed { .. }, Proof::Begun) => None,
            (State::Closed { .. }, Proof::Whole) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Open { .. } | State::HalfOpen { .. }, _) => {
                let failures = match proof {
                    Proof::Begun => settings.failures.saturating_sub(1),
                    Proof::Whole => 0,
                };
                self.move_to(State::Closed { failures });
                *pass = Pass {
                    generation: self.generation,
                    probe: false,
                };
                Some(Transition::Closed)
            }
        }
    }

    /// The attempt failed in a way that counts here.
    pub(crate) fn on_failure(
        &mut self,
        pass: &mut Pass,
        now: Instant,
        settings: &CircuitSettings,
    ) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        let due = now.checked_add(settings.open_for).unwrap_or(now);
        match self.state {
            State::Closed { failures } if failures.saturating_add(1) < settings.failures => {
                self.state = State::Closed {
                    failures: failures + 1,
                };
                None
            }
            State::Closed { .. } => {
                self.move_to(State::Open { due });
                Some(Transition::Opened)
            }
            State::HalfOpen { .. } if pass.probe => {
                pass.probe = false;
                self.move_to(State::Open { due });
                Some(Transition::Opened)
            }
            // An attempt that was let through beside the probe: the probe decides.
            State::HalfOpen { .. } | State::Open { .. } => None,
        }
    }

    /// The attempt ended without saying anything about this circuit.
    pub(crate) fn on_return(&mut self, pass: &mut Pass) -> Option<Transition> {
        if !std::mem::take(&mut pass.probe) || pass.generation != self.generation {
            return None;
        }
        match self.state {
            State::HalfOpen { due } => {
                self.state = State::Open { due };
                Some(Transition::Returned)
            }
            State::Closed { .. } | State::Open { .. } => None,
        }
    }

    /// How it stands at `now`.
    pub(crate) fn state(&self, now: Instant) -> CircuitState {
        match self.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { due } => CircuitState::Open {
                due_in: due.saturating_duration_since(now),
            },
            State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    fn move_to(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: CircuitSettings = CircuitSettings {
        failures: 3,
        open_for: Duration::from_secs(30),
    };

    #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
    fn start() -> Instant {
        Instant::now()
    }

    fn fail(circuit: &mut Circuit, now: Instant) -> Option<Transition> {
        let (mut pass, _) = circuit.enter(now, Urgency::Desperate);
        circuit.on_failure(&mut pass, now, &SETTINGS)
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::new();
        let transitions = [1, 2, 3].map(|_| fail(&mut circuit, now));
        assert_eq!(transitions, [None, None, Some(Transition::Opened)]);
        circuit
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let now = start();
        let mut circuit = Circuit::new();
        for _ in 0..5 {
            fail(&mut circuit, now);
            fail(&mut circuit, now);
            let (mut pass, _) = circuit.enter(now, Urgency::Desperate);
            circuit.on_success(&mut pass, Proof::Whole, &SETTINGS);
            assert_eq!(circuit.state(now), CircuitState::Closed);
        }
        let circuit = opened(now);
        let due_in = Duration::from_secs(30);
        assert_eq!(circuit.state(now), CircuitState::Open { due_in });
    }

    #[test]
    fn refuses_by_how_urgent_the_attempt_is() {
        let now = start();
        let due = now + SETTINGS.open_for;
        let open = opened(now);
        let mut half = opened(now);
        half.enter(now, Urgency::Desperate);
        let cases = [
            (Urgency::Ready, true, false, true),
            (Urgency::Again, true, false, true),
            (Urgency::Desperate, false, false, true),
            (Urgency::Sole, false, false, false),
        ];
        for (urgency, early, when_due, probing) in cases {
            assert_eq!(open.refuses(now, urgency).is_some(), early, "{urgency:?}");
            assert_eq!(
                open.refuses(due, urgency).is_some(),
                when_due,
                "{urgency:?}"
            );
            assert_eq!(half.refuses(due, urgency).is_some(), probing, "{urgency:?}");
            assert_eq!(Circuit::new().refuses(now, urgency), None);
        }
    }

    #[test]
    fn a_stream_that_breaks_after_the_probe_began_opens_it_again() {
        let now = start();
        let mut circuit = opened(now);
        let (mut pass, transition) = circuit.enter(now, Urgency::Desperate);
        assert_eq!(transition, Some(Transition::Probing));
        let transition = circuit.on_success(&mut pass, Proof::Begun, &SETTINGS);
        assert_eq!(transition, Some(Transition::Closed));
        let transition = circuit.on_failure(&mut pass, now, &SETTINGS);
        assert_eq!(transition, Some(Transition::Opened));
    }

    #[test]
    fn a_probe_that_comes_back_unused_is_there_for_the_next() {
        let now = start();
        let mut circuit = opened(now);
        let (mut pass, _) = circuit.enter(now, Urgency::Desperate);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        assert_eq!(circuit.on_return(&mut pass), Some(Transition::Returned));
        assert_eq!(circuit.on_return(&mut pass), None);
        assert!(circuit.enter(now, Urgency::Desperate).0.probe);
    }

    #[test]
    fn a_sole_provider_passes_an_open_circuit_without_changing_it() {
        let now = start();
        let due = now + SETTINGS.open_for;
        let mut circuit = opened(now);
        let (mut pass, transition) = circuit.enter(now, Urgency::Sole);
        assert_eq!((pass.probe, transition), (false, None));
        assert_eq!(circuit.on_failure(&mut pass, now, &SETTINGS), None);
        assert_eq!(
            circuit.enter(due, Urgency::Sole).1,
            Some(Transition::Probing)
        );
        let mut circuit = opened(now);
        let (mut pass, _) = circuit.enter(now, Urgency::Sole);
        let transition = circuit.on_success(&mut pass, Proof::Whole, &SETTINGS);
        assert_eq!(transition, Some(Transition::Closed));
    }

    #[test]
    fn news_from_before_the_change_is_ignored() {
        let now = start();
        let mut circuit = Circuit::new();
        let (mut stale, _) = circuit.enter(now, Urgency::Desperate);
        for _ in 0..3 {
            fail(&mut circuit, now);
        }
        let transition = circuit.on_success(&mut stale, Proof::Whole, &SETTINGS);
        assert_eq!(transition, None);
        assert_ne!(circuit.state(now), CircuitState::Closed);
        assert_eq!(circuit.on_failure(&mut stale, now, &SETTINGS), None);
    }

    #[test]
    fn beside_the_probe_a_success_closes_and_a_failure_decides_nothing() {
        let now = start();
        let mut circuit = opened(now);
        let (mut probe, _) = circuit.enter(now, Urgency::Desperate);
        let (mut beside, transition) = circuit.enter(now, Urgency::Desperate);
        assert_eq!((beside.probe, transition), (false, None));
        assert_eq!(circuit.on_failure(&mut beside, now, &SETTINGS), None);
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);
        let transition = circuit.on_success(&mut beside, Proof::Whole, &SETTINGS);
        assert_eq!(transition, Some(Transition::Closed));
        assert_eq!(circuit.on_failure(&mut probe, now, &SETTINGS), None);
        assert_eq!(circuit.state(now), CircuitState::Closed);
    }

    proptest! {
        /// Passes are taken and settled in any order; whatever happens, once all are settled a probe is to be had.
        #[test]
        fn no_sequence_of_events_loses_the_probe(events in prop::collection::vec((0..6_u8, 0..4_usize), 0..200)) {
            let mut now = start();
            let mut circuit = Circuit::new();
            let mut out: Vec<Pass> = Vec::new();
            for (event, which) in events {
                now += Duration::from_secs(which as u64 * 10);
                let urgency = [Urgency::Ready, Urgency::Again, Urgency::Desperate, Urgency::Sole][which];
                if event == 0 && circuit.refuses(now, urgency).is_none() {
                    out.push(circuit.enter(now, urgency).0);
                }
                if which < out.len() && event > 0 {
                    let mut pass = out.swap_remove(which);
                    match event {
                        1 | 2 => drop(circuit.on_failure(&mut pass, now, &SETTINGS)),
                        3 => drop(circuit.on_success(&mut pass, Proof::Whole, &SETTINGS)),
                        4 => {
                            circuit.on_success(&mut pass, Proof::Begun, &SETTINGS);
                            out.push(pass);
                            continue;
                        }
                        _ => {}
                    }
                    circuit.on_return(&mut pass);
                }
                let current = out.iter().filter(|p| p.probe && p.generation == circuit.generation).count();
                prop_assert_eq!(current, usize::from(matches!(circuit.state, State::HalfOpen { .. })));
            }
            for pass in &mut out {
                circuit.on_return(pass);
            }
            prop_assert_ne!(circuit.state(now), CircuitState::HalfOpen);
            prop_assert!(circuit.refuses(now + SETTINGS.open_for, Urgency::Ready).is_none());
        }
    }
}
