//! What heads and chunks are written with.

/// A header field with its line end.
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `number` in digits of `BASE`, 16 at most.
pub(crate) fn number<const BASE: u64>(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; MOST_DIGITS];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::try_from(number % BASE).unwrap_or(0)];
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Of 64 bits.
const MOST_DIGITS: usize = 20;
