//! Where lines end, and the one event that is worth recognising at a glance.
//!
//! These searches are what the parser's speed is made of; they know nothing of its state.

use core::ops::Range;

use memchr::memchr2;

/// What the start of a chunk is: the commonest event, one `data` line and a blank one, or anything else.
pub(crate) enum Plain {
    Event {
        data: Range<usize>,
        used: usize,
    },
    /// No line ends in the first `searched` bytes.
    Other {
        searched: usize,
    },
}

/// Looks at the start of a chunk that begins between events.
#[inline(always)]
pub(crate) fn find_plain(chunk: &[u8], max: usize) -> Plain {
    let Some(line) = chunk.strip_prefix(DATA) else {
        return Plain::Other { searched: 0 };
    };
    let Some(length) = memchr2(b'\n', b'\r', line) else {
        return Plain::Other {
            searched: chunk.len(),
        };
    };
    let end = DATA.len() + length;
    let used = match &chunk[end..] {
        [b'\n', b'\n', ..] => end + 2,
        [b'\r', b'\n', b'\r', b'\n', ..] => end + 4,
        _ => return Plain::Other { searched: end },
    };
    if end > max {
        return Plain::Other { searched: end };
    }
    let data = DATA.len() + usize::from(line[0] == b' ');
    Plain::Event {
        data: data..end,
        used,
    }
}

/// The next CR or LF at or after `at`.
///
/// Most lines other than a stream's main `data` lines are a few words long, and the call of a vector search costs more
/// than they do. The first bytes are therefore tried in registers.
#[inline(always)]
pub(crate) fn find_line_end(chunk: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    if let Some((near, _)) = chunk[at..].split_first_chunk::<NEAR>() {
        from += find_low(near);
        if chunk.get(from).is_some_and(|byte| is_line_end(*byte)) {
            return Some(from);
        }
    }
    memchr2(b'\n', b'\r', &chunk[from..]).map(|length| from + length)
}

/// The place of the first byte below 0x0E, which may be CR or LF; [`NEAR`] when there is none.
#[inline]
fn find_low(near: &[u8; NEAR]) -> usize {
    let (words, _) = near.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A borrow may also flag bytes above the first low one, which is all that counts.
        let low = word.wrapping_sub(LOW * 0x0E) & !word & (LOW * 0x80);
        if low != 0 {
            return place * 8 + (low.trailing_zeros() / 8) as usize;
        }
    }
    NEAR
}

#[inline]
pub(crate) const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

const DATA: &[u8; 5] = b"data:";
/// One in every byte of a word.
const LOW: u64 = u64::MAX / 255;
/// How many bytes are tried before the search for a line end is worth its call.
const NEAR: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_line_end_at_any_distance() {
        for length in 0..100 {
            for end in [b'\n', b'\r'] {
                let mut line = [b'x'; 128];
                line[length] = end;
                line[length + 1] = b'\n';
                assert_eq!(find_line_end(&line, 0), Some(length));
                assert_eq!(find_line_end(&line[..=length], length / 2), Some(length));
                assert_eq!(find_line_end(&line[..length], 0), None);
            }
        }
    }

    #[test]
    fn other_low_bytes_end_no_line() {
        for low in (0..0x20).filter(|byte| !is_line_end(*byte)) {
            for place in 0..40 {
                let mut line = [b'x'; 64];
                line[place] = low;
                assert_eq!(find_line_end(&line, 0), None, "{low} at {place}");
                line[50] = b'\r';
                assert_eq!(find_line_end(&line, 0), Some(50), "{low} at {place}");
            }
        }
    }
}
