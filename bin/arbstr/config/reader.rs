//! Walks a TOML tree by hand, so that every value keeps its line and every mistake is found in one go.
//!
//! A [`Section`] is one table. Each key that is asked for is thereby known; when a section ends, every key that nobody
//! asked for is a problem that suggests the nearest known one. So the list of known keys cannot fall out of step with
//! the code that reads them. Numbers keep their source text: money must not pass through a float.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::Template;
use super::nearest::nearest;
use super::problem::{At, Place, Problem};
use super::reference::homes;

/// A number as the file writes it, in decimal.
#[derive(Debug, Clone)]
pub(super) struct Number(pub(super) String);

/// One table of the file, while it is being read.
pub(super) struct Section<'t, 'p> {
    text: &'t str,
    table: &'t DeTable<'t>,
    place: Place,
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

/// Reads a whole file: its syntax first, then what `read` makes of its tables.
pub(super) fn read_document<T>(
    text: &str,
    problems: &mut Vec<Problem>,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Option<T> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let readable = errors
        .iter()
        .all(|error| error.message() == DUPLICATE && error.span().is_some());
    problems.extend(errors.iter().map(|error| syntax_problem(text, error)));
    if !readable {
        return None;
    }
    let mut root = Section {
        text,
        table: document.get_ref(),
        place: Place {
            line: Some(1),
            key: String::new(),
        },
        known: Vec::new(),
        problems,
    };
    let value = read(&mut root);
    root.report_unknown();
    Some(value)
}

impl<'t> Section<'t, '_> {
    /// Where the section starts.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where the value of `key` stands, or would stand.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let line = self
            .table
            .get_key_value(key)
            .map_or(self.place.line, |(found, _)| self.line_of(found.span()));
        Place {
            line,
            key: join(&self.place.key, key),
        }
    }

    /// Reports `key` as missing unless it is there.
    pub(super) fn require(&mut self, key: &'static str, expected: &str) {
        if !self.table.contains_key(key) {
            let place = self.place_of(key);
            self.problems.push(Problem::new(
                &place,
                format!("missing, expected {expected}"),
            ));
        }
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Option<At<Template>> {
        self.string_such_as(key, "a string")
    }

    /// A string that is told by its meaning when something else stands there.
    pub(super) fn string_such_as(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<At<Template>> {
        self.string_or_hidden(key, Shown::Yes(expected))
    }

    /// A string that may be a secret: no problem quotes what was found.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<At<Template>> {
        self.string_or_hidden(key, Shown::No)
    }

    /// A whole or decimal number.
    pub(super) fn number(&mut self, key: &'static str) -> Option<At<Number>> {
        let (value, place) = self.value(key)?;
        match number_of(value.get_ref()) {
            Some(number) => Some(At {
                value: number,
                place,
            }),
            None => self.wrong(&place, value.get_ref(), "a number"),
        }
    }

    /// A number, or a string that stands for one.
    pub(super) fn number_or_string(
        &mut self,
        key: &'static str,
    ) -> Option<At<Result<Number, Template>>> {
        let (value, place) = self.value(key)?;
        let read = match value.get_ref() {
            DeValue::String(text) => Some(Err(Template::new(text))),
            other => number_of(other).map(Ok),
        };
        match read {
            Some(value) => Some(At { value, place }),
            None => self.wrong(&place, value.get_ref(), "a number or a string"),
        }
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &'static str) -> Option<At<bool>> {
        let (value, place) = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(At {
                value: *value,
                place,
            }),
            other => self.wrong(&place, other, "true or false"),
        }
    }

    /// An array of strings; those of another type are reported and left out.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<At<Vec<At<Template>>>> {
        let (value, place) = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(&place, value.get_ref(), "an array of strings");
        };
        let mut strings = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = self.item_place(&place, index, item.span());
            match item.get_ref() {
                DeValue::String(text) => strings.push(At {
                    value: Template::new(text),
                    place,
                }),
                other => {
                    self.wrong::<()>(&place, other, "a string");
                }
            }
        }
        Some(At {
            value: strings,
            place,
        })
    }

    /// A table of strings under names of the operator's choice. No problem quotes what was found.
    pub(super) fn secrets_by_name(&mut self, key: &'static str) -> Vec<(String, At<Template>)> {
        let Some((table, place)) = self.table(key) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (name, value) in table {
            let place = Place {
                line: self.line_of(name.span()),
                key: join(&place.key, name.get_ref()),
            };
            if let DeValue::String(text) = value.get_ref() {
                let value = Template::new(text);
                entries.push((name.get_ref().to_string(), At { value, place }));
            } else {
                let found = kind(value.get_ref());
                self.problems
                    .push(Problem::found(&place, found, "a string"));
            }
        }
        entries
    }

    /// A table with keys of its own.
    pub(super) fn child<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> Option<T> {
        let (table, place) = self.table(key)?;
        Some(self.descend(table, place, read))
    }

    /// An array of tables, each with keys of its own.
    pub(super) fn children<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        let Some((value, place)) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let expected = format!("one or more [[{}]] tables", place.key);
            self.wrong::<()>(&place, value.get_ref(), &expected);
            return Vec::new();
        };
        let mut children = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = self.item_place(&place, index, item.span());
            match item.get_ref() {
                DeValue::Table(table) => children.push(self.descend(table, place, &mut read)),
                other => {
                    self.wrong::<()>(&place, other, "a table");
                }
            }
        }
        children
    }

    fn descend<T>(
        &mut self,
        table: &'t DeTable<'t>,
        place: Place,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let mut section = Section {
            text: self.text,
            table,
            place,
            known: Vec::new(),
            problems: &mut *self.problems,
        };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    fn report_unknown(&mut self) {
        for name in self.table.keys() {
            if self.known.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let near = nearest(name.get_ref(), self.known.iter().copied());
            let elsewhere: Vec<&str> = homes(name.get_ref()).collect();
            let elsewhere = elsewhere.join(" or ");
            let hint = match (near, elsewhere.as_str()) {
                (Some(known), "") => format!("did you mean `{known}`?"),
                (None, "") => format!("expected one of: {}", self.known.join(", ")),
                (Some(known), there) => format!("did you mean `{known}`? ({there} has it)"),
                (None, there) => format!("it belongs into {there}"),
            };
            let place = self.place_of(name.get_ref());
            self.problems
                .push(Problem::new(&place, format!("unknown key, {hint}")));
        }
    }

    fn string_or_hidden(&mut self, key: &'static str, shown: Shown<'_>) -> Option<At<Template>> {
        let (value, place) = self.value(key)?;
        match (value.get_ref(), shown) {
            (DeValue::String(text), _) => Some(At {
                value: Template::new(text),
                place,
            }),
            (other, Shown::Yes(expected)) => self.wrong(&place, other, expected),
            (other, Shown::No) => {
                let found = kind(other);
                self.problems
                    .push(Problem::found(&place, found, "a string"));
                None
            }
        }
    }

    fn table(&mut self, key: &'static str) -> Option<(&'t DeTable<'t>, Place)> {
        let (value, place) = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((table, place)),
            other => self.wrong(&place, other, "a table"),
        }
    }

    fn value(&mut self, key: &'static str) -> Option<(&'t Spanned<DeValue<'t>>, Place)> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some((value, self.place_of(key)))
    }

    fn wrong<T>(&mut self, place: &Place, found: &DeValue<'_>, expected: &str) -> Option<T> {
        self.problems
            .push(Problem::found(place, describe(found), expected));
        None
    }

    fn item_place(&self, array: &Place, index: usize, span: Range<usize>) -> Place {
        Place {
            line: self.line_of(span),
            key: format!("{}[{index}]", array.key),
        }
    }

    fn line_of(&self, span: Range<usize>) -> Option<usize> {
        Some(line_at(self.text, span.start))
    }
}

