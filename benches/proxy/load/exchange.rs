//! One connection of the load: a request out, its answer back, read as it arrives and held against the script.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Seen;
use crate::script::{self, Shape, Tail};

/// What goes out on every connection and what must come back.
pub(super) struct Expected {
    shape: Shape,
    tail: Tail,
    request: Bytes,
    provider: Vec<u8>,
}

impl Expected {
    pub(super) fn new(shape: Shape, prompt: usize, tail: Tail) -> Self {
        Self {
            shape,
            tail,
            request: shape.request(prompt),
            provider: script::provider_bytes(shape),
        }
    }
}

/// An open connection.
pub(super) struct Connection {
    to: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    expected: Rc<Expected>,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr, expected: Rc<Expected>) -> Result<Self> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self {
            to,
            sender,
            expected,
        })
    }

    /// Sends one request and reads its answer to the end; `opened` gains a permit at the first event.
    pub(super) async fn exchange(&mut self, seen: &mut Seen, opened: &Semaphore) -> Result<()> {
        let request = Request::post("/v1/chat/completions")
            .header("host", self.to.to_string())
            .header("content-type", "application/json")
            .body(Full::new(self.expected.request.clone()))?;
        self.sender.ready().await?;
        let started = Instant::now();
        let answer = self.sender.send_request(request).await?;
        let mut body = self.read(answer, seen, opened).await?;
        seen.latencies
            .push(u64::try_from(started.elapsed().as_nanos())?);
        let expected = &self.expected;
        script::verify(expected.shape, expected.tail, &expected.provider, &mut body)?;
        seen.requests += 1;
        seen.chunks += expected.shape.chunks() as u64;
        Ok(())
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        seen: &mut Seen,
        opened: &Semaphore,
    ) -> Result<Vec<u8>> {
        let status = answer.status();
        let length = self.expected.provider.len() + 1024;
        let mut read = Vec::with_capacity(length);
        let mut events = 0;
        let mut cut = 0;
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the answer broke off")?.into_data() else {
                continue;
            };
            read.extend_from_slice(&data);
            if !self.expected.shape.is_stream() {
                continue;
            }
            while let Some(end) = memmem::find(&read[cut..], b"\n\n") {
                seen.count_event(&read[cut..cut + end], self.expected.shape);
                cut += end + 2;
                events += 1;
                if events == 1 {
                    opened.add_permits(1);
                }
            }
        }
        ensure!(
            status == 200,
            "status {status}: {}",
            String::from_utf8_lossy(&read)
        );
        Ok(read)
    }
}
