//! Turns raw values into typed ones, each with its range, and collects what does not fit.
//!
//! A value that does not fit is reported and its default returned, so that the rest of the file is still looked at;
//! a config with any problem is thrown away as a whole.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use arbstr_price::{Rate, Sats};
use zeroize::Zeroizing;

use super::Env;
use super::expand::Template;
use super::nearest::nearest;
use super::problem::{At, Place, Problem};
use super::reader::{Number, quote};

/// The environment, and what was found wrong so far.
pub(super) struct Values<'a> {
    env: Env<'a>,
    keys_optional: bool,
    /// What makes the config unusable.
    pub(super) problems: Vec<Problem>,
    /// What its operator should know all the same.
    pub(super) warnings: Vec<String>,
}

/// An expanded string.
pub(super) struct Text {
    /// What it says; possibly a secret.
    pub(super) text: Zeroizing<String>,
    /// The variables it came from; empty when the file says it all.
    pub(super) variables: Vec<String>,
}

/// A key or token, as far as it is known here.
pub(super) enum Key {
    /// Its text.
    Known(Text),
    /// The variables it is in, which are not set.
    Unset(Vec<String>),
}

impl<'a> Values<'a> {
    /// Starts with the problems that reading found.
    pub(super) fn new(env: Env<'a>, keys_optional: bool, problems: Vec<Problem>) -> Self {
        Self {
            env,
            keys_optional,
            problems,
            warnings: Vec::new(),
        }
    }

