//! What the beginning of an event tells that is too large to be held and read.
//!
//! A provider that quotes a long prompt in its error passes any limit. Such an error must still be told from an answer,
//! or a client gets it where another provider would have served.

use crate::json::{Cursor, Kind};
use crate::outline::is_empty;

/// Whether the block of lines that begins so is an event whose data is an object with an `error` in front that says
/// something. Whether choices stand beside an empty one is not known yet, but something long does, and that is an answer.
pub(super) fn is_error(head: &[u8]) -> bool {
    let data = data(head);
    let mut cursor = Cursor::new(&data);
    if cursor.open_object().is_err() {
        return false;
    }
    match cursor.next_key() {
        Ok(Some(key)) if key.is("error") => says_something(&mut cursor),
        _ => false,
    }
}

/// Whether the value here is neither null nor empty; one that goes on behind what is at hand is not.
fn says_something(cursor: &mut Cursor<'_>) -> bool {
    match cursor.peek() {
        Err(_) | Ok(Kind::Null) => false,
        Ok(_) => cursor
            .slice_skipped()
            .map_or(true, |value| !is_empty(value)),
    }
}

/// The lines of data in the block, the last perhaps cut short.
fn data(head: &[u8]) -> Vec<u8> {
    let lines = head.split(|byte| matches!(byte, b'\r' | b'\n'));
    let contents: Vec<&[u8]> = lines
        .filter_map(|line| line.strip_prefix(b"data:"))
        .collect();
    contents.join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::is_error;

    #[test]
    fn only_an_error_in_front_that_says_something_is_one() {
        for (head, expected) in [
            ("data: {\"error\":{\"message\":\"too long: ", true),
            ("data:{ \"error\" : \"too long: ", true),
            (
                ": hello\r\nevent: error\r\nid: 7\r\ndata: {\"error\":[",
                true,
            ),
            ("data: {\"error\":null,\"choices\":[", false),
            ("data: {\"error\":\"\",\"choices\":[", false),
            ("data: {\"error\":{},\"choices\":[", false),
            ("data: {\"error\" : [ ] ,\"choices\":[", false),
            ("data: {\"error\":false,\"choices\":[", false),
            ("data:{\"error\":{\r\ndata:},\"choices\":[", false),
            ("data: {\r\ndata: \"error\":\r\ndata: {\"code\":", true),
            ("data: {\"error\":0,\"choices\":[", true),
            ("data: {\"error\":\"\\u0000\",", true),
            ("data: {\"\\u0065rror\":[0", true),
            (
                "data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"error\\\":",
                false,
            ),
            ("data: {\"errors\":[", false),
            ("data: {\"error\":", false),
            ("data: {\"err", false),
            ("data: error", false),
            ("event: error", false),
            ("", false),
        ] {
            assert_eq!(is_error(head.as_bytes()), expected, "{head}");
        }
    }
}
