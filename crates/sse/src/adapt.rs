//! The parser behind the traits of the async world; each adapter has a feature of its own and adds no task or timer.

#[cfg(feature = "http-body")]
mod body;
#[cfg(feature = "stream")]
mod stream;

#[cfg(feature = "http-body")]
pub use body::{Observe, Observed};
#[cfg(feature = "stream")]
pub use stream::{EventStream, OwnedEvent, StreamError};
