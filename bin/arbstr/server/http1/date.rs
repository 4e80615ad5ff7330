//! The time as an answer's `date` has it (RFC 9110, section 5.6.7). The text of a second is written once a thread.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::clock;

/// Lends the text of now.
pub(super) fn with<R>(read: impl FnOnce(&[u8]) -> R) -> R {
    let second = clock::unix_ms().div_euclid(1000);
    TEXT.with_borrow_mut(|(of, text)| {
        if *of != second {
            *of = second;
            *text = Timestamp::from_second(second)
                .and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now))
                .unwrap_or_default();
        }
        read(text.as_bytes())
    })
}

thread_local! {
    static TEXT: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}
