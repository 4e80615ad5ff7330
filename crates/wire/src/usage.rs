//! Tokens and costs as a provider reports them.
//!
//! A number is kept only when it is a sane count (SPEC section 8): a whole number from 0 to 2^40. Anything else
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
        let mut report = Report::default();
        report.read(&mut Cursor::new(value)).ok()?;
        report.finish()
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
                b"prompt_tokens_details" | b"input_tokens_details" => self.details(cursor)?,
                b"completion_tokens_details" | b"output_tokens_details" => self.details(cursor)?,
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

    /// `prompt_tokens_details` and `completion_tokens_details`; their members do not overlap.
    fn details(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        if cursor.peek()? != Kind::Object {
            return cursor.pass();
        }
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            match &*key.name() {
                b"cached_tokens" => self.usage.cached_input = self.count(cursor)?,
                b"reasoning_tokens" => self.usage.reasoning = self.count(cursor)?,
                name => self.uncovered_or_unknown(name, cursor)?,
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
mod tests {
    use super::*;

    /// input, output, cached, reasoning
    type Tokens = [Option<u64>; 4];

    fn read(text: &str) -> Usage {
        Usage::read(text.as_bytes()).expect(text)
    }

    fn tokens(usage: &Usage) -> Tokens {
        [
            usage.input,
            usage.output,
            usage.cached_input,
            usage.reasoning,
        ]
    }

    #[test]
    fn reads_the_tokens_of_every_dialect() {
        let cases: [(&str, Tokens); 9] = [
            (
                r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#,
                [Some(3), Some(5), None, None],
            ),
            (
                r#"{"completion_tokens":50,"prompt_tokens":10,"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":40}}"#,
                [Some(10), Some(50), Some(4), Some(40)],
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":null,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":4}"#,
                [Some(10), Some(5), Some(6), None],
            ),
            (
                r#"{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":{"reasoning_tokens":0}}"#,
                [Some(7), Some(2), Some(1), Some(0)],
            ),
            (
                r#"{"prompt_tokens":4,"total_tokens":4}"#,
                [Some(4), None, None, None],
            ),
            (
                r#"{"prompt_tokens":7,"completion_tokens":1,"num_cached_tokens":3}"#,
                [Some(7), Some(1), Some(3), None],
            ),
            (
                r#"{"prompt_tokens":12.0,"completion_tokens":1e1}"#,
                [Some(12), Some(10), None, None],
            ),
            (
                r#"{"\u0070rompt_tokens":0,"completion_tokens":1099511627776}"#,
                [Some(0), Some(MAX_COUNT), None, None],
            ),
            (
                r#"{"prompt_tokens":43,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":11,"image_tokens":0}}"#,
                [Some(43), Some(10), None, Some(11)],
            ),
        ];
        for (text, expected) in cases {
            let usage = read(text);
            assert_eq!(tokens(&usage), expected, "{text}");
            assert!(!usage.insane && !usage.uncovered, "{text}");
        }
    }

    #[test]
    fn a_count_that_is_not_sane_is_unknown() {
        let cases: [(&str, Tokens); 8] = [
            (
                r#"{"prompt_tokens":-1,"completion_tokens":5}"#,
                [None, Some(5), None, None],
            ),
            (
                r#"{"prompt_tokens":1.5,"completion_tokens":5}"#,
                [None, Some(5), None, None],
            ),
            (
                r#"{"prompt_tokens":"3","completion_tokens":5}"#,
                [None, Some(5), None, None],
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":1099511627777}"#,
                [Some(3), None, None, None],
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":1e300}"#,
                [Some(3), None, None, None],
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":{}}"#,
                [Some(3), None, None, None],
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}"#,
                [Some(3), Some(5), None, None],
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":-4}}"#,
                [Some(3), Some(5), None, None],
            ),
        ];
        for (text, expected) in cases {
            let usage = read(text);
            assert_eq!((tokens(&usage), usage.insane), (expected, true), "{text}");
        }
    }

    #[test]
    fn what_reports_nothing_is_no_usage() {
        for text in [
            "{}",
            "null",
            "[]",
            "7",
            r#"{"total":1}"#,
            r#"{"prompt_tokens":null}"#,
            r#"{"prompt_tokens":1"#,
        ] {
            assert_eq!(Usage::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn units_without_a_rate_are_flagged() {
        let cases = [
            (r#""prompt_tokens_details":{"audio_tokens":3}"#, true),
            (
                r#""prompt_tokens_details":{"audio_tokens":0,"image_tokens":0,"cache_write_tokens":0}"#,
                false,
            ),
            (r#""prompt_tokens_details":{"cache_write_tokens":9}"#, true),
            (r#""completion_tokens_details":{"image_tokens":1}"#, true),
            (
                r#""completion_tokens_details":{"accepted_prediction_tokens":1,"rejected_prediction_tokens":2}"#,
                false,
            ),
            (r#""cache_creation_input_tokens":5"#, true),
            (r#""cache_read_input_tokens":5"#, true),
            (
                r#""cache_read_input_tokens":5,"prompt_tokens_details":{"cached_tokens":5}"#,
                false,
            ),
            (
                r#""server_tool_use_details":{"web_search_requests":1}"#,
                true,
            ),
            (
                r#""server_tool_use":{"web_search_requests":0,"x":1}"#,
                false,
            ),
            (r#""prompt_audio_seconds":0.4"#, true),
            (r#""prompt_audio_seconds":{}"#, false),
        ];
        for (member, expected) in cases {
            let usage = read(&format!(
                r#"{{"prompt_tokens":10,"completion_tokens":9,{member}}}"#
            ));
            assert_eq!(usage.uncovered, expected, "{member}");
        }
    }

    #[test]
    fn reads_costs_exactly_and_prefers_sats() {
        use ReportedCost::{Nanodollars, Nanosats};
        let cases = [
            (r#"{"cost":0.0133176}"#, Some(Nanodollars(13_317_600))),
            (
                r#"{"cost":0.0076509169000000005}"#,
                Some(Nanodollars(7_650_917)),
            ),
            (r#"{"cost":0,"prompt_tokens":1}"#, Some(Nanodollars(0))),
            (
                r#"{"cost":{"base_msats":1,"total_msats":1234}}"#,
                Some(Nanosats(1_234_000_000)),
            ),
            (
                r#"{"cost":{"total_cost":0.5}}"#,
                Some(Nanodollars(500_000_000)),
            ),
            (
                r#"{"cost":0.1,"cost_sats":2.000000001}"#,
                Some(Nanosats(2_000_000_001)),
            ),
            (
                r#"{"cost_sats":2,"cost":{"total_msats":2001.5}}"#,
                Some(Nanosats(2_001_500_000)),
            ),
            (r#"{"cost":-1,"prompt_tokens":1}"#, None),
            (r#"{"cost":"1","prompt_tokens":1}"#, None),
            (r#"{"cost":null,"prompt_tokens":1}"#, None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).reported_cost, expected, "{text}");
        }
        for (header, expected) in [
            ("1500", Some(Nanosats(1_500_000_000))),
            (" 0.5 ", Some(Nanosats(500_000))),
            ("", None),
            ("12 msats", None),
            ("\"1\"", None),
        ] {
            assert_eq!(
                ReportedCost::from_msats_header(header),
                expected,
                "{header}"
            );
        }
        let stated = Some(Nanosats(7));
        assert_eq!(
            read(r#"{"prompt_tokens":1}"#)
                .or_reported_cost(stated)
                .reported_cost,
            stated
        );
        assert_eq!(
            read(r#"{"cost":1}"#).or_reported_cost(stated).reported_cost,
            Some(Nanodollars(1_000_000_000))
        );
    }
}
