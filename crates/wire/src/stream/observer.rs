//! Reads a stream's events as they pass: usage, finish reasons, errors, `[DONE]`.
//!
//! An event is parsed only when a byte search finds something in it, or while the stream's `id` and `model` are not
//! known yet; one that is like the last one that taught nothing is not even searched. What is not JSON is counted and
//! otherwise skipped.

use std::borrow::Cow;
use std::ops::Range;

use super::needles;
use super::template::Template;
use crate::error::ErrorObject;
use crate::outline::Outline;
use crate::text_bytes;
use crate::usage::Usage;

/// What came first, for the gate that holds the client's status line back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstEvent {
    /// Nothing yet, or comments only.
    #[default]
    None,
    /// An event that is no error.
    Good,
    /// An event with a non-null top-level `error`.
    Error,
    /// `[DONE]` before anything else.
    Done,
}

/// What was learned from a stream so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation<'a> {
    /// The last usage reported.
    pub usage: Option<Usage>,
    /// The last finish reason of choice 0.
    pub finish_reason: Option<&'a str>,
    /// Whether `[DONE]` came.
    pub done: bool,
    /// Whether every choice has a finish reason.
    pub all_choices_finished: bool,
    /// The first error event.
    pub error: Option<&'a ErrorObject>,
    /// The last `id` that is not empty.
    pub id: Option<&'a str>,
    /// The last `model` that is not empty.
    pub model: Option<&'a str>,
    /// The last `created` that is not 0.
    pub created: Option<u64>,
    /// Events with data, without `[DONE]`.
    pub events: u64,
    /// Bytes of their data.
    pub data_bytes: u64,
    /// Bytes of what they say, escapes and tool calls included.
    pub text_bytes: u64,
    /// The observer panicked, and what it had learned is not trusted.
    pub lost: bool,
}

/// What an event's bytes need before they go to a client that did not ask for usage. Ranges are offsets in its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Keep,
    Drop,
    /// One cut, and any more that there are, in order.
    Cut(Range<usize>, Vec<Range<usize>>),
}

impl Edit {
    /// The edit that makes these cuts.
    pub(super) fn of(mut cuts: impl Iterator<Item = Range<usize>>) -> Self {
        cuts.next()
            .map_or(Self::Keep, |first| Self::Cut(first, cuts.collect()))
    }

    /// The cuts, in order.
    pub(super) fn cuts(&self) -> impl Iterator<Item = &Range<usize>> {
        let (first, rest) = match self {
            Self::Cut(first, rest) => (Some(first), rest.as_slice()),
            Self::Keep | Self::Drop => (None, &[][..]),
        };
        first.into_iter().chain(rest)
    }
}

/// How many events are parsed for an `id` and a `model` before the search is given up.
const IDENTITY_TRIES: u8 = 8;

/// Reads events, one after the other.
///
/// ```
/// use arbstr_wire::Observer;
/// let mut observer = Observer::new(1);
/// observer.observe(br#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#);
/// observer.observe(br#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
/// observer.observe(b"[DONE]");
/// let seen = observer.observation();
/// assert_eq!((seen.finish_reason, seen.done, seen.all_choices_finished), (Some("stop"), true, true));
/// ```
#[derive(Debug)]
pub struct Observer {
    choices: u32,
    usage: Option<Usage>,
    finish_reason: Option<Box<str>>,
    /// One bit per choice that has a finish reason.
    finished: u128,
    done: bool,
    error: Option<Box<ErrorObject>>,
    error_events: u32,
    id: Option<Box<str>>,
    model: Option<Box<str>>,
    created: Option<u64>,
    events: u64,
    data_bytes: u64,
    text_bytes: u64,
    first: FirstEvent,
    identity_tries: u8,
    lost: bool,
    template: Template,
}

impl Observer {
    /// An observer of a stream with that many choices.
    pub const fn new(choices: u32) -> Self {
        Self {
            choices,
            usage: None,
            finish_reason: None,
            finished: 0,
            done: false,
            error: None,
            error_events: 0,
            id: None,
            model: None,
            created: None,
            events: 0,
            data_bytes: 0,
            text_bytes: 0,
            first: FirstEvent::None,
            identity_tries: IDENTITY_TRIES,
            lost: false,
            template: Template::new(),
        }
    }

    /// Reads one event's data.
    pub fn observe(&mut self, data: &[u8]) {
        self.inspect(data, false);
    }

