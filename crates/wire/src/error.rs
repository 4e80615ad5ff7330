//! The OpenAI error envelope: written for clients and read from providers.
//!
//! Every error a client sees has the one shape its library knows, `{"error":{"message","type","param","code"}}`.
//! Providers answer in a dozen shapes; what is read from them only informs logs and verdicts, their bytes are relayed
//! as they are when they are JSON at all.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::json;
use crate::redact::redact;

/// Bytes of a foreign body that an error of ours quotes at most.
pub const MAX_QUOTE: usize = 1024;

/// One error in the terms of the OpenAI API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ErrorObject {
    /// What went wrong, for a person.
    pub message: String,
    /// The `type`: `invalid_request_error`, `server_error`, …
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The request member at fault.
    pub param: Option<String>,
    /// What went wrong, for a program.
    pub code: Option<String>,
}

impl ErrorObject {
    /// An error of arbstr's own.
    pub fn new(kind: &str, code: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: Some(kind.to_owned()),
            param: None,
            code: code.map(str::to_owned),
        }
    }

    /// The same, blaming a member of the request.
    #[must_use]
    pub fn with_param(self, param: &str) -> Self {
        Self {
            param: Some(param.to_owned()),
            ..self
        }
    }

    /// The error in a provider's body, whatever its shape; `None` when it is not JSON or names none.
    ///
    /// Known shapes: the OpenAI envelope, `{"error":"text"}`, a bare `{"message":…}`, `{"detail":…}` with a text, an
    /// object or a list of findings, `{"errors":[…]}`, any of them as the first element of an array, numeric codes.
    pub fn read(body: &[u8]) -> Option<Self> {
        Self::of_body(&serde_json::from_slice(body).ok()?)
    }

    /// The error that a non-null `error` member holds, given the bytes of its value.
    pub(crate) fn of_error_member(value: &[u8]) -> Self {
        let value = serde_json::from_slice(value).unwrap_or(Value::Null);
        Self::of_value(&value).unwrap_or_else(|| Self {
            message: "error without a message".to_owned(),
            ..Self::default()
        })
    }

    /// The error that an event without choices is: one that says in words what is wrong, as the bare errors of FastAPI,
    /// Baidu, MiniMax and SiliconFlow do. Words alone may as well tell how far the answer is, and a code may be that of
    /// success. `None` for what is no error.
    pub(crate) fn of_event_without_choices(data: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(data).ok()?;
        let has_words = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
        let has_code = is_failure(&body["code"])
            || is_failure(&body["error_code"])
            || body.get("data").is_some_and(Value::is_null);
        let status = &body["base_resp"];
        if is_failure(&status["status_code"]) {
            Some(Self {
                message: text_of(&status["status_msg"]).unwrap_or_default(),
                code: text_of(&status["status_code"]),
                ..Self::default()
            })
        } else if has_words("detail")
            || has_words("error_msg")
            || (has_code && (has_words("message") || has_words("msg")))
        {
            Self::of_value(&body)
        } else {
            None
        }
    }

    /// `{"error":{"message","type","param","code"}}`
    pub fn to_json(&self) -> Bytes {
        let mut text = String::from("{\"error\":");
        self.write_into(&mut text);
        text.push('}');
        text.into()
    }

    /// Writes the inner object: `{"message","type","param","code"}`.
    pub(crate) fn write_into(&self, out: &mut String) {
        let text =
            |value: &Option<String>| value.as_deref().map_or_else(|| "null".to_owned(), quote);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{{\"message\":{},\"type\":{},\"param\":{},\"code\":{}}}",
            quote(&self.message),
            text(&self.kind),
            text(&self.param),
            text(&self.code)
        );
    }

    fn of_body(body: &Value) -> Option<Self> {
        match body {
            Value::Array(items) => Self::of_body(items.first()?),
            Value::Object(members) => {
                let inner = ["error", "detail", "errors"]
                    .iter()
                    .filter_map(|name| members.get(*name))
                    .find(|value| !value.is_null());
                match inner {
                    Some(inner) => Self::of_value(inner),
                    None => members.get("message").and_then(|_| Self::of_value(body)),
                }
            }
            _ => None,
        }
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(message) => Some(Self {
                message: message.clone(),
                ..Self::default()
            }),
            Value::Array(items) => Self::of_value(items.first()?),
            Value::Object(members) => {
                if let Some(inner) = members
                    .get("error")
                    .filter(|inner| inner.is_object() || inner.is_string())
                {
                    return Self::of_value(inner);
                }
                let member = |name: &str| members.get(name).and_then(text_of);
                let message = MESSAGES.iter().find_map(|name| member(name));
                Some(Self {
                    message: message.unwrap_or_else(|| value.to_string()),
                    kind: member("type"),
                    param: member("param").or_else(|| place(members.get("loc")?)),
                    code: member("code").or_else(|| member("error_code")),
                })
            }
            _ => None,
        }
    }
}

/// Whether there is a code, and not one of those that stand for success.
fn is_failure(code: &Value) -> bool {
    text_of(code).is_some_and(|code| {
        let code = code.to_ascii_lowercase();
        !matches!(&*code, "" | "0" | "200" | "ok" | "success")
    })
}

