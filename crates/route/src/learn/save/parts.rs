//! How each part of what was learned is written, and read back within its bounds.

use super::{LoadError, Moment, Reader, Writer};
use crate::learn::demand::{
    BILLING, DemandState, INPUT, Level, MEMORY, MOST_NODES, Mean, Node, OUTPUT, TEXT, Table,
};
use crate::learn::explore::ExplorationBudget;
use crate::learn::factor::Factor;
use crate::learn::prefix::{Holder, MOST_HOLDERS};
use crate::learn::profile::{Cache, OfferProfile, Tally};
use crate::learn::typical::Typical;

/// Something that outlives the process.
pub(crate) trait Stored: Sized {
    fn write(&self, to: &mut Writer, moment: Moment);

    /// # Errors
    /// The bytes end early, or hold what was never written.
    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError>;
}

impl Stored for Mean {
    fn write(&self, to: &mut Writer, _: Moment) {
        to.floats(&[self.value, self.count, self.error]);
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        Ok(Self {
            value: from.log()?,
            count: from.amount()?,
            error: from.amount()?,
        })
    }
}

impl Stored for Factor {
    fn write(&self, to: &mut Writer, _: Moment) {
        to.floats(&[self.log, self.knowledge, self.noise, self.drift]);
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        Ok(Self {
            log: from.log()?,
            knowledge: from.amount()?,
            noise: from.amount()?,
            drift: from.log()?,
        })
    }
}

impl Stored for Level {
    fn write(&self, to: &mut Writer, _: Moment) {
        to.floats(&[self.error, self.count]);
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        Ok(Self {
            error: from.amount()?,
            count: from.amount()?,
        })
    }
}

impl Stored for ExplorationBudget {
    fn write(&self, to: &mut Writer, _: Moment) {
        [self.spent, self.explored, self.requests]
            .iter()
            .for_each(|value| to.number(value.to_bits()));
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        let mut amount = || {
            let value = f64::from_bits(from.number()?);
            if value.is_finite() && value >= 0.0 {
                Ok(value)
            } else {
                Err(LoadError::Damaged)
            }
        };
        Ok(Self {
            spent: amount()?,
            explored: amount()?,
            requests: amount()?,
        })
    }
}

impl Stored for Typical {
    fn write(&self, to: &mut Writer, _: Moment) {
        let numbers = self.sums.iter().chain(&self.weights);
        numbers.for_each(|value| to.number(value.to_bits()));
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        let mut numbers = [[0.0; 3]; 2];
        for number in numbers.iter_mut().flatten() {
            *number = f64::from_bits(from.number()?);
            if !number.is_finite() {
                return Err(LoadError::Damaged);
            }
        }
        let [sums, weights] = numbers;
        Ok(Self::of(sums, weights))
    }
}

impl Stored for Node {
    fn write(&self, to: &mut Writer, _: Moment) {
        to.floats(&[self.count[OUTPUT], self.tokens]);
        to.floats(&[self.value[OUTPUT], self.error[OUTPUT]]);
        to.floats(&[self.drift, self.others]);
        to.small(self.server);
        to.small(self.used);
        for lane in [TEXT, BILLING, INPUT] {
            to.floats(&[self.value[lane], self.count[lane], self.error[lane]]);
        }
    }

    fn read(from: &mut Reader<'_>, _: Moment) -> Result<Self, LoadError> {
        let mut node = Self::default();
        node.count[OUTPUT] = from.amount()?.min(MEMORY);
        node.tokens = from.amount()?;
        node.value[OUTPUT] = from.log()?;
        node.error[OUTPUT] = from.amount()?;
        node.drift = from.log()?;
        node.others = from.amount()?.min(1.0);
        node.server = from.small()?;
        node.used = from.small()?;
        for lane in [TEXT, BILLING, INPUT] {
            node.value[lane] = from.log()?;
            node.count[lane] = from.amount()?.min(MEMORY);
            node.error[lane] = from.amount()?;
        }
        Ok(node)
    }
}

