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
    /// All output tokens (`completion_tokens`), reasoning ones included, also where the provider counts those beside them.
    pub output: Option<u64>,
    /// Those of `input` that came from the provider's prefix cache.
    pub cached_input: Option<u64>,
    /// Those of `output` that were spent on reasoning. Some providers count a few more of them than of `output`; no
    /// rate hangs on this number, so that is let be.
    pub reasoning: Option<u64>,
    /// Some reported count was negative, fractional, a string or over 2^40, or more input was cached than there was.
    pub insane: bool,
    /// The provider counted units that no rate covers: cache writes, audio, images, searches, sources, tokens that are in
    /// its total and nowhere else; or it served at a tier that costs more or less than the usual one.
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

    /// xAI's ticks, of which a dollar has 10^10.
    fn of_ticks(raw: &[u8]) -> Option<Self> {
        json::rounded_units(raw, -1).map(Self::Nanodollars)
    }

    fn of_dollars(raw: &[u8]) -> Option<Self> {
        json::rounded_units(raw, 9).map(Self::Nanodollars)
    }
}

impl Usage {
    /// Reads a usage object from its bytes; `None` when it is none, or reports nothing that is known.
    pub fn read(value: &[u8]) -> Option<Self> {
        Self::read_at(&mut Cursor::new(value)).ok()?.0
    }

    /// The same of the object that stands at `cursor`, which passes it; and its `total_tokens`, by themselves no usage.
    pub(crate) fn read_at(
        cursor: &mut Cursor<'_>,
    ) -> Result<(Option<Self>, Option<u64>), JsonError> {
        let mut report = Report::default();
        report.read(cursor)?;
        let total = report.total;
        Ok((report.finish(), total))
    }

    /// The same with a cost that the provider stated elsewhere, unless the usage has one.
    #[must_use]
    pub fn or_reported_cost(self, cost: Option<ReportedCost>) -> Self {
        Self {
            reported_cost: self.reported_cost.or(cost),
            ..self
        }
    }

    /// Holds the counts against their total. xAI and others count reasoning beside the output, and bill both; tokens that
    /// are in nothing but the total, as Gemini's thoughts are, may be of either side.
    fn hold_against(&mut self, total: u64) {
        let (Some(input), Some(output)) = (self.input, self.output) else {
            return;
        };
        let reasoning = self.reasoning.unwrap_or(0);
        if total == input + output + reasoning {
            self.output = Some(output + reasoning);
        } else if total > input + output {
            self.uncovered = true;
        }
    }
}

/// What details are of.
#[derive(Debug, Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// Under whose name a count stands. Some providers give one usage under several, and zeros under those they do not mean.
#[derive(Debug, Clone, Copy)]
enum Dialect {
    /// The chat completions API: `prompt_tokens`, `completion_tokens`.
    Chat,
    /// The responses API and Anthropic's: `input_tokens`, `output_tokens`.
    Responses,
    /// A provider's own.
    Other,
}

/// One count under each name.
#[derive(Debug, Default)]
struct Count([Option<u64>; 3]);

impl Count {
    /// The first that is not 0, and 0 if all are.
    fn known(&self) -> Option<u64> {
        let counts = || self.0.iter().copied().flatten();
        counts()
            .find(|count| *count > 0)
            .or_else(|| counts().next())
    }
}

/// A usage object as it is being read.
#[derive(Debug, Default)]
struct Report {
    usage: Usage,
    /// Some count or cost was there at all.
    any: bool,
    input: Count,
    output: Count,
    cached: Count,
    reasoning: Count,
    total: Option<u64>,
    /// Anthropic's count of cache reads, which some add to the input and some do not.
    cache_reads: Option<u64>,
    dollars: Option<ReportedCost>,
    sats: Option<ReportedCost>,
    msats: Option<ReportedCost>,
}

