//! Finds the members that arbstr reads in a request, and reads them strictly.
//!
//! Twice the same member is refused: arbstr and the provider might each read another one of the two.

use std::borrow::Cow;
use std::ops::Range;

use super::{Endpoint, RequestError, StreamOptions};
use crate::completions;
use crate::json::{self, Cursor, Kind, LongStrings, Walked};
use crate::splice::UsageSpot;

/// The members that arbstr reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    Model,
    Stream,
    StreamOptions,
    MaxCompletionTokens,
    MaxTokens,
    N,
    Tools,
    Functions,
    ResponseFormat,
    Text,
}

const NAMES: [(&str, Name); 9] = [
    ("model", Name::Model),
    ("stream", Name::Stream),
    ("stream_options", Name::StreamOptions),
    ("max_completion_tokens", Name::MaxCompletionTokens),
    ("max_tokens", Name::MaxTokens),
    ("n", Name::N),
    ("tools", Name::Tools),
    ("functions", Name::Functions),
    ("response_format", Name::ResponseFormat),
];

const INCLUDE_USAGE: &str = "stream_options.include_usage";

/// Where the values of those members lie.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Found on the way.
    long: LongStrings,
    spans: [Option<Range<usize>>; NAMES.len() + 1],
}

impl Members {
    pub(super) fn find(endpoint: Endpoint, body: &[u8]) -> Result<Self, RequestError> {
        let mut cursor = Cursor::noting(body);
        if cursor.peek().map_err(RequestError::NotJson)? != Kind::Object {
            return json::check(body)
                .map_err(RequestError::NotJson)
                .and(Err(RequestError::NotAnObject));
        }
        let mut members = Self::default();
        cursor.open_object().map_err(RequestError::NotJson)?;
        while let Some(key) = cursor.next_key().map_err(RequestError::NotJson)? {
            let value = cursor.skip().map_err(RequestError::NotJson)?;
            if let Some((param, name)) = known(endpoint, &key.name())
                && members.spans[name as usize].replace(value).is_some()
            {
                return Err(RequestError::Twice { param });
            }
        }
        cursor.end().map_err(RequestError::NotJson)?;
        members.long = cursor.into_noted();
        Ok(members)
    }

