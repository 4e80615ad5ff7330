//! How many input tokens a request will take, before anybody has counted them.
//!
//! Text is judged by its bytes and their script, everything else by its size. What providers report afterwards corrects
//! this per kind of request and per offer, so it need not be right, only steady.

use arbstr_wire::Size;

/// Counts of the letters of a text, by how many of them make a token.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Script {
    ascii: u64,
    alphabetic: u64,
    wide: u64,
}

impl Script {
    pub(crate) fn add(&mut self, text: &str) {
        for run in text.as_bytes().chunks(LONG_RUN) {
            if run.is_ascii() {
                self.ascii += run.len() as u64;
            } else {
                self.add_mixed(run);
            }
        }
    }

    fn add_mixed(&mut self, text: &[u8]) {
        // Short runs count in bytes, which the compiler turns into vector instructions: prompts are long. A whole number
        // of vectors, so that no run has an end that goes byte by byte.
        for run in text.chunks(RUN) {
            let (mut ascii, mut two_bytes, mut longer) = (0_u8, 0_u8, 0_u8);
            for &byte in run {
                ascii += u8::from(byte < 0x80);
                two_bytes += u8::from(byte & 0xE0 == 0xC0);
                longer += u8::from(byte >= 0xE0);
            }
            self.ascii += u64::from(ascii);
            self.alphabetic += u64::from(two_bytes);
            self.wide += u64::from(longer);
        }
    }

    /// English takes some four letters a token, Cyrillic, Greek, Arabic or Hebrew some two, and a character of the
    /// East Asian scripts about one.
    fn tokens(self) -> u64 {
        self.ascii.div_ceil(BYTES_PER_TOKEN) + self.alphabetic.div_ceil(2) + self.wide
    }
}

/// The input tokens of a request of that size with texts of that script: tool definitions, images and the frame around
/// each message count too. Tokens that are given as numbers are counted as they are.
pub(crate) fn tokens_of(size: &Size, texts: Script) -> u64 {
    [
        size.tokens,
        size.tool_bytes / BYTES_PER_TOKEN,
        size.messages.saturating_mul(TOKENS_PER_MESSAGE),
        size.media.saturating_mul(TOKENS_PER_MEDIUM),
    ]
    .into_iter()
    .fold(texts.tokens(), u64::saturating_add)
}

/// Rounds a token estimate to a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and an estimate beyond 2^64 tokens is as good as 2^64"
)]
pub(crate) fn to_count(tokens: f64) -> u64 {
    (tokens + 0.5).max(0.0) as u64
}

/// A share in whole millionths, as far as they go.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and no failure rate is beyond 4000 times the cost"
)]
pub(crate) fn to_millionths(share: f64) -> u32 {
    (share * 1e6).max(0.0) as u32
}

/// A count as a number to reckon with; beyond 2^53 the last digits go, which no estimate minds.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(crate) const fn to_number(count: u64) -> f64 {
    count as f64
}

const BYTES_PER_TOKEN: u64 = 4;
/// Fewer than a byte can count.
const RUN: usize = 224;
/// One letter of another script costs as much to count as all around it.
const LONG_RUN: usize = 8 * RUN;
/// Role and separators of a chat message.
const TOKENS_PER_MESSAGE: u64 = 4;
/// An image of middling size, or a clip of sound.
const TOKENS_PER_MEDIUM: u64 = 765;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;
    use arbstr_wire::{Endpoint, Request};

    fn estimate(body: &str) -> u64 {
        Shape::of(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap()).input_tokens
    }

    fn chat(text: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
    }

    #[test]
    fn text_counts_by_its_script() {
        let frame = TOKENS_PER_MESSAGE;
        let cases = [
            ("", frame),
            ("abcd", 1 + frame),
            ("The quick brown fox jumps over the lazy dog.", 11 + frame),
            ("Привет", 3 + frame),
            ("你好世界", 4 + frame),
        ];
        for (text, want) in cases {
            assert_eq!(estimate(&chat(text)), want, "{text}");
        }
    }

    #[test]
    fn long_texts_count_as_the_sum_of_their_letters() {
        for text in ["x", "xxxé", "Привет, мир. ", "你好 world"] {
            let text = text.repeat(700);
            let mut script = Script::default();
            script.add(&text);
            let count = |bytes: usize| {
                text.chars()
                    .filter(|letter| letter.len_utf8() == bytes)
                    .count()
            };
            assert_eq!(
                [script.ascii, script.alphabetic, script.wide],
                [count(1), count(2), count(3)].map(|count| count as u64),
            );
        }
    }

    #[test]
    fn pictures_and_tools_count_too() {
        let plain = estimate(&chat("hi"));
        let picture = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},
            {"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}]}"#;
        assert!(estimate(picture) >= plain + TOKENS_PER_MEDIUM);
        let tools = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],
            "tools":[{"type":"function","function":{"name":"f","description":"a rather long description"}}]}"#;
        assert!(estimate(tools) > plain + 10);
    }
}
