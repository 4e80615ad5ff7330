//! Cuts a byte stream into server-sent events, whatever the chunking.
//!
//! [`Parser`] is pushed chunks of any size and lends each event as spans of the caller's own chunk where it can. It
//! reads as WHATWG HTML says: [9.2.5] for lines and fields, [9.2.6] for what they mean. It does no I/O, needs no
//! executor, never fails on any input, and holds at most one event of a bounded size.
//!
//! ```
//! use arbstr_sse::{Item, Limits, Parser};
//!
//! let mut parser = Parser::new(Limits::default());
//! let mut input: &[u8] = b"event: greeting\ndata: hello\n\ndata: half an ev";
//! while let Some(item) = parser.next(&mut input) {
//!     if let Item::Event(event) = item {
//!         assert_eq!(event.event_type(), b"greeting");
//!         assert_eq!(event.data_str(), "hello");
//!         assert_eq!(event.span(), 0..29);
//!         assert_eq!(event.data_span(), Some(22..27));
//!     }
//! }
//! assert_eq!(parser.pending_from(), 29, "where the unfinished event began");
//! ```
//!
//! # What the standard says, and where
//!
//! |rule|section|
//! |-|-|
//! |one leading BOM is ignored; CR, LF and CRLF end lines, also when CRLF is cut in two|9.2.5|
//! |an empty line dispatches; a line that starts with a colon is a comment; one space after the colon is not data|9.2.6|
//! |`id` with a NUL is ignored, otherwise it lasts until the next; it counts even in a block without data|9.2.6|
//! |`retry` counts if it is ASCII digits only, at once|9.2.6|
//! |other names are ignored; U+2028 and the like end no line|9.2.5, 9.2.6|
//! |what is not UTF-8 reads as U+FFFD and is never an error|9.2.5, by "UTF-8 decode"|
//! |a block unterminated at the end is discarded; [`Parser::finish`] lends it to who wants it|9.2.6|
//!
//! # Features
//!
//! |feature|default|gives|
//! |-|-|-|
//! |`std`|yes|searches that choose the processor's widest instructions at run time; the crate is `no_std` all the same|
//! |`simdutf8`|yes|a faster check of text|
//! |`stream`|no|[`adapt::EventStream`](crate::adapt), over `futures_core::Stream`|
//! |`http-body`|no|[`adapt::Observed`](crate::adapt), over `http_body::Body`|
//!
//! [9.2.5]: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
//! [9.2.6]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod adapt;
pub mod encode;
mod event;
mod limit;
mod line;
mod scanner;

pub use event::{Event, Item};
pub use limit::{Limits, Overflow};
pub use scanner::Parser;

/// The programs of the README, so that they keep compiling.
#[cfg(all(doctest, feature = "http-body", feature = "stream"))]
#[doc = include_str!("../README.md")]
struct Readme;
