//! Secrets taken out of what providers say: some quote the key they were sent, whole, cut short or escaped.
//!
//! What is shorter than [`SHORTEST_SECRET`] is not looked for. It stands in any text by chance, and an error with every
//! `4` blotted out says nothing to anyone.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Bytes that a secret has at least.
pub const SHORTEST_SECRET: usize = 8;

/// What no error event may tell a client.
///
/// A provider's own error event is passed on as it is, but for the provider's key, should it echo that.
pub trait Secrets: std::fmt::Debug + Send + Sync {
    /// Calls `f` with each of them.
    fn for_each(&self, f: &mut dyn FnMut(&str));
}

impl Secrets for Vec<String> {
    fn for_each(&self, f: &mut dyn FnMut(&str)) {
        self.iter().for_each(|secret| f(secret));
    }
}

/// Says of most texts, without a search for each secret, that none is echoed there.
///
/// An echo has the first eight bytes of a secret, and so five runs of four bytes, one of which begins at a multiple of
/// five in the text. Only those are looked up. A text with escapes is always searched.
///
/// ```
/// use arbstr_wire::redact::Prefilter;
/// let prefilter = Prefilter::of(&["sk-0123456789"]);
/// assert!(prefilter.may_hold(b"Bearer sk-01234567"));
/// assert!(!prefilter.may_hold(b"application/json"));
/// ```
#[derive(Debug, Clone)]
pub struct Prefilter {
    /// A bit for each hash that one of those runs has.
    marks: Box<[u64]>,
    /// Bits of a product that are left over by its hash.
    unused: u32,
}

impl Prefilter {
    /// One for these secrets.
    pub fn of(secrets: &[&str]) -> Self {
        let long = secrets
            .iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET);
        let starts = long.map(|secret| &secret.as_bytes()[..SHORTEST_SECRET]);
        let runs: Vec<_> = starts.flat_map(|start| start.windows(RUN)).collect();
        // So large that by chance one text in a hundred is taken for suspicious.
        let bits = (runs.len() * 512).next_power_of_two().clamp(512, MOST_BITS);
        let mut prefilter = Self {
            marks: vec![0; bits / 64].into(),
            unused: u32::BITS - bits.trailing_zeros(),
        };
        for run in runs {
            let (word, bit) = prefilter.place(run);
            prefilter.marks[word] |= bit;
        }
        prefilter
    }

    /// Whether `text` must be searched. What holds an echo always must.
    pub fn may_hold(&self, text: &[u8]) -> bool {
        let mut runs = text.windows(RUN).step_by(STEP);
        let is_marked = |run: &[u8]| {
            let (word, bit) = self.place(run);
            self.marks[word] & bit != 0
        };
        runs.any(is_marked) || memchr::memchr(b'\\', text).is_some()
    }

    fn place(&self, run: &[u8]) -> (usize, u64) {
        let run = [run[0], run[1], run[2], run[3]];
        let hash = u32::from_le_bytes(run).wrapping_mul(ODD) >> self.unused;
        (hash as usize / 64, 1 << (hash % 64))
    }
}

/// The body without any of the secrets, or long beginnings of them; the same buffer when there is none in it.
pub fn redact(body: &Bytes, secrets: &[&str]) -> Bytes {
    match redact_bytes(body, secrets) {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(clean) => clean.into(),
    }
}

/// The text without any of the secrets, or long beginnings of them.
pub fn redact_text<'a>(text: &'a str, secrets: &[&str]) -> Cow<'a, str> {
    match redact_bytes(text.as_bytes(), secrets) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
    }
}

/// Whether any of the secrets, or a long beginning of one, stands in `text`.
pub fn echoes_any(text: &[u8], secrets: &[&str]) -> bool {
    matches!(redact_bytes(text, secrets), Cow::Owned(_))
}

