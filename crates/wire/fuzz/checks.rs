//! What must hold for any input: called by the fuzzers, and by `cargo test` for each file of their corpora.

use arbstr_wire::json::{self, JsonError};
use arbstr_wire::{Edits, Endpoint, Observer, Request, RequestError, StreamSettings};
use bytes::Bytes;
use serde::de::IgnoredAny;

use super::plain::{self, Members};
use super::relay::{ASKED, every, relay, whole};

/// The strict reader accepts what `serde_json` accepts.
pub(crate) fn json(text: &[u8]) {
    let accepted =
        std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok();
    match json::check(text) {
        Err(JsonError::TooDeep { .. }) => {}
        found => assert_eq!(found.is_ok(), accepted, "{found:?}"),
    }
}

/// A request that parses is spliced into one that says the same but for what was wanted. The first byte picks the API.
pub(crate) fn splice(input: &[u8]) {
    let Some((pick, body)) = input.split_first() else {
        return;
    };
    let endpoint =
        [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings][usize::from(pick % 3)];
    let body = Bytes::copy_from_slice(body);
    let request = match Request::parse(endpoint, &body) {
        Ok(request) => request,
        Err(RequestError::NotJson(_)) => return json(&body),
        Err(_) => return,
    };
    request.size();
    request.for_each_text(|text| drop(text.decode()));
    let edits = Edits {
        model: Some("new/\"name\""),
        include_usage: true,
    };
    let spliced = request.splicer().apply(&body, &edits);
    let again = Request::parse(endpoint, &spliced.body).expect("a spliced request is one");
    assert_eq!(again.model(), "new/\"name\"");
    assert_eq!(
        (again.is_stream(), again.choices(), again.size()),
        (request.is_stream(), request.choices(), request.size())
    );
    if spliced.injected_usage {
        assert!(again.asked_for_usage() && !request.asked_for_usage() && request.is_stream());
    } else {
        assert_eq!(again.stream_options(), request.stream_options());
    }
    assert_eq!(untouched(&spliced.body), untouched(&body));
    assert_eq!(
        again.splicer().apply(&spliced.body, &edits).body,
        spliced.body,
        "done once, nothing is left to do"
    );
}

/// The members that no splice may touch, as text. Keys that are no text cannot be compared.
fn untouched(body: &[u8]) -> Option<Vec<(String, String)>> {
    let members = Members::of(std::str::from_utf8(body).ok()?)?.0;
    let kept = members
        .into_iter()
        .filter(|(key, _)| key != "model" && key != "stream_options");
    Some(
        kept.map(|(key, value)| (key, value.get().to_owned()))
            .collect(),
    )
}

/// A stream is relayed the same at any chunking, a client that asked gets its bytes, and what is learned is what a plain
/// reading finds. The first byte picks the size of the chunks and whether the client asked.
pub(crate) fn stream(input: &[u8]) {
    let Some((pick, stream)) = input.split_first() else {
        return;
    };
    let settings = StreamSettings {
        hide_usage: pick & 1 == 1,
        requires_done: pick & 2 == 0,
        choices: u32::from(pick & 4) / 4 + 1,
        ..ASKED
    };
    let at_once = whole(settings, stream);
    let cuts = every(usize::from(pick >> 3) + 1, stream);
    assert_eq!(relay(settings, stream, &cuts), at_once);
    if !settings.hide_usage {
        let same = at_once
            .client
            .iter()
            .zip(stream)
            .take_while(|(a, b)| a == b)
            .count();
        let rest = plain::events(&at_once.client[same..]);
        assert!(
            rest.len() <= 3,
            "only a completed tail and the trailer may follow"
        );
    }
    assert!(
        plain::read(&at_once.client).errors >= plain::read(stream).errors,
        "an error is kept from nobody"
    );
    learn(stream, settings.choices);
}

fn learn(stream: &[u8], choices: u32) {
    // Half a surrogate pair is text for one reader and an error for the other; so is what nests too deep.
    let odd = stream
        .windows(3)
        .any(|window| window.eq_ignore_ascii_case(b"\\ud"));
    let deep = stream
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count()
        > 100;
    if odd || deep {
        return;
    }
    let plain = plain::read(stream);
    let mut observer = Observer::new(choices);
    for data in &plain.data {
        observer.observe(data);
    }
    let seen = observer.observation();
    assert_eq!(seen.usage, plain.usage);
    assert_eq!(seen.finish_reason, plain.finish_reason.as_deref());
    assert_eq!(
        (seen.events, seen.data_bytes, seen.error.is_some()),
        (plain.events, plain.data_bytes, plain.errors > 0)
    );
}
