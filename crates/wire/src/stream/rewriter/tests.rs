//! What a panic in the observer costs: the observation, and nothing of the stream.

use super::*;
use crate::Endpoint;

const SETTINGS: StreamSettings = StreamSettings {
    endpoint: Endpoint::Chat,
    hide_usage: false,
    metadata: Metadata::Event,
    requires_done: true,
    choices: 1,
};

fn panic_in(rewriter: &mut Rewriter) {
    let edit = guarded(&mut rewriter.observer, |_| panic!("as this test wants"));
    assert_eq!(edit, Edit::Keep);
}

#[test]
fn a_panic_in_the_observer_costs_the_observation_alone() {
    let chunk = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
    let stream = [chunk, chunk, usage, "data: [DONE]\n\n"].concat();
    for broken_after in 0..3 {
        let mut rewriter = Rewriter::new(SETTINGS);
        let mut client = Vec::new();
        for (at, event) in stream.split_inclusive("\n\n").enumerate() {
            if at == broken_after {
                panic_in(&mut rewriter);
            }
            client.extend_from_slice(&rewriter.push(Bytes::copy_from_slice(event.as_bytes())));
        }
        assert_eq!(client, stream.as_bytes());
        let seen = rewriter.observation();
        assert_eq!(
            (seen.lost, seen.done, seen.usage, seen.finish_reason),
            (true, true, None, None)
        );
        assert_eq!(rewriter.first_event(), FirstEvent::Good);
        let trailer = Trailer {
            request_id: "req-1",
            provider: "alpha",
            model: "m",
            created: 0,
            cost_sats: None,
            latency_ms: 0,
            input_tokens: None,
            output_tokens: None,
            retries: 0,
        };
        assert!(rewriter.is_done() && !rewriter.trailer(&trailer).is_empty());
    }
}

#[test]
fn no_key_passes_once_the_observer_is_lost() {
    let key = "sk-live-0123456789abcdef";
    let error = format!("data: {{\"error\":{{\"message\":\"bad key {key}\"}}}}\n\n");
    let mut rewriter = Rewriter::new(SETTINGS).redacting(Arc::new(vec![key.to_owned()]));
    panic_in(&mut rewriter);
    for _ in 0..2 {
        let client = rewriter.push(error.clone().into());
        assert_eq!(client, error.replace(key, ""));
    }
}