/// Shortens a text for a message, with quotes around it.
pub(super) fn quote(text: &str) -> String {
    if text.chars().count() <= LONGEST_QUOTED {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(LONGEST_QUOTED).collect();
    format!("{:?}", format!("{start}…"))
}

#[derive(Debug, Clone, Copy)]
enum Shown<'a> {
    Yes(&'a str),
    No,
}

/// Only the message of a syntax error is used: its full text quotes the line, which may hold a key.
fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let line = error.span().map(|span| line_at(text, span.start));
    let (key, fault) = match error.span().filter(|_| error.message() == DUPLICATE) {
        Some(span) => {
            let line = text.get(..span.start).unwrap_or_default();
            let is_header = line
                .rsplit('\n')
                .next()
                .is_some_and(|line| line.trim().starts_with('['));
            let table = if is_header {
                String::new()
            } else {
                table_at(text, span.start)
            };
            let key = text.get(span).unwrap_or_default().trim();
            (join(&table, key), "given twice, expected once".to_owned())
        }
        None => {
            let hint = error.span().and_then(|span| quotes_missing(text, span));
            let hint = hint.unwrap_or_default();
            (
                String::new(),
                format!("not TOML: {}{hint}", error.message()),
            )
        }
    };
    Problem::new(&Place { line, key }, fault)
}

/// The table that `offset` is in, as `providers[1]`, by the headers before it.
fn table_at(text: &str, offset: usize) -> String {
    let mut lengths: HashMap<String, usize> = HashMap::new();
    let mut table = String::new();
    let before = text.get(..offset).unwrap_or(text);
    for header in before
        .lines()
        .filter_map(|line| line.trim().strip_prefix('['))
    {
        let (name, is_item) = match header.strip_prefix('[') {
            Some(header) => (header, true),
            None => (header, false),
        };
        let Some((name, _)) = name.split_once(']') else {
            continue;
        };
        table.clear();
        for part in name.split('.') {
            table = join(&table, part.trim());
            if let Some(length) = lengths.get(&table) {
                table += &format!("[{}]", length - 1);
            }
        }
        if is_item {
            let array = table.rfind('[').filter(|_| table.ends_with(']'));
            table.truncate(array.unwrap_or(table.len()));
            let length = lengths.entry(table.clone()).or_default();
            *length += 1;
            table += &format!("[{}]", *length - 1);
        }
    }
    table
}

/// What to do about a value that seems to be a text without quotes. It is not shown: it may be a key.
fn quotes_missing(text: &str, span: Range<usize>) -> Option<String> {
    let line = text.lines().nth(line_at(text, span.start) - 1)?;
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_text = value.starts_with(|c: char| c.is_alphanumeric() || "/.~$:*".contains(c));
    let is_key = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    (is_text && is_key).then(|| format!("; a text needs quotes: {key} = \"…\""))
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if is_bare { key.to_owned() } else { quote(key) };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn number_of(value: &DeValue<'_>) -> Option<Number> {
    match value {
        DeValue::Integer(integer) if integer.radix() == 10 => {
            Some(Number(integer.as_str().to_owned()))
        }
        DeValue::Integer(integer) => {
            let parsed = u64::from_str_radix(integer.as_str(), integer.radix());
            let unsigned = parsed.ok().map(|number| number.to_string());
            Some(Number(unsigned.unwrap_or_else(|| integer.to_string())))
        }
        DeValue::Float(float) => Some(Number(float.as_str().to_owned())),
        _ => None,
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quote(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What the parser says of a key that is given twice.
const DUPLICATE: &str = "duplicate key";
const LONGEST_QUOTED: usize = 60;
