//! Tokens and costs as a provider reports them.
//!
//! A number is kept only when it is a sane count: a whole number from 0 to 2^40. Anything else
//! leaves its field `None` and sets [`Usage::insane`], so that no cost is computed from a lie.

use crate::json::{self, Cursor, JsonError, Kind};

/// The largest count that is believed.
pub const MAX_COUNT: u64 = 1 << 40;

/// The usage object of an answer, reduced to what is billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// All input tokens (`prompt_tokens`), cached ones included.
    pub input: Option<u64>,
    /// All output tokens (`completion_tokens`), reasoning ones included.
    pub output: Option<u64>,
    /// Those of `input` that came from the provider's prefix cache.
    pub cached_input: Option<u64>,
    /// Those of `output` that were spent on reasoning. Some providers count a few more of them than of `output`; no
    /// rate hangs on this number, so that is let be.
    pub reasoning: Option<u64>,
    /// Some reported count was negative, fractional, a string or over 2^40, or more input was cached than there was.
    pub insane: bool,
    /// The provider counted units that no rate covers: cache writes, audio, images, searches.
    pub uncovered: bool,
    /// What the provider says it charged, if it says so.
    pub reported_cost: Option<ReportedCost>,
}

/// A cost stated by the provider itself, to the nearest unit of what it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportedCost {
    /// In sats, as whole nanosats (1 sat = 1,000,000,000).
    Nanosats(u64),
    /// In US dollars, as whole nanodollars.
    Nanodollars(u64),
}

impl ReportedCost {
    /// The value of an `x-routstr-cost-msats` header: a decimal number of millisats.
    pub fn from_msats_header(value: &str) -> Option<Self> {
        let value = value.trim();
        json::check(value.as_bytes()).ok()?;
        matches!(json::kind_of(value.as_bytes(), 0), Some(Kind::Number))
            .then(|| Self::of_msats(value.as_bytes()))
            .flatten()
    }

    /// Millisats as a JSON number.
    pub(crate) fn of_msats(raw: &[u8]) -> Option<Self> {
        json::rounded_units(raw, 6).map(Self::Nanosats)
    }

    fn of_sats(raw: &[u8]) -> Option<Self> {
        json::rounded_units(raw, 9).map(Self::Nanosats)
    }

    fn of_dollars(raw: &[u8]) -> Option<Self> {
        json::rounded_units(raw, 9).map(Self::Nanodollars)
    }
}

impl Usage {
    /// Reads a usage object from its bytes; `None` when it is none, or reports nothing that is known.
    pub fn read(value: &[u8]) -> Option<Self> {
        Self::read_at(&mut Cursor::new(value)).ok()?
    }

    /// The same of the object that stands at `cursor`, which passes it.
    pub(crate) fn read_at(cursor: &mut Cursor<'_>) -> Result<Option<Self>, JsonError> {
        let mut report = Report::default();
        report.read(cursor)?;
        Ok(report.finish())
    }

    /// The same with a cost that the provider stated elsewhere, unless the usage has one.
    #[must_use]
    pub fn or_reported_cost(self, cost: Option<ReportedCost>) -> Self {
        Self {
            reported_cost: self.reported_cost.or(cost),
            ..self
        }
    }
}

/// What details are of.
#[derive(Debug, Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// A usage object as it is being read.
#[derive(Debug, Default)]
struct Report {
    usage: Usage,
    /// Some count or cost was there at all.
    any: bool,
    /// The cached part where `*_tokens_details` does not name it.
    cached_elsewhere: Option<u64>,
    /// Anthropic's count of cache reads, which some add to the input and some do not.
    cache_reads: Option<u64>,
    dollars: Option<ReportedCost>,
    sats: Option<ReportedCost>,
    msats: Option<ReportedCost>,
}

