//! A client on a raw socket: sees status, headers and every frame of the body with the moment it came.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::wire::{self, Wire, find};

/// How long a client waits for anything.
const TIMEOUT: Duration = Duration::from_secs(12);

/// One connection to arbstr.
pub(crate) struct Client {
    wire: Wire,
    address: SocketAddr,
}

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing promised.
    Clean,
    /// Before that.
    Cut(io::ErrorKind),
}

/// An answer of which the head has been read.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Body so far, framing taken off.
    pub(crate) body: Vec<u8>,
    /// Each frame (chunk, or read) of the body with its moment.
    pub(crate) frames: Vec<(Instant, Vec<u8>)>,
    pub(crate) end: Option<End>,
    framing: Framing,
    wire: Wire,
}

enum Framing {
    Chunked,
    Length(usize),
    Close,
    Empty,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("arbstr accepts");
        Self {
            wire: Wire::new(stream),
            address,
        }
    }

    /// Connects, if somebody still listens.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        Ok(Self {
            wire: Wire::new(stream),
            address,
        })
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire
            .stream
            .write_all(bytes.as_ref())
            .expect("arbstr reads");
        self
    }

    /// Sends bytes, and does not mind when arbstr closes before it read them all.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.set_write_timeout(Some(TIMEOUT))?;
        self.wire.stream.write_all(bytes.as_ref())
    }

    /// Sends a request with a Host, and a Content-Length if there is a body.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> &mut Self {
        let mut out = format!("{method} {path} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            out += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            out += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            out += &format!("content-length: {}\r\n", body.len());
        }
        out += "\r\n";
        self.send([out.as_bytes(), body].concat())
    }

    /// Sends a chat completion and waits for nothing.
    #[track_caller]
    pub(crate) fn request_chat(&mut self, body: &str) -> &mut Self {
        let headers = [("content-type", "application/json")];
        self.request("POST", "/v1/chat/completions", &headers, body.as_bytes())
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &str) -> &mut Self {
        let got = self
            .wire
            .exactly(bytes.len(), Instant::now() + TIMEOUT)
            .expect("bytes from arbstr");
        assert_eq!(String::from_utf8_lossy(&got), bytes);
        self
    }

    /// Reads the head of the answer; panics when none comes.
    #[track_caller]
    pub(crate) fn reply(self, to: &str) -> Reply {
        match self.try_reply(to) {
            Ok(reply) => reply,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Reads the head of the answer.
    pub(crate) fn try_reply(mut self, to: &str) -> io::Result<Reply> {
        let deadline = Instant::now() + TIMEOUT;
        let head = self
            .wire
            .until(b"\r\n\r\n", deadline)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let headers = wire::header_lines(&head);
        let framing = if to == "HEAD" || status == 204 {
            Framing::Empty
        } else if wire::header(&headers, "transfer-encoding").is_some() {
            Framing::Chunked
        } else if let Some(length) = wire::header(&headers, "content-length") {
            Framing::Length(length.parse().map_err(|_| io::ErrorKind::InvalidData)?)
        } else {
            Framing::Close
        };
        Ok(Reply {
            status,
            head,
            headers,
            body: Vec::new(),
            frames: Vec::new(),
            end: None,
            framing,
            wire: self.wire,
        })
    }

    /// Says that no more will be sent, and still reads.
    pub(crate) fn finish_sending(&mut self) {
        self.wire
            .stream
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// Leaves without a word.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    /// A header that has to be there.
    #[track_caller]
    pub(crate) fn needs(&self, name: &str) -> &str {
        self.header(name)
            .unwrap_or_else(|| panic!("no {name} in\n{}", self.head))
    }

    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.needs("x-arbstr-request-id").to_owned()
    }

    /// Reads one more frame; false once the body has ended.
    pub(crate) fn read_frame(&mut self) -> bool {
        self.read_frame_within(TIMEOUT) == Some(true)
    }

    /// Reads one more frame: `None` when nothing came within `within`, `Some(false)` when the body has ended.
    pub(crate) fn read_frame_within(&mut self, within: Duration) -> Option<bool> {
        if self.end.is_some() {
            return Some(false);
        }
        let deadline = Instant::now() + within;
        let frame = match self.framing {
            Framing::Chunked => self.wire.chunk(deadline),
            Framing::Length(length) if self.body.len() >= length => Ok(None),
            Framing::Length(_) => self.wire.some(deadline).and_then(|bytes| {
                if bytes.is_empty() {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(Some(bytes))
                }
            }),
            Framing::Close => self
                .wire
                .some(deadline)
                .map(|bytes| (!bytes.is_empty()).then_some(bytes)),
            Framing::Empty => Ok(None),
        };
        match frame {
            Ok(Some(bytes)) => {
                self.body.extend_from_slice(&bytes);
                self.frames.push((Instant::now(), bytes));
                Some(true)
            }
            Ok(None) => {
                self.end = Some(End::Clean);
                Some(false)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Err(error) => {
                self.end = Some(End::Cut(error.kind()));
                Some(false)
            }
        }
    }

    /// Reads until the body so far contains `wanted`.
    #[track_caller]
    pub(crate) fn read_until(&mut self, wanted: &str) -> &mut Self {
        while find(&self.body, wanted.as_bytes()).is_none() {
            assert!(
                self.read_frame(),
                "body ended or stalled without {wanted:?}:\n{}",
                self.text()
            );
        }
        self
    }

    /// Reads the whole body, which has to end as its framing promises.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> String {
        while self.read_frame() {}
        assert_eq!(self.end, Some(End::Clean), "{}\n{}", self.head, self.text());
        self.text()
    }

    /// Reads the whole body, however it ends.
    pub(crate) fn drain(&mut self) -> String {
        while self.read_frame() {}
        self.text()
    }

    /// The whole body as JSON.
    #[track_caller]
    pub(crate) fn json(&mut self) -> serde_json::Value {
        let text = self.finish();
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error} in {text:?} after\n{}", self.head))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The connection, for another request.
    pub(crate) fn again(self) -> Client {
        let address = self.wire.stream.peer_addr().unwrap();
        Client {
            wire: self.wire,
            address,
        }
    }

    /// Leaves with a FIN.
    pub(crate) fn leave(self) {}

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}

/// A connection to arbstr over HTTP/2, without TLS.
pub(crate) async fn connect_http2(
    address: SocketAddr,
) -> hyper::client::conn::http2::SendRequest<String> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}
