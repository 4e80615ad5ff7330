//! One buffer a thread for reading sockets into.
//!
//! What is read is copied on from here in its true size, so that a connection that waits holds no buffer of its own.

use std::cell::RefCell;

/// Lends the thread's buffer of [`BYTES`]. Not to be called again from within `read`.
pub(crate) fn lend<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| read(buffer))
}

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BYTES].into_boxed_slice());
}

/// Its size.
pub(crate) const BYTES: usize = 64 * 1024;