/// What the words of an error stand under.
const MESSAGES: [&str; 4] = ["message", "msg", "detail", "error_msg"];

/// A provider's error body as the client gets it: a JSON object as it is, anything else quoted in an envelope of ours.
/// Secrets are gone from both.
pub fn relay_error(status: u16, body: &Bytes, secrets: &[&str]) -> Bytes {
    let body = redact(body, secrets);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) && json::check(&body).is_ok() {
        return body;
    }
    let kind = if status < 500 {
        "invalid_request_error"
    } else {
        "server_error"
    };
    let message = if first.is_none() {
        format!("the provider answered {status} with an empty body")
    } else {
        let quoted = &body[..body.len().min(MAX_QUOTE)];
        format!(
            "the provider answered {status}: {}",
            String::from_utf8_lossy(quoted).trim()
        )
    };
    ErrorObject::new(kind, Some("upstream_error"), message).to_json()
}

/// A JSON string with its quotes.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// Where a finding is, as FastAPI tells it: `["body","stream_options"]` is `body.stream_options`.
fn place(loc: &Value) -> Option<String> {
    let parts: Vec<String> = loc.as_array()?.iter().filter_map(text_of).collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

/// A string or a number, as text.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// message, type, param, code
    type Read = (
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );

    fn read(body: &str) -> Option<Read> {
        ErrorObject::read(body.as_bytes())
            .map(|error| (Some(error.message), error.kind, error.param, error.code))
    }

    #[test]
    fn the_envelope_has_all_four_members_and_reads_back() {
        let error =
            ErrorObject::new("invalid_request_error", None, "no \"model\"\n").with_param("model");
        let json = error.to_json();
        assert_eq!(
            json,
            r#"{"error":{"message":"no \"model\"\n","type":"invalid_request_error","param":"model","code":null}}"#
        );
        assert_eq!(ErrorObject::read(&json), Some(error));
    }

    #[test]
    fn reads_every_shape_providers_use() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (
                r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#,
                (some("m"), some("t"), some("p"), some("c")),
            ),
            (
                r#"{"error":{"message":"m","code":402,"metadata":{"raw":"x"}},"user_id":"u"}"#,
                (some("m"), None, None, some("402")),
            ),
            (r#"{"error":"text"}"#, (some("text"), None, None, None)),
            (r#"{"detail":"text"}"#, (some("text"), None, None, None)),
            (
                r#"{"detail":[{"loc":["body","n"],"msg":"too big","type":"v"}]}"#,
                (some("too big"), some("v"), some("body.n"), None),
            ),
            (
                r#"{"detail":{"error":{"message":"m","type":"t","code":"c"}}}"#,
                (some("m"), some("t"), None, some("c")),
            ),
            (
                r#"{"object":"error","message":"m","type":"t","param":null,"code":"1"}"#,
                (some("m"), some("t"), None, some("1")),
            ),
            (
                r#"{"errors":[{"message":"m","code":7}]}"#,
                (some("m"), None, None, some("7")),
            ),
            (
                r#"[{"error":{"message":"m","code":400,"status":"X"}}]"#,
                (some("m"), None, None, some("400")),
            ),
            (
                r#"{"error":{"reason":"why"}}"#,
                (some(r#"{"reason":"why"}"#), None, None, None),
            ),
            (
                r#"{"error":null,"message":"m"}"#,
                (some("m"), None, None, None),
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body), Some(expected), "{body}");
        }
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            "3",
            r#"{"choices":[]}"#,
            r#"{"error":null}"#,
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn a_json_error_is_relayed_as_it_is_and_anything_else_is_quoted() {
        let json = Bytes::from_static(b" {\"detail\" : \"x\"}\n");
        let relayed = relay_error(500, &json, &["sk-secret"]);
        assert_eq!(relayed.as_ptr(), json.as_ptr());
        for (body, message) in [
            (
                "<h1>Bad Gateway</h1>\n",
                "the provider answered 502: <h1>Bad Gateway</h1>",
            ),
            ("", "the provider answered 502 with an empty body"),
            ("\"text\"", "the provider answered 502: \"text\""),
            ("{\"cut\":", "the provider answered 502: {\"cut\":"),
        ] {
            let wrapped =
                ErrorObject::read(&relay_error(502, &Bytes::from_static(body.as_bytes()), &[]))
                    .unwrap();
            assert_eq!(
                (wrapped.message.as_str(), wrapped.kind.as_deref()),
                (message, Some("server_error"))
            );
        }
        let long = relay_error(400, &Bytes::from(vec![0xff; 9000]), &[]);
        assert!(long.len() < 3 * MAX_QUOTE + 200, "{}", long.len());
        assert_eq!(
            ErrorObject::read(&long).unwrap().kind.as_deref(),
            Some("invalid_request_error")
        );
    }

    #[test]
    fn a_secret_at_the_edge_of_the_quote_does_not_leak() {
        let body = [
            vec![b'x'; MAX_QUOTE - 10],
            b"sk-or-v1-0123456789abcdef".to_vec(),
        ]
        .concat();
        let wrapped = relay_error(500, &body.into(), &["sk-or-v1-0123456789abcdef"]);
        assert!(!String::from_utf8_lossy(&wrapped).contains("sk-or"));
    }
}
