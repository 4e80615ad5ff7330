//! The address a provider is reached at, checked once so that every request can rely on it.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// A provider's base URL: `http` or `https`, a host, perhaps a path; no credentials, no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty for the root.
    path: String,
}

/// Why a text is no base URL. No text says what was found: it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    /// Not an absolute URL at all.
    #[error("something that is no absolute URL")]
    NotAbsolute,
    /// Another scheme.
    #[error("a URL that is neither http nor https")]
    Scheme,
    /// `user:password@`
    #[error("a URL with a user name or password in it")]
    Credentials,
    /// `?…` or `#…`
    #[error("a URL with a query or fragment")]
    Query,
    /// The address of one operation.
    #[error("the address of one operation")]
    Operation,
}

impl BaseUrl {
    /// Checks a URL.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::NotAbsolute)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(UrlError::NotAbsolute);
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(UrlError::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let has_port_text = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        let is_bad_port = has_port_text.is_some_and(|port| !port.ends_with(']'))
            && authority.port_u16().is_none();
        if authority.host().is_empty() || is_bad_port {
            return Err(UrlError::NotAbsolute);
        }
        let path = parts.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let path = path.trim_end_matches('/').to_owned();
        if OPERATIONS.iter().any(|operation| path.ends_with(operation)) {
            return Err(UrlError::Operation);
        }
        Ok(Self {
            scheme,
            authority,
            path,
        })
    }

    /// The address of one operation. `operation` starts with a slash, for instance `/chat/completions`.
    pub(crate) fn endpoint(&self, operation: &str) -> Uri {
        debug_assert!(
            operation.starts_with('/'),
            "an operation starts with a slash"
        );
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{operation}", self.path))
            .build()
            .expect("a checked base and a fixed operation make a URI")
    }

    /// Its host, an IPv6 address without brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.host();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Its port, that of the scheme when it names none.
    pub(crate) fn port(&self) -> u16 {
        let usual = if self.is_https() { 443 } else { 80 };
        self.authority.port_u16().unwrap_or(usual)
    }

    /// Whether connections to it are encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether what is sent there can be read on the way: plain `http` to another machine.
    pub(super) fn is_exposed(&self) -> bool {
        !self.is_https() && !is_loopback(self.host())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Whether a host as it stands in a URL is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

const OPERATIONS: [&str; 4] = ["/completions", "/embeddings", "/models", "/responses"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_bases_and_joins_operations() {
        for (text, shown, endpoint) in [
            (
                "https://a.example/v1",
                "https://a.example/v1",
                "https://a.example/v1/models",
            ),
            (
                "https://a.example/v1///",
                "https://a.example/v1",
                "https://a.example/v1/models",
            ),
            (
                "HTTP://127.0.0.1:8000",
                "http://127.0.0.1:8000",
                "http://127.0.0.1:8000/models",
            ),
            (
                "http://[::1]:11434/v1",
                "http://[::1]:11434/v1",
                "http://[::1]:11434/v1/models",
            ),
            (
                "http://[::1]/v1",
                "http://[::1]/v1",
                "http://[::1]/v1/models",
            ),
        ] {
            let base = BaseUrl::parse(text).unwrap();
            assert_eq!(base.to_string(), shown);
            assert_eq!(base.endpoint("/models").to_string(), endpoint);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for (text, fault) in [
            ("", UrlError::NotAbsolute),
            ("/v1", UrlError::NotAbsolute),
            ("a.example", UrlError::NotAbsolute),
            ("a.example/v1", UrlError::NotAbsolute),
            ("https://", UrlError::NotAbsolute),
            ("https://a.example:99999/v1", UrlError::NotAbsolute),
            ("https://a.example/v 1", UrlError::NotAbsolute),
            ("ftp://a.example/v1", UrlError::Scheme),
            ("https://user:pass@a.example/v1", UrlError::Credentials),
            ("https://user@a.example/v1", UrlError::Credentials),
            ("https://a.example/v1?key=1", UrlError::Query),
            ("https://a.example/v1#x", UrlError::Query),
            ("https://a.example/v1/chat/completions", UrlError::Operation),
            ("https://a.example/v1/models/", UrlError::Operation),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn knows_where_a_key_could_be_read_on_the_way() {
        for (text, exposed) in [
            ("http://a.example/v1", true),
            ("http://10.0.0.1/v1", true),
            ("https://a.example/v1", false),
            ("http://localhost:1/v1", false),
            ("http://127.0.0.1:1/v1", false),
            ("http://[::1]:1/v1", false),
        ] {
            assert_eq!(
                BaseUrl::parse(text).unwrap().is_exposed(),
                exposed,
                "{text}"
            );
        }
    }
}
