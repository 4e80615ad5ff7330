//! The two ends that arbstr stands between, scripted: providers on raw sockets, clients on raw sockets, and the database read from outside.
//!
//! Nothing here knows how arbstr works inside. Every wait is bounded, so a broken arbstr fails a test and never hangs it.

mod answer;
mod client;
mod http2;
mod provider;
mod row;
mod setup;
mod wire;

pub(crate) use answer::{Answer, Gate, chunk, completion, event, finish, usage_chunk};
pub(crate) use client::{Client, End, Reply, connect_http2};
pub(crate) use http2::{Http2Provider, Turn};
pub(crate) use provider::{Provider, Seen};
pub(crate) use row::{Row, wait_until};
pub(crate) use setup::{Arbstr, Folder, ProviderConfig, Setup, command};

/// The last event of a provider that knows its manners.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// A chat request for `model`, not streamed.
pub(crate) fn ask(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Say hello."}}]}}"#)
}

/// A chat request for `model`, streamed, that does not ask for usage.
pub(crate) fn ask_stream(model: &str) -> String {
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Say hello."}}],"stream":true}}"#
    )
}

/// A chat request for `model`, streamed, that asks for usage itself.
pub(crate) fn ask_stream_with_usage(model: &str) -> String {
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"Say hello."}}],"stream":true,"stream_options":{{"include_usage":true}}}}"#
    )
}

#[cfg(test)]
mod tests {
    //! The two ends against each other, with nobody between them.

    use std::time::Duration;

    use super::{Answer, Client, DONE, Gate, Provider, ask, ask_stream, chunk};

    fn call(provider: &Provider, body: &str) -> super::Reply {
        let mut client = Client::connect(provider.address());
        client.request(
            "POST",
            "/v1/chat/completions",
            &[("x-probe", "1")],
            body.as_bytes(),
        );
        client.reply("POST")
    }

    #[test]
    fn a_scripted_provider_says_what_it_was_told_and_remembers_what_it_heard() {
        let provider = Provider::healthy(3, 2);
        let mut json = call(&provider, &ask("m"));
        assert_eq!(json.json()["usage"]["prompt_tokens"], 3);
        let mut stream = call(&provider, &ask_stream("m"));
        assert!(stream.finish().ends_with(DONE));
        assert_eq!(stream.frames.len(), 5);
        let seen = provider.seen();
        assert_eq!(
            (seen[0].text(), seen[1].text()),
            (ask("m"), ask_stream("m"))
        );
        assert_eq!(seen[0].header("X-Probe").as_deref(), Some("1"));
    }

    #[test]
    fn gates_cuts_and_closings_are_seen_from_both_ends() {
        let gate = Gate::new();
        let provider = Provider::answering([
            Answer::sse().send(chunk("a")).wait_for(&gate).send(DONE),
            Answer::sse().send(chunk("a")).fin(),
            Answer::sse().send(chunk("a")).pause(50).reset(),
            Answer::json(200, "{}").short_by(1),
            Answer::sse().stall(),
        ]);
        let mut reply = call(&provider, "{}");
        reply.read_until(&chunk("a"));
        assert_eq!(reply.read_frame_within(Duration::from_millis(50)), None);
        gate.open();
        assert!(reply.finish().ends_with(DONE));
        for _ in 0..3 {
            let mut cut = call(&provider, "{}");
            cut.drain();
            assert!(
                cut.end
                    .as_ref()
                    .is_some_and(|end| *end != super::client::End::Clean),
                "{:?}",
                cut.end
            );
        }
        let stalled = call(&provider, "{}");
        assert_eq!(provider.closed_at(4), None);
        stalled.reset();
        assert!(provider.saw_close(4, Duration::from_secs(1)));
    }
}
