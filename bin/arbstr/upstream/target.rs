//! Where requests go, and the part of their heads that is the same for all of them.

use arbstr_http1::client::Opening;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};

/// An address and what is asked of it.
#[derive(Debug)]
pub(crate) struct RequestTarget {
    /// POST, or GET for a list.
    pub(super) method: Method,
    /// Where it is.
    pub(crate) uri: Uri,
    /// How a request in HTTP/1.1 begins.
    pub(super) opening: Opening,
}

impl RequestTarget {
    /// `uri` as it is asked with `headers`, which may name a host of their own.
    pub(crate) fn new(method: Method, uri: Uri, headers: &HeaderMap) -> Self {
        Self {
            opening: Opening::new(&method, &uri, headers.get(header::HOST)),
            method,
            uri,
        }
    }
}
