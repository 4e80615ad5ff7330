//! Who fails when, and how: pure, so that a seed repeats it.
//!
//! Each provider goes through phases of its own; now and then all that are free to fail do so at the same moment. So
//! that somebody is always up, a guardian reigns: during its reign a provider is up. Reigns overlap by more than the
//! longest time that one request takes to ask everybody and more than a circuit stays open, since a request that asked
//! the new guardian just before it came up, and the old one just after it went down, has met nobody.

use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;

/// How a provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Answers at once.
    Healthy,
    /// Answers late, though in time.
    Slow,
    /// Takes no connection, and has cut those it had.
    Refused,
    /// Resets each connection once it has read a request.
    Reset,
    /// 500.
    Failing,
    /// 503 with `Retry-After`.
    Busy,
    /// 429 with `Retry-After`.
    Throttled,
    /// Says nothing, or a head and a comment and then nothing.
    Silent,
    /// Begins well and breaks off.
    Broken,
    /// An error with the status 200.
    ErrorFirst,
    /// 200 and nothing more.
    Empty,
}

/// What binds all providers.
#[derive(Debug)]
pub(crate) struct Calendar {
    reigns: Vec<Reign>,
    /// When all go down who do not reign.
    blows: Vec<Duration>,
}

#[derive(Debug)]
struct Reign {
    provider: usize,
    from: Duration,
    to: Duration,
}

/// The phases of one provider, each with its beginning.
#[derive(Debug)]
pub(crate) struct Course {
    provider: usize,
    calendar: Arc<Calendar>,
    dice: Dice,
    at: Duration,
}

impl Phase {
    /// Whether requests are answered as they should be.
    pub(crate) fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::Slow)
    }

    fn draw(dice: &mut Dice, up: bool) -> Self {
        if up {
            return if dice.chance(75) {
                Self::Healthy
            } else {
                Self::Slow
            };
        }
        let place = dice.below(FAULTS.len() as u64);
        usize::try_from(place).map_or(Self::Failing, |place| FAULTS[place])
    }
}

impl Calendar {
    /// Reigns and blows for a run that lasts up to an hour.
    pub(crate) fn new(seed: u64, providers: usize) -> Self {
        let mut dice = Dice::new(seed, 1);
        let mut reigns: Vec<Reign> = Vec::new();
        let mut from = Duration::ZERO;
        let mut provider = 0;
        while from < HORIZON {
            let next = from + dice.millis(10_000, 14_000);
            reigns.push(Reign {
                provider,
                from,
                to: next + OVERLAP,
            });
            // Another one: a step of 1 to providers - 1.
            let step = dice.below(providers as u64 - 1) + 1;
            provider = (provider + usize::try_from(step).unwrap_or(1)) % providers;
            from = next;
        }
        let mut blows = Vec::new();
        let mut at = Duration::ZERO;
        while at < HORIZON {
            at += dice.millis(2_500, 6_000);
            blows.push(at);
        }
        Self { reigns, blows }
    }

    /// When the reign of `provider` that covers `at` ends.
    fn end(&self, provider: usize, at: Duration) -> Option<Duration> {
        let of = self
            .reigns
            .iter()
            .filter(|reign| reign.provider == provider);
        of.filter(|reign| reign.from <= at && at < reign.to)
            .map(|reign| reign.to)
            .max()
    }

    /// When something next begins that the free `provider` has to follow.
    fn next(&self, provider: usize, at: Duration) -> Option<Duration> {
        let of = self
            .reigns
            .iter()
            .filter(|reign| reign.provider == provider);
        let reigns = of.map(|reign| reign.from);
        let all = reigns.chain(self.blows.iter().copied());
        all.filter(|begins| *begins > at).min()
    }
}

impl Course {
    pub(crate) fn new(provider: usize, seed: u64, calendar: Arc<Calendar>) -> Self {
        Self {
            provider,
            calendar,
            dice: Dice::new(seed, 100 + provider as u64),
            at: Duration::ZERO,
        }
    }
}

impl Iterator for Course {
    type Item = (Duration, Phase);

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.at;
        let reign = self.calendar.end(self.provider, from);
        let is_blow = self.calendar.blows.contains(&from);
        let is_up = reign.is_some() || (!is_blow && self.dice.chance(30));
        let phase = Phase::draw(&mut self.dice, is_up);
        let to = from + self.dice.millis(300, 2_500);
        let bound = reign.or_else(|| self.calendar.next(self.provider, from));
        self.at = bound.map_or(to, |bound| bound.min(to));
        Some((from, phase))
    }
}

const FAULTS: [Phase; 9] = [
    Phase::Refused,
    Phase::Reset,
    Phase::Failing,
    Phase::Busy,
    Phase::Throttled,
    Phase::Silent,
    Phase::Broken,
    Phase::ErrorFirst,
    Phase::Empty,
];
const HORIZON: Duration = Duration::from_secs(3600);
/// Four providers that are silent until a timeout of 2 s, and a second for everything else.
const OVERLAP: Duration = Duration::from_secs(9);
