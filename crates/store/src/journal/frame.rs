//! How one record is laid out in the journal, and how it is found again among torn ones.
//!
//! A frame is `magic (4) | payload length (4, LE) | crc32 of the payload (4, LE) | payload`. Whatever fails the check
//! is skipped byte by byte until the next magic, so a record torn by a crash or a full disk costs itself alone.

use std::time::Duration;

use arbstr_price::Sats;

use crate::record::{Asked, Attempt, Completion, NextAttempt, Opening};

/// What the bytes at the front of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A frame whose check is right, this many bytes long.
    Whole(usize),
    /// The beginning of a frame; more bytes may complete it.
    Incomplete,
    /// Not a frame; this many bytes can be skipped (at least one).
    Garbage(usize),
}

/// Adds the frame of an opening to `out`. False, and nothing added, if it is too long for a record.
pub(crate) fn encode_opening<T: AsRef<str>>(out: &mut Vec<u8>, opening: &Opening<T>) -> bool {
    let plan = opening.plan.as_ref().map_or(0, |plan| plan.as_ref().len());
    let mut out = Writer::begin(out, KIND_OPENING, 192 + plan);
    out.text(&opening.correlation_id);
    out.signed(opening.timestamp_ms);
    out.text(&opening.endpoint);
    out.text(&opening.model);
    out.optional(opening.policy.as_ref(), Writer::text);
    out.byte(u8::from(opening.streaming));
    out.optional(opening.plan.as_ref(), Writer::text);
    out.optional(opening.asked.as_ref(), Writer::asked);
    out.finish()
}

/// Adds the frame of an attempt that begins to `out`. False, and nothing added, if it is too long for a record.
pub(crate) fn encode_next_attempt<T: AsRef<str>>(out: &mut Vec<u8>, next: &NextAttempt<T>) -> bool {
    let mut out = Writer::begin(out, KIND_NEXT_ATTEMPT, 256);
    out.text(&next.correlation_id);
    out.signed(next.timestamp_ms);
    out.unsigned(next.number.into());
    out.asked(&next.asked);
    out.optional(next.failed.as_ref(), Writer::attempt);
    out.finish()
}

/// Adds the frame of a completion to `out`. False, and nothing added, if it is too long for a record.
pub(crate) fn encode_completion<T: AsRef<str>>(
    out: &mut Vec<u8>,
    completion: &Completion<T>,
) -> bool {
    let plan = completion
        .plan
        .as_ref()
        .map_or(0, |plan| plan.as_ref().len());
    let room = 320 + plan + 96 * completion.attempts.len();
    let mut out = Writer::begin(out, KIND_COMPLETION, room);
    out.text(&completion.correlation_id);
    out.signed(completion.ended_ms);
    for text in [
        &completion.served_model,
        &completion.provider,
        &completion.tier,
        &completion.finish_reason,
        &completion.error_message,
        &completion.plan,
    ] {
        out.optional(text.as_ref(), Writer::text);
    }
    for count in [
        completion.input_tokens,
        completion.output_tokens,
        completion.cached_input_tokens,
        completion.reasoning_tokens,
    ] {
        out.optional(count, Writer::unsigned);
    }
    for amount in [
        completion.cost,
        completion.estimated_cost,
        completion.reference_cost,
        completion.provider_cost,
    ] {
        out.optional(amount, Writer::amount);
    }
    for flag in [
        completion.cost_disagrees,
        completion.uncovered_units,
        completion.implausible_usage,
        completion.success,
    ] {
        out.byte(u8::from(flag));
    }
    out.optional(completion.latency, Writer::duration);
    out.optional(completion.stream_duration, Writer::duration);
    out.duration(completion.duration);
    out.optional(completion.error_status.map(u64::from), Writer::unsigned);
    out.unsigned(completion.attempts.len() as u64);
    for attempt in &completion.attempts {
        out.attempt(attempt);
    }
    out.finish()
}

/// The frame that opens a segment.
pub(crate) fn encode_owner(owner: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Writer::begin(&mut bytes, KIND_OWNER, 64);
    out.text(&owner);
    out.finish();
    bytes
}

/// Looks for a frame at the front of `bytes`.
pub(crate) fn find(bytes: &[u8]) -> Found {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] || bytes.is_empty() {
        return Found::Garbage(distance_to_magic(bytes));
    }
    let Some(whole) = length(bytes) else {
        return Found::Incomplete;
    };
    // A header that is torn where zeros follow names no length.
    if whole == HEADER || whole > HEADER + MAX_PAYLOAD {
        return Found::Garbage(1);
    }
    let Some(payload) = bytes.get(HEADER..whole) else {
        return Found::Incomplete;
    };
    if crc32fast::hash(payload) != word(&bytes[8..12]) {
        return Found::Garbage(1);
    }
    Found::Whole(whole)
}

/// How long the frame at the front of `bytes` is, as it says; `None` if that is not there.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    bytes
        .get(..HEADER)
        .map(|header| HEADER + word(&header[4..8]) as usize)
}

