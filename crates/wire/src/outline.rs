//! What one answer, or one chunk of a stream, says about itself: found in one walk, as spans.
//!
//! Usage stands at the top or, in some dialects, in a choice; the one at the top counts first. Groq's `x_groq.usage` is
//! left alone: Groq reports the same at the top when `include_usage` asks for it, and the record says what was asked for.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::{Cursor, JsonError, Kind, Str, whole_number};
use crate::text_bytes;
use crate::usage::{ReportedCost, Usage, is_other_tier};

/// The members whose strings [`Outline::read`] looks into, in quotes: another text there means another thing.
pub(crate) const READ_STRINGS: [&[u8]; 6] = [
    b"\"id\"",
    b"\"model\"",
    b"\"object\"",
    b"\"error\"",
    b"\"service_tier\"",
    b"\"finish_reason\"",
];

/// The members of interest of one JSON object.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    /// How many choices there are; `None` without a `choices` array.
    pub(crate) choices: Option<usize>,
    /// Bytes of what the choices say.
    pub(crate) text_bytes: u64,
    /// Whether there is a `data` array (of embeddings).
    pub(crate) has_data: bool,
    /// Whether any choice has a finish reason that is not empty.
    pub(crate) finishes: bool,
    /// Which choices have one: a bit for each of the first 128, by index.
    pub(crate) finished: u128,
    /// The one of choice 0.
    pub(crate) finish: Option<Str<'a>>,
    /// The value of a non-null top-level `error`, unless it is empty and stands beside choices; the whole, where it calls
    /// its `object` an error and has no choices.
    pub(crate) error: Option<Range<usize>>,
    /// What to cut so that no top-level `"usage":null` is left, commas included; in order.
    pub(crate) null_usages: Vec<Range<usize>>,
    /// Whether there is a top-level usage object.
    pub(crate) has_usage: bool,
    has_usage_in_choice: bool,
    is_error_object: bool,
    is_other_tier: bool,
    usage: Option<Usage>,
    /// The top-level usage's `total_tokens`.
    pub(crate) total_tokens: Option<u64>,
    usage_of_choice: Option<Usage>,
    cost: Option<ReportedCost>,
    id: Option<Str<'a>>,
    model: Option<Str<'a>>,
    created: Option<u64>,
}

impl<'a> Outline<'a> {
    /// Walks `text`; `None` when it is JSON but no object.
    ///
    /// # Errors
    /// It is not JSON. (Whether it is UTF-8 is not looked at.)
    pub(crate) fn read(text: &'a [u8]) -> Result<Option<Self>, JsonError> {
        let mut cursor = Cursor::new(text);
        if cursor.peek()? != Kind::Object {
            cursor.skip()?;
            return cursor.end().map(|()| None);
        }
        let mut outline = Self::default();
        outline.members(&mut cursor)?;
        cursor.end()?;
        match &outline.error {
            Some(error) if outline.choices.is_some() && is_empty(&text[error.clone()]) => {
                outline.error = None
            }
            None if outline.choices.is_none() && outline.is_error_object => {
                outline.error = Some(0..text.len());
            }
            _ => {}
        }
        Ok(Some(outline))
    }

    /// Whether another one of this shape, with other texts, could tell something new.
    pub(crate) fn teaches(&self) -> bool {
        let has_usage = self.has_usage || self.has_usage_in_choice;
        self.finishes || self.error.is_some() || has_usage
    }

