//! Recognises a chunk that differs from an earlier one only in what some strings say.
//!
//! Chunks of one stream are nearly all alike: same id, same members, another word of content. If two texts are equal but
//! for the inside of string values, they are the same JSON, or both none, and what holds for one holds for the other.
//! So a chunk that taught nothing vouches for the next ones, at the price of comparing bytes and passing over a string.
//!
//! ```text
//!   {"id":"c1","choices":[{"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}
//!   └────────────── same ────────────────────┘ hole └────────────── same ──────────────────┘
//! ```
//!
//! Which strings vary is found out as chunks come. What the observer reads is never a hole.

use std::ops::Range;

use super::observer::Edit;
use crate::json::pass_string;
use crate::outline::READ_STRINGS;

/// Chunks larger than this are not worth remembering.
const MAX_LENGTH: usize = 1024;

/// Strings that may vary.
const MAX_HOLES: usize = 4;

/// A chunk that taught nothing, and where its likes differ from it.
#[derive(Debug, Default)]
pub(super) struct Template {
    chunk: Vec<u8>,
    /// The contents of strings that vary, in order.
    holes: [Hole; MAX_HOLES],
    hole_count: usize,
    /// Bytes of what it says.
    text_bytes: u64,
    /// What to cut from it, offsets in `chunk`.
    cuts: Vec<Range<usize>>,
}

/// From the byte behind the opening quote to the closing quote.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Hole {
    start: usize,
    end: usize,
}

impl Template {
    pub(super) const fn new() -> Self {
        Self {
            chunk: Vec::new(),
            holes: [Hole { start: 0, end: 0 }; MAX_HOLES],
            hole_count: 0,
            text_bytes: 0,
            cuts: Vec::new(),
        }
    }

    /// Remembers a chunk from which nothing was learned, how much it says, and what a client must not see of it.
    pub(super) fn adopt(&mut self, chunk: &[u8], text_bytes: u64, edit: &Edit) {
        self.forget();
        self.hole_count = 0;
        self.text_bytes = text_bytes;
        self.cuts.clear();
        if chunk.len() <= MAX_LENGTH && *edit != Edit::Drop {
            self.chunk.extend_from_slice(chunk);
            self.cuts.extend(edit.cuts().cloned());
        }
    }

    /// Remembers none.
    pub(super) fn forget(&mut self) {
        self.chunk.clear();
    }

    /// How much a recognised chunk of that length says: it differs in its strings alone.
    pub(super) fn text_bytes(&self, length: usize) -> u64 {
        (self.text_bytes + length as u64).saturating_sub(self.chunk.len() as u64)
    }

    /// The edit for `chunk`, if it says the same as the one remembered but for the inside of some strings.
    pub(super) fn recognise(&mut self, chunk: &[u8]) -> Option<Edit> {
        if self.chunk.is_empty() {
            return None;
        }
        let mut ours = 0;
        let mut theirs = 0;
        let mut ends = [0; MAX_HOLES];
        let mut at = 0;
        loop {
            let until = if at < self.hole_count {
                self.holes[at].start
            } else {
                self.chunk.len()
            };
            let same = &self.chunk[ours..until];
            if at == self.hole_count && &chunk[theirs..] == same {
                return Some(self.edit(&ends[..at]));
            }
            if at == self.hole_count || !chunk[theirs..].starts_with(same) {
                self.punch(at, ours, &chunk[theirs..])?;
                continue;
            }
            theirs = pass_string(chunk, theirs + same.len())?;
            ours = self.holes[at].end;
            ends[at] = theirs;
            at += 1;
        }
    }

    /// Makes a hole, the `at`th, of the string in which the rest of the chunk first differs.
    fn punch(&mut self, at: usize, from: usize, rest: &[u8]) -> Option<()> {
        if self.hole_count == MAX_HOLES {
            return None;
        }
        let differs = from
            + self.chunk[from..]
                .iter()
                .zip(rest)
                .take_while(|(a, b)| a == b)
                .count();
        // Behind a hole the walk begins at its closing quote.
        let mut outside = if at > 0 { from + 1 } else { from };
        let hole = loop {
            let start = outside + memchr::memchr(b'"', self.chunk.get(outside..differs)?)? + 1;
            let end = pass_string(&self.chunk, start)?;
            if differs <= end {
                break Hole { start, end };
            }
            outside = end + 1;
        };
        if !self.may_vary(hole)
            || self.holes[at..self.hole_count]
                .iter()
                .any(|next| next.start <= hole.end)
        {
            return None;
        }
        self.holes
            .copy_within(at..self.hole_count.min(MAX_HOLES - 1), at + 1);
        self.holes[at] = hole;
        self.hole_count += 1;
        Some(())
    }

    /// Whether a string is a value, and of none of the members that are read.
    fn may_vary(&self, hole: Hole) -> bool {
        let is_key = self.chunk[hole.end + 1..]
            .trim_ascii_start()
            .starts_with(b":");
        let before = self.chunk[..hole.start - 1].trim_ascii_end();
        let key = before
            .strip_suffix(b":")
            .map_or(&b""[..], <[u8]>::trim_ascii_end);
        !is_key && !READ_STRINGS.iter().any(|read| key.ends_with(read))
    }