/// What is in a whole frame that opens a segment: whose it is. `None` if this version cannot read it.
pub(crate) fn decode_owner(frame: &[u8]) -> Option<&str> {
    let mut input = Reader::of(frame, KIND_OWNER)?;
    let owner = input.text()?;
    input.0.is_empty().then_some(owner)
}

/// What is in the whole frame of an opening. `None` if this version cannot read it.
pub(crate) fn decode_opening(frame: &[u8]) -> Option<Opening<&str>> {
    let mut input = Reader(frame.get(HEADER..)?);
    let knows_asked = match input.byte()? {
        KIND_OPENING => true,
        KIND_OPENING_1 => false,
        _ => return None,
    };
    let mut opening = input.opening()?;
    if knows_asked {
        opening.asked = input.optional(Reader::asked)?;
    }
    input.0.is_empty().then_some(opening)
}

/// The same without who is asked, for a request whose end says that.
pub(crate) fn decode_opening_alone(frame: &[u8]) -> Option<Opening<&str>> {
    if !is_opening(frame) {
        return None;
    }
    Reader(frame.get(HEADER + 1..)?).opening()
}

/// What is in the whole frame of an attempt that begins. `None` if this version cannot read it.
pub(crate) fn decode_next_attempt(frame: &[u8]) -> Option<NextAttempt<&str>> {
    let mut input = Reader::of(frame, KIND_NEXT_ATTEMPT)?;
    let next = input.next_attempt()?;
    input.0.is_empty().then_some(next)
}

/// What is in the whole frame of a completion. `None` if this version cannot read it.
pub(crate) fn decode_completion(frame: &[u8]) -> Option<Completion<&str>> {
    let mut input = Reader(frame.get(HEADER..)?);
    let knows_implausible = match input.byte()? {
        KIND_COMPLETION => true,
        KIND_COMPLETION_1 => false,
        _ => return None,
    };
    let completion = input.completion(knows_implausible)?;
    input.0.is_empty().then_some(completion)
}

/// Whether a whole frame is that of an opening.
pub(crate) fn is_opening(frame: &[u8]) -> bool {
    matches!(frame.get(HEADER), Some(&(KIND_OPENING | KIND_OPENING_1)))
}

/// Whether a whole frame is that of an attempt that begins.
pub(crate) fn is_next_attempt(frame: &[u8]) -> bool {
    frame.get(HEADER) == Some(&KIND_NEXT_ATTEMPT)
}

/// Whether a whole frame is that of a completion.
pub(crate) fn is_completion(frame: &[u8]) -> bool {
    matches!(
        frame.get(HEADER),
        Some(&(KIND_COMPLETION | KIND_COMPLETION_1))
    )
}

/// Whether a whole frame is the one that opens a segment.
pub(crate) fn is_owner(frame: &[u8]) -> bool {
    frame.get(HEADER) == Some(&KIND_OWNER)
}

/// Whether a whole frame is of a kind that this version can read.
pub(crate) fn is_known(frame: &[u8]) -> bool {
    is_owner(frame) || is_opening(frame) || is_next_attempt(frame) || is_completion(frame)
}

/// When the record in a whole frame was handed in, in milliseconds since the epoch.
pub(crate) fn at_ms(frame: &[u8]) -> Option<i64> {
    if is_owner(frame) {
        return None;
    }
    let mut input = Reader(frame.get(HEADER + 1..)?);
    input.sized()?;
    input.signed()
}

/// The id of the request that the record in a whole frame is about.
pub(crate) fn correlation_id(frame: &[u8]) -> Option<&str> {
    if is_owner(frame) {
        return None;
    }
    Reader(frame.get(HEADER + 1..)?).text()
}

