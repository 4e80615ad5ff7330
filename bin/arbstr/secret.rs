//! A key or token that cannot be printed by accident.
//!
//! Neither `Debug` nor `Display` shows it, its memory is zeroed when it is dropped, and comparing it takes the same
//! time whether the first byte differs or the last. The one way to the text is [`Secret::expose`], so that a search
//! for that word finds every place where a secret leaves this type.

use std::fmt;
use std::hint::black_box;

use zeroize::Zeroizing;

/// A secret text, for instance a provider's API key.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a text that must not be shown.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the wire and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Enough to tell one key from another (`cashuA…***`); a short one shows nothing of itself.
    pub(crate) fn masked(&self) -> String {
        if self.0.chars().count() < SHORTEST_SHOWN {
            return MASK.to_owned();
        }
        let prefix: String = self.0.chars().take(PREFIX).collect();
        format!("{prefix}…{MASK}")
    }

    /// Whether `given` is this secret. The time depends on the length of `given` alone.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        if own.is_empty() {
            return given.is_empty();
        }
        let cycled = own.iter().cycle();
        let different = given
            .iter()
            .zip(cycled)
            .fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
        black_box(different) == 0 && own.len() == given.len()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

const MASK: &str = "***";
const PREFIX: usize = 6;
/// A key shorter than this shows no prefix: six characters would be too much of it.
const SHORTEST_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let secret = Secret::new("cashuAeyJ0b2tlbiI6W3sicHJvb2Zz".to_owned());
        for shown in [
            format!("{secret}"),
            format!("{secret:?}"),
            format!("{:#?}", Some(&secret)),
        ] {
            assert!(!shown.contains("cashu"), "{shown}");
        }
        assert_eq!(secret.expose(), "cashuAeyJ0b2tlbiI6W3sicHJvb2Zz");
    }

    #[test]
    fn masks_to_a_prefix_only_when_the_rest_is_long() {
        for (text, masked) in [
            ("cashuAeyJ0b2tlbiI6W3sicHJvb2Zz", "cashuA…***"),
            ("ααααααββββββββββββββ", "αααααα…***"),
            ("nineteen-characters", "***"),
            ("", "***"),
        ] {
            assert_eq!(Secret::new(text.to_owned()).masked(), masked);
        }
    }

    #[test]
    fn matches_the_same_bytes_and_no_other() {
        for (own, given, same) in [
            ("token", "token", true),
            ("token", "tokem", false),
            ("token", "toke", false),
            ("token", "", false),
            ("ab", "abab", false),
            ("abab", "ab", false),
            ("", "", true),
            ("", "x", false),
        ] {
            let secret = Secret::new(own.to_owned());
            assert_eq!(secret.matches(given.as_bytes()), same, "{own} {given}");
            assert_eq!(secret == Secret::new(given.to_owned()), same);
        }
    }
}