    /// The cuts, moved by what the strings before them are longer or shorter.
    fn edit(&self, ends: &[usize]) -> Edit {
        let moved = |offset: usize| {
            let before = self.holes[..self.hole_count]
                .iter()
                .zip(ends)
                .take_while(|(hole, _)| hole.end <= offset);
            before
                .last()
                .map_or(offset, |(hole, end)| offset - hole.end + end)
        };
        Edit::of(self.cuts.iter().map(|cut| moved(cut.start)..moved(cut.end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template of the first, after it has seen the others.
    fn after(chunks: &[&str], edit: &Edit) -> Template {
        let mut template = Template::new();
        template.adopt(chunks[0].as_bytes(), 0, edit);
        for chunk in &chunks[1..] {
            template.recognise(chunk.as_bytes());
        }
        template
    }

    fn recognises(first: &str, other: &str) -> bool {
        after(&[first], &Edit::Keep)
            .recognise(other.as_bytes())
            .is_some()
    }

    #[test]
    fn another_string_value_is_the_same_thing() {
        let first = r#"{"id":"c","choices":[{"delta":{"content":"Hello"},"finish_reason":null}],"p":"abc","q":["x"]}"#;
        let same = [
            first.to_owned(),
            first.replace("Hello", ""),
            first.replace("Hello", "Help"),
            first.replace("Hello", "Hello there"),
            first.replace("Hello", r#"say \"usage\":{} \\"#),
            first
                .replace("Hello", "héé")
                .replace("abc", "abcdef")
                .replace("[\"x\"]", "[\"yy\"]"),
            first.replace("abc", "\\u00e9"),
        ];
        for other in same {
            assert!(recognises(first, &other), "{other}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let first = r#"{"id":"c","model":"m","choices":[{"delta":{"content":"Hello"},"finish_reason":""}],"n":1}"#;
        let different = [
            first.replace("\"c\"", "\"d\""),
            first.replace("\"m\"", "\"\""),
            first.replace("\"finish_reason\":\"\"", "\"finish_reason\":\"stop\""),
            first.replace("\"n\":1", "\"n\":2"),
            first.replace("\"n\"", "\"m\""),
            first.replace("\"content\"", "\"usage\""),
            first.replace("Hello", "Hel\"lo"),
            first.replace("Hello", "Hello\",\"usage\":{\"x\":\"y"),
            first.replace("Hello", "Hel\nlo"),
            first.replace("Hello", "Hello\\"),
            format!("{first} "),
            first[..first.len() - 1].to_owned(),
            first.replace("\"Hello\"", "null"),
            String::new(),
        ];
        for other in different {
            assert!(!recognises(first, &other), "{other}");
        }
        assert!(Template::new().recognise(b"").is_none());
    }

    #[test]
    fn cuts_move_with_the_strings_before_them() {
        let first = r#"{"a":"12345","usage":null,"b":"x","usage":null,"c":"end"}"#;
        let cuts = [12..25, 33..46];
        assert_eq!(&first[12..25], r#","usage":null"#);
        let other = r#"{"a":"1","usage":null,"b":"xyz","usage":null,"c":""}"#;
        let mut template = after(
            &[
                first,
                r#"{"a":"9","usage":null,"b":"x","usage":null,"c":"end"}"#,
            ],
            &Edit::of(cuts.into_iter()),
        );
        let edit = template.recognise(other.as_bytes()).unwrap();
        let texts: Vec<&str> = edit.cuts().map(|cut| &other[cut.clone()]).collect();
        assert_eq!(texts, [r#","usage":null"#; 2]);
        let again = template.recognise(first.as_bytes()).unwrap();
        assert_eq!(again, Edit::of([12..25, 33..46].into_iter()));
    }

    #[test]
    fn no_more_strings_vary_than_there_is_room_for() {
        let list = |items: &[&str]| format!("[\"{}\"]", items.join("\",\""));
        let first = list(&["a", "b", "c", "d", "e"]);
        assert!(recognises(&first, &list(&["1", "2", "3", "4", "e"])));
        assert!(!recognises(&first, &list(&["1", "2", "3", "4", "5"])));
        // Found in any order, they stay in order.
        let mut template = after(
            &[
                &first,
                &list(&["a", "b", "c", "D", "e"]),
                &list(&["A", "b", "c", "d", "e"]),
            ],
            &Edit::Keep,
        );
        assert!(
            template
                .recognise(list(&["x", "b", "yy", "zz", "e"]).as_bytes())
                .is_some()
        );
        assert!(template.holes[..template.hole_count].is_sorted_by_key(|hole| hole.start));
    }

    #[test]
    fn large_or_dropped_chunks_are_not_remembered() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LENGTH));
        assert!(!recognises(&large, &large));
        assert!(after(&["{}"], &Edit::Drop).recognise(b"{}").is_none());
    }
}
