//! The mock provider: answers each request with the script of the model it names.
//!
//! The events of a stream are ready-made, so that the provider costs little on a machine that it shares with the proxy.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::process;
use crate::script::{self, PACE_MS, Shape};

/// Answers until standard input ends; each line on it lets the idle streams that are open then come to their end.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(process::listen())?;
    process::announce(listener.local_addr()?)?;
    let (release, released) = watch::channel(());
    runtime.spawn(serve(listener, Scripts::new(released)));
    process::follow_parent(|| {
        release.send_replace(());
    });
    Ok(())
}

/// Every answer, made once.
struct Scripts {
    json: HashMap<&'static str, Bytes>,
    events: HashMap<(&'static str, bool), Arc<[Bytes]>>,
    released: watch::Receiver<()>,
}

impl Scripts {
    fn new(released: watch::Receiver<()>) -> Arc<Self> {
        let mut scripts = Self {
            json: HashMap::new(),
            events: HashMap::new(),
            released,
        };
        for shape in script::ALL {
            scripts.json.insert(shape.name(), shape.json_answer());
            for usage in [false, true] {
                let events = shape.events(usage).into();
                scripts.events.insert((shape.name(), usage), events);
            }
        }
        Arc::new(scripts)
    }

    fn answer(&self, request: &[u8]) -> Result<Response<Answer>> {
        let shape = Shape::of_request(request)?;
        if !shape.is_stream() {
            let json = self.json[shape.name()].clone();
            let answer = Response::builder().header("content-type", "application/json");
            return Ok(answer.body(Either::Left(Full::new(json)))?);
        }
        let usage = memmem::find(request, b"\"include_usage\":true").is_some();
        let events = Arc::clone(&self.events[&(shape.name(), usage)]);
        let stream = Stream {
            events,
            next: 0,
            gate: Gate::of(shape, &self.released),
        };
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok(answer.body(Either::Right(stream))?)
    }
}

async fn serve(listener: TcpListener, scripts: Arc<Scripts>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve_connection(socket, Arc::clone(&scripts)));
    }
}

async fn serve_connection(socket: TcpStream, scripts: Arc<Scripts>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(request, Arc::clone(&scripts)));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    // A proxy that leaves in the middle shows in what the client got.
    let _ = connection.await;
}

async fn respond(
    request: Request<Incoming>,
    scripts: Arc<Scripts>,
) -> Result<Response<Answer>, Infallible> {
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    Ok(scripts.answer(&body).unwrap_or_else(|error| {
        let mut answer = Response::new(Either::Left(Full::new(Bytes::from(error.to_string()))));
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        answer
    }))
}

/// The events of one answer, each let through by its gate.
struct Stream {
    events: Arc<[Bytes]>,
    next: usize,
    gate: Gate,
}

/// When the next event may go.
enum Gate {
    Open,
    Paced(Interval),
    /// Shut after the first event until the future is ready.
    Held(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Gate {
    fn of(shape: Shape, released: &watch::Receiver<()>) -> Self {
        match shape {
            Shape::Paced => {
                let mut pace = interval(Duration::from_millis(PACE_MS));
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Self::Paced(pace)
            }
            Shape::Idle => {
                let mut released = released.clone();
                released.mark_unchanged();
                Self::Held(Box::pin(async move {
                    // The sender going away ends the wait as well.
                    let _ = released.changed().await;
                }))
            }
            _ => Self::Open,
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let Some(event) = this.events.get(this.next) else {
            return Poll::Ready(None);
        };
        let event = match &mut this.gate {
            Gate::Open => event.clone(),
            Gate::Paced(pace) => {
                ready!(pace.poll_tick(cx));
                script::stamp(event)
            }
            Gate::Held(release) => {
                if this.next == 1 {
                    ready!(release.as_mut().poll(cx));
                    this.gate = Gate::Open;
                }
                event.clone()
            }
        };
        this.next += 1;
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}

type Answer = Either<Full<Bytes>, Stream>;
