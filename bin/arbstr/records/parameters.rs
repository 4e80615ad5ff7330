//! What is asked: named texts in, a query for the store out, or what is wrong with which.

use std::borrow::Cow;
use std::fmt;

use arbstr_store::{Filter, GroupBy, PageQuery, Selection, Sort, SortBy, StatsQuery};

use super::timestamp;
use crate::config::nearest;
use crate::ledger;

/// Named texts, as a URL or a command line has them.
#[derive(Debug, Default)]
pub(crate) struct Parameters<'a> {
    given: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// A parameter that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidParameter {
    /// Which.
    pub(crate) parameter: String,
    /// What was found and what is allowed.
    pub(crate) fault: String,
}

/// What `GET /v1/stats` takes.
pub(crate) const STATS: &[&str] = &[
    "range",
    "since",
    "until",
    "model",
    "provider",
    "success",
    "streaming",
    "group_by",
];

/// What `GET /v1/requests` takes.
pub(crate) const REQUESTS: &[&str] = &[
    "range",
    "since",
    "until",
    "model",
    "provider",
    "success",
    "streaming",
    "sort",
    "limit",
    "cursor",
];

impl<'a> Parameters<'a> {
    /// The parameters of a URL's query, percent-decoded.
    ///
    /// # Errors
    /// A name or value that is not UTF-8.
    pub(crate) fn of_query(query: Option<&'a str>) -> Result<Self, InvalidParameter> {
        let pairs = query.unwrap_or_default().split('&');
        let given = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name).ok_or_else(|| InvalidParameter::not_text(name))?;
            let value = decoded(value).ok_or_else(|| InvalidParameter::not_text(&name))?;
            Ok((name, value))
        });
        let given = given.collect::<Result<_, _>>()?;
        Ok(Self { given })
    }

    /// Adds a parameter.
    pub(crate) fn add(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        self.given.push((Cow::Borrowed(name), value.into()));
    }

    /// Passes when each parameter is one of `known`, given once and not empty.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), InvalidParameter> {
        for (place, (name, value)) in self.given.iter().enumerate() {
            if !known.contains(&name.as_ref()) {
                return Err(InvalidParameter::unknown(name, known));
            }
            if self.given[..place]
                .iter()
                .any(|(earlier, _)| earlier == name)
            {
                return Err(InvalidParameter::new(
                    name,
                    "found a second time, expected once",
                ));
            }
            if value.is_empty() {
                return Err(InvalidParameter::new(name, "found without a value"));
            }
        }
        Ok(())
    }

    /// The question that `GET /v1/stats` asks at `now_ms`.
    ///
    /// # Errors
    /// The first parameter that is not as it should be.
    pub(crate) fn stats(&self, now_ms: i64) -> Result<StatsQuery, InvalidParameter> {
        self.check(STATS)?;
        let group_by = self.read(
            "group_by",
            &alternatives(GroupBy::ALL.map(GroupBy::name)),
            |text| text.parse().ok(),
        )?;
        let selection = self.selection(now_ms)?;
        Ok(StatsQuery {
            selection,
            group_by,
        })
    }

    /// The question that `GET /v1/requests` asks at `now_ms`.
    ///
    /// # Errors
    /// The first parameter that is not as it should be.
    pub(crate) fn page(&self, now_ms: i64) -> Result<PageQuery, InvalidParameter> {
        self.check(REQUESTS)?;
        let limit = format!("a whole number from 1 to {MOST_ROWS}");
        let limit = self.read("limit", &limit, |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number.filter(|number| (1..=MOST_ROWS).contains(number))
        })?;
        let columns = alternatives(SortBy::ALL.map(SortBy::name));
        let expected = format!("{columns}, with - before it for the largest first");
        let sort = self.read("sort", &expected, parse_sort)?;
        Ok(PageQuery {
            selection: self.selection(now_ms)?,
            sort: sort.unwrap_or_default(),
            limit: limit.unwrap_or(USUAL_ROWS),
            cursor: self.value("cursor").map(str::to_owned),
        })
    }

    /// Which rows are asked about.
    ///
    /// # Errors
    /// The first parameter that is not as it should be.
    pub(crate) fn selection(&self, now_ms: i64) -> Result<Selection, InvalidParameter> {
        let time = |text: &str| timestamp::parse(text, now_ms);
        let age = self.read("range", timestamp::EXPECTED_AGE, timestamp::parse_age)?;
        let since = self.read("since", timestamp::EXPECTED, time)?;
        let until = self.read("until", timestamp::EXPECTED, time)?;
        if age.is_some() && (since.is_some() || until.is_some()) {
            let fault = "found beside since or until, expected one or the other";
            return Err(InvalidParameter::new("range", fault));
        }
        let since = age.map(|age_ms| now_ms.saturating_sub(age_ms)).or(since);
        if let (Some(since), Some(until)) = (since, until)
            && until <= since
        {
            let fault = format!(
                "found {}, expected a time after since, which is {}",
                timestamp::iso(until),
                timestamp::iso(since)
            );
            return Err(InvalidParameter::new("until", fault));
        }
        Ok(Selection {
            since_ms: since.unwrap_or(i64::MIN),
            until_ms: until.unwrap_or(i64::MAX),
            filter: self.filter()?,
        })
    }

    fn filter(&self) -> Result<Filter, InvalidParameter> {
        let flag = |text: &str| text.parse().ok();
        Ok(Filter {
            model: self
                .value("model")
                .map(|model| ledger::bounded_name(model).to_owned()),
            provider: self.value("provider").map(str::to_owned),
            success: self.read("success", "true or false", flag)?,
            streaming: self.read("streaming", "true or false", flag)?,
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter();
        given
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_ref())
    }

    /// What `parse` makes of a parameter, if it is there.
    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidParameter> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(InvalidParameter::found(name, text, expected)),
        }
    }
}