impl DemandState {
    /// Writes all but the nodes that were not used for longest, of which `most` stay; `clock` is the shared one.
    ///
    /// When a node was used is written as if the clock of this demand were the shared one, which is what it was
    /// before demands shared one.
    pub(crate) fn write(&self, most: usize, clock: u32, to: &mut Writer, moment: Moment) {
        to.small(self.ticks);
        self.budget.write(to, moment);
        self.typical.write(to, moment);
        self.levels.iter().for_each(|level| level.write(to, moment));
        let mut nodes: Vec<(u64, &Node)> = self.nodes.iter().collect();
        nodes.sort_unstable_by_key(|(key, node)| (node.age(clock), *key));
        nodes.truncate(most);
        to.count(nodes.len());
        for (key, node) in nodes {
            to.number(key);
            let used = self.ticks.wrapping_sub(node.age(clock));
            Node { used, ..*node }.write(to, moment);
        }
    }

    /// Reads what was written; when nodes were used is reckoned as if the shared clock stood at nothing.
    pub(crate) fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        let mut state = Self {
            ticks: from.small()?,
            budget: ExplorationBudget::read(from, moment)?,
            typical: Typical::read(from, moment)?,
            ..Self::default()
        };
        for level in &mut state.levels {
            *level = Level::read(from, moment)?;
        }
        let mut nodes = Table::default();
        for _ in 0..from.count(MOST_NODES)? {
            let key = from.number()?;
            let node = Node::read(from, moment)?;
            *nodes.entry(key) = Node {
                used: node.used.wrapping_sub(state.ticks),
                ..node
            };
        }
        Ok(Self { nodes, ..state })
    }
}

impl Stored for Tally {
    fn write(&self, to: &mut Writer, moment: Moment) {
        to.floats(&[self.good, self.free, self.billed, self.shares]);
        to.small(u32::from(self.at.is_some()));
        to.age(self.at.unwrap_or(moment.now), moment);
    }

    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        let tally = Self {
            good: from.amount()?,
            free: from.amount()?,
            billed: from.amount()?,
            shares: from.amount()?,
            at: None,
        };
        let is_dated = from.small()? > 0;
        let at = from.age(moment)?.filter(|_| is_dated);
        Ok(Self { at, ..tally })
    }
}

impl Stored for Cache {
    fn write(&self, to: &mut Writer, moment: Moment) {
        let hits = self.hits.iter().flatten();
        hits.chain([&self.ambient])
            .for_each(|mean| mean.write(to, moment));
    }

    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        let mut cache = Self::default();
        let hits = cache.hits.iter_mut().flatten();
        for mean in hits.chain([&mut cache.ambient]) {
            *mean = Mean::read(from, moment)?;
        }
        Ok(cache)
    }
}

impl Stored for OfferProfile {
    fn write(&self, to: &mut Writer, moment: Moment) {
        for factor in [&self.text, &self.billing, &self.input] {
            factor.write(to, moment);
        }
        self.tally.write(to, moment);
        self.cache.write(to, moment);
        self.overrun.write(to, moment);
        to.small(self.implausible);
        to.small(self.heard);
    }

    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        Ok(Self {
            text: Factor::read(from, moment)?,
            billing: Factor::read(from, moment)?,
            input: Factor::read(from, moment)?,
            tally: Tally::read(from, moment)?,
            cache: Cache::read(from, moment)?,
            overrun: Mean::read(from, moment)?,
            implausible: from.small()?,
            silent: 0,
            heard: from.small()?,
            trying_until: None,
            reckoned: None,
        })
    }
}

impl Stored for Vec<Holder> {
    fn write(&self, to: &mut Writer, moment: Moment) {
        to.count(self.len());
        for holder in self {
            to.number(holder.offer);
            to.age(holder.at, moment);
        }
    }

    /// Without those that are older than this process can tell.
    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        let mut holders = Self::new();
        for _ in 0..from.count(MOST_HOLDERS)? {
            let offer = from.number()?;
            if let Some(at) = from.age(moment)? {
                holders.push(Holder { offer, at });
            }
        }
        Ok(holders)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::start;

    #[test]
    fn what_no_key_can_have_counted_is_bounded_and_breaks_nothing() {
        let moment = Moment {
            now: start(),
            since: Duration::ZERO,
        };
        let damaged = Node {
            count: [f32::MAX; 4],
            error: [f32::MAX; 4],
            ..Node::default()
        };
        let mut writer = Writer::default();
        damaged.write(&mut writer, moment);
        let bytes = writer.finish();
        let node = Node::read(&mut Reader::new(&bytes), moment).expect("its numbers are numbers");
        assert_eq!(node.count, [MEMORY; 4]);
        let trust = node.trust(&Level::default());
        assert!(trust.iter().all(|trust| trust.is_finite()), "{trust:?}");
    }
}
