//! A client's request: the members arbstr reads, borrowed from a body that stays as it came.
//!
//! Only what routing needs is looked at; content, tool calls and unknown members pass unseen. The view is immutable:
//! what goes upstream is decided at send time, by [`Splicer`].

use std::borrow::Cow;

use crate::error::ErrorObject;
use crate::json::{self, JsonError};
use crate::splice::Splicer;
use crate::{chat, completions, embeddings};

mod members;

use members::{Members, Name};

/// Which API of OpenAI's a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
}

impl Endpoint {
    /// The path below a base URL that ends in `/v1`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }

    /// The member that holds the request's text.
    const fn text_member(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions => "prompt",
            Self::Embeddings => "input",
        }
    }
}

/// A request's `stream_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOptions {
    /// There are none, or they are `null`.
    Absent,
    /// An object.
    Present {
        /// Its `include_usage`; `None` when absent or `null`.
        include_usage: Option<bool>,
    },
}

/// Who speaks in a text of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `system` or `developer`
    System,
    /// `user`, and the prompt or input of the other endpoints
    User,
    /// `assistant`
    Assistant,
    /// `tool` or `function`
    Tool,
    /// Anything else, or no role.
    Other,
}

/// One text of a request, as it stands in the body.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Who says it.
    pub role: Role,
    raw: &'a str,
    string: json::Str<'a>,
}

impl<'a> Text<'a> {
    /// What `role` says in `string`, a string of `body`.
    pub(crate) fn of(body: &'a str, role: Role, string: json::Str<'a>) -> Self {
        Self {
            role,
            raw: &body[string.inside()],
            string,
        }
    }

    /// The text with its JSON escapes.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// The text as meant; half surrogate pairs leave the raw one.
    pub fn decode(&self) -> Cow<'a, str> {
        self.string.decode().unwrap_or(Cow::Borrowed(self.raw))
    }
}

/// One piece of a request, as [`Request::survey_parts`] comes by it.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A text.
    Text(Text<'a>),
    /// A whole message, after its texts: who says it, and its bytes as written.
    Message(Role, &'a [u8]),
}

/// How large a request is, for estimates of its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Size {
    /// Bytes of all texts, as written.
    pub text_bytes: u64,
    /// Bytes of tool definitions and of tool calls already made, as written.
    pub tool_bytes: u64,
    /// Tokens of a prompt or input that is given as token numbers.
    pub tokens: u64,
    /// Messages, prompts or inputs.
    pub messages: u64,
    /// Parts of messages that are no text: images, audio, files.
    pub media: u64,
}

/// Why a body is no request that arbstr can route. Each is the client's fault: status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(#[source] JsonError),
    /// The body is JSON, but no object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// A member that must be there is not.
    #[error("missing required parameter: '{param}'")]
    Missing {
        /// Its name.
        param: &'static str,
    },
    /// A member that arbstr reads has the wrong type.
    #[error("invalid type for '{param}': expected {expected}")]
    WrongType {
        /// Its name.
        param: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A member that arbstr reads is there twice, so that arbstr and the provider might read different ones.
    #[error("'{param}' is given twice")]
    Twice {
        /// Its name.
        param: &'static str,
    },
}

impl RequestError {
    /// The member at fault.
    pub const fn param(&self) -> Option<&'static str> {
        match self {
            Self::Missing { param } | Self::WrongType { param, .. } | Self::Twice { param } => {
                Some(param)
            }
            Self::NotJson(_) | Self::NotAnObject => None,
        }
    }

    /// The error's `code`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotJson(_) | Self::NotAnObject => "invalid_json",
            Self::Missing { .. } => "missing_required_parameter",
            Self::WrongType { .. } => "invalid_type",
            Self::Twice { .. } => "duplicate_parameter",
        }
    }

    /// The error for the client.
    pub fn error_object(&self) -> ErrorObject {
        let error = ErrorObject::new("invalid_request_error", Some(self.code()), self.to_string());
        match self.param() {
            Some(param) => error.with_param(param),
            None => error,
        }
    }
}