impl InvalidParameter {
    /// What is wrong with `parameter`.
    pub(crate) fn new(parameter: &str, fault: impl Into<String>) -> Self {
        Self {
            parameter: parameter.to_owned(),
            fault: fault.into(),
        }
    }

    fn found(parameter: &str, found: &str, expected: &str) -> Self {
        let shown: String = found.chars().take(SHOWN_CHARS).collect();
        let more = if shown.len() < found.len() { "…" } else { "" };
        Self::new(
            parameter,
            format!("found {shown:?}{more}, expected {expected}"),
        )
    }

    fn not_text(parameter: &str) -> Self {
        Self::new(parameter, "found bytes that are not UTF-8, expected text")
    }

    fn unknown(parameter: &str, known: &[&str]) -> Self {
        if known.is_empty() {
            return Self::new(parameter, "unknown; no parameter is expected here");
        }
        let meant = nearest(parameter, known.iter().copied())
            .map_or_else(String::new, |near| format!("did you mean {near}? "));
        let fault = format!(
            "unknown; {meant}expected {}",
            alternatives(known.iter().copied())
        );
        Self::new(parameter, fault)
    }
}

impl fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.parameter.chars().take(SHOWN_CHARS).collect();
        write!(f, "{}: {}", shown.escape_debug(), self.fault)
    }
}

/// A piece of a URL's query: `+` is a blank, `%41` is `A`.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let blanks = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&blanks).decode_utf8();
    decoded.ok().map(|text| Cow::Owned(text.into_owned()))
}

fn parse_sort(text: &str) -> Option<Sort> {
    let (name, descending) = match text.strip_prefix('-') {
        Some(name) => (name, true),
        None => (text, false),
    };
    name.parse().ok().map(|by: SortBy| Sort { by, descending })
}

/// `a, b or c`.
fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Rows of a page at most, and unless somebody asks for another number.
const MOST_ROWS: u32 = 1000;
const USUAL_ROWS: u32 = 50;
/// Of what somebody gave, no more is quoted.
const SHOWN_CHARS: usize = 60;
