//! Writes events so that a parser reads back what was meant, whatever the text contains.
//!
//! A line break inside a value would end the line early and let the rest be read as fields of its own. Data is
//! therefore written one `data` line for each of its lines, and an event type or id with a line break is refused.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use memchr::memchr2;

/// One event to be written.
///
/// ```
/// use arbstr_sse::encode::Message;
///
/// let mut out = Vec::new();
/// Message::new().event("note")?.id("7")?.data("two\nlines").write_to(&mut out);
/// assert_eq!(out, b"event: note\nid: 7\ndata: two\ndata: lines\n\n");
/// # Ok::<(), arbstr_sse::encode::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Message<'a> {
    event: Option<&'a str>,
    id: Option<&'a str>,
    retry: Option<Duration>,
    data: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// A message without any field, which writes a blank line alone.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            event: None,
            id: None,
            retry: None,
            data: None,
        }
    }

    /// Names the event's type.
    ///
    /// # Errors
    /// [`Error::LineBreak`] when `event` has a CR or LF.
    pub fn event(self, event: &'a str) -> Result<Self, Error> {
        check_line(event)?;
        Ok(Self {
            event: Some(event),
            ..self
        })
    }

    /// Sets the last event id; the empty one resets it.
    ///
    /// # Errors
    /// [`Error::LineBreak`] when `id` has a CR or LF, [`Error::Nul`] when it has a NUL, which readers ignore.
    pub fn id(self, id: &'a str) -> Result<Self, Error> {
        check_line(id)?;
        if memchr::memchr(0, id.as_bytes()).is_some() {
            return Err(Error::Nul);
        }
        Ok(Self {
            id: Some(id),
            ..self
        })
    }

    /// Sets the reconnection time, in whole milliseconds; more than a `u64` holds are read back as that.
    #[must_use]
    pub const fn retry(self, retry: Duration) -> Self {
        Self {
            retry: Some(retry),
            ..self
        }
    }

    /// Sets the data. Every CR, LF and CRLF in it reads back as one LF: the format has no other line break.
    #[must_use]
    pub fn data(self, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            data: Some(data.as_ref()),
            ..self
        }
    }

    /// Appends the event and the blank line that dispatches it. Without [data](Self::data) readers dispatch none, and take
    /// the id and the retry time alone.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        if let Some(event) = self.event {
            write_field(out, b"event", event.as_bytes());
        }
        if let Some(id) = self.id {
            write_field(out, b"id", id.as_bytes());
        }
        if let Some(retry) = self.retry {
            write_field(out, b"retry", retry.as_millis().to_string().as_bytes());
        }
        if let Some(data) = self.data {
            write_lines(out, b"data", data);
        }
        out.push(b'\n');
    }
}

/// Why a message would not read back as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The value has a CR or LF, which would end its line.
    LineBreak,
    /// The id has a NUL, for which readers ignore it.
    Nul,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineBreak => "line break in a value of one line",
            Self::Nul => "NUL in an event id",
        })
    }
}

impl core::error::Error for Error {}

/// Appends an event of nothing but `data`.
pub fn data(out: &mut Vec<u8>, data: &[u8]) {
    write_lines(out, b"data", data);
    out.push(b'\n');
}

/// Appends a comment, which readers ignore: one line for each line of `text`.
///
/// A comment between events keeps a connection alive. One line end follows it, not a blank line, so that it may also
/// stand before an event's fields.
pub fn comment(out: &mut Vec<u8>, text: &str) {
    write_lines(out, b"", text.as_bytes());
}

fn write_lines(out: &mut Vec<u8>, name: &[u8], mut text: &[u8]) {
    while let Some(end) = memchr2(b'\r', b'\n', text) {
        write_field(out, name, &text[..end]);
        let crlf = text[end..].starts_with(b"\r\n");
        text = &text[end + 1 + usize::from(crlf)..];
    }
    write_field(out, name, text);
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 3);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn check_line(value: &str) -> Result<(), Error> {
    match memchr2(b'\r', b'\n', value.as_bytes()) {
        Some(_) => Err(Error::LineBreak),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, Limits, Parser};
    use alloc::string::String;
    use proptest::prelude::*;

    #[test]
    fn writes_each_field_on_its_line() {
        let mut out = Vec::new();
        let retry = Duration::from_millis(1500);
        let message = Message::new().event("a b").unwrap().id("").unwrap();
        message.retry(retry).data(" x").write_to(&mut out);
        assert_eq!(out, b"event: a b\nid: \nretry: 1500\ndata:  x\n\n");
    }

    #[test]
    fn refuses_what_would_not_read_back() {
        let new = Message::new();
        for text in ["a\nb", "a\r", "\r\nid: 1"] {
            assert_eq!(new.event(text), Err(Error::LineBreak), "{text:?}");
            assert_eq!(new.id(text), Err(Error::LineBreak), "{text:?}");
        }
        assert_eq!(new.id("a\0"), Err(Error::Nul));
        assert!(new.event("a\0").is_ok(), "only an id is ignored for a NUL");
    }

    #[test]
    fn data_cannot_inject_fields() {
        for text in [
            "x\nevent: evil",
            "x\rid: evil",
            "x\r\n\r\ndata: evil",
            "\n\n",
        ] {
            let mut out = Vec::new();
            data(&mut out, text.as_bytes());
            let lines = text.replace("\r\n", "\n").replace('\r', "\n");
            assert_eq!(read_back(&out), [(String::from("message"), lines)]);
        }
    }

    #[test]
    fn comments_dispatch_nothing() {
        let mut out = Vec::new();
        comment(&mut out, "ping\ndata: evil\n\ndata: evil");
        data(&mut out, b"real");
        assert_eq!(out.iter().filter(|byte| **byte == b':').count(), 7);
        assert_eq!(read_back(&out), [("message".into(), "real".into())]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(event in "[^\r\n]{0,12}", id in "[^\r\n\0]{0,12}", text in "\\PC{0,9}|[ :\r\na]{0,20}") {
            let mut out = Vec::new();
            let message = Message::new().event(&event).unwrap().id(&id).unwrap();
            message.data(&text).write_to(&mut out);
            let mut parser = Parser::new(Limits::default());
            let mut input = &out[..];
            let Some(Item::Event(read)) = parser.next(&mut input) else {
                panic!("no event in {out:?}");
            };
            let lines = text.replace("\r\n", "\n").replace('\r', "\n");
            let name = if event.is_empty() { "message" } else { &event };
            prop_assert_eq!(read.event_type_str(), name);
            prop_assert_eq!(read.id_str(), id.as_str());
            prop_assert_eq!(read.data_str(), lines);
            prop_assert!(input.is_empty());
        }
    }

    fn read_back(mut input: &[u8]) -> Vec<(String, String)> {
        let mut parser = Parser::new(Limits::default());
        let mut events = Vec::new();
        while let Some(item) = parser.next(&mut input) {
            if let Item::Event(event) = item {
                events.push((event.event_type_str().into(), event.data_str().into()));
            }
        }
        events
    }
}