/// A view of one request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    endpoint: Endpoint,
    text: &'a str,
    model: Cow<'a, str>,
    stream: bool,
    stream_options: StreamOptions,
    max_output_tokens: Option<u64>,
    choices: u32,
    members: Members,
    splicer: Splicer,
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is not a JSON object, `model` or the text is missing, or a member arbstr reads has the wrong type or is there twice.
    pub fn parse(endpoint: Endpoint, body: &'a [u8]) -> Result<Self, RequestError> {
        let text = json::check_utf8(body).map_err(RequestError::NotJson)?;
        let members = Members::find(endpoint, body)?;
        let model = members.model(body)?;
        let stream = members.bool(body, Name::Stream)?.unwrap_or(false);
        let (stream_options, usage_spot) = members.stream_options(body, stream)?;
        let max_output_tokens = members.max_output_tokens(body)?;
        let choices = members.choices(endpoint, text)?;
        members.check_text(endpoint, body)?;
        let splicer = Splicer::new(members.required(Name::Model), usage_spot);
        Ok(Self {
            endpoint,
            text,
            model,
            stream,
            stream_options,
            max_output_tokens,
            choices,
            members,
            splicer,
        })
    }

    /// The API this is for.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The model as the client named it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the answer shall be a stream.
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// The request's `stream_options`.
    pub const fn stream_options(&self) -> StreamOptions {
        self.stream_options
    }

    /// Whether the client itself asked for usage in the stream.
    pub const fn asked_for_usage(&self) -> bool {
        matches!(
            self.stream_options,
            StreamOptions::Present {
                include_usage: Some(true)
            }
        )
    }

    /// `max_completion_tokens`, else `max_tokens`; `None` too when it is no whole number (some servers take -1).
    pub const fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// How many choices the answer will have: `n`, for completions times the prompts; at least 1.
    pub const fn choices(&self) -> u32 {
        self.choices
    }

    /// Whether the request offers tools or functions.
    pub fn has_tools(&self) -> bool {
        self.members.offers(self.text.as_bytes(), Name::Tools)
            || self.members.offers(self.text.as_bytes(), Name::Functions)
    }

    /// Whether the request wants a format, such as JSON.
    pub fn has_response_format(&self) -> bool {
        self.members
            .value(self.text.as_bytes(), Name::ResponseFormat)
            .is_some()
    }

    /// The tools and functions on offer, as written.
    pub fn tools(&self) -> impl Iterator<Item = &'a [u8]> {
        let of = |name| self.members.value(self.text.as_bytes(), name);
        [of(Name::Tools), of(Name::Functions)].into_iter().flatten()
    }

    /// The format that the request wants, as written.
    pub fn response_format(&self) -> Option<&'a [u8]> {
        self.members
            .value(self.text.as_bytes(), Name::ResponseFormat)
    }

    /// How large the request is; walks all of it.
    pub fn size(&self) -> Size {
        self.survey(|_| {})
    }

    /// Calls `f` with every text, in order: message contents and their text parts, prompts or inputs.
    pub fn for_each_text(&self, f: impl FnMut(Text<'a>)) {
        self.survey(f);
    }

    /// [`Self::for_each_text`] and [`Self::size`] in one walk.
    pub fn survey(&self, mut f: impl FnMut(Text<'a>)) -> Size {
        self.survey_parts(|part| {
            if let Part::Text(text) = part {
                f(text);
            }
        })
    }

    /// As [`Self::survey`], and `f` also gets each message of a chat.
    pub fn survey_parts(&self, mut f: impl FnMut(Part<'a>)) -> Size {
        let body = self.members.walked(self.text);
        let mut size = match (self.endpoint, self.text_offset()) {
            (_, None) => Size::default(),
            (Endpoint::Chat, Some(at)) => chat::survey(body, at, &mut f),
            (Endpoint::Completions, Some(at)) => {
                completions::survey(body, at, &mut |text| f(Part::Text(text)))
            }
            (Endpoint::Embeddings, Some(at)) => {
                embeddings::survey(body, at, &mut |text| f(Part::Text(text)))
            }
        };
        for name in [Name::Tools, Name::Functions] {
            size.tool_bytes += self
                .members
                .value(self.text.as_bytes(), name)
                .map_or(0, <[u8]>::len) as u64;
        }
        size
    }

    /// Where this body is to be edited before it goes upstream.
    pub const fn splicer(&self) -> Splicer {
        self.splicer
    }

    fn text_offset(&self) -> Option<usize> {
        self.members.offset(Name::Text)
    }
}

#[cfg(test)]
mod tests;