/// Adds where `secret` stands in `body`, plain or escaped as in JSON, whole or cut short.
pub(crate) fn find_echoes(body: &[u8], secret: &str, echoes: &mut Vec<Range<usize>>) {
    let secret = secret.as_bytes();
    if secret.len() < SHORTEST_SECRET {
        return;
    }
    echoes.extend(find_plain(body, secret));
    let mut layer: Option<Unescaped> = None;
    for _ in 0..MOST_LAYERS {
        let next = match &layer {
            None => Unescaped::of(body, |at| at),
            Some(Unescaped { text, places }) => Unescaped::of(text, |at| places[at]),
        };
        let Some(next) = next else { return };
        let found = find_plain(&next.text, secret);
        echoes.extend(found.map(|echo| next.places[echo.start]..next.places[echo.end]));
        layer = Some(next);
    }
}

/// Where `secret` stands in `text`, whole or cut short.
fn find_plain<'a>(text: &'a [u8], secret: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
    let least = &secret[..secret.len().min(MIN_ECHO)];
    memchr::memmem::find_iter(text, least).map(move |start| {
        let alike = text[start..].iter().zip(secret);
        let length = alike.take_while(|(a, b)| a == b).count();
        start..start + length
    })
}

/// A text with the escapes of JSON's strings resolved (RFC 8259, section 7), wherever they stand.
struct Unescaped {
    text: Vec<u8>,
    /// Where each byte of `text` was written in the body, and at last where the whole ends.
    places: Vec<usize>,
}

impl Unescaped {
    /// Of `escaped`, where `place` says where its bytes were written; `None` if there is no escape in it.
    fn of(escaped: &[u8], place: impl Fn(usize) -> usize) -> Option<Self> {
        memchr::memchr(b'\\', escaped)?;
        let mut unescaped = Self {
            text: Vec::with_capacity(escaped.len()),
            places: Vec::with_capacity(escaped.len() + 1),
        };
        let mut at = 0;
        while let Some(&byte) = escaped.get(at) {
            let length = match escape(&escaped[at..]) {
                Some((meant, length)) => {
                    unescaped.push(meant.encode_utf8(&mut [0; 4]).as_bytes(), place(at));
                    length
                }
                None => {
                    unescaped.push(&[byte], place(at));
                    1
                }
            };
            at += length;
        }
        unescaped.places.push(place(at));
        Some(unescaped)
    }

    fn push(&mut self, bytes: &[u8], place: usize) {
        self.text.extend_from_slice(bytes);
        self.places.resize(self.text.len(), place);
    }
}

/// What the escape at the front of `text` means, and how long it is. `None` if there is none.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let [b'\\', kind, rest @ ..] = text else {
        return None;
    };
    let meant = match kind {
        b'u' => {
            let digits = std::str::from_utf8(rest.get(..4)?).ok()?;
            let unit = u32::from_str_radix(digits, 16).ok()?;
            // Half of a character beyond 16 bits: no key has one.
            return Some((char::from_u32(unit).unwrap_or('\u{fffd}'), 6));
        }
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'"' | b'\\' | b'/' => char::from(*kind),
        _ => return None,
    };
    Some((meant, 2))
}

/// Brings ranges in order and makes one of those that overlap.
pub(crate) fn merge(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let overlaps = next.start < kept.end;
        kept.end = if overlaps {
            kept.end.max(next.end)
        } else {
            kept.end
        };
        overlaps
    });
}

fn redact_bytes<'a>(body: &'a [u8], secrets: &[&str]) -> Cow<'a, [u8]> {
    let mut echoes = Vec::new();
    for secret in secrets {
        find_echoes(body, secret, &mut echoes);
    }
    merge(&mut echoes);
    if echoes.is_empty() {
        return Cow::Borrowed(body);
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut copied = 0;
    for echo in echoes {
        clean.extend_from_slice(&body[copied..echo.start]);
        clean.extend_from_slice(REDACTED.as_bytes());
        copied = echo.end;
    }
    clean.extend_from_slice(&body[copied..]);
    Cow::Owned(clean)
}

