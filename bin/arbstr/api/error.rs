//! The answers arbstr itself gives when it refuses or fails: the only place that chooses an HTTP status.

use std::time::Duration;

use arbstr_http1::server::HeadError;
use arbstr_route::PlanError;
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::ResponseBody;

/// A refusal or failure in the OpenAI error shape.
#[derive(Debug, Clone)]
pub(crate) struct ApiError(Box<Details>);

#[derive(Debug, Clone)]
struct Details {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    close: bool,
    attempts: Vec<(String, String)>,
}

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        Self(Box::new(Details {
            status,
            kind,
            code,
            param: None,
            message,
            retry_after: None,
            allow: None,
            close: false,
            attempts: Vec::new(),
        }))
    }

    fn with(mut self, edit: impl FnOnce(&mut Details)) -> Self {
        edit(&mut self.0);
        self
    }

    /// 400: the request cannot be understood, or asks for what cannot be had.
    pub(crate) fn invalid_request(
        code: &'static str,
        param: Option<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, code, message).with(|error| error.param = param)
    }

    /// 400: the body is not a request this API knows.
    pub(crate) fn malformed(error: &arbstr_wire::RequestError) -> Self {
        Self::invalid_request(
            error.code(),
            error.param().map(str::to_owned),
            error.to_string(),
        )
    }

    /// What routing refuses: an unknown model or policy, or a policy that leaves nobody.
    pub(crate) fn refused(error: &PlanError) -> Self {
        let text = error.to_string();
        match error {
            PlanError::UnknownModel { .. } => {
                Self::model_not_found(format!("{text}; see /v1/models"))
            }
            PlanError::UnknownPolicy { .. } => Self::invalid_request("unknown_policy", None, text),
            _ => Self::invalid_request("policy_violation", Some("model".to_owned()), text),
        }
    }

    /// 401: no token, or a wrong one.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID,
            "invalid_api_key",
            "this arbstr asks for its auth_token as `Authorization: Bearer TOKEN`, and the request has none or a wrong one",
        )
    }

    /// 403: a browser page, or a name, that may not talk to this arbstr.
    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, INVALID, code, message)
    }

    /// 404: no such route or thing.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, code, message)
    }

    /// 404: no provider has the model.
    pub(crate) fn model_not_found(message: impl Into<String>) -> Self {
        Self::not_found("model_not_found", message)
            .with(|error| error.param = Some("model".to_owned()))
    }

    /// 405: the route exists, for other methods.
    pub(crate) fn method_not_allowed(
        method: &hyper::Method,
        path: &str,
        allow: &'static str,
    ) -> Self {
        let message = format!("{path} does not take {method}, only {allow}");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            INVALID,
            "method_not_allowed",
            message,
        )
        .with(|error| error.allow = Some(allow))
    }

    /// 408: the client's body did not come in time.
    pub(crate) fn request_timeout() -> Self {
        let message = "the request body did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID,
            "request_timeout",
            message,
        )
        .with(|error| error.close = true)
    }

    /// 408: the head of a request did not come in time.
    pub(crate) fn head_timeout() -> Self {
        let message = "the head of the request did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID,
            "request_timeout",
            message,
        )
    }

    /// 400 or 431: what came is no request that can be read.
    pub(crate) fn bad_head(error: HeadError) -> Self {
        let (status, code) = match error {
            HeadError::TooLarge | HeadError::TooManyFields => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "request_header_too_large",
            ),
            HeadError::TwoFramings => (StatusCode::BAD_REQUEST, "two_framings"),
            HeadError::Malformed(_)
            | HeadError::BadTarget
            | HeadError::BadLength
            | HeadError::BadCoding => (StatusCode::BAD_REQUEST, "malformed_request"),
        };
        Self::new(status, INVALID, code, error.to_string())
    }

    /// 413: the body is over `max_body_bytes`.
    pub(crate) fn too_large(limit: u64) -> Self {
        let message =
            format!("the request body is over {limit} bytes, the server's max_body_bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            INVALID,
            "request_too_large",
            message,
        )
        .with(|error| error.close = true)
    }

    /// 415: the body is compressed (RFC 9110, section 15.5.16).
    pub(crate) fn coded_body() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID,
            "unsupported_content_encoding",
            "arbstr does not read compressed requests; send the body as it is, without Content-Encoding",
        )
        .with(|error| error.close = true)
    }

    /// 500: arbstr is at fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            SERVER,
            "internal_error",
            message,
        )
    }

    /// 502: the only candidate's answer was cut, empty or nonsense.
    pub(crate) fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            SERVER,
            "upstream_bad_answer",
            message,
        )
    }

    /// 503: nobody could serve the request.
    pub(crate) fn unavailable(
        code: &'static str,
        message: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, code, message)
            .with(|error| error.retry_after = retry_after)
    }

    /// 503: all of several candidates failed; each one's name and reason.
    pub(crate) fn all_failed(
        attempts: Vec<(String, String)>,
        retry_after: Option<Duration>,
    ) -> Self {
        let reasons: Vec<String> = attempts
            .iter()
            .map(|(provider, reason)| format!("{provider} {reason}"))
            .collect();
        let message = format!("every provider failed: {}", reasons.join("; "));
        Self::unavailable(ALL_FAILED, message, retry_after).with(|error| error.attempts = attempts)
    }

    /// 503: none of the candidates could be asked; each one's name and what is in the way.
    pub(crate) fn nobody_ready(obstacles: &[String], retry_after: Option<Duration>) -> Self {
        let message = if obstacles.is_empty() {
            "no provider could be asked; try again".to_owned()
        } else {
            format!("no provider can be asked now: {}", obstacles.join("; "))
        };
        Self::unavailable(ALL_FAILED, message, retry_after)
    }

    /// 503: the process is ending.
    pub(crate) fn shutting_down() -> Self {
        Self::unavailable("server_shutting_down", "arbstr is shutting down", None)
            .with(|error| error.close = true)
    }

    /// 504: the only candidate did not answer in time.
    pub(crate) fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            SERVER,
            "upstream_timeout",
            message,
        )
    }

    /// The status, as records keep it.
    pub(crate) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// The code, as records keep it.
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    /// The JSON answer.
    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let mut response = json_response(self.0.status, self.envelope());
        let headers = response.headers_mut();
        if let Some(wait) = self.0.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"arbstr\""),
            );
        }
        if self.0.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        if self.0.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl ApiError {
    fn envelope(&self) -> Bytes {
        let error =
            arbstr_wire::ErrorObject::new(self.0.kind, Some(self.0.code), self.0.message.as_str());
        let error = match &self.0.param {
            Some(param) => error.with_param(param),
            None => error,
        };
        let envelope = error.to_json();
        if self.0.attempts.is_empty() {
            return envelope;
        }
        let mut value: Value =
            serde_json::from_slice(&envelope).expect("the envelope was just written as JSON");
        let attempts = self
            .0
            .attempts
            .iter()
            .map(|(provider, reason)| json!({"provider": provider, "reason": reason}));
        value["error"]["attempts"] = attempts.collect();
        value.to_string().into()
    }
}

/// 200 with a value as JSON.
pub(crate) fn ok_json(value: &impl Serialize) -> Response<ResponseBody> {
    let text = serde_json::to_vec(value).expect("answers have no map keys that are not strings");
    json_response(StatusCode::OK, text)
}

/// A JSON answer with a body that is ready.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const ALL_FAILED: &str = "all_providers_failed";
/// A message quotes what a client sent, which may be as long as a request.
const MESSAGE_BYTES: usize = 8 * 1024;