impl Report {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match &*key.name() {
                b"prompt_tokens" | b"input_tokens" => {
                    self.usage.input = self.count(cursor)?.or(self.usage.input)
                }
                b"completion_tokens" | b"output_tokens" => {
                    self.usage.output = self.count(cursor)?.or(self.usage.output)
                }
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    self.details(cursor, Side::Input)?
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    self.details(cursor, Side::Output)?
                }
                b"prompt_cache_hit_tokens" | b"cached_tokens" | b"num_cached_tokens" => {
                    self.cached_elsewhere = self.count(cursor)?
                }
                b"cache_read_input_tokens" => self.cache_reads = self.count(cursor)?,
                b"reasoning_tokens" => {
                    self.usage.reasoning = self.count(cursor)?.or(self.usage.reasoning)
                }
                b"server_tool_use" | b"server_tool_use_details" => self.tool_use(cursor)?,
                b"cost" => self.cost(cursor)?,
                b"cost_sats" => self.sats = number(cursor)?.and_then(ReportedCost::of_sats),
                name => self.uncovered_or_unknown(name, cursor)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Option<Usage> {
        let mut usage = self.usage;
        usage.cached_input = usage.cached_input.or(self.cached_elsewhere);
        usage.uncovered |=
            usage.cached_input.is_none() && self.cache_reads.is_some_and(|reads| reads > 0);
        usage.reported_cost = self.msats.or(self.sats).or(self.dollars);
        if let (Some(cached), Some(input)) = (usage.cached_input, usage.input)
            && cached > input
        {
            usage.cached_input = None;
            usage.insane = true;
        }
        (self.any || usage.reported_cost.is_some()).then_some(usage)
    }

    /// What some tokens of one side were; what belongs to the other side says nothing here.
    fn details(&mut self, cursor: &mut Cursor<'_>, side: Side) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Object {
            return cursor.pass();
        }
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match (&*key.name(), side) {
                (b"cached_tokens", Side::Input) => {
                    self.usage.cached_input = self.count(cursor)?.or(self.usage.cached_input)
                }
                (b"reasoning_tokens", Side::Output) => {
                    self.usage.reasoning = self.count(cursor)?.or(self.usage.reasoning)
                }
                (name, _) => self.uncovered_or_unknown(name, cursor)?,
            }
        }
        Ok(())
    }

    fn uncovered_or_unknown(
        &mut self,
        name: &[u8],
        cursor: &mut Cursor<'_>,
    ) -> Result<(), JsonError> {
        match name {
            b"audio_tokens"
            | b"image_tokens"
            | b"video_tokens"
            | b"cache_write_tokens"
            | b"cache_creation_tokens" => self.uncovered(cursor),
            b"cache_creation_input_tokens" | b"prompt_audio_seconds" | b"num_search_queries" => {
                self.uncovered(cursor)
            }
            _ => cursor.pass(),
        }
    }

    /// A unit without a rate: any number but zero counts.
    fn uncovered(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        self.usage.uncovered |=
            number(cursor)?.is_some_and(|raw| json::whole_number(raw) != Some(0));
        Ok(())
    }

    fn tool_use(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Object {
            return cursor.pass();
        }
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            if key.is("web_search_requests") {
                self.uncovered(cursor)?;
            } else {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    /// A number of dollars, or an object that breaks the cost down.
    fn cost(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Object {
            self.dollars = number(cursor)?.and_then(ReportedCost::of_dollars);
            return Ok(());
        }
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match &*key.name() {
                b"total_msats" => self.msats = number(cursor)?.and_then(ReportedCost::of_msats),
                b"total_cost" => self.dollars = number(cursor)?.and_then(ReportedCost::of_dollars),
                _ => cursor.pass()?,
            }
        }
        Ok(())
    }

    /// A count, unless it is `null`; one that is not sane is remembered as such.
    fn count(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, JsonError> {
        let kind = cursor.peek()?;
        let span = cursor.skip()?;
        if kind == Kind::Null {
            return Ok(None);
        }
        self.any = true;
        let count = if kind == Kind::Number {
            json::whole_number(cursor.slice(span))
        } else {
            None
        };
        let sane = count.filter(|count| *count <= MAX_COUNT);
        self.usage.insane |= sane.is_none();
        Ok(sane)
    }
}

/// The bytes of the value here if it is a number; passed over in any case.
fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, JsonError> {
    let kind = cursor.peek()?;
    let span = cursor.skip()?;
    Ok((kind == Kind::Number).then(|| cursor.slice(span)))
}

#[cfg(test)]
mod tests;