impl Report {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        use Dialect::{Chat, Other, Responses};
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match &*key.name() {
                b"prompt_tokens" => self.note(cursor, Chat, |all| &mut all.input)?,
                b"input_tokens" => self.note(cursor, Responses, |all| &mut all.input)?,
                b"completion_tokens" => self.note(cursor, Chat, |all| &mut all.output)?,
                b"output_tokens" => self.note(cursor, Responses, |all| &mut all.output)?,
                b"total_tokens" => {
                    let total = number(cursor)?.and_then(json::whole_number);
                    self.total = total.filter(|total| *total <= MAX_COUNT);
                }
                b"prompt_tokens_details" => self.details(cursor, Side::Input, Chat)?,
                b"input_tokens_details" => self.details(cursor, Side::Input, Responses)?,
                b"completion_tokens_details" => self.details(cursor, Side::Output, Chat)?,
                b"output_tokens_details" => self.details(cursor, Side::Output, Responses)?,
                b"prompt_cache_hit_tokens" | b"cached_tokens" | b"num_cached_tokens" => {
                    self.note(cursor, Other, |all| &mut all.cached)?
                }
                b"cache_read_input_tokens" => self.cache_reads = self.count(cursor)?,
                b"reasoning_tokens" => self.note(cursor, Other, |all| &mut all.reasoning)?,
                b"server_tool_use" | b"server_tool_use_details" => self.tool_use(cursor)?,
                b"cost" => self.cost(cursor)?,
                b"cost_in_usd_ticks" => {
                    self.dollars = number(cursor)?.and_then(ReportedCost::of_ticks)
                }
                b"cost_sats" => self.sats = number(cursor)?.and_then(ReportedCost::of_sats),
                name => self.uncovered_or_unknown(name, cursor)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Option<Usage> {
        let mut usage = Usage {
            input: self.input.known(),
            output: self.output.known(),
            cached_input: self.cached.known(),
            reasoning: self.reasoning.known(),
            reported_cost: self.msats.or(self.sats).or(self.dollars),
            ..self.usage
        };
        usage.uncovered |=
            usage.cached_input.is_none() && self.cache_reads.is_some_and(|reads| reads > 0);
        if let (Some(cached), Some(input)) = (usage.cached_input, usage.input)
            && cached > input
        {
            usage.cached_input = None;
            usage.insane = true;
        }
        if let Some(total) = self.total {
            usage.hold_against(total);
        }
        (self.any || usage.reported_cost.is_some()).then_some(usage)
    }

    /// What some tokens of one side were; what belongs to the other side says nothing here.
    fn details(
        &mut self,
        cursor: &mut Cursor<'_>,
        side: Side,
        dialect: Dialect,
    ) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Object {
            return cursor.pass();
        }
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match (&*key.name(), side) {
                (b"cached_tokens", Side::Input) => {
                    self.note(cursor, dialect, |all| &mut all.cached)?
                }
                (b"reasoning_tokens", Side::Output) => {
                    self.note(cursor, dialect, |all| &mut all.reasoning)?
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
            | b"cache_creation_tokens"
            | b"cache_creation_input_tokens"
            | b"claude_cache_creation_5_m_tokens"
            | b"claude_cache_creation_1_h_tokens"
            | b"prompt_audio_seconds"
            | b"num_search_queries"
            | b"num_sources_used"
            | b"citation_tokens" => self.uncovered(cursor),
            b"service_tier" => {
                self.usage.uncovered |= is_other_tier(cursor)?;
                Ok(())
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

    /// Notes a count under one of its names; `null` is none.
    fn note(
        &mut self,
        cursor: &mut Cursor<'_>,
        dialect: Dialect,
        of: impl Fn(&mut Self) -> &mut Count,
    ) -> Result<(), JsonError> {
        if let Some(count) = self.count(cursor)? {
            of(self).0[dialect as usize] = Some(count);
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

/// Whether the `service_tier` here is one with prices of its own, as OpenAI's `priority` and `flex` are.
pub(crate) fn is_other_tier(cursor: &mut Cursor<'_>) -> Result<bool, JsonError> {
    let kind = cursor.peek()?;
    let span = cursor.skip()?;
    let usual: [&[u8]; 5] = [
        b"\"default\"",
        b"\"auto\"",
        b"\"standard\"",
        b"\"on_demand\"",
        b"\"\"",
    ];
    Ok(kind == Kind::String && !usual.contains(&cursor.slice(span)))
}

/// The bytes of the value here if it is a number; passed over in any case.
fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, JsonError> {
    let kind = cursor.peek()?;
    let span = cursor.skip()?;
    Ok((kind == Kind::Number).then(|| cursor.slice(span)))
}

#[cfg(test)]
mod tests;
