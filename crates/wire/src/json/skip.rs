//! The inner loops of the JSON reader: whitespace, strings, numbers, whole values.
//!
//! A body is mostly one long string, so the string loop decides the speed: 32 bytes a step where nothing needs a
//! look, 8 where something does.

use super::{Expected, JsonError, MAX_DEPTH, wrong};

const BLOCK: usize = 32;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The first offset at or after `at` that holds no whitespace.
pub(super) fn whitespace(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Passes the value that begins at `at`, inside `depth` open brackets; tells the offset behind it.
pub(super) fn value(text: &[u8], at: usize, depth: u32) -> Result<usize, JsonError> {
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
                at = string(text, at + 1)?.0 + 1;
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
        at = match between(text, at, &mut open, opened)? {
            Next::Value(at) => at,
            Next::Over(at) => return Ok(at),
        }
    }
}

/// Passes the string whose first character is at `at`; tells the offset of its closing quote and whether it has escapes.
pub(super) fn string(text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
    let mut at = at;
    let mut escaped = false;
    loop {
        at = plain_run(text, at);
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

/// The same in a text that was read before and found valid: only its quotes are looked for, and whether it has escapes.
/// Where the text is not what it was said to be, it is read in full.
pub(super) fn valid_string(text: &[u8], at: usize) -> Result<(usize, bool), JsonError> {
    let mut from = at;
    while let Some(found) = memchr::memchr(b'"', text.get(from..).unwrap_or_default()) {
        let quote = from + found;
        let before = text[at..quote].iter().rev();
        // An even number of backslashes are escapes of one another and none of the quote.
        if before.take_while(|byte| **byte == b'\\').count() % 2 == 0 {
            let escaped = memchr::memchr(b'\\', &text[at..quote]).is_some();
            return Ok((quote, escaped));
        }
        from = quote + 1;
    }
    string(text, at)
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
fn between(text: &[u8], at: usize, open: &mut Open, opened: bool) -> Result<Next, JsonError> {
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
        return Ok(Next::Value(if object { key(text, at)? } else { at }));
    }
    Ok(Next::Over(at))
}

/// Passes a key and its colon.
fn key(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let at = whitespace(text, at);
    if text.get(at) != Some(&b'"') {
        return Err(wrong(text, at, Expected::Key));
    }
    let at = whitespace(text, string(text, at + 1)?.0 + 1);
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

fn literal(text: &[u8], at: usize, word: &[u8]) -> Result<usize, JsonError> {
    let same = text[at..]
        .iter()
        .zip(word)
        .take_while(|(a, b)| a == b)
        .count();
    if same == word.len() {
        Ok(at + same)
    } else {
        Err(wrong(text, at + same, Expected::Literal))
    }
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

/// Passes what follows a backslash.
fn escape(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => {
            let hex = text[at + 1..]
                .iter()
                .take(4)
                .take_while(|byte| byte.is_ascii_hexdigit())
                .count();
            if hex == 4 {
                Ok(at + 5)
            } else {
                Err(wrong(text, at + 1 + hex, Expected::Escape))
            }
        }
        _ => Err(wrong(text, at, Expected::Escape)),
    }
}

/// The first offset at or after `at` that holds a quote, a backslash, a control character, or is the end.
fn plain_run(text: &[u8], mut at: usize) -> usize {
    // A key or a short value ends within two words, so the wide loop starts behind them.
    for _ in 0..2 {
        match plain_word(text, at) {
            Some(8) => at += 8,
            Some(plain) => return at + plain,
            None => return plain_bytes(text, at),
        }
    }
    loop {
        while text
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .is_some_and(is_plain_block)
        {
            at += BLOCK;
        }
        match plain_word(text, at) {
            Some(8) => at += 8,
            Some(plain) => return at + plain,
            None => return plain_bytes(text, at),
        }
    }
}

/// Whether none of 32 bytes ends a plain run. Written without branches, so that the compiler makes it vector code.
fn is_plain_block(block: &[u8; BLOCK]) -> bool {
    let mut special = 0u8;
    for &byte in block {
        special |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    }
    special == 0
}

/// How many of the next 8 bytes are plain, `None` when fewer than 8 are left.
fn plain_word(text: &[u8], at: usize) -> Option<usize> {
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    let below = |limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let equal = |byte: u8| {
        let zeroed = word ^ (ONES * u64::from(byte));
        zeroed.wrapping_sub(ONES) & !zeroed
    };
    // A borrow can only spoil bytes above the first true hit, so the lowest bit is exact.
    let hits = (below(0x20) | equal(b'"') | equal(b'\\')) & HIGHS;
    Some(hits.trailing_zeros() as usize / 8)
}

fn plain_bytes(text: &[u8], at: usize) -> usize {
    let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    at + text
        .get(at..)
        .unwrap_or_default()
        .iter()
        .take_while(plain)
        .count()
}

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