/// How far the next possible frame is; never 0, and all of `bytes` when there is none.
fn distance_to_magic(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    let found = rest.iter().position(|byte| *byte == MAGIC[0]);
    found.map_or_else(|| bytes.len().max(1), |at| at + 1)
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Builds one frame behind what is there already; the header is filled in at the end.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    fn begin(out: &'a mut Vec<u8>, kind: u8, room: usize) -> Self {
        let start = out.len();
        out.reserve(HEADER + room);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; HEADER - MAGIC.len()]);
        out.push(kind);
        Self { out, start }
    }

    /// Seals the frame, or takes it off again if its payload is over the limit.
    fn finish(self) -> bool {
        let (header, payload) = self.out[self.start..].split_at_mut(HEADER);
        match u32::try_from(payload.len()) {
            Ok(length) if payload.len() <= MAX_PAYLOAD => {
                header[4..8].copy_from_slice(&length.to_le_bytes());
                header[8..12].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
                true
            }
            _ => {
                self.out.truncate(self.start);
                false
            }
        }
    }

    fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    /// LEB128: seven bits a byte, lowest first.
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }

    fn signed(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn amount(&mut self, value: Sats) {
        self.out.extend_from_slice(&value.nanosats().to_le_bytes());
    }

    fn duration(&mut self, value: Duration) {
        self.unsigned(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    fn text(&mut self, value: &impl AsRef<str>) {
        let value = value.as_ref();
        self.unsigned(value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn asked<T: AsRef<str>>(&mut self, asked: &Asked<T>) {
        self.text(&asked.provider);
        self.text(&asked.model);
        self.text(&asked.tier);
        self.duration(asked.started_after);
    }

    fn attempt<T: AsRef<str>>(&mut self, attempt: &Attempt<T>) {
        self.text(&attempt.provider);
        self.text(&attempt.model);
        self.text(&attempt.outcome);
        self.optional(attempt.status.map(u64::from), Self::unsigned);
        self.duration(attempt.started_after);
        self.duration(attempt.duration);
        self.optional(attempt.sunk_cost, Self::amount);
    }
}

/// Reads a payload from the front; `None` as soon as it does not fit.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the header and the kind of a whole frame, if it is of that kind.
    fn of(frame: &'a [u8], kind: u8) -> Option<Self> {
        let mut input = Self(frame.get(HEADER..)?);
        (input.byte()? == kind).then_some(input)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let bytes = self.take(8)?;
        bytes.try_into().ok().map(i64::from_le_bytes)
    }

    fn amount(&mut self) -> Option<Sats> {
        let bytes = self.take(16)?;
        let nanosats = bytes.try_into().ok().map(i128::from_le_bytes)?;
        Some(Sats::from_nanosats(nanosats))
    }

    fn duration(&mut self) -> Option<Duration> {
        self.unsigned().map(Duration::from_nanos)
    }

    fn status(&mut self) -> Option<u16> {
        u16::try_from(self.unsigned()?).ok()
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.sized()?).ok()
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }

    /// All but who is asked.
    fn opening(&mut self) -> Option<Opening<&'a str>> {
        Some(Opening {
            correlation_id: self.text()?,
            timestamp_ms: self.signed()?,
            endpoint: self.text()?,
            model: self.text()?,
            policy: self.optional(Self::text)?,
            streaming: self.flag()?,
            plan: self.optional(Self::text)?,
            asked: None,
        })
    }

    fn next_attempt(&mut self) -> Option<NextAttempt<&'a str>> {
        Some(NextAttempt {
            correlation_id: self.text()?,
            timestamp_ms: self.signed()?,
            number: u32::try_from(self.unsigned()?).ok()?,
            asked: self.asked()?,
            failed: self.optional(Self::attempt)?,
        })
    }

    fn asked(&mut self) -> Option<Asked<&'a str>> {
        Some(Asked {
            provider: self.text()?,
            model: self.text()?,
            tier: self.text()?,
            started_after: self.duration()?,
        })
    }

    /// The order of the fields is the order in which they were written.
    fn completion(&mut self, knows_implausible: bool) -> Option<Completion<&'a str>> {
        Some(Completion {
            correlation_id: self.text()?,
            ended_ms: self.signed()?,
            served_model: self.optional(Self::text)?,
            provider: self.optional(Self::text)?,
            tier: self.optional(Self::text)?,
            finish_reason: self.optional(Self::text)?,
            error_message: self.optional(Self::text)?,
            plan: self.optional(Self::text)?,
            input_tokens: self.optional(Self::unsigned)?,
            output_tokens: self.optional(Self::unsigned)?,
            cached_input_tokens: self.optional(Self::unsigned)?,
            reasoning_tokens: self.optional(Self::unsigned)?,
            cost: self.optional(Self::amount)?,
            estimated_cost: self.optional(Self::amount)?,
            reference_cost: self.optional(Self::amount)?,
            provider_cost: self.optional(Self::amount)?,
            cost_disagrees: self.flag()?,
            uncovered_units: self.flag()?,
            implausible_usage: knows_implausible && self.flag()?,
            success: self.flag()?,
            latency: self.optional(Self::duration)?,
            stream_duration: self.optional(Self::duration)?,
            duration: self.duration()?,
            error_status: self.optional(Self::status)?,
            attempts: self.attempts()?,
        })
    }

    fn attempts(&mut self) -> Option<Vec<Attempt<&'a str>>> {
        let count = self.unsigned()?;
        let mut attempts = Vec::with_capacity(usize::try_from(count.min(16)).unwrap_or(0));
        for _ in 0..count {
            attempts.push(self.attempt()?);
        }
        Some(attempts)
    }

    fn attempt(&mut self) -> Option<Attempt<&'a str>> {
        Some(Attempt {
            provider: self.text()?,
            model: self.text()?,
            outcome: self.text()?,
            status: self.optional(Self::status)?,
            started_after: self.duration()?,
            duration: self.duration()?,
            sunk_cost: self.optional(Self::amount)?,
        })
    }
}

/// The last byte is the version of the layout.
const MAGIC: [u8; 4] = *b"aLg1";
const HEADER: usize = 12;
/// No record comes near this; a length above it is not a length.
const MAX_PAYLOAD: usize = 64 << 20;

const KIND_OWNER: u8 = 0;
const KIND_OPENING: u8 = 4;
const KIND_NEXT_ATTEMPT: u8 = 5;
const KIND_COMPLETION: u8 = 3;
// What may lie in a journal that an earlier arbstr left.
/// Without `asked`.
const KIND_OPENING_1: u8 = 1;
/// Without `implausible_usage`.
const KIND_COMPLETION_1: u8 = 2;

#[cfg(test)]
mod tests;