    /// The environment.
    pub(super) fn env(&self) -> Env<'a> {
        self.env
    }

    /// Reports that something else was found than was expected.
    pub(super) fn reject(&mut self, place: &Place, found: impl Display, expected: &str) {
        self.problems.push(Problem::found(place, found, expected));
    }

    /// Whether something is wrong with the value of `key` already.
    pub(super) fn is_faulty(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.place.key == key)
    }

    /// Expands a string.
    pub(super) fn text(&mut self, at: &At<Template>) -> Option<Text> {
        match at.value.expand(self.env) {
            Ok(expanded) => Some(Text {
                text: expanded.text,
                variables: expanded.variables,
            }),
            Err(faults) => {
                let problems = faults
                    .iter()
                    .map(|f| Problem::new(&at.place, f.to_string()));
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Expands a key or token; without its variables only where keys may be missing.
    pub(super) fn key(&mut self, at: &At<Template>) -> Option<Key> {
        if self.keys_optional {
            let unset = at.value.unset(self.env);
            if !unset.is_empty() {
                return Some(Key::Unset(unset));
            }
        }
        self.text(at).map(Key::Known)
    }

    /// An expanded string that `read` understands. What was found is quoted as the file has it, unexpanded.
    pub(super) fn parsed<T>(
        &mut self,
        at: &At<Template>,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(at)?.text;
        let parsed = read(&text);
        if parsed.is_none() {
            self.reject(&at.place, quote(at.value.source()), expected);
        }
        parsed
    }

    /// Names, such as models: each non-empty, without control characters or blanks around it, and given once.
    pub(super) fn names(&mut self, list: &[At<Template>], what: &str) -> Vec<At<String>> {
        let mut names: Vec<At<String>> = Vec::new();
        for at in list {
            let Some(name) = self.parsed(at, what, name) else {
                continue;
            };
            if names.iter().any(|earlier| earlier.value == name) {
                let fault = format!("{} is listed twice, expected once", quote(&name));
                self.problems.push(Problem::new(&at.place, fault));
                continue;
            }
            names.push(At {
                value: name,
                place: at.place.clone(),
            });
        }
        names
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        at: Option<&At<Template>>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let at = at?;
        let meant = nearest(at.value.source(), words.iter().map(|(word, _)| *word));
        let hint = meant.map(|word| format!("; did you mean {word:?}?"));
        let expected = alternatives(words) + &hint.unwrap_or_default();
        self.parsed(at, &expected, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value)
        })
    }

    /// A whole number.
    pub(super) fn whole(
        &mut self,
        at: Option<&At<Number>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let Some(At { value, place }) = at else {
            return default;
        };
        let number = digits(&value.0).parse().ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let (least, most) = (range.start(), range.end());
                let expected = format!("a whole number from {least} to {most}");
                self.reject(place, &value.0, &expected);
                default
            }
        }
    }

    /// A share from 0 to 1 with up to six decimals, in millionths.
    pub(super) fn share(&mut self, at: Option<&At<Number>>, default: u32) -> u32 {
        let Some(At { value, place }) = at else {
            return default;
        };
        match parse_share(&value.0) {
            Some(millionths) => millionths,
            None => {
                let expected = "a number from 0 to 1, with up to 6 decimals";
                self.reject(place, &value.0, expected);
                default
            }
        }
    }

    /// Seconds, with up to three decimals.
    pub(super) fn seconds(
        &mut self,
        at: Option<&At<Number>>,
        default: Duration,
        least: Least,
    ) -> Duration {
        let Some(At { value, place }) = at else {
            return default;
        };
        let fits = |time: &Duration| *time <= LONGEST && (least == Least::Zero || !time.is_zero());
        match parse_seconds(&value.0).filter(fits) {
            Some(time) => time,
            None => {
                let expected = match least {
                    Least::Zero => "seconds from 0 to 86400, with up to 3 decimals",
                    Least::AboveZero => "seconds above 0 and up to 86400, with up to 3 decimals",
                };
                self.reject(place, &value.0, expected);
                default
            }
        }
    }

    /// Sats per 1,000,000 tokens, exact.
    pub(super) fn rate(&mut self, at: Option<&At<Number>>) -> Option<Rate> {
        const EXPECTED: &str = "sats per 1,000,000 tokens: a number from 0, with up to 3 decimals";
        self.money(at, EXPECTED, |text| Rate::from_str(text).ok())
    }

    /// Sats, exact.
    pub(super) fn sats(&mut self, at: Option<&At<Number>>) -> Option<Sats> {
        const EXPECTED: &str = "sats: a number from 0, with up to 9 decimals";
        let not_negative = |sats: &Sats| !sats.is_negative();
        self.money(at, EXPECTED, |text| {
            Sats::from_str(text).ok().filter(not_negative)
        })
    }

    fn money<T>(
        &mut self,
        at: Option<&At<Number>>,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let At { value, place } = at?;
        let amount = read(&value.0);
        if amount.is_none() {
            self.reject(place, &value.0, expected);
        }
        amount
    }
}

/// Whether no time at all is a sensible setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    /// It is.
    Zero,
    /// It would make every request fail.
    AboveZero,
}

/// The text as a name, if it can be one.
pub(super) fn name(text: &str) -> Option<String> {
    let is_name = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    is_name.then(|| text.to_owned())
}

/// `"a", "b" or "c"`.
fn alternatives<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A TOML integer without what TOML allows for readability.
fn digits(number: &str) -> String {
    number.trim_start_matches('+').replace('_', "")
}

fn parse_share(number: &str) -> Option<u32> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 6 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 1)?;
    let millionths: u32 = format!("{part:0<6}").parse().ok()?;
    Some(whole * 1_000_000 + millionths).filter(|share| *share <= 1_000_000)
}

fn parse_seconds(number: &str) -> Option<Duration> {
    let number = digits(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(fraction) || fraction.len() > 3 {
        return None;
    }
    let millis: u32 = format!("{fraction:0<3}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, millis * 1_000_000))
}

const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds_exactly() {
        for (text, millis) in [
            ("0", Some(0)),
            ("5", Some(5_000)),
            ("+1_000", Some(1_000_000)),
            ("0.25", Some(250)),
            ("1.005", Some(1_005)),
            ("1.0005", None),
            ("-1", None),
            ("1e3", None),
            ("inf", None),
            ("nan", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(
                parse_seconds(text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
