//! Built-in providers for `--mock`: real HTTP servers on loopback, with different prices, speeds and failure rates.
//!
//! Nothing of arbstr is bypassed: the proxy reaches them through sockets like any other provider, so a newcomer sees
//! routing, failover, streaming and cost for real, without a key or a network. The same request always gets the same
//! answer, and failures come by count, not by chance.

mod answer;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::answer::Answer;
use crate::server;

/// How one built-in provider behaves, and what it charges.
#[derive(Debug)]
struct Persona {
    name: &'static str,
    tier: &'static str,
    /// Sats per 1,000,000 tokens, and per request, as the config writes them.
    input_rate: &'static str,
    output_rate: &'static str,
    base_fee: &'static str,
    first_chunk_after: Duration,
    between_chunks: Duration,
    /// Every n-th request is refused; 0 for never.
    refuses_every: u64,
    refusal: StatusCode,
}

/// Starts the built-in providers and says, as config text, how to reach them.
///
/// # Errors
/// When a loopback socket cannot be had.
pub(crate) fn start() -> std::io::Result<String> {
    let mut config = String::new();
    for persona in &PERSONAS {
        let listener = server::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        config.push_str(&persona.config(listener.local_addr()?));
        tokio::spawn(serve(listener, persona));
    }
    Ok(config)
}

impl Persona {
    fn config(&self, address: SocketAddr) -> String {
        let Self {
            name,
            tier,
            input_rate,
            output_rate,
            base_fee,
            ..
        } = self;
        format!(
            "[[providers]]\nname = \"{name}\"\nurl = \"http://{address}/v1\"\nmodels = {MODELS:?}\ntier = \"{tier}\"\n\
             input_rate = {input_rate}\noutput_rate = {output_rate}\nbase_fee = {base_fee}\n\n"
        )
    }
}

async fn serve(listener: TcpListener, persona: &'static Persona) {
    let served = Arc::new(AtomicU64::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(provider = persona.name, %error, "mock provider cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                respond(persona, served.fetch_add(1, Ordering::Relaxed) + 1, request)
            });
            let _ = stream.set_nodelay(true);
            // An error here is arbstr closing its connection, which a provider does not mind.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    persona: &Persona,
    number: u64,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET && path == "/v1/models" {
        let data: Vec<Value> = MODELS
            .iter()
            .map(|id| json!({"id": id, "object": "model", "owned_by": persona.name}))
            .collect();
        return Ok(whole(
            StatusCode::OK,
            &json!({"object": "list", "data": data}),
        ));
    }
    if persona.refuses_every > 0 && number.is_multiple_of(persona.refuses_every) {
        return Ok(refusal(persona));
    }
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(bad_request(&error.to_string())),
    };
    let asked: Value = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return Ok(bad_request(&error.to_string())),
    };
    tokio::time::sleep(persona.first_chunk_after).await;
    Ok(match path.as_str() {
        "/v1/embeddings" => whole(StatusCode::OK, &answer::embedding(&asked)),
        "/v1/chat/completions" | "/v1/completions" => {
            let answer = Answer::to(&asked, persona.name, path == "/v1/chat/completions");
            if asked["stream"] == true {
                streamed(&answer, persona.between_chunks)
            } else {
                whole(StatusCode::OK, &answer.whole())
            }
        }
        _ => whole(
            StatusCode::NOT_FOUND,
            &json!({"error": {"message": "no such path", "type": "invalid_request_error"}}),
        ),
    })
}

type Body = BoxBody<Bytes, Infallible>;

fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn streamed(answer: &Answer, between: Duration) -> Response<Body> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
    let events = answer.events();
    tokio::spawn(async move {
        for event in events {
            if sender
                .send(Bytes::from(format!("data: {event}\n\n")))
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(between).await;
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver
            .recv()
            .await
            .map(|bytes| (Ok(Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn refusal(persona: &Persona) -> Response<Body> {
    let message = format!(
        "mock provider {} refuses every {}th request",
        persona.name, persona.refuses_every
    );
    let mut response = whole(
        persona.refusal,
        &json!({"error": {"message": message, "type": "server_error", "code": null}}),
    );
    if persona.refusal == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn bad_request(message: &str) -> Response<Body> {
    whole(
        StatusCode::BAD_REQUEST,
        &json!({"error": {"message": message, "type": "invalid_request_error"}}),
    )
}

const MODELS: [&str; 4] = [
    "gpt-4o",
    "gpt-4o-mini",
    "claude-3.5-sonnet",
    "text-embedding-3-small",
];

static PERSONAS: [Persona; 3] = [
    Persona {
        name: "mock-penny",
        tier: "standard",
        input_rate: "900",
        output_rate: "3600",
        base_fee: "0",
        first_chunk_after: Duration::from_millis(120),
        between_chunks: Duration::from_millis(15),
        refuses_every: 4,
        refusal: StatusCode::SERVICE_UNAVAILABLE,
    },
    Persona {
        name: "mock-swift",
        tier: "standard",
        input_rate: "2500",
        output_rate: "10000",
        base_fee: "0",
        first_chunk_after: Duration::from_millis(15),
        between_chunks: Duration::from_millis(3),
        refuses_every: 9,
        refusal: StatusCode::TOO_MANY_REQUESTS,
    },
    Persona {
        name: "mock-steady",
        tier: "frontier",
        input_rate: "4000",
        output_rate: "16000",
        base_fee: "1",
        first_chunk_after: Duration::from_millis(40),
        between_chunks: Duration::from_millis(8),
        refuses_every: 0,
        refusal: StatusCode::SERVICE_UNAVAILABLE,
    },
];