    pub(super) fn model<'a>(&self, body: &'a [u8]) -> Result<Cow<'a, str>, RequestError> {
        let param = "model";
        let span = self.spans[Name::Model as usize]
            .as_ref()
            .ok_or(RequestError::Missing { param })?;
        let string = Cursor::at(body, span.start).string().ok();
        let model = string
            .and_then(|string| string.decode())
            .filter(|model| !model.is_empty());
        model.ok_or(RequestError::WrongType {
            param,
            expected: "a non-empty string",
        })
    }

    pub(super) fn bool(&self, body: &[u8], name: Name) -> Result<Option<bool>, RequestError> {
        self.value(body, name)
            .map(|value| bool_of(value, NAMES[name as usize].0))
            .transpose()
    }

    /// A number that is no whole one is the provider's to judge; what is no number at all is refused.
    pub(super) fn number(&self, body: &[u8], name: Name) -> Result<Option<u64>, RequestError> {
        let Some(value) = self.value(body, name) else {
            return Ok(None);
        };
        match json::kind_of(value, 0) {
            Some(Kind::Number) => Ok(json::whole_number(value)),
            _ => Err(RequestError::WrongType {
                param: NAMES[name as usize].0,
                expected: "an integer",
            }),
        }
    }

    pub(super) fn max_output_tokens(&self, body: &[u8]) -> Result<Option<u64>, RequestError> {
        let old = self.number(body, Name::MaxTokens)?;
        Ok(self.number(body, Name::MaxCompletionTokens)?.or(old))
    }

    pub(super) fn choices(&self, endpoint: Endpoint, text: &str) -> Result<u32, RequestError> {
        let n = self.number(text.as_bytes(), Name::N)?.unwrap_or(1).max(1);
        let prompts = match (endpoint, &self.spans[Name::Text as usize]) {
            (Endpoint::Completions, Some(prompt)) => {
                completions::survey(self.walked(text), prompt.start, &mut |_| {})
                    .messages
                    .max(1)
            }
            _ => 1,
        };
        Ok(u32::try_from(n.saturating_mul(prompts)).unwrap_or(u32::MAX))
    }

    pub(super) fn stream_options(
        &self,
        body: &[u8],
        stream: bool,
    ) -> Result<(StreamOptions, UsageSpot), RequestError> {
        let absent = StreamOptions::Absent;
        let Some(span) = self.spans[Name::StreamOptions as usize].clone() else {
            let spot = if stream {
                UsageSpot::NewMember {
                    after: self.required(Name::Stream).end,
                }
            } else {
                UsageSpot::Unwanted
            };
            return Ok((absent, spot));
        };
        match json::kind_of(body, span.start) {
            Some(Kind::Null) => Ok((
                absent,
                wanted_if(stream, UsageSpot::Object { span: span.into() }),
            )),
            Some(Kind::Object) => read_stream_options(body, span.start, stream),
            _ => Err(RequestError::WrongType {
                param: "stream_options",
                expected: "an object",
            }),
        }
    }

    pub(super) fn check_text(&self, endpoint: Endpoint, body: &[u8]) -> Result<(), RequestError> {
        let param = endpoint.text_member();
        let kind = self
            .value(body, Name::Text)
            .and_then(|value| json::kind_of(value, 0));
        match (endpoint, kind) {
            (Endpoint::Chat, Some(Kind::Array)) => Ok(()),
            (Endpoint::Chat, Some(_)) => Err(RequestError::WrongType {
                param,
                expected: "an array",
            }),
            (Endpoint::Completions, None) => Ok(()),
            (_, None) => Err(RequestError::Missing { param }),
            (_, Some(Kind::String | Kind::Array)) => Ok(()),
            (_, Some(_)) => Err(RequestError::WrongType {
                param,
                expected: "a string or an array",
            }),
        }
    }

    /// The value's bytes, unless it is absent or `null`.
    pub(super) fn value<'a>(&self, body: &'a [u8], name: Name) -> Option<&'a [u8]> {
        let span = self.spans[name as usize].clone()?;
        Some(&body[span]).filter(|value| *value != b"null")
    }

    /// Whether the value is there and is not an empty array.
    pub(super) fn offers(&self, body: &[u8], name: Name) -> bool {
        self.value(body, name)
            .is_some_and(|value| !is_empty_array(value))
    }

    /// `text`, which must be the one that they were found in.
    pub(super) const fn walked<'a>(&self, text: &'a str) -> Walked<'a, '_> {
        Walked {
            text,
            long: &self.long,
        }
    }

    /// Where the value begins.
    pub(super) fn offset(&self, name: Name) -> Option<usize> {
        self.spans[name as usize].as_ref().map(|span| span.start)
    }

    pub(super) fn required(&self, name: Name) -> Range<usize> {
        self.spans[name as usize].clone().unwrap_or_default()
    }
}

fn known(endpoint: Endpoint, key: &[u8]) -> Option<(&'static str, Name)> {
    if key == endpoint.text_member().as_bytes() {
        return Some((endpoint.text_member(), Name::Text));
    }
    NAMES
        .iter()
        .find(|(name, _)| name.as_bytes() == key)
        .copied()
}

fn read_stream_options(
    body: &[u8],
    start: usize,
    stream: bool,
) -> Result<(StreamOptions, UsageSpot), RequestError> {
    let mut cursor = Cursor::at(body, start);
    let mut empty = true;
    let mut found = None;
    cursor.open_object().map_err(RequestError::NotJson)?;
    let inside = cursor.offset();
    while let Some(key) = cursor.next_key().map_err(RequestError::NotJson)? {
        let value = cursor.skip().map_err(RequestError::NotJson)?;
        empty = false;
        if key.is("include_usage") && found.replace(value).is_some() {
            return Err(RequestError::Twice {
                param: INCLUDE_USAGE,
            });
        }
    }
    let present = |include_usage| StreamOptions::Present { include_usage };
    match found {
        None => Ok((
            present(None),
            wanted_if(
                stream,
                UsageSpot::FirstMember {
                    at: inside,
                    alone: empty,
                },
            ),
        )),
        Some(span) if &body[span.clone()] == b"null" => Ok((
            present(None),
            wanted_if(stream, UsageSpot::Value { span: span.into() }),
        )),
        Some(span) => Ok((
            present(Some(bool_of(&body[span], INCLUDE_USAGE)?)),
            UsageSpot::Unwanted,
        )),
    }
}

const fn wanted_if(stream: bool, spot: UsageSpot) -> UsageSpot {
    if stream { spot } else { UsageSpot::Unwanted }
}

fn bool_of(value: &[u8], param: &'static str) -> Result<bool, RequestError> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(RequestError::WrongType {
            param,
            expected: "a boolean",
        }),
    }
}

fn is_empty_array(value: &[u8]) -> bool {
    let inner = value
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    inner.is_some_and(|inner| inner.iter().all(u8::is_ascii_whitespace))
}
