//! The inner loops of the JSON reader: whitespace, strings, numbers, whole values.

use super::stops::{self, BLOCK, is_stop};
use super::{Expected, JsonError, MAX_DEPTH, Strings, wrong};

/// The first offset at or after `at` that holds no whitespace.
#[inline]
pub(super) fn whitespace(text: &[u8], mut at: usize) -> usize {
    // Most texts have none.
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at).filter(|byte| **byte <= b' ') {
        at += 1;
    }
    at
}

/// Passes the value that begins at `at`, inside `depth` open brackets; tells the offset behind it.
#[inline]
pub(super) fn value<S: Strings>(
    text: &[u8],
    at: usize,
    depth: u32,
    strings: &mut S,
) -> Result<usize, JsonError> {
    match text.get(at) {
        Some(b'"') => Ok(strings.pass(text, at + 1)?.0 + 1),
        Some(b'{' | b'[') => nested(text, at, depth, strings),
        _ => scalar(text, at),
    }
}

/// Passes the object or array that begins at `at`. Apart, so that a single value costs no more than it must.
#[inline(never)]
fn nested<S: Strings>(
    text: &[u8],
    at: usize,
    depth: u32,
    strings: &mut S,
) -> Result<usize, JsonError> {
    let mut at = at;
    let mut open = Open {
        objects: 0,
        depth: 0,
        outer: depth,
    };
    loop {
        at = whitespace(text, at);
        let opened = match text.get(at) {
            Some(b'"') => {
                at = strings.pass(text, at + 1)?.0 + 1;
                false
            }
            Some(b'{' | b'[') => {
                open.push(text[at] == b'{', at)?;
                at += 1;
                true
            }
            _ => {
                at = scalar(text, at)?;
                false
            }
        };
        at = match between(text, at, &mut open, opened, strings)? {
            Next::Value(at) => at,
            Next::Over(at) => return Ok(at),
        }
    }
}

/// Passes the string whose first character is at `at`; tells the offset of its closing quote and whether it has escapes.
#[inline]
pub(super) fn string(text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
    // A key or a short value ends within a few words.
    if let Some(words) = text.get(at..).and_then(<[u8]>::first_chunk::<SHORT>) {
        let (words, _) = words.as_chunks();
        for (place, word) in words.iter().enumerate() {
            let plain = stops::plain_in(*word);
            if plain < word.len() {
                match word[plain] {
                    b'"' => return Ok((at + place * word.len() + plain, false)),
                    _ => break,
                }
            }
        }
    }
    long_string(text, at)
}

/// Block by block, each seen with what an escape at its end may need of the next one.
#[inline(never)]
fn long_string(text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
    let (mut at, mut escaped) = (at, false);
    while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk::<WINDOW>)
        && let Some(block) = window.first_chunk()
    {
        let mut stops = stops::among(block);
        let mut past = BLOCK;
        while stops != 0 {
            let stop = stops.trailing_zeros() as usize;
            match window[stop] {
                b'"' => return Ok((at + stop, escaped)),
                b'\\' => escaped = true,
                _ => return Err(wrong(text, at + stop, Expected::StringCharacter)),
            }
            let behind = match ESCAPES[usize::from(window[stop + 1])] {
                Escape::Letter => stop + 2,
                Escape::Unicode if are_hex(&window[stop + 2..stop + 6]) => stop + 6,
                _ => return Err(bad_escape(text, at + stop + 1)),
            };
            if behind >= BLOCK {
                past = behind;
                break;
            }
            stops &= u64::MAX << behind;
        }
        at += past;
    }
    end_of_string(text, at, escaped)
}

/// What is too short for a block.
#[inline(never)]
fn end_of_string(text: &[u8], at: usize, escaped: bool) -> Result<(usize, bool), JsonError> {
    let (mut at, mut escaped) = (at, escaped);
    loop {
        while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk)
            && stops::plain_in(*word) == word.len()
        {
            at += word.len();
        }
        let rest = text.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| !is_stop(**byte)).count();
        match text.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                at = escape(text, at + 1)?;
                escaped = true;
            }
            _ => return Err(wrong(text, at, Expected::StringCharacter)),
        }
    }
}

/// The characters that a valid JSON string means, or `None` for half a surrogate pair.
pub(super) fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (meant, length) = unescape_one(&rest[at + 1..])?;
        text.push(meant);
        rest = &rest[at + 1 + length..];
    }
    text.push_str(rest);
    Some(text)
}

/// Which brackets are open, as bits: 1 an object, 0 an array.
struct Open {
    objects: u128,
    depth: u32,
    outer: u32,
}

impl Open {
    fn push(&mut self, object: bool, at: usize) -> Result<(), JsonError> {
        if self.outer + self.depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep { at });
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        Ok(())
    }

    const fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// Where the walk goes on.
enum Next {
    Value(usize),
    Over(usize),
}

