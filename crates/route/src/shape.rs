//! What a request looks like, so that alike requests are known again.
//!
//! Texts become fingerprints: nothing that a client says is kept. One walk over the body gives the estimate of its
//! input, the features that tell one kind of request from another, and the names of its leading messages, which tell
//! whether a provider has seen this conversation before.

use arbstr_wire::{Endpoint, Fingerprint, Part, Request, Role, Size};

use crate::estimate::{Script, tokens_of};

/// The features of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Input tokens, judged by length and script.
    pub(crate) input_tokens: u64,
    /// Bound on the output, tools and format: what the client states rather than says.
    stated: u64,
    /// The same without the bound, which some clients draw anew for each request.
    form: u64,
    system: u64,
    first_word: u64,
    first_words: u64,
    last_words: u64,
    /// Of the last message, in half powers of two.
    length: u64,
    /// Of all messages, in half powers of two of tokens.
    volume: u64,
    depth: u64,
    /// The leading messages, shortest first.
    pub(crate) prefixes: Vec<Prefix>,
}

/// Some leading messages of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Names the messages, and the tools before them.
    pub(crate) name: u64,
    /// Input tokens up to its end, by the same estimate as those of the whole.
    pub(crate) tokens: u64,
}

/// The keys under which requests of this shape are remembered, from the most general to the most specific.
pub(crate) type Keys = [u64; LEVELS];

/// How many ways there are to call two requests alike.
pub(crate) const LEVELS: usize = 19;

impl Shape {
    /// The features of `request`; walks all of it once.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let mut walk = Walk::new(request);
        let size = request.survey_parts(|part| walk.take(part));
        let input_tokens = tokens_of(&size, walk.script);
        let mut stated = walk.form;
        stated.push_number(request.max_output_tokens().unwrap_or(u64::MAX));
        Self {
            input_tokens,
            stated: stated.value(),
            form: walk.form.value(),
            system: walk.system.value(),
            first_word: named(words(walk.last.text, 1)),
            first_words: named(words(walk.last.text, 3)),
            last_words: named(tail(walk.last.text)),
            length: half_octave(walk.last.bytes),
            volume: half_octave(input_tokens),
            depth: half_octave(size.messages),
            prefixes: walk.prefixes,
        }
    }

    /// A request of so many input tokens, like any other in all else.
    #[cfg(test)]
    pub(crate) fn sized(input_tokens: u64) -> Self {
        Self {
            input_tokens,
            ..Self::default()
        }
    }

    /// The keys of a request of this shape under the policy of that name.
    pub(crate) fn keys(&self, policy: Option<&str>) -> Keys {
        let policy = policy.map_or(0, named);
        let mut level = 0;
        [
            &[][..],
            &[self.form],
            &[self.form, self.system],
            &[self.form, self.first_word],
            &[self.form, self.first_words],
            &[self.form, self.last_words],
            &[self.form, self.length],
            &[self.form, self.system, self.length],
            &[self.form, self.system, self.first_word],
            &[self.form, self.first_words, self.length],
            &[self.stated, policy],
            &[self.stated, policy, self.system],
            &[self.stated, policy, self.first_word],
            &[self.stated, policy, self.length],
            &[self.stated, policy, self.system, self.depth],
            &[self.stated, policy, self.system, self.volume],
            &[self.stated, policy, self.system, self.first_word],
            &[self.stated, policy, self.system, self.first_words],
            &[
                self.stated,
                policy,
                self.system,
                self.first_word,
                self.length,
            ],
        ]
        .map(|features: &[u64]| {
            level += 1;
            let mut key = Fingerprint::default();
            key.push_number(level);
            features
                .iter()
                .for_each(|feature| key.push_number(*feature));
            key.value()
        })
    }
}

/// What the walk over a request has gathered so far.
struct Walk<'a> {
    script: Script,
    form: Fingerprint,
    system: Fingerprint,
    prefix: Fingerprint,
    prefixes: Vec<Prefix>,
    so_far: Size,
    current: Last<'a>,
    last: Last<'a>,
}

/// A message: how its first text begins, and how long all of it is.
#[derive(Clone, Copy, Default)]
struct Last<'a> {
    text: &'a str,
    bytes: u64,
}

impl<'a> Walk<'a> {
    fn new(request: &Request<'a>) -> Self {
        let mut form = Fingerprint::default();
        form.push_number(match request.endpoint() {
            Endpoint::Chat => 0,
            Endpoint::Completions => 1,
            Endpoint::Embeddings => 2,
        });
        form.push_number(u64::from(request.has_tools()));
        form.push(request.response_format().unwrap_or_default());
        let mut prefix = Fingerprint::default();
        request.tools().for_each(|tools| prefix.push(tools));
        let mut so_far = Size::default();
        so_far.tool_bytes = request.tools().map(|tools| tools.len() as u64).sum();
        Self {
            script: Script::default(),
            form,
            system: Fingerprint::default(),
            prefix,
            prefixes: Vec::new(),
            so_far,
            current: Last::default(),
            last: Last::default(),
        }
    }

    fn take(&mut self, part: Part<'a>) {
        match part {
            Part::Text(text) => {
                let raw = text.raw();
                self.script.add(raw);
                if self.current.bytes == 0 {
                    self.current.text = raw;
                }
                self.current.bytes += raw.len() as u64;
                // What has no messages is one text after another.
                self.last = self.current;
            }
            Part::Message(role, bytes) => self.message(role, bytes),
        }
    }

