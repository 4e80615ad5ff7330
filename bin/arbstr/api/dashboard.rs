//! `GET /` and its assets: the operator's page, embedded in the binary.
//!
//! The files hold nothing secret and are open without the token; all figures come from the API, which asks for it.
//! Addresses in them are relative, so that the page works behind a path prefix too. A strict content security policy
//! keeps out whatever a provider may smuggle into a name: no inline script or style, nothing from elsewhere.

use std::hash::{DefaultHasher, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::ResponseBody;

/// One embedded file.
#[derive(Debug)]
pub(crate) struct Asset {
    path: &'static str,
    content_type: HeaderValue,
    content: Bytes,
    /// Of its bytes, so that a new binary is a new tag.
    tag: HeaderValue,
}

/// The file at `path`, if it is one of the dashboard's.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    if path != "/" && !path.starts_with("/dashboard/") {
        return None;
    }
    ASSETS.iter().find(|asset| asset.path == path)
}

/// The file, or 304 for a browser that has it.
pub(crate) fn serve(asset: &Asset, asked: &HeaderMap) -> Response<ResponseBody> {
    let known = is_known(asked, &asset.tag);
    let content = if known {
        Bytes::new()
    } else {
        asset.content.clone()
    };
    let mut response = Response::new(ResponseBody::whole(content));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, asset.content_type.clone());
    }
    headers.insert(header::ETAG, asset.tag.clone());
    for (name, value) in GUARDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Asset {
    fn new(path: &'static str, content: &'static [u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        let tag = format!("\"{:016x}\"", hasher.finish());
        Self {
            path,
            content_type: HeaderValue::from_static(content_type(path)),
            content: Bytes::from_static(content),
            tag: HeaderValue::from_str(&tag).expect("hexadecimal digits are a header value"),
        }
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "text/html; charset=utf-8",
    }
}

/// Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2: compared weakly).
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|given| given == b"*" || given.strip_prefix(b"W/").unwrap_or(given) == tag.as_bytes())
}

macro_rules! assets {
    ($($file:literal),+ $(,)?) => {
        vec![
            Asset::new("/", include_bytes!("../dashboard/index.html")),
            $(Asset::new(
                concat!("/dashboard/", $file),
                include_bytes!(concat!("../dashboard/", $file)),
            )),+
        ]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets![
        "api.js",
        "attempts.js",
        "chart.js",
        "dashboard.css",
        "dom.js",
        "format.js",
        "icon.svg",
        "main.js",
        "overview.js",
        "poll.js",
        "providers.js",
        "request.js",
        "requests.js",
        "table.js",
        "theme.js",
        "vendor/uPlot.LICENSE.txt",
        "vendor/uPlot.iife.min.js",
        "vendor/uPlot.min.css",
        "words.js",
    ]
});

/// What a browser may do with the page. `no-cache` lets it keep a file, but ask by tag before using it.
const GUARDS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-cache"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_any_of_its_forms() {
        let tag = HeaderValue::from_static("\"abc\"");
        let cases = [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"abcd\"", false),
            ("abc", false),
            ("", false),
        ];
        for (given, expected) in cases {
            let mut asked = HeaderMap::new();
            asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static(given));
            assert_eq!(is_known(&asked, &tag), expected, "{given}");
        }
    }
}