    /// What was learned so far.
    pub fn observation(&self) -> Observation<'_> {
        let trusted = !self.lost;
        Observation {
            usage: self.usage.filter(|_| trusted),
            finish_reason: self.finish_reason.as_deref().filter(|_| trusted),
            done: self.done,
            all_choices_finished: trusted && self.all_choices_finished(),
            error: self.error.as_deref(),
            id: self.id.as_deref(),
            model: self.model.as_deref(),
            created: self.created,
            events: self.events,
            data_bytes: self.data_bytes,
            text_bytes: self.text_bytes,
            lost: self.lost,
        }
    }

    /// How many error events came.
    pub(super) const fn error_events(&self) -> u32 {
        self.error_events
    }

    /// What came first.
    pub const fn first_event(&self) -> FirstEvent {
        self.first
    }

    /// Reads one event's data, and says what a client that did not ask for usage must not see of it.
    pub(super) fn inspect(&mut self, data: &[u8], hide_usage: bool) -> Edit {
        if is_done(data) {
            self.mark_done();
            return Edit::Keep;
        }
        if data.is_empty() {
            return Edit::Keep;
        }
        self.count(data.len() as u64);
        if let Some(edit) = self.template.recognise(data) {
            self.text_bytes += self.template.text_bytes(data.len());
            return edit;
        }
        let said_before = self.text_bytes;
        let (edit, taught) = self.read(data, hide_usage);
        if taught {
            // It may have brought names that the likes of the one remembered take back.
            self.template.forget();
        } else {
            let said = self.text_bytes - said_before;
            self.template.adopt(data, said, &edit);
        }
        edit
    }

    /// `[DONE]` came.
    pub(super) fn mark_done(&mut self) {
        self.first_is(FirstEvent::Done);
        self.done = true;
    }

    /// An event that is too large to be read has begun, as an error or not.
    pub(super) fn mark_overflowing(&mut self, is_error: bool) {
        self.first_is(if is_error {
            FirstEvent::Error
        } else {
            FirstEvent::Good
        });
        if is_error && self.error.is_none() {
            let error = ErrorObject {
                message: "an error event too large to be read".to_owned(),
                ..ErrorObject::default()
            };
            self.error = Some(Box::new(error));
        }
    }

    /// Such an event has ended.
    pub(super) fn observe_overflow(&mut self, bytes: u64, is_error: bool) {
        self.count(bytes);
        self.text_bytes += bytes;
        self.mark_overflowing(is_error);
    }

    /// The observer panicked: nothing more is learned, and the gate must not wait for it.
    pub(super) fn mark_lost(&mut self) {
        self.lost = true;
        self.first_is(FirstEvent::Good);
    }

    pub(super) const fn observation_is_lost(&self) -> bool {
        self.lost
    }

    /// Of more choices than there are bits nobody knows; their stream is whole with `[DONE]` alone.
    fn all_choices_finished(&self) -> bool {
        self.finished.count_ones() >= self.choices.max(1)
    }

    /// Reads an event that is like no other: what a client must not see of it, and whether its likes may be worth reading.
    fn read(&mut self, data: &[u8], hide_usage: bool) -> (Edit, bool) {
        let outline = if self.is_worth_parsing(data, hide_usage) {
            Outline::read(data).ok().flatten()
        } else {
            None
        };
        let Some(outline) = outline else {
            self.text_bytes += text_bytes::in_chunk(data);
            self.first_is(FirstEvent::Good);
            return (Edit::Keep, false);
        };
        self.text_bytes += outline.text_bytes;
        self.learn(data, &outline);
        let edit = match (hide_usage, outline.choices, outline.has_usage) {
            (false, ..) => Edit::Keep,
            (true, Some(0), true) if outline.error.is_none() => Edit::Drop,
            (true, ..) => Edit::of(outline.null_usages.iter().cloned()),
        };
        (edit, outline.teaches() || needles::escaped_key_in(data))
    }

    fn is_worth_parsing(&mut self, data: &[u8], hide_usage: bool) -> bool {
        let unknown = self.identity_tries > 0 && (self.id.is_none() || self.model.is_none());
        self.identity_tries -= u8::from(unknown);
        unknown || self.renames(data) || needles::any_in(data, hide_usage)
    }

    /// Whether the chunk may name another `id` or `model` than the last: the known one is not in it as a string.
    fn renames(&self, data: &[u8]) -> bool {
        let known = [self.id.as_deref(), self.model.as_deref()];
        known
            .into_iter()
            .flatten()
            .any(|name| !has_string(data, name.as_bytes()))
    }

    fn learn(&mut self, data: &[u8], outline: &Outline<'_>) {
        let error = match &outline.error {
            Some(error) => Some(ErrorObject::of_error_member(&data[error.clone()])),
            // What stands in the place of an answer need not be told as the standard has it.
            None if self.first == FirstEvent::None && outline.choices.is_none() => {
                ErrorObject::of_event_without_choices(data)
            }
            None => None,
        };
        self.error_events += u32::from(error.is_some());
        self.first_is(if error.is_some() {
            FirstEvent::Error
        } else {
            FirstEvent::Good
        });
        if self.error.is_none() {
            self.error = error.map(Box::new);
        }
        self.usage = outline.usage().or(self.usage);
        self.finished |= outline.finished;
        if let Some(reason) = outline.finish {
            self.finish_reason = reason
                .decode()
                .map(Cow::into_owned)
                .map(String::into_boxed_str);
        }
        replace(&mut self.id, outline.id());
        replace(&mut self.model, outline.model());
        self.created = outline.created().or(self.created);
    }

    const fn count(&mut self, bytes: u64) {
        self.events += 1;
        self.data_bytes += bytes;
    }

    fn first_is(&mut self, first: FirstEvent) {
        if self.first == FirstEvent::None {
            self.first = first;
        }
    }
}

/// Whether an event's data is the end marker.
pub(super) fn is_done(data: &[u8]) -> bool {
    data.len() <= 16 && data.trim_ascii() == b"[DONE]"
}

/// Whether a string of that text stands in `data`; one with escapes is not found, which costs a parse.
fn has_string(data: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find_iter(data, text).any(|at| {
        let end = at + text.len();
        at > 0 && data[at - 1] == b'"' && data.get(end) == Some(&b'"')
    })
}

/// Allocates only when the value is not the one already there, as it nearly always is.
fn replace(slot: &mut Option<Box<str>>, found: Option<Cow<'_, str>>) {
    if let Some(found) = found
        && slot.as_deref() != Some(&*found)
    {
        *slot = Some(found.into_owned().into_boxed_str());
    }
}

#[cfg(test)]
mod tests;
