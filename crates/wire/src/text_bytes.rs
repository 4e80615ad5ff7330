//! How much an answer says: the bytes of its messages, deltas and texts.
//!
//! A provider that bills more tokens than it sent bytes is not to be believed, and one that bills more of them for the
//! same text than others do is dearer than its rates. Both need a measure that costs next to nothing, so the whole value
//! counts, be it content, reasoning or a tool call, less the frame of the usual one.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{Cursor, Kind};

/// Bytes said by the value of a `delta`, `message` or `text` of that kind and length, as written.
pub(crate) const fn in_value(kind: Kind, length: usize) -> u64 {
    let frame = match kind {
        Kind::Object => FRAME.len(),
        Kind::String => 2,
        _ => length,
    };
    length.saturating_sub(frame) as u64
}

/// Bytes said by a chunk that was not worth parsing; what is no JSON says nothing.
pub(crate) fn in_chunk(data: &[u8]) -> u64 {
    let said = |key: &Finder<'_>| {
        let values = key
            .find_iter(data)
            .filter_map(|at| value_bytes(data, at + key.needle().len()));
        values.sum::<u64>()
    };
    match said(&DELTA) {
        0 => said(&TEXT),
        bytes => bytes,
    }
}

/// The value behind a key that ends at `at`; `None` when this is no key.
fn value_bytes(data: &[u8], at: usize) -> Option<u64> {
    let rest = data[at..].trim_ascii_start().strip_prefix(b":")?;
    let mut cursor = Cursor::new(rest);
    let kind = cursor.peek().ok()?;
    Some(in_value(kind, cursor.skip().ok()?.len()))
}

/// What stands around the text of nearly every delta.
const FRAME: &str = r#"{"content":""}"#;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\""));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_what_its_deltas_and_texts_say() {
        let cases = [
            (r#"{"choices":[{"delta":{"content":"Hello"}}]}"#, 5),
            (
                r#"{"choices":[{"delta" : {"content":"Hello"}},{"delta":{"content":"you"}}]}"#,
                8,
            ),
            (r#"{"choices":[{"delta":{}}]}"#, 0),
            (r#"{"choices":[{"text":"Hello"}]}"#, 5),
            (r#"{"choices":[{"delta":null}]}"#, 0),
            (r#"{"choices":[{"delta":{"content":"a \"text\": b"}}]}"#, 13),
            (r#"{"choices":[],"x":"delta"}"#, 0),
            (r#"{"choices":[{"delta":{"content":"Hel"#, 0),
            ("not json", 0),
        ];
        for (chunk, want) in cases {
            assert_eq!(in_chunk(chunk.as_bytes()), want, "{chunk}");
        }
    }
}
