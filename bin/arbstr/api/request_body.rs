//! The body of a request, as whoever answers reads it, in whatever version of HTTP it comes.

use std::error::Error;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

/// A body that is still to be read.
pub(crate) trait RequestBody: Send {
    /// Whether nothing of it is left.
    fn is_over(&self) -> bool;

    /// The least number of bytes that are left.
    fn announced(&self) -> u64;

    /// Appends what comes next to `data`, until the body [is over](Self::is_over).
    ///
    /// # Errors
    /// When it cannot be read on.
    fn poll_read(&mut self, cx: &mut Context<'_>, data: &mut Vec<u8>) -> Poll<ReadResult>;
}

/// How a read went.
pub(crate) type ReadResult = Result<(), Box<dyn Error + Send + Sync>>;

/// [`RequestBody::poll_read`] as a future.
pub(super) async fn read(body: &mut dyn RequestBody, data: &mut Vec<u8>) -> ReadResult {
    poll_fn(|cx| body.poll_read(cx, data)).await
}

/// Reads what nobody wants, for a moment; tells whether the body is over then.
pub(crate) async fn skip(body: &mut dyn RequestBody) -> bool {
    let rest = async {
        let mut data = Vec::new();
        while !body.is_over() {
            data.clear();
            data.reserve(SKIPPED_AT_ONCE);
            if read(body, &mut data).await.is_err() {
                return false;
            }
        }
        true
    };
    timeout(SKIP_TIME, rest).await == Ok(true)
}

const SKIP_TIME: Duration = Duration::from_secs(2);
const SKIPPED_AT_ONCE: usize = 16 * 1024;
