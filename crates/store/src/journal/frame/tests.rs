//! Every record comes back from its frame, and nothing that was damaged does.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq)]
enum Record<'a> {
    Owner(&'a str),
    Opening(Opening<&'a str>),
    NextAttempt(NextAttempt<&'a str>),
    Completion(Box<Completion<&'a str>>),
}

fn decode(frame: &[u8]) -> Option<Record<'_>> {
    let owner = decode_owner(frame).map(Record::Owner);
    let opening = decode_opening(frame).map(Record::Opening);
    let completion =
        decode_completion(frame).map(|completion| Record::Completion(completion.into()));
    let next = decode_next_attempt(frame).map(Record::NextAttempt);
    let mut all = [owner, opening, next, completion].into_iter().flatten();
    let found = all.next();
    assert_eq!(all.next(), None);
    found
}

/// Kept for good, so that records of it can be compared with borrowed ones.
fn text() -> impl Strategy<Value = &'static str> {
    "\\PC{0,30}".prop_map(|text| &*text.leak())
}

fn any_record() -> impl Strategy<Value = Record<'static>> {
    prop_oneof![
        1 => text().prop_map(Record::Owner),
        4 => any_opening().prop_map(Record::Opening),
        2 => any_next_attempt().prop_map(Record::NextAttempt),
        4 => any_completion().prop_map(|completion| Record::Completion(completion.into())),
    ]
}

fn any_opening() -> impl Strategy<Value = Opening<&'static str>> {
    (
        text(),
        any::<i64>(),
        text(),
        option::of(text()),
        any::<bool>(),
        option::of(any_asked()),
    )
        .prop_map(
            |(correlation_id, timestamp_ms, model, plan, streaming, asked)| Opening {
                correlation_id,
                timestamp_ms,
                endpoint: "chat",
                model,
                policy: plan,
                streaming,
                plan,
                asked,
            },
        )
}

fn any_asked() -> impl Strategy<Value = Asked<&'static str>> {
    (text(), text(), any::<u64>()).prop_map(|(provider, model, nanos)| Asked {
        provider,
        model,
        tier: provider,
        started_after: Duration::from_nanos(nanos),
    })
}

fn any_next_attempt() -> impl Strategy<Value = NextAttempt<&'static str>> {
    (
        text(),
        any::<i64>(),
        any::<u32>(),
        any_asked(),
        any::<bool>(),
    )
        .prop_map(
            |(correlation_id, timestamp_ms, number, asked, failed)| NextAttempt {
                correlation_id,
                timestamp_ms,
                number,
                failed: failed.then_some(Attempt {
                    provider: asked.provider,
                    duration: asked.started_after,
                    ..Attempt::default()
                }),
                asked,
            },
        )
}

fn any_completion() -> impl Strategy<Value = Completion<&'static str>> {
    let numbers = (
        option::of(any::<u64>()),
        option::of(any::<i128>()),
        any::<u64>(),
    );
    (
        text(),
        option::of(text()),
        numbers,
        any::<bool>(),
        option::of(any::<u16>()),
    )
        .prop_map(
            |(id, words, (tokens, amount, nanos), flag, status)| Completion {
                correlation_id: id,
                provider: words,
                error_message: words,
                output_tokens: tokens,
                cost: amount.map(Sats::from_nanosats),
                uncovered_units: flag,
                duration: Duration::from_nanos(nanos),
                error_status: status,
                attempts: vec![
                    Attempt {
                        provider: id,
                        status,
                        sunk_cost: amount.map(Sats::from_nanosats),
                        ..Attempt::default()
                    };
                    usize::from(flag) * 2
                ],
                ..Completion::default()
            },
        )
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match record {
        Record::Owner(owner) => return encode_owner(owner),
        Record::Opening(opening) => assert!(encode_opening(&mut bytes, opening)),
        Record::NextAttempt(next) => assert!(encode_next_attempt(&mut bytes, next)),
        Record::Completion(completion) => assert!(encode_completion(&mut bytes, completion)),
    }
    bytes
}

/// All whole records in `bytes`, skipping what is none.
fn decode_all(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = match find(bytes) {
            Found::Whole(length) => {
                found.push(decode(&bytes[..length]).unwrap());
                length
            }
            Found::Garbage(length) => length,
            Found::Incomplete => 1,
        };
        assert!(length > 0 && length <= bytes.len());
        bytes = &bytes[length..];
    }
    found
}

#[test]
fn record_of_a_later_kind_is_stepped_over_whole() {
    let mut later = Vec::new();
    let mut out = Writer::begin(&mut later, 200, 0);
    out.text(&"from the future");
    assert!(out.finish());
    assert_eq!(find(&later), Found::Whole(later.len()));
    assert_eq!(decode(&later), None);
}