/// How much of a secret must stand somewhere for it to count as an echo of it: a key cut short is still most of a key.
const MIN_ECHO: usize = 12;
/// A provider may quote another's error as text within its own, and that one a third's.
const MOST_LAYERS: usize = 3;
const RUN: usize = 4;
/// As many as there are runs in the shortest echo.
const STEP: usize = SHORTEST_SECRET - RUN + 1;
const MOST_BITS: usize = 1 << 20;
/// 2^32 divided by the golden ratio: spreads neighbouring numbers.
const ODD: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_redacted_in_every_spelling() {
        let secrets = ["sk-or-v1-0123456789abcdef", "pass/q\"rd", "", "seven77"];
        let cases = [
            ("bad key sk-or-v1-0123456789abcdef!", "bad key [redacted]!"),
            (
                "sk-or-v1-0123456789abcdefsk-or-v1-0123456789abcdef",
                "[redacted][redacted]",
            ),
            ("cut: sk-or-v1-01234", "cut: [redacted]"),
            ("sk-or-v1-01***ef", "sk-or-v1-01***ef"),
            (
                r#"{"m":"pass/q\"rd or pass\/q\"rd"}"#,
                r#"{"m":"[redacted] or [redacted]"}"#,
            ),
            ("pass/q\"rd, pass/q, seven77", "[redacted], pass/q, seven77"),
            (
                r#"{"m":"sk\u002dor\u002Dv1-0123456789\u0061bcdef \u00"}"#,
                r#"{"m":"[redacted] \u00"}"#,
            ),
            (
                r#"{"raw":"{\"m\":\"pass\\\/q\\\"rd\"}"}"#,
                r#"{"raw":"{\"m\":\"[redacted]\"}"}"#,
            ),
            (r"C:\users\sk-or-v1-01234\n", r"C:\users\[redacted]\n"),
        ];
        for (text, clean) in cases {
            assert_eq!(redact_text(text, &secrets), clean);
            assert_eq!(
                redact(&Bytes::copy_from_slice(text.as_bytes()), &secrets),
                clean
            );
            assert_eq!(echoes_any(text.as_bytes(), &secrets), text != clean);
        }
        let untouched = Bytes::from_static(b"nothing here");
        assert_eq!(redact(&untouched, &secrets).as_ptr(), untouched.as_ptr());
    }

    #[test]
    fn a_sieve_lets_usual_headers_pass() {
        let prefilter = Prefilter::of(&["sk-0123456789abcdef", "cashuAeyJ0b2tlbiI6W3sicHJvb2Zz"]);
        for text in [
            "application/json",
            "Sat, 21 Nov 2026 14:00:00 GMT",
            "cloudflare",
            "sk-",
            "",
        ] {
            assert!(!prefilter.may_hold(text.as_bytes()), "{text}");
        }
        assert!(!Prefilter::of(&["short", ""]).may_hold(b"short, and anything else"));
    }

    proptest! {
        #[test]
        fn a_sieve_never_lets_an_echo_pass(
            secret in r#"[a-z"\\/]{8,20}"#,
            (before, after) in (r"[ -\[\]-~]{0,30}", "[ -~]{0,30}"),
            length in 8usize..20,
            escaped: [bool; 20],
        ) {
            let echo = &secret[..length.max(MIN_ECHO).min(secret.len())];
            let spell = |(byte, escaped): (u8, &bool)| match (byte, escaped) {
                (_, true) => format!("\\u{byte:04x}"),
                (b'"' | b'\\' | b'/', _) => format!("\\{}", char::from(byte)),
                _ => char::from(byte).to_string(),
            };
            let echo: String = echo.bytes().zip(&escaped).map(spell).collect();
            let text = format!("{before}{echo}{after}");
            let secrets = [secret.as_str(), "another-secret"];
            prop_assert!(echoes_any(text.as_bytes(), &secrets));
            prop_assert!(Prefilter::of(&secrets).may_hold(text.as_bytes()));
        }
    }
}
