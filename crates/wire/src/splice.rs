//! The body that goes upstream: the client's own bytes but for two spans.
//!
//! `model` becomes the provider's own name where that differs, and a streaming request asks for usage where it says
//! nothing about it. Nothing is re-serialised, so big integers, escapes, order and unknown members stay as they were.

use std::ops::Range;

use bytes::Bytes;

use crate::error::quote;

/// Where one body is to be edited. Found once, applied for each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splicer {
    model: Span,
    usage: UsageSpot,
}

/// What one attempt wants changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The provider's own name for the model; `None` keeps the client's.
    pub model: Option<&'a str>,
    /// Whether a stream that says nothing about usage shall ask for it; `false` for a provider that refuses to be asked.
    pub include_usage: bool,
}

/// A body for upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spliced {
    /// The body; the very buffer that came in when nothing had to change.
    pub body: Bytes,
    /// Whether it now asks for usage that the client did not mention.
    pub injected_usage: bool,
}

impl Splicer {
    pub(crate) fn new(model: Range<usize>, usage: UsageSpot) -> Self {
        Self {
            model: model.into(),
            usage,
        }
    }

    /// Edits `body`, which must be the one that was parsed.
    pub fn apply(&self, body: &Bytes, edits: &Edits<'_>) -> Spliced {
        self.apply_with(body, edits, |pieces| pieces.concat().into())
    }

    /// The same in memory of the caller's choosing: where something changes, `join` makes one body of its pieces.
    pub fn apply_with(
        &self,
        body: &Bytes,
        edits: &Edits<'_>,
        join: impl FnOnce(&[&[u8]]) -> Bytes,
    ) -> Spliced {
        let model = edits
            .model
            .map(quote)
            .filter(|name| name.as_bytes() != &body[self.model.range()]);
        let usage = if edits.include_usage {
            self.usage.edit()
        } else {
            None
        };
        let injected_usage = usage.is_some();
        if model.is_none() && usage.is_none() {
            return Spliced {
                body: body.clone(),
                injected_usage,
            };
        }
        let mut edits: Vec<(Range<usize>, &[u8])> = Vec::with_capacity(2);
        edits.extend(
            model
                .as_deref()
                .map(|name| (self.model.range(), name.as_bytes())),
        );
        edits.extend(usage.map(|(range, text)| (range, text.as_bytes())));
        edits.sort_by_key(|(range, _)| range.start);
        Spliced {
            body: join(&pieces(body, &edits)),
            injected_usage,
        }
    }
}

/// How a body comes to ask for usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageSpot {
    /// It is no stream, or says itself whether it wants usage.
    Unwanted,
    /// There are no `stream_options`: they go behind the member that ends at `after`.
    NewMember { after: usize },
    /// `stream_options` is `null` and becomes an object.
    Object { span: Span },
    /// `stream_options` gains a first member at `at`.
    FirstMember { at: usize, alone: bool },
    /// `include_usage` is `null` and becomes `true`.
    Value { span: Span },
}

impl UsageSpot {
    fn edit(self) -> Option<(Range<usize>, &'static str)> {
        Some(match self {
            Self::Unwanted => return None,
            Self::NewMember { after } => {
                (after..after, r#","stream_options":{"include_usage":true}"#)
            }
            Self::Object { span } => (span.range(), r#"{"include_usage":true}"#),
            Self::FirstMember { at, alone: true } => (at..at, r#""include_usage":true"#),
            Self::FirstMember { at, alone: false } => (at..at, r#""include_usage":true,"#),
            Self::Value { span } => (span.range(), "true"),
        })
    }
}

/// A range that can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// What replacing sorted, disjoint ranges leaves, in pieces.
fn pieces<'a>(body: &'a [u8], edits: &[(Range<usize>, &'a [u8])]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::with_capacity(2 * edits.len() + 1);
    let mut taken = 0;
    for (range, text) in edits {
        pieces.extend([&body[taken..range.start], text]);
        taken = range.end;
    }
    pieces.push(&body[taken..]);
    pieces
}

#[cfg(test)]
mod tests;
