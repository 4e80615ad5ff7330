//! Who may come in: browser pages, host names and tokens.
//!
//! A web page the operator happens to visit can send requests to loopback. Two checks stop it from spending sats: its
//! `Origin` must be listed, and on a loopback listener the `Host` must be loopback too, so that a name rebound to
//! 127.0.0.1 gains nothing.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::error::ApiError;
use super::{ResponseBody, dashboard};
use crate::app::App;

/// Lets a request pass, or says why not.
///
/// # Errors
/// 403 for a foreign origin or host, 401 without the token.
pub(crate) fn check<B>(app: &App, request: &Request<B>) -> Result<(), ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| first.and_then(|host| host.to_str().ok()));
    if hosts.next().is_some() {
        return Err(ApiError::invalid_request(
            "duplicate_host",
            None,
            "a request has one Host header (RFC 9112, section 3.2)",
        ));
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(ApiError::invalid_request(
            "missing_host",
            None,
            "an HTTP/1.1 request needs a Host header (RFC 9112, section 3.2)",
        ));
    }
    let path = request.uri().path();
    let is_page = dashboard::find(path).is_some();
    check_host(app, host)?;
    // Browsers send an origin with each module of a page, and behind a proxy it is not the host's. The files tell nothing.
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !(is_page && is_read) {
        // Browsers send one. Of several, each must be allowed: nobody knows which the page has.
        for origin in headers.get_all(header::ORIGIN) {
            check_origin(app, origin, host)?;
        }
    }
    let open = path == "/health"
        || is_page
        || (request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD));
    if open || has_token(app, headers) {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

/// Whether a request carries the token, or needs none.
pub(crate) fn has_token(app: &App, headers: &HeaderMap) -> bool {
    let live = app.live();
    let Some(expected) = live.auth_token() else {
        return true;
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let token = match given.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => b"",
    };
    expected.matches(token)
}

/// The answer to a CORS preflight, with these `headers`, from an origin that [`check`] let pass.
///
/// Any header may come: clients' libraries have a dozen of their own, and which go to a provider another list decides.
pub(crate) fn preflight(headers: &HeaderMap) -> Response<ResponseBody> {
    let allowed = headers
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .cloned()
        .unwrap_or(HeaderValue::from_static(ALLOWED_HEADERS));
    let mut response = Response::new(ResponseBody::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(
        header::VARY,
        HeaderValue::from_static("access-control-request-headers"),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    response
}

/// Tells a listed origin that it may read the answer.
pub(crate) fn allow_origin(app: &App, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let Some(origin) = origin else { return };
    let live = app.live();
    if origin
        .to_str()
        .is_ok_and(|origin| live.is_listed_origin(origin))
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED_HEADERS),
        );
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

fn check_host(app: &App, host: Option<&str>) -> Result<(), ApiError> {
    if !app.listens_on_loopback() {
        return Ok(());
    }
    match host {
        Some(host) if !is_loopback(host_name(host)) => Err(ApiError::forbidden(
            "host_not_allowed",
            format!(
                "this arbstr listens on loopback and is not known as `{host}`; call it by 127.0.0.1 or localhost"
            ),
        )),
        _ => Ok(()),
    }
}

fn check_origin(app: &App, origin: &HeaderValue, host: Option<&str>) -> Result<(), ApiError> {
    let text = origin.to_str().unwrap_or_default();
    let own = host.is_some_and(|host| {
        text.split_once("://")
            .is_some_and(|(_, authority)| authority == host)
    });
    if own || app.live().is_listed_origin(text) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "origin_not_allowed",
        format!(
            "the page at `{text}` may not use this arbstr; its operator can add the origin to server.cors_origins"
        ),
    ))
}

fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || ends_with(name, ".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len());
    let end = start.and_then(|start| name.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

const ALLOWED_HEADERS: &str = "authorization, content-type, accept, idempotency-key, openai-beta, x-title, \
    http-referer, traceparent, tracestate, x-request-id, x-arbstr-policy";
const EXPOSED_HEADERS: &str = "x-arbstr-request-id, x-arbstr-provider, x-arbstr-retries, x-arbstr-attempts, \
    x-arbstr-latency-ms, x-arbstr-cost-sats, retry-after";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        let cases = [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("app.LocalHost:1", true),
            ("127.0.0.1", true),
            ("127.8.9.1:80", true),
            ("[::1]:8080", true),
            ("example.org", false),
            ("localhost.example.org", false),
            ("10.0.0.1:8080", false),
            ("", false),
        ];
        for (host, expected) in cases {
            assert_eq!(is_loopback(host_name(host)), expected, "{host}");
        }
    }
}
