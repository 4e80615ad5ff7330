//! The plain reading of a stream that the fast one is held against: every line split, every event parsed.

use arbstr_wire::{ReportedCost, Usage};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, Value};

/// What a plain reading finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) usage: Option<Usage>,
    /// All finish reasons, in order.
    pub(crate) finish_reasons: Vec<String>,
    /// The last one of choice 0.
    pub(crate) finish_reason: Option<String>,
    pub(crate) done: bool,
    pub(crate) errors: usize,
    pub(crate) events: u64,
    pub(crate) data_bytes: u64,
    /// The events' data, as a client reads them, up to `[DONE]`.
    pub(crate) data: Vec<Vec<u8>>,
}

/// The members of an object in order, duplicates and all, values as text.
pub(crate) struct Members(pub(crate) Vec<(String, Box<RawValue>)>);

impl Members {
    pub(crate) fn of(raw: &str) -> Option<Self> {
        serde_json::from_str(raw).ok()
    }

    /// The last member of that name whose value is accepted.
    pub(crate) fn last(&self, name: &str, accept: impl Fn(&str) -> bool) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.get())
            .find(|value| accept(value))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

pub(crate) fn is_object(value: &str) -> bool {
    value.starts_with('{')
}

/// The data of each event that a blank line ends, by the rules of the standard.
pub(crate) fn events(stream: &[u8]) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut events = Vec::new();
    let mut data: Option<Vec<u8>> = None;
    for line in lines(stream) {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (
                &line[..colon],
                line[colon + 1..]
                    .strip_prefix(b" ")
                    .unwrap_or_else(|| &line[colon + 1..]),
            ),
            None => (line, &b""[..]),
        };
        if line.is_empty() {
            events.extend(data.take());
        } else if field == b"data" {
            match &mut data {
                Some(data) => data.extend([b"\n", value].concat()),
                None => data = Some(value.to_vec()),
            }
        }
    }
    events
}

/// The lines that have an end: LF, CR or CRLF.
fn lines(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&rest[..end]);
        let crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(crlf)..];
    }
    lines
}

/// Reads a whole stream the slow way.
pub(crate) fn read(stream: &[u8]) -> Plain {
    let mut plain = Plain::default();
    for data in events(stream) {
        if data.trim_ascii() == b"[DONE]" {
            plain.done = true;
            break;
        }
        if !data.is_empty() {
            plain.event(&data);
        }
        plain.data.push(data);
    }
    plain
}

impl Plain {
    fn event(&mut self, data: &[u8]) {
        self.events += 1;
        self.data_bytes += data.len() as u64;
        let text = String::from_utf8_lossy(data);
        let Some(members) = Members::of(&text) else {
            return;
        };
        let choices = members.last("choices", |value| value.starts_with('['));
        self.errors += usize::from(is_error(&members, choices.is_some()));
        let choices: Vec<&RawValue> = choices
            .map(|choices| serde_json::from_str(choices).expect("part of valid JSON"))
            .unwrap_or_default();
        let mut usage_of_choice = None;
        for (place, choice) in choices.iter().enumerate() {
            let Some(choice) = Members::of(choice.get()) else {
                continue;
            };
            let index = choice
                .last("index", is_number)
                .map_or(place as f64, |index| index.parse().expect("a JSON number"));
            usage_of_choice = choice
                .last("usage", is_object)
                .map(str::to_owned)
                .or(usage_of_choice);
            if let Some(reason) = choice
                .last("finish_reason", |value| value.starts_with('"'))
                .filter(|reason| *reason != "\"\"")
            {
                let reason: Option<String> = serde_json::from_str(reason).ok();
                self.finish_reasons.extend(reason.clone());
                if index == 0.0 {
                    self.finish_reason = reason;
                }
            }
        }
        let places = [members.last("usage", is_object), usage_of_choice.as_deref()];
        let usage = places
            .into_iter()
            .flatten()
            .find_map(|usage| Usage::read(usage.as_bytes()));
        self.usage = usage
            .map(|usage| usage.or_reported_cost(stated_cost(&members)))
            .or(self.usage);
    }
}

/// An `error` that says something, or stands in the place of an answer, as an object does that calls itself one.
fn is_error(members: &Members, has_choices: bool) -> bool {
    let of_name = members.last("object", |value| value.starts_with('"')) == Some("\"error\"");
    let empty = ["\"\"", "{}", "[]", "false"];
    match members.last("error", |value| value != "null") {
        Some(error) => {
            let error: Value = serde_json::from_str(error).expect("part of valid JSON");
            !has_choices || !empty.contains(&&*error.to_string())
        }
        None => of_name && !has_choices,
    }
}

/// A cost object beside the usage.
fn stated_cost(members: &Members) -> Option<ReportedCost> {
    let cost = Members::of(members.last("cost", is_object)?)?;
    ReportedCost::from_msats_header(cost.last("total_msats", is_number)?)
}

fn is_number(value: &str) -> bool {
    value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}
