//! As a server speaks it: a request's head in, an answer's head and chunks out.

mod request;
mod response;

pub use request::{Head, HeadError, HeadReader};
pub use response::{Content, Ending, write_chunk, write_head, write_last_chunk};