    /// The usage reported, wherever it stands.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage.or(self.usage_of_choice)?;
        usage.uncovered |= self.is_other_tier;
        Some(usage.or_reported_cost(self.cost))
    }

    /// The `id`, unless empty.
    pub(crate) fn id(&self) -> Option<Cow<'a, str>> {
        filled(self.id)
    }

    /// The `model`, unless empty.
    pub(crate) fn model(&self) -> Option<Cow<'a, str>> {
        filled(self.model)
    }

    /// The `created` time, unless 0.
    pub(crate) fn created(&self) -> Option<u64> {
        self.created.filter(|created| *created > 0)
    }

    fn members(&mut self, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        let mut nulls = NullCuts::default();
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            nulls.at_key(key.span().start, &mut self.null_usages);
            match (&*key.name(), cursor.peek()?) {
                (b"choices", Kind::Array) => self.choices(cursor)?,
                (b"usage", Kind::Object) => {
                    self.has_usage = true;
                    (self.usage, self.total_tokens) = Usage::read_at(cursor)?;
                }
                (b"usage", Kind::Null) => {
                    cursor.pass()?;
                    nulls.cut(key.span().start..cursor.offset(), &mut self.null_usages);
                    continue;
                }
                (b"cost", Kind::Object) => self.cost = routstr_cost(cursor)?,
                (b"error", kind) if kind != Kind::Null => self.error = Some(cursor.skip()?),
                (b"object", Kind::String) => {
                    self.is_error_object = cursor.slice_skipped()? == b"\"error\""
                }
                (b"service_tier", Kind::String) => self.is_other_tier = is_other_tier(cursor)?,
                (b"id", Kind::String) => self.id = Some(cursor.string()?),
                (b"model", Kind::String) => self.model = Some(cursor.string()?),
                (b"created", Kind::Number) => self.created = whole_number(cursor.slice_skipped()?),
                (b"data", Kind::Array) => {
                    self.has_data = true;
                    cursor.pass()?;
                }
                _ => cursor.pass()?,
            }
            nulls.keep(cursor.offset());
        }
        Ok(())
    }

    fn choices(&mut self, cursor: &mut Cursor<'a>) -> Result<(), JsonError> {
        let mut count = 0;
        (self.finishes, self.finished, self.finish) = (false, 0, None);
        self.text_bytes = 0;
        cursor.open_array()?;
        while cursor.next_element()? {
            if cursor.peek()? == Kind::Object {
                self.choice(cursor, count)?;
            } else {
                cursor.skip()?;
            }
            count += 1;
        }
        self.choices = Some(count);
        Ok(())
    }

    /// A choice without an index has that of its place.
    fn choice(&mut self, cursor: &mut Cursor<'a>, place: usize) -> Result<(), JsonError> {
        let mut index = place as u64;
        let mut finish = None;
        cursor.open_object()?;
        while let Some(key) = cursor.next_key()? {
            let kind = cursor.peek()?;
            match (&*key.name(), kind) {
                (b"index", Kind::Number) => {
                    index = whole_number(cursor.slice_skipped()?).unwrap_or(index)
                }
                (b"finish_reason", Kind::String) => finish = Some(cursor.string()?),
                (b"usage", Kind::Object) => {
                    self.has_usage_in_choice = true;
                    self.usage_of_choice = Usage::read_at(cursor)?.0;
                }
                (b"delta" | b"message" | b"text", kind) => {
                    self.text_bytes += text_bytes::in_value(kind, cursor.skip()?.len());
                }
                _ => cursor.pass()?,
            }
        }
        if let Some(reason) = finish.filter(|reason| !reason.raw().is_empty()) {
            self.finishes = true;
            self.finished |= bit_of(index);
            if index == 0 {
                self.finish = Some(reason);
            }
        }
        Ok(())
    }
}

/// Whether a value is what servers write that have no word for nothing, however far its brackets stand apart.
pub(crate) fn is_empty(value: &[u8]) -> bool {
    match value {
        [b'{', inside @ .., b'}'] | [b'[', inside @ .., b']'] => inside.trim_ascii().is_empty(),
        _ => matches!(value, b"\"\"" | b"false"),
    }
}

fn bit_of(index: u64) -> u128 {
    let index = u32::try_from(index).ok();
    index
        .and_then(|index| 1u128.checked_shl(index))
        .unwrap_or(0)
}

