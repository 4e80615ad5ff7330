//! Each thread's pool of what one request leaves for the next: the buffers of large bodies, and header maps.
//!
//! An allocator gives a large buffer's memory back to the system at once, and the pages of the next one are then taken and
//! cleared one by one: a fifth of all that a prompt of 1 MB cost. A header map is the largest piece of a small request.

use std::cell::RefCell;

use bytes::Bytes;
use hyper::HeaderMap;

/// An empty buffer with room for `room` bytes.
pub(crate) fn take(room: usize) -> Vec<u8> {
    let kept = KEPT.with_borrow_mut(|kept| {
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= room;
        let at = kept.iter().rposition(fits).filter(|_| room >= LARGE)?;
        Some(kept.remove(at))
    });
    kept.unwrap_or_else(|| Vec::with_capacity(room))
}

/// What `buffer` holds, to be shared. Whichever thread lets go of it last keeps the buffer.
pub(crate) fn share(buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() < LARGE {
        buffer.into()
    } else {
        Bytes::from_owner(PooledBuffer(buffer))
    }
}

/// One body of `pieces`.
pub(crate) fn join(pieces: &[&[u8]]) -> Bytes {
    let mut joined = take(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        joined.extend_from_slice(piece);
    }
    share(joined)
}

/// An empty header map with room for the usual fields: whichever message had it before, the next one fits.
pub(crate) fn take_headers() -> HeaderMap {
    HEADERS
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| HeaderMap::with_capacity(USUAL_HEADERS))
}

/// Keeps the room of `headers`, if it is of a usual size.
pub(crate) fn keep_headers(mut headers: HeaderMap) {
    headers.clear();
    if headers.capacity() <= MOST_HEADERS {
        // A thread that ends keeps nothing.
        let _ = HEADERS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MOST_MAPS {
                kept.push(headers);
            }
        });
    }
}

struct PooledBuffer(Vec<u8>);

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| keep(&mut kept.borrow_mut(), buffer));
    }
}

/// Keeps `buffer` in place of the oldest ones.
fn keep(kept: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES {
        return;
    }
    buffer.clear();
    kept.push(buffer);
    while kept.iter().map(Vec::capacity).sum::<usize>() > KEPT_BYTES {
        kept.remove(0);
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static HEADERS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

const MOST_MAPS: usize = 32;
/// What clients and providers usually send, and what arbstr adds.
const USUAL_HEADERS: usize = 24;
const MOST_HEADERS: usize = 64;
/// What a thread keeps in all.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// The allocator keeps smaller ones itself.
const LARGE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Vec<usize> {
        KEPT.with_borrow(|kept| kept.iter().map(Vec::capacity).collect())
    }

    #[test]
    fn a_buffer_serves_again_once_all_have_let_go_of_it() {
        let mut buffer = take(200_000);
        buffer.extend_from_slice(b"hello");
        let body = share(buffer);
        let part = body.slice(1..3);
        drop(body);
        assert_eq!((&*part, kept()), (&b"el"[..], vec![]));
        drop(part);
        assert_eq!(kept(), [200_000]);
        let again = take(199_999);
        assert_eq!(
            (again.len(), again.capacity(), kept()),
            (0, 200_000, vec![])
        );
    }

    #[test]
    fn a_small_body_takes_no_large_buffer_and_leaves_none() {
        drop(share(Vec::with_capacity(LARGE)));
        assert_eq!(take(LARGE - 1).capacity(), LARGE - 1);
        assert_eq!(join(&[b"a", b"", b"bc"]), "abc");
        assert_eq!(kept(), [LARGE]);
    }

    #[test]
    fn a_header_map_comes_back_empty_and_a_huge_one_does_not() {
        let filled = |count: usize| {
            let mut headers = HeaderMap::new();
            for index in 0..count {
                let name: hyper::header::HeaderName = format!("x-{index}").parse().unwrap();
                headers.insert(name, hyper::header::HeaderValue::from_static("1"));
            }
            headers
        };
        keep_headers(filled(10));
        keep_headers(filled(200));
        let again = take_headers();
        assert_eq!((again.len(), again.capacity() >= 10), (0, true));
        assert_eq!(take_headers().capacity(), USUAL_HEADERS);
    }

    #[test]
    fn no_more_is_kept_than_the_limit_and_the_newest_first() {
        let sizes = [
            KEPT_BYTES / 4,
            KEPT_BYTES + 1,
            KEPT_BYTES / 2,
            KEPT_BYTES / 2,
        ];
        for size in sizes {
            drop(share(Vec::with_capacity(size)));
        }
        assert_eq!(kept(), [KEPT_BYTES / 2, KEPT_BYTES / 2]);
        assert!(take(KEPT_BYTES / 2 + 1).capacity() > KEPT_BYTES / 2);
        assert_eq!(kept().len(), 2);
    }
}
