//! A JSON answer that was read whole: is it one, and what does it report?
//!
//! A 200 that is empty, cut, not JSON, or an error in disguise is a failed attempt, so each of these is
//! told apart before a client sees anything.

use std::borrow::Cow;

use crate::error::ErrorObject;
use crate::json::{self, JsonError};
use crate::outline::Outline;
use crate::request::Endpoint;
use crate::usage::Usage;

/// What a good answer reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The tokens used, if told.
    pub usage: Option<Usage>,
    /// Bytes of what it says, escapes and tool calls included.
    pub text_bytes: u64,
    /// The finish reason of choice 0.
    pub finish_reason: Option<Cow<'static, str>>,
    /// Whether it has what such an answer is for: `choices`, or `data` for embeddings.
    pub has_result: bool,
}

/// Why a body is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nothing but whitespace came.
    #[error("the answer is empty")]
    Empty,
    /// It begins as JSON and breaks off.
    #[error("the answer is cut short at byte {at}")]
    Cut {
        /// Its length.
        at: usize,
    },
    /// It is something else.
    #[error("the answer is not JSON: {0}")]
    NotJson(#[source] JsonError),
    /// It is JSON, but no object.
    #[error("the answer is not a JSON object")]
    NotAnObject,
    /// It is an error object.
    #[error("the answer is an error: {}", .0.message)]
    ErrorObject(ErrorObject),
}

impl AnswerError {
    /// One word for records and headers.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Cut { .. } => "cut",
            Self::NotJson(_) | Self::NotAnObject => "not_json",
            Self::ErrorObject(_) => "error",
        }
    }
}

impl From<JsonError> for AnswerError {
    fn from(error: JsonError) -> Self {
        if error.is_end() {
            Self::Cut { at: error.at() }
        } else {
            Self::NotJson(error)
        }
    }
}

impl Answer {
    /// Reads a whole body.
    ///
    /// # Errors
    /// It is no answer: empty, cut, not JSON, or an error object.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, AnswerError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(AnswerError::Empty);
        }
        let outline = Outline::read(body)?.ok_or(AnswerError::NotAnObject)?;
        json::check_utf8(body)?;
        if let Some(error) = &outline.error {
            return Err(AnswerError::ErrorObject(ErrorObject::of_error_member(
                &body[error.clone()],
            )));
        }
        Ok(Self {
            usage: match endpoint {
                Endpoint::Embeddings => embedding_usage(&outline),
                Endpoint::Chat | Endpoint::Completions => outline.usage(),
            },
            text_bytes: outline.text_bytes,
            finish_reason: outline.finish.and_then(|reason| reason.decode()).map(known),
            has_result: if endpoint == Endpoint::Embeddings {
                outline.has_data
            } else {
                outline.choices.is_some()
            },
        })
    }
}

