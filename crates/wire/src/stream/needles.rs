//! Is a chunk worth parsing? Nearly none is, and a byte search tells so at a tenth of the price.
//!
//! The search may say yes for nothing (a key of that name deeper down), never no for something. A quote inside a JSON
//! string is escaped, so `"usage"` with its quotes is a whole string or key wherever it stands. The keys looked for are
//! letters and underscores, and only a `\u00` escape can spell one of those differently.

use std::sync::LazyLock;

use memchr::memmem::Finder;

struct Needles {
    usage: Finder<'static>,
    finish_reason: Finder<'static>,
    error: Finder<'static>,
    escape: Finder<'static>,
}

static NEEDLES: LazyLock<Needles> = LazyLock::new(|| Needles {
    usage: Finder::new(b"\"usage\""),
    finish_reason: Finder::new(b"\"finish_reason\""),
    error: Finder::new(b"\"error\""),
    escape: Finder::new(b"\\u00"),
});

/// Whether `data` may hold a usage object, a finish reason, an error or an escaped key; with `null_usage`, also whether
/// it may hold a usage that is `null`.
pub(super) fn any_in(data: &[u8], null_usage: bool) -> bool {
    let needles = &*NEEDLES;
    has_value(data, &needles.finish_reason, is_no_reason)
        || has_value(data, &needles.usage, |value| {
            !null_usage && value.starts_with(b"null")
        })
        || says_error(data, &needles.error)
        || escaped_key_in(data)
}

/// Whether `data` may hold an escaped key.
pub(super) fn escaped_key_in(data: &[u8]) -> bool {
    NEEDLES
        .escape
        .find_iter(data)
        .any(|at| spells_key_letter(&data[at..]))
}

/// Whether the key stands somewhere with a value that is not empty.
fn has_value(data: &[u8], key: &Finder<'_>, is_empty: impl Fn(&[u8]) -> bool) -> bool {
    let length = key.needle().len();
    key.find_iter(data).any(|at| {
        let rest = data[at + length..].trim_ascii_start();
        rest.strip_prefix(b":")
            .is_some_and(|value| !is_empty(value.trim_ascii_start()))
    })
}

/// Whether the word stands somewhere as a key with a value that is not null, or as a value: what an `object` may be.
fn says_error(data: &[u8], word: &Finder<'_>) -> bool {
    let length = word.needle().len();
    word.find_iter(data).any(|at| {
        let rest = data[at + length..].trim_ascii_start();
        rest.strip_prefix(b":")
            .is_none_or(|value| !value.trim_ascii_start().starts_with(b"null"))
    })
}

fn is_no_reason(value: &[u8]) -> bool {
    value.starts_with(b"null") || value.starts_with(b"\"\"")
}

/// `_` is `\u005f`, the small letters `\u0061` to `\u007a`.
fn spells_key_letter(escape: &[u8]) -> bool {
    matches!(escape.get(4), Some(b'5'..=b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_chunks_are_passed_over_whatever_their_spelling() {
        let chunks = [
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
            r#"{"choices":[{"finish_reason" : null,"native_finish_reason":"stop"}],"usage" :  null, "error":null}"#,
            r#"{"choices":[{"delta":{"content":"\"usage\":{\"finish_reason\":\"stop\",\"error\":{}}"}}]}"#,
            r#"{"choices":[{"delta":{"content":"the usage of error and finish_reason \u00e9 \u003c"}}]}"#,
            r#"{"choices":[{"delta":{"content":"usage"},"x":"usage","finish_reason":""}]}"#,
            "{\"choices\":[{\"finish_reason\"\n:\n\tnull}]}",
        ];
        for chunk in chunks {
            assert!(!any_in(chunk.as_bytes(), false), "{chunk}");
        }
    }

    #[test]
    fn anything_of_interest_is_seen() {
        let chunks = [
            r#"{"usage":{}}"#,
            r#"{"usage":null,"usage" : {"prompt_tokens":1}}"#,
            r#"{"x_groq":{"usage":{}}}"#,
            r#"{"finish_reason":null,"finish_reason":"stop"}"#,
            r#"{"finish_reason":nul}"#,
            r#"{"error":{"message":"x"}}"#,
            r#"{"error":"x"}"#,
            r#"{"object":"error"}"#,
            "{\"object\" : \"error\"\n,\"error\":null}",
            r#"{"\u0075sage":{}}"#,
            r#"{"finish\u005Freason":"stop"}"#,
            r#"{"usag\u0065":{}}"#,
            "{\"usage\"\n:\r\n{}}",
        ];
        for chunk in chunks {
            assert!(any_in(chunk.as_bytes(), false), "{chunk}");
        }
        assert!(any_in(br#"{"usage":null}"#, true));
    }
}
