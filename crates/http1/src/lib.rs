//! HTTP/1.1 without I/O, as a [`client`] speaks it and as a [`server`] does: heads in, heads out, and the bodies between.
//!
//! A general client reads a chunked body one chunk at a time, and a stream of events is one chunk an event: joined here
//! are all chunks that one read brought. Nothing is kept between two reads but the state of the framing, so that a silent
//! stream holds no buffer.
//!
//! ```
//! use arbstr_http1::{BodyReader, client};
//!
//! let wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
//! let (head, length) = client::HeadReader::default().push(wire)?.expect("the head is whole");
//! assert_eq!(head.status, 200);
//!
//! let mut body = BodyReader::new(head.framing);
//! let mut data = Vec::new();
//! body.push(&wire[length..], &mut data)?;
//! assert_eq!(data, b"hello!");
//! assert!(body.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
pub mod client;
mod fields;
mod gather;
pub mod server;
mod write;

pub use body::{BodyError, BodyReader, Framing};
pub use gather::MAX_HEAD;
