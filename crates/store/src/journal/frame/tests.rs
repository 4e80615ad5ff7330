//! Every record comes back from its frame, and nothing that was damaged does.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,30}"
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        1 => text().prop_map(Record::Owner),
        4 => any_opening().prop_map(Record::Opening),
        4 => any_completion().prop_map(|completion| Record::Completion(Box::new(completion))),
    ]
}

fn any_opening() -> impl Strategy<Value = Opening> {
    (
        text(),
        any::<i64>(),
        text(),
        option::of(text()),
        any::<bool>(),
    )
        .prop_map(
            |(correlation_id, timestamp_ms, model, plan, streaming)| Opening {
                correlation_id,
                timestamp_ms,
                endpoint: "chat".into(),
                model,
                policy: plan.clone(),
                streaming,
                plan,
            },
        )
}

fn any_completion() -> impl Strategy<Value = Completion> {
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
                correlation_id: id.clone(),
                provider: words.clone(),
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

fn encode(record: &Record) -> Vec<u8> {
    match record {
        Record::Owner(owner) => encode_owner(owner),
        Record::Opening(opening) => encode_opening(opening),
        Record::Completion(completion) => encode_completion(completion),
    }
}

/// All whole records in `bytes`, skipping what is none.
fn decode_all(mut bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = match decode(bytes) {
            Frame::Whole(record, length) => {
                found.push(record);
                length
            }
            Frame::Unreadable(length) | Frame::Garbage(length) => length,
            Frame::Incomplete => 1,
        };
        assert!(length > 0 && length <= bytes.len());
        bytes = &bytes[length..];
    }
    found
}

#[test]
fn record_of_a_later_kind_is_stepped_over_whole() {
    let mut later = Writer::with_capacity(0);
    later.byte(200);
    later.text("from the future");
    let later = later.finish();
    assert_eq!(decode(&later), Frame::Unreadable(later.len()));
}

#[test]
fn completion_of_an_earlier_arbstr_is_read() {
    let completion = Completion {
        correlation_id: "earlier".into(),
        cost: Some(Sats::from_nanosats(5)),
        success: true,
        latency: Some(Duration::from_millis(3)),
        ..Completion::default()
    };
    let mut payload = encode_completion(&completion)[HEADER..].to_vec();
    payload[0] = KIND_COMPLETION_1;
    // Three flags then, four now: one before `success`.
    let flags = payload
        .windows(5)
        .position(|at| at == [0, 0, 0, 1, 1])
        .unwrap();
    payload.remove(flags);
    let mut earlier = Writer(vec![0; HEADER]);
    earlier.0[..4].copy_from_slice(&MAGIC);
    earlier.0.extend_from_slice(&payload);
    let earlier = earlier.finish();
    let record = Record::Completion(Box::new(completion));
    assert_eq!(decode(&earlier), Frame::Whole(record, earlier.len()));
}

#[test]
fn length_beyond_reason_is_garbage() {
    let mut bytes = encode_owner("somebody");
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Frame::Garbage(1));
}

proptest! {
    #[test]
    fn every_record_comes_back(record in any_record()) {
        let bytes = encode(&record);
        let length = bytes.len();
        prop_assert_eq!(decode(&bytes), Frame::Whole(record, length));
    }

    #[test]
    fn any_beginning_is_incomplete(record in any_record(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&record);
        let cut = 1 + cut.index(bytes.len() - 1);
        prop_assert_eq!(decode(&bytes[..cut]), Frame::Incomplete);
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
