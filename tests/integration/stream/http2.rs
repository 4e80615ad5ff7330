//! Clients that speak HTTP/2 and shut the window of a stream.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use tokio::runtime::Runtime;

use crate::harness::{
    Answer, Arbstr, Provider, Setup, ask, ask_stream, chunk, completion, connect_http2, wait_until,
};

/// One that reads the socket on while a test waits.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn chat(arbstr: &Arbstr, body: String) -> Request<String> {
    Request::post(format!("http://{}/v1/chat/completions", arbstr.address()))
        .header("content-type", "application/json")
        .body(body)
        .expect("a request")
}

#[test]
fn a_client_that_never_opens_an_http2_window_is_cut_off() {
    let big = chunk(&"x".repeat(60_000));
    let mut answer = Answer::sse().send(chunk("first"));
    for _ in 0..500 {
        answer = answer.send(&big);
    }
    let provider = Provider::always(answer.stall());
    let arbstr = Setup::of(&provider)
        .set("timeouts", "client_stall = 1")
        .set("stream", "on_client_disconnect = \"abort\"")
        .start();
    runtime().block_on(async {
        let mut sender = connect_http2(arbstr.address()).await;
        // The socket is read on; the body is never asked for more than its window holds.
        let request = chat(&arbstr, ask_stream("model-a"));
        let reply = sender.send_request(request).await.unwrap();
        let id = reply.headers()["x-arbstr-request-id"].to_str().unwrap();
        let closed = tokio::task::block_in_place(|| provider.saw_close(0, Duration::from_secs(4)));
        assert!(closed, "the stream is still held open");
        arbstr.row(id).assert_failure("client_disconnected");
        // The client is told, and what could be sent was.
        let body = reply.into_body().collect().await;
        assert!(body.is_err(), "the stream is as good as whole");
    });
}

/// The stream stayed open, and all of its answer in memory, for as long as the client's connection.
#[test]
fn an_answer_that_an_http2_client_does_not_take_is_let_go_of() {
    let size = 8 << 20;
    let text = "x".repeat(size);
    let answer = completion(1, 1).replace("Hello", &text);
    let provider = Provider::always(Answer::json(200, &answer));
    let arbstr = Setup::of(&provider)
        .set("timeouts", "client_stall = 1")
        .start();
    runtime().block_on(async {
        let mut sender = connect_http2(arbstr.address()).await;
        let mut replies = Vec::new();
        for _ in 0..10 {
            let request = chat(&arbstr, ask("model-a"));
            replies.push(sender.send_request(request).await.unwrap());
        }
        let told = "an HTTP/2 client takes nothing of a stream";
        tokio::task::block_in_place(|| arbstr.wait_for_log(told, replies.len()));
        let is_back = || arbstr.resident_kib() < 5 * size as u64 / 1024;
        let is_back = tokio::task::block_in_place(|| wait_until(Duration::from_secs(5), is_back));
        assert!(is_back, "{} KiB are held", arbstr.resident_kib());
        for reply in replies {
            assert!(reply.into_body().collect().await.is_err());
        }
        // Nobody else is cut off.
        let request = Request::get(format!("http://{}/health", arbstr.address()))
            .body(String::new())
            .unwrap();
        let health = sender.send_request(request).await.unwrap();
        assert!(health.into_body().collect().await.is_ok());
    });
}