/// Closes what closes at `at` and goes to the next value: past a comma, and past the key in an object.
fn between<S: Strings>(
    text: &[u8],
    at: usize,
    open: &mut Open,
    opened: bool,
    strings: &mut S,
) -> Result<Next, JsonError> {
    let mut at = at;
    let mut first = opened;
    while open.depth > 0 {
        at = whitespace(text, at);
        let object = open.in_object();
        match (text.get(at), object) {
            (Some(b'}'), true) | (Some(b']'), false) => {
                open.pop();
                at += 1;
                first = false;
                continue;
            }
            (Some(b','), _) if !first => at += 1,
            _ if first => {}
            (_, true) => return Err(wrong(text, at, Expected::CommaOrBrace)),
            (_, false) => return Err(wrong(text, at, Expected::CommaOrBracket)),
        }
        return Ok(Next::Value(if object {
            key(text, at, strings)?
        } else {
            at
        }));
    }
    Ok(Next::Over(at))
}

/// Passes a key and its colon.
fn key<S: Strings>(text: &[u8], at: usize, strings: &mut S) -> Result<usize, JsonError> {
    let at = whitespace(text, at);
    if text.get(at) != Some(&b'"') {
        return Err(wrong(text, at, Expected::Key));
    }
    let at = whitespace(text, strings.pass(text, at + 1)?.0 + 1);
    if text.get(at) != Some(&b':') {
        return Err(wrong(text, at, Expected::Colon));
    }
    Ok(at + 1)
}

fn scalar(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at) {
        Some(b'-' | b'0'..=b'9') => number(text, at),
        Some(b't') => literal(text, at, b"true"),
        Some(b'f') => literal(text, at, b"false"),
        Some(b'n') => literal(text, at, b"null"),
        _ => Err(wrong(text, at, Expected::Value)),
    }
}

fn literal<const N: usize>(text: &[u8], at: usize, word: &[u8; N]) -> Result<usize, JsonError> {
    let rest = &text[at..];
    if rest.first_chunk() == Some(word) {
        return Ok(at + N);
    }
    let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
    Err(wrong(text, at + same, Expected::Literal))
}

/// `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][+-]?[0-9]+)?`
fn number(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let mut at = at + usize::from(text[at] == b'-');
    at = if text.get(at) == Some(&b'0') {
        at + 1
    } else {
        digits(text, at)?
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        at = digits(text, at)?;
    }
    Ok(at)
}

/// One digit at least.
fn digits(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let count = text
        .get(at..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 {
        Err(wrong(text, at, Expected::Digit))
    } else {
        Ok(at + count)
    }
}

/// What a letter behind a backslash begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// It is all of it.
    Letter,
    /// Four hexadecimal digits follow.
    Unicode,
}

const ESCAPES: [Escape; 256] = {
    let mut escapes = [Escape::None; 256];
    let letters = b"\"\\/bfnrt";
    let mut at = 0;
    while at < letters.len() {
        escapes[letters[at] as usize] = Escape::Letter;
        at += 1;
    }
    escapes[b'u' as usize] = Escape::Unicode;
    escapes
};

/// Passes what follows a backslash.
fn escape(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let rest = text.get(at..).unwrap_or_default();
    match rest.first().map(|letter| ESCAPES[usize::from(*letter)]) {
        Some(Escape::Letter) => Ok(at + 1),
        Some(Escape::Unicode) if rest.len() > 4 && are_hex(&rest[1..5]) => Ok(at + 5),
        _ => Err(bad_escape(text, at)),
    }
}

/// What is wrong with what follows a backslash.
#[cold]
fn bad_escape(text: &[u8], at: usize) -> JsonError {
    let digits = match text.get(at..) {
        Some([b'u', rest @ ..]) => {
            1 + rest
                .iter()
                .take(4)
                .take_while(|byte| byte.is_ascii_hexdigit())
                .count()
        }
        _ => 0,
    };
    wrong(text, at + digits, Expected::Escape)
}

/// Looked up, and all together: a chain of comparisons for each digit would cost more than the rest of the string.
fn are_hex(digits: &[u8]) -> bool {
    digits
        .iter()
        .fold(true, |all, digit| all & HEX[usize::from(*digit)])
}

const HEX: [bool; 256] = {
    let mut hex = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        hex[byte as usize] = byte.is_ascii_hexdigit();
        byte += 1;
    }
    hex
};

/// What one escape means and how many bytes follow its backslash.
fn unescape_one(rest: &str) -> Option<(char, usize)> {
    let meant = match *rest.as_bytes().first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unescape_unicode(rest),
        byte => char::from(byte),
    };
    Some((meant, 1))
}

fn unescape_unicode(rest: &str) -> Option<(char, usize)> {
    let unit = |from: usize| u32::from_str_radix(rest.get(from..from + 4)?, 16).ok();
    let first = unit(1)?;
    if let Some(meant) = char::from_u32(first) {
        return Some((meant, 5));
    }
    if !(0xd800..0xdc00).contains(&first) || rest.get(5..7)? != "\\u" {
        return None;
    }
    let second = unit(7).filter(|second| (0xdc00..0xe000).contains(second))?;
    let meant = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((meant, 11))
}

/// Read word by word before whole blocks are.
const SHORT: usize = 32;
/// A block, and the longest escape less its backslash.
const WINDOW: usize = BLOCK + 5;