    fn message(&mut self, role: Role, bytes: &[u8]) {
        self.so_far.messages += 1;
        self.last = std::mem::take(&mut self.current);
        let mut name = Fingerprint::default();
        name.push(bytes);
        if role == Role::System {
            self.system.push_number(name.value());
        }
        self.prefix.push_number(name.value());
        if self.prefixes.len() == MOST_PREFIXES {
            self.prefixes.remove(KEPT_IN_FRONT);
        }
        self.prefixes.push(Prefix {
            name: self.prefix.value(),
            tokens: tokens_of(&self.so_far, self.script),
        });
    }
}

/// The first so many words, or less of an endless one.
fn words(text: &str, count: usize) -> &str {
    let text = text.trim_start();
    let mut ends = text
        .char_indices()
        .filter(|(_, letter)| letter.is_whitespace() || *letter == '\\')
        .map(|(at, _)| at);
    let end = ends.nth(count - 1).unwrap_or(text.len());
    &text[..text.floor_char_boundary(end.min(LONGEST_WORDS))]
}

/// The end of a text, where instructions that follow their material stand.
fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(TAIL))..]
}

fn named(text: &str) -> u64 {
    let mut name = Fingerprint::default();
    name.push(text.as_bytes());
    name.value()
}

/// Which half power of two `number` has reached.
fn half_octave(number: u64) -> u64 {
    let Some(octave) = number.checked_ilog2() else {
        return 0;
    };
    // The square is above an odd power of two where the number is above a half one.
    let upper = u128::from(number) * u128::from(number) >= 1 << (2 * octave + 1);
    2 * u64::from(octave) + u64::from(upper) + 1
}

/// Prefixes remembered of one request: the first ones, which other conversations share, and the latest.
const MOST_PREFIXES: usize = 20;
const KEPT_IN_FRONT: usize = 2;
const LONGEST_WORDS: usize = 64;
const TAIL: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(body: &str) -> Shape {
        Shape::of(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap())
    }

    fn chat(system: &str, user: &str, more: &str) -> Shape {
        shape(&format!(
            r#"{{"model":"m",{more}"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{user}"}}]}}"#
        ))
    }

    fn shared(a: &Shape, b: &Shape) -> usize {
        let (a, b) = (a.keys(None), b.keys(None));
        a.iter().zip(&b).filter(|(a, b)| a == b).count()
    }

    #[test]
    fn the_more_alike_two_requests_are_the_more_keys_they_share() {
        let one = chat("Be terse.", "Summarise this: alpha beta", "");
        let cases = [
            (chat("Be terse.", "Summarise this: alpha beta", ""), LEVELS),
            (
                chat("Be terse.", "Summarise this: gamma delta", ""),
                LEVELS - 4,
            ),
            (chat("Be terse.", "Translate this: gamma delta", ""), 10),
            (chat("Be verbose.", "Translate that: gamma delta", ""), 5),
            (chat("Be verbose.", "Hi", "\"max_tokens\":5,"), 2),
            (
                shape(r#"{"model":"m","messages":[],"response_format":{"type":"json_object"}}"#),
                1,
            ),
        ];
        for (index, (other, want)) in cases.iter().enumerate() {
            assert_eq!(shared(&one, other), *want, "case {index}");
        }
        assert_ne!(one.keys(None)[LEVELS - 1], one.keys(Some("p"))[LEVELS - 1]);
    }

    #[test]
    fn a_conversation_keeps_the_names_of_its_beginning() {
        let first = chat("Be terse.", "Hello", "");
        let next = shape(
            r#"{"model":"m","messages":[{"role":"system","content":"Be terse."},{"role":"user","content":"Hello"},
            {"role":"assistant","content":"Hi"},{"role":"user","content":"How are you?"}]}"#,
        );
        assert_eq!(first.prefixes[..], next.prefixes[..2]);
        assert_eq!(next.prefixes.len(), 4);
        assert!(next.prefixes.is_sorted_by_key(|prefix| prefix.tokens));
        let tools = chat("Be terse.", "Hello", r#""tools":[{"type":"function"}],"#);
        assert_ne!(first.prefixes[0].name, tools.prefixes[0].name);
    }

    #[test]
    fn a_long_conversation_keeps_its_beginning_and_its_end() {
        let message = |index: u32| format!(r#"{{"role":"user","content":"message {index}"}}"#);
        let body = |count: u32| {
            let messages: Vec<String> = (0..count).map(message).collect();
            format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(","))
        };
        let (long, longer) = (shape(&body(500)), shape(&body(502)));
        assert_eq!(long.prefixes.len(), MOST_PREFIXES);
        assert_eq!(long.prefixes[..2], longer.prefixes[..2]);
        assert_eq!(long.prefixes.last(), longer.prefixes.iter().nth_back(2));
    }

    #[test]
    fn lengths_fall_into_half_octaves() {
        let cases = [
            (0, 0),
            (1, 1),
            (2, 3),
            (3, 4),
            (4, 5),
            (5, 5),
            (6, 6),
            (8, 7),
            (u64::MAX, 128),
        ];
        for (number, want) in cases {
            assert_eq!(half_octave(number), want, "{number}");
        }
    }

    #[test]
    fn words_and_tails_end_between_letters() {
        assert_eq!(words("  Summarise this: text", 1), "Summarise");
        assert_eq!(words("Summarise\\nthis", 1), "Summarise");
        assert_eq!(words("one two", 3), "one two");
        assert_eq!(words(&"é".repeat(100), 1).len(), LONGEST_WORDS);
        assert_eq!(tail(&"日本".repeat(9)).len(), TAIL);
        assert_eq!(tail("short"), "short");
    }
}
