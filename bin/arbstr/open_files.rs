//! How many files the process may have open at once: a stream takes two, one towards its client and one upstream.
//!
//! A shell gives its programs 1,024 and lets them take more for themselves, up to the hard limit. A program that uses
//! `select` could not; arbstr does not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the process may, and warns where that is not far.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            limit
        }
    };
    // None is unlimited.
    let files = limit.current.unwrap_or(u64::MAX);
    if files < FEW {
        let streams = files.saturating_sub(OWN) / 2;
        tracing::warn!(
            files,
            streams,
            "few files may be open at once, so there can be few streams; raise the hard limit (ulimit -Hn, or LimitNOFILE= of systemd)"
        );
    }
}

const FEW: u64 = 4096;
/// What arbstr has open for itself, in round numbers.
const OWN: u64 = 100;
