//! A naive reading of WHATWG HTML 9.2.5 and 9.2.6, with the limit added: the whole input at once, line by line, each
//! line and field copied. Nothing here is clever, so that it can be believed; the parser must agree with it.

use std::time::Duration;

/// An item as the parser should report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Event {
        event_type: Vec<u8>,
        data: Vec<u8>,
        id: Vec<u8>,
        retry: Option<Duration>,
        span: (u64, u64),
        data_span: Option<(u64, u64)>,
    },
    Overflow {
        span: (u64, u64),
    },
}

/// Everything a stream amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) items: Vec<Seen>,
    pub(crate) tail: Option<Seen>,
    pub(crate) id: Vec<u8>,
    pub(crate) retry: Option<Duration>,
    /// What a relay has to hold back after the last byte.
    pub(crate) pending_from: u64,
}

/// A line's content as a place in the input, and where the next line begins; `None` when the line is unterminated.
struct Line {
    start: usize,
    end: usize,
    next: Option<usize>,
}

#[derive(Default)]
struct Block {
    start: usize,
    longest: usize,
    event_type: Vec<u8>,
    data: Vec<(usize, usize)>,
    id: Option<Vec<u8>>,
}

/// Reads `input` with at most `max` bytes an event.
pub(crate) fn read(input: &[u8], max: usize) -> Reading {
    let mut reading = Reading {
        items: Vec::new(),
        tail: None,
        id: Vec::new(),
        retry: None,
        pending_from: input.len() as u64,
    };
    let mut block: Option<Block> = None;
    for line in lines(input) {
        let content = &input[line.start..line.end];
        if let (true, Some(end)) = (content.is_empty(), line.next) {
            if let Some(block) = block.take() {
                if let Some(id) = &block.id {
                    reading.id = id.clone();
                }
                let id = reading.id.clone();
                let item = block.dispatch(input, max, id, reading.retry, end as u64);
                reading.items.extend(item);
            }
            continue;
        }
        let unfinished = line.next.is_none();
        if block.is_none() && content.first() == Some(&b':') {
            if unfinished && content.len() <= max {
                reading.pending_from = line.start as u64;
            }
            continue;
        }
        if content.is_empty() {
            continue;
        }
        let block = block.get_or_insert_with(|| Block {
            start: line.start,
            ..Block::default()
        });
        block.longest = block.longest.max(line.end - block.start);
        block.read(input, &line, max, &mut reading.retry);
    }
    if let Some(block) = block {
        if block.longest <= max {
            reading.pending_from = block.start as u64;
        }
        let id = block.id.clone().unwrap_or_else(|| reading.id.clone());
        let end = input.len() as u64;
        reading.tail = block.dispatch(input, max, id, reading.retry, end);
    } else if b"\xEF\xBB\xBF".starts_with(input) && input.len() < 3 {
        reading.pending_from = 0;
    }
    reading
}

impl Block {
    fn read(&mut self, input: &[u8], line: &Line, max: usize, retry: &mut Option<Duration>) {
        let content = &input[line.start..line.end];
        let colon = content.iter().position(|byte| *byte == b':');
        let name = &content[..colon.unwrap_or(content.len())];
        let mut value = line.end;
        if let Some(colon) = colon {
            value = line.start + colon + 1;
            if value < line.end && input[value] == b' ' {
                value += 1;
            }
        }
        let text = &input[value..line.end];
        let too_long = content.len() > max;
        match name {
            b"data" => self.data.push((value, line.end)),
            b"event" => self.event_type = text.to_vec(),
            b"id" if !text.contains(&0) && !too_long => self.id = Some(text.to_vec()),
            b"retry" if !too_long && line.next.is_some() && is_number(text) => {
                let digits = std::str::from_utf8(text).expect("digits are ASCII");
                *retry = Some(Duration::from_millis(digits.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }

    fn dispatch(
        self,
        input: &[u8],
        max: usize,
        id: Vec<u8>,
        retry: Option<Duration>,
        end: u64,
    ) -> Option<Seen> {
        let span = (self.start as u64, end);
        if self.data.is_empty() {
            return None;
        }
        if self.longest > max {
            return Some(Seen::Overflow { span });
        }
        let lines: Vec<&[u8]> = self
            .data
            .iter()
            .map(|(from, to)| &input[*from..*to])
            .collect();
        let named = !self.event_type.is_empty();
        Some(Seen::Event {
            event_type: if named {
                self.event_type
            } else {
                b"message".to_vec()
            },
            data: lines.join(&b'\n'),
            id,
            retry,
            span,
            data_span: match self.data[..] {
                [(from, to)] => Some((from as u64, to as u64)),
                _ => None,
            },
        })
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn lines(input: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = if input.starts_with(b"\xEF\xBB\xBF") {
        3
    } else {
        0
    };
    while start < input.len() {
        let length = input[start..]
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'));
        let end = length.map_or(input.len(), |length| start + length);
        let next = length.map(|_| {
            if input[end..].starts_with(b"\r\n") {
                end + 2
            } else {
                end + 1
            }
        });
        lines.push(Line { start, end, next });
        start = next.unwrap_or(input.len());
    }
    lines
}