fn filled(string: Option<Str<'_>>) -> Option<Cow<'_, str>> {
    string?.decode().filter(|text| !text.is_empty())
}

/// Which bytes go when `"usage":null` members go. With a member before it that stays, a null one goes with the comma
/// before it; else with all up to the next key.
#[derive(Debug, Default)]
struct NullCuts {
    /// Where the last member ended, once there was one that stays.
    last_end: Option<usize>,
    /// A null member at the front whose end, the next key, is not known yet.
    waiting: bool,
}

impl NullCuts {
    fn at_key(&mut self, key: usize, cuts: &mut [Range<usize>]) {
        if std::mem::take(&mut self.waiting)
            && let Some(cut) = cuts.last_mut()
        {
            cut.end = key;
        }
    }

    /// The last member ended there, and stays.
    const fn keep(&mut self, end: usize) {
        self.last_end = Some(end);
    }

    /// The last member, key and value, goes.
    fn cut(&mut self, null: Range<usize>, cuts: &mut Vec<Range<usize>>) {
        let start = self.last_end.unwrap_or(null.start);
        self.waiting = self.last_end.is_none();
        self.last_end = self.last_end.and(Some(null.end));
        cuts.push(start..null.end);
    }
}

/// The `total_msats` of the object here.
fn routstr_cost(cursor: &mut Cursor<'_>) -> Result<Option<ReportedCost>, JsonError> {
    let mut cost = None;
    cursor.open_object()?;
    while let Some(key) = cursor.next_key()? {
        let kind = cursor.peek()?;
        let value = cursor.slice_skipped()?;
        if kind == Kind::Number && key.is("total_msats") {
            cost = ReportedCost::of_msats(value);
        }
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with its null usages cut.
    fn cut(text: &str) -> String {
        let outline = Outline::read(text.as_bytes()).unwrap().unwrap();
        let mut kept = String::new();
        let mut from = 0;
        for range in outline.null_usages {
            kept.push_str(&text[from..range.start]);
            from = range.end;
        }
        kept + &text[from..]
    }

    #[test]
    fn a_null_usage_goes_with_one_comma() {
        let cases = [
            (r#"{"a":1,"usage":null}"#, r#"{"a":1}"#),
            (r#"{"usage":null,"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"usage":null,"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"usage":null}"#, "{}"),
            (r#"{ "usage" : null }"#, "{  }"),
            (
                "{ \"a\" : 1 ,\n \"usage\" : null ,\n \"b\":2 }",
                "{ \"a\" : 1 ,\n \"b\":2 }",
            ),
            ("{\n \"usage\" : null ,\n \"b\":2 }", "{\n \"b\":2 }"),
            (r#"{"a":1,"usage":null,"usage":null}"#, r#"{"a":1}"#),
            (r#"{"usage":null,"usage":null,"a":1}"#, r#"{"a":1}"#),
            (r#"{"usage":null,"usage":null}"#, "{}"),
            (r#"{"usage":null,"a":1,"usage":null}"#, r#"{"a":1}"#),
            (r#"{"a":1,"\u0075sage":null}"#, r#"{"a":1}"#),
            (
                r#"{"a":{"usage":null},"b":"\"usage\":null"}"#,
                r#"{"a":{"usage":null},"b":"\"usage\":null"}"#,
            ),
            (r#"{"usage":{},"b":1}"#, r#"{"usage":{},"b":1}"#),
            (r#"{"usage":"null"}"#, r#"{"usage":"null"}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(cut(text), expected);
        }
    }

    #[test]
    fn a_tier_with_prices_of_its_own_is_flagged() {
        for (tier, expected) in [
            (r#""priority""#, true),
            (r#""flex""#, true),
            (r#""default""#, false),
            (r#""on_demand""#, false),
            ("null", false),
        ] {
            for text in [
                format!(r#"{{"service_tier":{tier},"usage":{{"prompt_tokens":1}}}}"#),
                format!(r#"{{"usage":{{"prompt_tokens":1,"service_tier":{tier}}}}}"#),
            ] {
                let outline = Outline::read(text.as_bytes()).unwrap().unwrap();
                assert_eq!(outline.usage().unwrap().uncovered, expected, "{text}");
            }
        }
    }

    #[test]
    fn an_empty_error_beside_choices_is_none_whatever_its_spacing() {
        for (text, expected) in [
            (r#"{"choices":[],"error":""}"#, false),
            (r#"{"error":{},"choices":[{}]}"#, false),
            (r#"{"choices":[],"error":false}"#, false),
            (r#"{"choices":[],"error":{ }}"#, false),
            ("{\"choices\":[],\"error\" : [\r\n\t] }", false),
            (r#"{"choices":[],"error":[ 0 ]}"#, true),
            (r#"{"choices":[],"error":" "}"#, true),
            (r#"{"choices":null,"error":{ }}"#, true),
            (r#"{"choices":[],"error":{"code":1}}"#, true),
            (r#"{"choices":null,"error":{}}"#, true),
            (r#"{"error":""}"#, true),
        ] {
            let outline = Outline::read(text.as_bytes()).unwrap().unwrap();
            assert_eq!(outline.error.is_some(), expected, "{text}");
        }
    }

    #[test]
    fn an_object_that_calls_itself_an_error_is_one() {
        for (text, expected) in [
            (r#"{"object":"error","message":"boom","code":400}"#, true),
            (r#"{"object":"error","choices":[]}"#, false),
            (r#"{"object":"chat.completion.chunk"}"#, false),
            (r#"{"object":{"object":"error"}}"#, false),
        ] {
            let outline = Outline::read(text.as_bytes()).unwrap().unwrap();
            assert_eq!(outline.error, expected.then_some(0..text.len()), "{text}");
        }
    }

    #[test]
    fn usage_is_found_in_each_dialects_place() {
        let input = |text: &str| {
            Outline::read(text.as_bytes())
                .unwrap()
                .unwrap()
                .usage()
                .and_then(|usage| usage.input)
        };
        let cases = [
            (r#"{"usage":{"prompt_tokens":1}}"#, Some(1)),
            (r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":2}}}"#, None),
            (
                r#"{"usage":{"prompt_tokens":1},"x_groq":{"usage":{"prompt_tokens":2}}}"#,
                Some(1),
            ),
            (
                r#"{"usage":null,"x_groq":{"usage":{"prompt_tokens":2}}}"#,
                None,
            ),
            (r#"{"choices":[{"usage":{"prompt_tokens":3}}]}"#, Some(3)),
            (
                r#"{"usage":{},"choices":[{"usage":{"prompt_tokens":3}}]}"#,
                Some(3),
            ),
            (r#"{"delta":{"usage":{"prompt_tokens":4}}}"#, None),
            (r#"{"usage":[{"prompt_tokens":4}]}"#, None),
        ];
        for (text, expected) in cases {
            assert_eq!(input(text), expected, "{text}");
        }
        let routstr = Outline::read(br#"{"usage":{"prompt_tokens":1},"cost":{"total_msats":5}}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            routstr.usage().unwrap().reported_cost,
            Some(ReportedCost::Nanosats(5_000_000))
        );
    }

    #[test]
    fn finish_reasons_come_with_their_choice() {
        let cases = [
            (
                r#"{"choices":[{"finish_reason":"stop","index":1},{"index":0,"finish_reason":null},{"finish_reason":"length"},{"finish_reason":""},7]}"#,
                (true, 0b110, None, Some(5)),
            ),
            (
                r#"{"choices":[{"index":0,"finish_reason":"stop"},{"index":127,"finish_reason":"length"},{"index":0,"finish_reason":"length"}]}"#,
                (true, 1 | 1 << 127, Some("length"), Some(3)),
            ),
            (
                r#"{"choices":[{"index":128,"finish_reason":"stop"},{"index":-1,"finish_reason":"stop"}]}"#,
                (true, 0b10, None, Some(2)),
            ),
            (
                r#"{"choices":[{"finish_reason":"stop"}],"choices":[]}"#,
                (false, 0, None, Some(0)),
            ),
        ];
        for (text, expected) in cases {
            let outline = Outline::read(text.as_bytes()).unwrap().unwrap();
            let finish = outline.finish.and_then(|reason| reason.decode());
            assert_eq!(
                (
                    outline.finishes,
                    outline.finished,
                    finish.as_deref(),
                    outline.choices
                ),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn only_a_top_level_error_that_is_not_null_counts() {
        let has_error = |text: &str| {
            Outline::read(text.as_bytes())
                .unwrap()
                .unwrap()
                .error
                .is_some()
        };
        for (text, expected) in [
            (r#"{"error":{"message":"m"}}"#, true),
            (r#"{"error":"m"}"#, true),
            (r#"{"\u0065rror":{}}"#, true),
            (r#"{"error":null}"#, false),
            (r#"{"choices":[{"error":{}}]}"#, false),
            (r#"{"content":"\"error\":{}"}"#, false),
        ] {
            assert_eq!(has_error(text), expected, "{text}");
        }
    }
}
