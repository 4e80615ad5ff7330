//! The head of a request as it goes out.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};

use crate::write;

/// How each request to one address begins: its line, and its `Host`.
#[derive(Debug, Clone)]
pub struct Opening(Vec<u8>);

impl Opening {
    /// For requests of `method` to `uri`. The host is the authority of `uri`, unless `host` names another.
    pub fn new(method: &Method, uri: &Uri, host: Option<&HeaderValue>) -> Self {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut opening = Vec::new();
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            opening.extend_from_slice(part.as_bytes());
        }
        if let Some(host) = host.map(HeaderValue::as_bytes).or_else(|| authority(uri)) {
            write::field(&mut opening, b"host", host);
        }
        Self(opening)
    }

    /// The head of a request whose body has `length` bytes.
    ///
    /// What frames the body is written here and nowhere else, so a `content-length` or `transfer-encoding` among the
    /// headers is left out, as is a `host`.
    pub fn head<'a>(
        &self,
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        length: usize,
    ) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.0.len() + USUAL_FIELDS);
        head.extend_from_slice(&self.0);
        for (name, value) in headers.filter(|(name, _)| !WRITTEN_HERE.contains(name)) {
            write::field(&mut head, name.as_str().as_bytes(), value.as_bytes());
        }
        head.extend_from_slice(b"content-length: ");
        write::number::<10>(&mut head, length as u64);
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

fn authority(uri: &Uri) -> Option<&[u8]> {
    let authority = uri.authority()?.as_str();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Some(host.as_bytes())
}

const WRITTEN_HERE: [HeaderName; 3] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];
/// Room for the fields of a usual request.
const USUAL_FIELDS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        uri: &'static str,
        fields: &[(&'static str, &'static str)],
        length: usize,
    ) -> String {
        let mut headers = header::HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let opening = Opening::new(
            &Method::POST,
            &Uri::from_static(uri),
            headers.get(header::HOST),
        );
        String::from_utf8(opening.head(headers.iter(), length)).expect("these headers are text")
    }

    #[test]
    fn a_request_names_its_target_its_host_and_its_length() {
        assert_eq!(
            written("https://a.example:8443/v1/x?y=1", &[("accept", "*/*")], 17),
            "POST /v1/x?y=1 HTTP/1.1\r\nhost: a.example:8443\r\naccept: */*\r\ncontent-length: 17\r\n\r\n"
        );
        assert_eq!(
            written("http://u:p@a.example", &[], 0),
            "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n"
        );
        let longest = written("http://a.example", &[], usize::MAX);
        assert!(longest.ends_with(&format!("content-length: {}\r\n\r\n", usize::MAX)));
    }

    #[test]
    fn a_host_of_ones_own_wins_and_framing_of_ones_own_does_not() {
        let fields = [
            ("host", "other.example"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(
            written("http://a.example/", &fields, 1),
            "POST / HTTP/1.1\r\nhost: other.example\r\ncontent-length: 1\r\n\r\n"
        );
    }
}
