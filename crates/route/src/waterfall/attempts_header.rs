//! The attempts of a request in one line, as a structured-fields list (RFC 9651).
//!
//! A provider's name is the operator's choice and need not be a token; then it is told as a string, so that whatever
//! reads the header can still take it apart.

use std::fmt::Write as _;

use crate::verdict::AttemptOutcome;

/// Appends one attempt: the provider's name and the outcome as its parameter.
pub(super) fn push_attempt(header: &mut String, provider: &str, outcome: &AttemptOutcome) {
    if !header.is_empty() {
        header.push_str(", ");
    }
    push_item(header, provider);
    write!(header, ";{outcome}").expect("a String takes all that is written");
}

/// Writes a name as a structured-fields token, or as a string when it is none.
fn push_item(header: &mut String, name: &str) {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'*';
    let is_rest = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    if name.bytes().next().is_some_and(is_first) && name.bytes().all(is_rest) {
        header.push_str(name);
        return;
    }
    header.push('"');
    for letter in name.chars() {
        match letter {
            '"' | '\\' => header.extend(['\\', letter]),
            ' '..='~' => header.push(letter),
            _ => header.push('?'),
        }
    }
    header.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_token_is_told_as_a_string() {
        let cases = [
            ("alpha", "alpha"),
            ("open-router.ai", "open-router.ai"),
            ("my provider", r#""my provider""#),
            ("1st", r#""1st""#),
            (r#"a"b"#, r#""a\"b""#),
            ("größe", r#""gr??e""#),
            ("", r#""""#),
        ];
        for (name, want) in cases {
            let mut header = String::new();
            push_item(&mut header, name);
            assert_eq!(header, want);
        }
    }
}
