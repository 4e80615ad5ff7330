//! The head of a request as it goes out.

use std::io::Write as _;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};

/// Appends the head of a request for `uri` whose body has `length` bytes; each call of `headers` gives them all.
///
/// `Host` is the authority of `uri` unless the headers name another. What frames the body is written here and nowhere else,
/// so a `content-length` or `transfer-encoding` among them is left out.
pub fn write_request<'a, I>(
    out: &mut Vec<u8>,
    method: &Method,
    uri: &Uri,
    headers: impl Fn() -> I,
    length: usize,
) where
    I: Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
{
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let names_host = headers().any(|(name, _)| name == header::HOST);
    if let (false, Some(authority)) = (names_host, uri.authority()) {
        let host = authority.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        write_field(out, b"host", host.as_bytes());
    }
    for (name, value) in headers() {
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    write!(out, "content-length: {length}\r\n\r\n").expect("memory takes all that is written");
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

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
        let mut out = Vec::new();
        write_request(
            &mut out,
            &Method::POST,
            &Uri::from_static(uri),
            || headers.iter(),
            length,
        );
        String::from_utf8(out).expect("these headers are text")
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