/// A reason to finish; those that the API has take no memory.
fn known(reason: Cow<'_, str>) -> Cow<'static, str> {
    let of_the_api = FINISH_REASONS.iter().find(|known| **known == reason);
    match of_the_api {
        Some(known) => Cow::Borrowed(*known),
        None => Cow::Owned(reason.into_owned()),
    }
}

/// The usage that a body reports although it is no good answer, as an error of a provider that charges for it may.
///
/// `None` when it is not a JSON object, or reports none.
pub fn usage_in(body: &[u8]) -> Option<Usage> {
    Outline::read(body).ok()??.usage()
}

/// An embedding has no output; its usage does not say so, and may tell the total alone.
fn embedding_usage(outline: &Outline<'_>) -> Option<Usage> {
    let Some(usage) = outline.usage() else {
        return outline.total_tokens.map(|total| Usage {
            input: Some(total),
            output: Some(0),
            ..Usage::default()
        });
    };
    Some(if usage.insane {
        usage
    } else {
        Usage {
            output: usage.output.or(Some(0)),
            ..usage
        }
    })
}

const FINISH_REASONS: [&str; 5] = [
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "function_call",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tokens_of_an_embedding_are_input() {
        for (usage, expected) in [
            (r#"{"prompt_tokens":7,"total_tokens":7}"#, Some(7)),
            (r#"{"total_tokens":7}"#, Some(7)),
            (
                r#"{"prompt_tokens":7,"total_tokens":7,"input_tokens":0,"output_tokens":0}"#,
                Some(7),
            ),
            (r#"{"total_tokens":"7"}"#, None),
        ] {
            let body = format!(r#"{{"data":[],"usage":{usage}}}"#);
            let answer = Answer::read(Endpoint::Embeddings, body.as_bytes()).unwrap();
            let input = answer.usage.and_then(|usage| usage.input);
            assert_eq!(input, expected, "{usage}");
        }
    }

    #[test]
    fn reads_a_completion() {
        let body = br#"{"id":"c1","object":"chat.completion","model":"gpt-4o-2024","choices":[{"index":1,"finish_reason":"length"},
            {"index":0,"message":{"content":"\"usage\":null"},"finish_reason":"stop"}],"error":null,"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
        let answer = Answer::read(Endpoint::Chat, body).unwrap();
        assert_eq!(answer.finish_reason, Some(Cow::Borrowed("stop")));
        let usage = answer.usage.unwrap();
        assert_eq!(
            (usage.input, usage.output, answer.has_result),
            (Some(9), Some(2), true)
        );
        assert_eq!(answer.text_bytes, 14);
    }

    #[test]
    fn an_embedding_has_no_output_tokens() {
        let body = br#"{"object":"list","data":[{"embedding":[0.1,-2e-5]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        let answer = Answer::read(Endpoint::Embeddings, body).unwrap();
        assert_eq!(
            (answer.usage.unwrap().output, answer.has_result),
            (Some(0), true)
        );
        assert_eq!(
            Answer::read(Endpoint::Chat, body)
                .unwrap()
                .usage
                .unwrap()
                .output,
            None
        );
        let insane = br#"{"data":[],"usage":{"prompt_tokens":8,"completion_tokens":-1}}"#;
        assert_eq!(
            Answer::read(Endpoint::Embeddings, insane)
                .unwrap()
                .usage
                .unwrap()
                .output,
            None
        );
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let cases = [
            ("", "empty", "the answer is empty"),
            (" \r\n", "empty", "the answer is empty"),
            (
                r#"{"choices":[{"#,
                "cut",
                "the answer is cut short at byte 13",
            ),
            (
                r#"{"choices":[{"message":{"content":"Hel"#,
                "cut",
                "the answer is cut short at byte 38",
            ),
            (
                "<html></html>",
                "not_json",
                "the answer is not JSON: expected a value at byte 0",
            ),
            (
                "data: {}\n\n",
                "not_json",
                "the answer is not JSON: expected a value at byte 0",
            ),
            ("[]", "not_json", "the answer is not a JSON object"),
            (
                r#"{"error":{"message":"overloaded","type":"t"}}"#,
                "error",
                "the answer is an error: overloaded",
            ),
            (
                r#"{"choices":[],"error":"x"}"#,
                "error",
                "the answer is an error: x",
            ),
            (r#"{"error":{}}"#, "error", "the answer is an error: {}"),
            (
                r#"{"error":false}"#,
                "error",
                "the answer is an error: error without a message",
            ),
        ];
        for (body, kind, message) in cases {
            let error = Answer::read(Endpoint::Chat, body.as_bytes()).expect_err(body);
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (kind, message),
                "{body}"
            );
        }
        assert_eq!(
            Answer::read(Endpoint::Chat, b"{\"a\":\"\xff\"}")
                .unwrap_err()
                .kind(),
            "not_json"
        );
        assert!(
            !Answer::read(Endpoint::Chat, br#"{"detail":"x"}"#)
                .unwrap()
                .has_result
        );
    }
}