#[test]
fn opening_of_an_earlier_arbstr_is_read() {
    let opening = Opening {
        correlation_id: "earlier",
        timestamp_ms: 7,
        plan: Some("{}"),
        ..Opening::default()
    };
    let record = Record::Opening(opening);
    let now = encode(&record);
    // It ended before what says that nobody is asked.
    let payload = &now[HEADER + 1..now.len() - 1];
    let mut earlier = Vec::new();
    let out = Writer::begin(&mut earlier, KIND_OPENING_1, 0);
    out.out.extend_from_slice(payload);
    assert!(out.finish());
    assert!(is_opening(&earlier));
    assert_eq!(decode(&earlier), Some(record));
}

#[test]
fn completion_of_an_earlier_arbstr_is_read() {
    let completion = Completion {
        correlation_id: "earlier",
        cost: Some(Sats::from_nanosats(5)),
        success: true,
        latency: Some(Duration::from_millis(3)),
        ..Completion::default()
    };
    let record = Record::Completion(completion.into());
    let mut payload = encode(&record)[HEADER + 1..].to_vec();
    // Three flags then, four now: one before `success`.
    let flags = payload
        .windows(5)
        .position(|at| at == [0, 0, 0, 1, 1])
        .unwrap();
    payload.remove(flags);
    let mut earlier = Vec::new();
    let out = Writer::begin(&mut earlier, KIND_COMPLETION_1, 0);
    out.out.extend_from_slice(&payload);
    assert!(out.finish());
    assert_eq!(find(&earlier), Found::Whole(earlier.len()));
    assert_eq!(decode(&earlier), Some(record));
}

#[test]
fn frames_are_added_behind_one_another() {
    let mut bytes = b"before".to_vec();
    let opening = Opening {
        correlation_id: "a",
        ..Opening::default()
    };
    assert!(encode_opening(&mut bytes, &opening));
    assert!(encode_opening(&mut bytes, &opening));
    let frames = &bytes[b"before".len()..];
    let first = length(frames).unwrap();
    assert_eq!(frames.len(), 2 * first);
    assert_eq!(find(&frames[first..]), Found::Whole(first));
    assert_eq!(decode(&frames[..first]), Some(Record::Opening(opening)));
}

#[test]
fn length_beyond_reason_is_garbage() {
    let mut bytes = encode_owner("somebody");
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(find(&bytes), Found::Garbage(1));
}

#[test]
fn header_torn_before_zeros_is_garbage() {
    for kept in 0..=MAGIC.len() {
        let mut bytes = encode_owner("somebody");
        bytes[kept..].fill(0);
        assert_eq!(decode_all(&bytes), vec![]);
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(record in any_record()) {
        let bytes = encode(&record);
        let length = bytes.len();
        prop_assert_eq!(find(&bytes), Found::Whole(length));
        let at_ms = match &record {
            Record::Owner(_) => None,
            Record::Opening(opening) => Some(opening.timestamp_ms),
            Record::NextAttempt(next) => Some(next.timestamp_ms),
            Record::Completion(completion) => Some(completion.ended_ms),
        };
        prop_assert_eq!(at_ms, super::at_ms(&bytes));
        prop_assert_eq!(decode(&bytes), Some(record));
    }

    #[test]
    fn any_beginning_is_incomplete(record in any_record(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&record);
        let cut = 1 + cut.index(bytes.len() - 1);
        prop_assert_eq!(find(&bytes[..cut]), Found::Incomplete);
    }

    #[test]
    fn torn_record_costs_itself_alone(
        records in vec(any_record(), 3..6),
        torn in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let torn = torn.index(records.len());
        let mut bytes = Vec::new();
        for (nth, record) in records.iter().enumerate() {
            let frame = encode(record);
            let keep = if nth == torn { cut.index(frame.len()) } else { frame.len() };
            bytes.extend_from_slice(&frame[..keep]);
        }
        let mut expected = records;
        expected.remove(torn);
        prop_assert_eq!(decode_all(&bytes), expected);
    }

    #[test]
    fn flipped_bit_never_gives_another_record(record in any_record(), bit in any::<prop::sample::Index>()) {
        let mut bytes = encode(&record);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode_all(&bytes), vec![]);
    }

    #[test]
    fn any_bytes_are_stepped_through(bytes in vec(any::<u8>(), 0..300), record in any_record()) {
        let mut all = bytes;
        all.extend_from_slice(&encode(&record));
        prop_assert_eq!(decode_all(&all).pop(), Some(record));
    }
}
