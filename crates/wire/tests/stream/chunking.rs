//! Whatever the chunking, the client gets the same bytes and the same is learned; and that is what a plain reading finds.

use proptest::prelude::*;

use super::plain::{self, Members, is_object};
use super::relay::{ASKED, UNASKED, relay, whole};

/// One event of a stream, good, odd or broken.
fn event() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"model\":\"m\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"\\\"usage\\\":{}\"},\"finish_reason\":null}]}\n\n",
        "data: { \"usage\" : null , \"choices\" : [ { \"finish_reason\" : \"stop\" , \"index\" : 0 } ] }\n\n",
        "data: {\"choices\":[{\"index\":1,\"finish_reason\":\"length\"},{\"index\":0,\"finish_reason\":\"\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n",
        "data: {\"choices\":[{}],\"\\u0075sage\":{\"prompt_tokens\":5,\"completion_tokens\":-1}}\n\n",
        "data: {\"choices\":[{\"\\u0066inish_reason\":\"tool_calls\"}],\"x_groq\":{\"usage\":{\"prompt_tokens\":6}}}\n\n",
        "data: {\"choices\":[{\"usage\":{\"prompt_tokens\":8}}],\"cost\":{\"total_msats\":5}}\n\n",
        "data: {\"choices\":[],\ndata: \"usage\":null,\ndata: \"x\":1}\n\n",
        "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":9}}\n\n",
        "data: {\"usage\":null,\"usage\":null}\n\n",
        "data: {\"error\":{\"message\":\"m\"}}\n\n",
        "data: {\"error\":null,\"id\":\"\",\"model\":\"\",\"created\":0}\n\n",
        "data: {\"created\":12,\"id\":\"c2\",\"usage\":{}}\n\n",
        "event: error\nid: 4\ndata: {\"error\":\"text\"}\nretry: 10\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"error\":{ }}\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"error\":[\ndata: ]}\n\n",
        "data: {\"error\":[ ]}\n\n",
        "data: {\"object\":\"ping\",\"message\":\"a\"}\n\n",
        "data: {\"object\":\"error\",\"message\":\"b\"}\n\n",
        "data: {\"usage\":null\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1}} x\n\n",
        "data: [1,\"usage\"]\n\n",
        "data:\n\n",
        "data\n\n",
        ": OPENROUTER PROCESSING\n\n",
        ": ping\n",
        "id: 1\n\n",
        "\n",
        "data: {\"x\":\"é😀\u{2028}\"}\n\n",
        "data: [DONE]\n\n",
    ]);
    let free = "[ -~]{0,12}".prop_map(|text| format!("data: {text}\n\n"));
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => free]
}

/// A chunk of the usual make, so that many in a row are alike but for their texts.
fn alike() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "",
        "a",
        "word",
        "\\n",
        "\\\"usage\\\":{}",
        "\\\\",
        "é",
        "\",\"usage\":{\"prompt_tokens\":1},\"x\":\"",
        "\"",
        "\\q",
        "\t",
    ]);
    let reason = prop::sample::select(vec![
        "null",
        "null",
        "null",
        "\"\"",
        "\"stop\"",
        "\"length\"",
    ]);
    let usage = prop::sample::select(vec![
        "",
        "",
        ",\"usage\":null",
        ",\"usage\":null",
        ",\"usage\":{\"prompt_tokens\":4}",
    ]);
    let error = prop::sample::select(vec![
        "",
        "",
        ",\"error\":\"\"",
        ",\"error\":\"\"",
        ",\"error\":\"boom\"",
    ]);
    let names = prop::sample::select(vec![("c1", "m"), ("c1", "m"), ("c2", "m"), ("", "")]);
    (names, text.clone(), reason, usage, error, text).prop_map(|((id, model), content, reason, usage, error, padding)| {
        format!(
            "data: {{\"id\":\"{id}\",\"model\":\"{model}\",\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":{reason}}}]{usage}{error},\"p\":\"{padding}\"}}\n\n"
        )
    })
}

/// A stream in one of the line end styles, perhaps without its last bytes.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mixed = prop::collection::vec(event(), 0..10);
    let regular = prop::collection::vec(prop_oneof![20 => alike(), 1 => event()], 0..30);
    let events = prop_oneof![mixed, regular].prop_map(|events| events.concat());
    let newline = prop::sample::select(vec!["\n", "\n", "\r\n", "\r"]);
    (events, newline, any::<bool>(), 0usize..30).prop_map(|(events, newline, cut, short)| {
        let mut stream = events.replace('\n', newline).into_bytes();
        stream.truncate(stream.len().saturating_sub(if cut { short } else { 0 }));
        stream
    })
}

fn stream_and_cuts() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (
        stream(),
        prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    )
        .prop_map(|(stream, cuts)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            (stream, cuts)
        })
}

/// What a client that did not ask should read, by the plain reading.
fn expected_unasked(data: &[Vec<u8>]) -> Vec<Vec<(String, String)>> {
    let members = data
        .iter()
        .filter_map(|data| Members::of(std::str::from_utf8(data).ok()?));
    let shown = members.filter(|members| {
        let choices = members.last("choices", |value| value.starts_with('['));
        let is_empty =
            choices.is_some_and(|choices| choices[1..choices.len() - 1].trim().is_empty());
        !(is_empty && members.last("usage", is_object).is_some())
    });
    shown
        .map(|members| {
            pairs(&members)
                .into_iter()
                .filter(|(key, value)| key != "usage" || value != "null")
                .collect()
        })
        .collect()
}

fn pairs(members: &Members) -> Vec<(String, String)> {
    members
        .0
        .iter()
        .map(|(key, value)| (key.clone(), value.get().to_owned()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_chunking_gives_the_same((stream, cuts) in stream_and_cuts()) {
        for settings in [ASKED, UNASKED] {
            prop_assert_eq!(relay(settings, &stream, &cuts), whole(settings, &stream));
        }
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same(stream in stream()) {
        let cuts: Vec<usize> = (1..stream.len()).collect();
        prop_assert_eq!(relay(UNASKED, &stream, &cuts), whole(UNASKED, &stream));
    }

    #[test]
    fn what_is_learned_is_what_a_plain_reading_finds(stream in stream()) {
        let mut observer = arbstr_wire::Observer::new(1);
        let plain = plain::read(&stream);
        for data in plain::events(&stream) {
            observer.observe(&data);
            if observer.observation().done {
                break;
            }
        }
        let seen = observer.observation();
        prop_assert_eq!(seen.usage, plain.usage);
        prop_assert_eq!(seen.finish_reason, plain.finish_reason.as_deref());
        prop_assert_eq!((seen.done, seen.events, seen.data_bytes), (plain.done, plain.events, plain.data_bytes));
        prop_assert_eq!(seen.error.is_some(), plain.errors > 0);
    }

    #[test]
    fn a_client_that_did_not_ask_reads_all_but_the_hidden(stream in stream()) {
        let relayed = whole(UNASKED, &stream);
        let sent = plain::read(&stream).data;
        let mut got = plain::read(&relayed.client).data;
        if relayed.end.is_some() && got.len() > sent.len() {
            got.pop(); // an unterminated tail that was whole
        }
        let got: Vec<_> = got.iter().filter_map(|data| Members::of(std::str::from_utf8(data).ok()?)).map(|members| pairs(&members)).collect();
        let mut expected = expected_unasked(&sent);
        expected.truncate(got.len().max(expected.len()));
        let tail = got.len().saturating_sub(expected.len());
        prop_assert!(tail <= 1, "{:?} {:?}", got, expected);
        prop_assert_eq!(&got[..got.len() - tail], &expected[..]);
    }
}
