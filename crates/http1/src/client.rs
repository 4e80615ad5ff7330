//! As a client speaks it: a request's head out, an answer's head in.

mod request;
mod response;

pub use request::Opening;
pub use response::{Head, HeadError, HeadReader};
