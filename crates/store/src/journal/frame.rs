//! How one record is laid out in the journal, and how it is found again among torn ones.
//!
//! A frame is `magic (4) | payload length (4, LE) | crc32 of the payload (4, LE) | payload`. Whatever fails the check
//! is skipped byte by byte until the next magic, so a record torn by a crash or a full disk costs itself alone.

use std::time::Duration;

use arbstr_price::Sats;

use crate::record::{Attempt, Completion, Opening, Record};

/// What the bytes at the front of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole record, this many bytes long.
    Whole(Record, usize),
    /// A frame whose check is right but whose content this version cannot read; this many bytes long.
    Unreadable(usize),
    /// The beginning of a frame; more bytes may complete it.
    Incomplete,
    /// Not a frame; this many bytes can be skipped (at least one).
    Garbage(usize),
}

/// The frame of an opening.
pub(crate) fn encode_opening(opening: &Opening) -> Vec<u8> {
    let plan = opening.plan.as_ref().map_or(0, String::len);
    let mut out = Writer::with_capacity(192 + plan);
    out.byte(KIND_OPENING);
    out.text(&opening.correlation_id);
    out.signed(opening.timestamp_ms);
    out.text(&opening.endpoint);
    out.text(&opening.model);
    out.optional(opening.policy.as_deref(), Writer::text);
    out.byte(u8::from(opening.streaming));
    out.optional(opening.plan.as_deref(), Writer::text);
    out.finish()
}

/// The frame of a completion.
pub(crate) fn encode_completion(completion: &Completion) -> Vec<u8> {
    let plan = completion.plan.as_ref().map_or(0, String::len);
    let mut out = Writer::with_capacity(320 + plan + 96 * completion.attempts.len());
    out.byte(KIND_COMPLETION);
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
        out.optional(text.as_deref(), Writer::text);
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
    let mut out = Writer::with_capacity(64);
    out.byte(KIND_OWNER);
    out.text(owner);
    out.finish()
}

/// Reads the frame at the front of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Frame {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] || bytes.is_empty() {
        return Frame::Garbage(distance_to_magic(bytes));
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return Frame::Incomplete;
    };
    let length = word(&header[4..8]) as usize;
    if length > MAX_PAYLOAD {
        return Frame::Garbage(1);
    }
    let Some(payload) = rest.get(..length) else {
        return Frame::Incomplete;
    };
    if crc32fast::hash(payload) != word(&header[8..12]) {
        return Frame::Garbage(1);
    }
    let whole = HEADER + length;
    decode_payload(payload).map_or(Frame::Unreadable(whole), |record| {
        Frame::Whole(record, whole)
    })
}

fn decode_payload(payload: &[u8]) -> Option<Record> {
    let mut input = Reader(payload);
    let record = match input.byte()? {
        KIND_OWNER => Record::Owner(input.text()?),
        KIND_OPENING => Record::Opening(input.opening()?),
        KIND_COMPLETION => Record::Completion(Box::new(input.completion(true)?)),
        KIND_COMPLETION_1 => Record::Completion(Box::new(input.completion(false)?)),
        _ => return None,
    };
    input.0.is_empty().then_some(record)
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

/// Builds one frame; the header is filled in at the end.
struct Writer(Vec<u8>);

impl Writer {
    fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; HEADER - MAGIC.len()]);
        Self(bytes)
    }

    /// Seals the frame. A payload over the limit gives an empty vector: it cannot be journaled.
    fn finish(mut self) -> Vec<u8> {
        let payload = &self.0[HEADER..];
        let check = crc32fast::hash(payload);
        match u32::try_from(payload.len()) {
            Ok(length) if payload.len() <= MAX_PAYLOAD => {
                self.0[4..8].copy_from_slice(&length.to_le_bytes());
                self.0[8..12].copy_from_slice(&check.to_le_bytes());
                self.0
            }
            _ => Vec::new(),
        }
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// LEB128: seven bits a byte, lowest first.
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn signed(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn amount(&mut self, value: Sats) {
        self.0.extend_from_slice(&value.nanosats().to_le_bytes());
    }

    fn duration(&mut self, value: Duration) {
        self.unsigned(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    fn text(&mut self, value: &str) {
        self.unsigned(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
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

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }

    fn opening(&mut self) -> Option<Opening> {
        Some(Opening {
            correlation_id: self.text()?,
            timestamp_ms: self.signed()?,
            endpoint: self.text()?,
            model: self.text()?,
            policy: self.optional(Self::text)?,
            streaming: self.flag()?,
            plan: self.optional(Self::text)?,
        })
    }

    /// The order of the fields is the order in which they were written.
    fn completion(&mut self, knows_implausible: bool) -> Option<Completion> {
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

    fn attempts(&mut self) -> Option<Vec<Attempt>> {
        let count = self.unsigned()?;
        let mut attempts = Vec::with_capacity(usize::try_from(count.min(16)).unwrap_or(0));
        for _ in 0..count {
            attempts.push(self.attempt()?);
        }
        Some(attempts)
    }

    fn attempt(&mut self) -> Option<Attempt> {
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
const KIND_OPENING: u8 = 1;
/// Without `implausible_usage`; may lie in a journal that an earlier arbstr left.
const KIND_COMPLETION_1: u8 = 2;
const KIND_COMPLETION: u8 = 3;

#[cfg(test)]
mod tests;
