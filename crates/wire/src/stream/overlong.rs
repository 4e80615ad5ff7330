//! What the beginning of an event tells that is too large to be held and read.
//!
//! A provider that quotes a long prompt in its error passes any limit. Such an error must still be told from an answer,
//! or a client gets it where another provider would have served.

/// Whether the block of lines that begins so is an event whose data is an object with a non-null `error` in front.
pub(super) fn is_error(head: &[u8]) -> bool {
    data(head)
        .and_then(value_of_error)
        .is_some_and(|value| value != b'n')
}

/// What follows the first `data:` of the block.
fn data(head: &[u8]) -> Option<&[u8]> {
    head.split(|byte| matches!(byte, b'\r' | b'\n'))
        .find_map(|line| line.strip_prefix(b"data:"))
}

/// The first byte of the value, if `error` is the object's first member.
fn value_of_error(data: &[u8]) -> Option<u8> {
    let member = data.trim_ascii_start().strip_prefix(b"{")?;
    let value = member
        .trim_ascii_start()
        .strip_prefix(b"\"error\"")?
        .trim_ascii_start()
        .strip_prefix(b":")?;
    value.trim_ascii_start().first().copied()
}

#[cfg(test)]
mod tests {
    use super::is_error;

    #[test]
    fn only_an_error_in_front_is_one() {
        for (head, expected) in [
            ("data: {\"error\":{\"message\":\"too long: ", true),
            ("data:{ \"error\" : \"too long: ", true),
            (
                ": hello\r\nevent: error\r\nid: 7\r\ndata: {\"error\":[",
                true,
            ),
            ("data: {\"error\":null,\"choices\":[", false),
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
