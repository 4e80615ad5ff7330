//! What experience says of requests and of those who serve them.
//!
//! A bill is taken apart into what the *request* caused and what its *server* added. [`demand`] holds the first: the
//! tokens that requests of a kind take, whoever serves them. [`profile`] holds the second: how many more tokens an offer
//! bills for the same, how often it fails, how well its cache works. Both learn from the same answers, each from what
//! the other leaves unexplained, in logarithms, where such effects add up. [`prefix`] knows who has seen which
//! conversation, [`typical`] what an offer adds of which nothing is known, [`explore`] what it is worth to find out more,
//! [`shared`] what is true of all models' requests.

pub(crate) mod demand;
pub(crate) mod explore;
pub(crate) mod factor;
pub(crate) mod prefix;
pub(crate) mod profile;
pub(crate) mod save;
pub(crate) mod shared;
pub(crate) mod typical;

/// A number that fades, or zero once next to nothing is left of it. By multiplication it would never get there, and
/// reckoning with numbers that small (subnormal, IEEE 754) takes many times as long, for ever.
pub(crate) const fn faded(number: f32) -> f32 {
    if number.abs() < NEXT_TO_NOTHING {
        0.0
    } else {
        number
    }
}

/// Far below whatever makes a difference, while its square is still above the subnormal numbers.
const NEXT_TO_NOTHING: f32 = 1e-18;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::time::Duration;

    use super::demand::{Clue, Evidence, Level, Mean, Node};
    use super::factor::{Factor, Prior};
    use super::profile::Tally;
    use crate::latency::Latency;
    use crate::testing::start;

    /// The numbers in what `learned` shows of itself that are next to nothing and not nothing.
    fn subnormal(learned: &impl Debug) -> Vec<f32> {
        let shown = format!("{learned:?}");
        let words = shown.split(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let numbers = words.filter_map(|word| word.parse::<f32>().ok());
        numbers.filter(|number| number.is_subnormal()).collect()
    }

    #[test]
    fn what_fades_does_not_stop_short_of_nothing() {
        const PRIOR: Prior = Prior {
            spread: 0.1,
            noise: 0.5,
        };
        let (mut node, mut level) = (Node::default(), Level::default());
        let (mut mean, mut factor) = (Mean::default(), Factor::default());
        let (mut tally, mut latency) = (Tally::default(), Latency::new());
        let mut now = start();
        tally.fail(0.0, now);
        tally.fail(0.5, now);
        // Something else first, and then the same for ever.
        for answer in 0..60_000_u32 {
            let value = if answer == 0 { 1.0 } else { 0.0 };
            let trust = node.trust(&level);
            node.note_server(u32::from(answer == 0));
            node.learn(
                &Evidence::of([Some(Clue::sure(value)); 4]),
                &trust,
                &mut level,
            );
            mean.learn(Some(Clue::sure(value)), 1.0);
            factor.learn(value, PRIOR.noise, &PRIOR);
            now += Duration::from_millis(1);
            tally.succeed(now);
            latency.record(Duration::from_secs_f32(0.1 + value));
            if answer % 100 == 0 {
                let all = (node, level, mean, factor, tally, &latency);
                assert_eq!(subnormal(&all), [0.0; 0], "after {answer}: {all:?}");
            }
        }
        assert!(subnormal(&1e-40_f32).len() == 1 && subnormal(&(1e-20_f32, 0.0)).is_empty());
    }
}
