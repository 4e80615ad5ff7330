//! The wire of a scripted provider: HTTP/1.1 by hand, so that it can break wherever it should.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that a provider has accepted.
#[derive(Debug)]
pub(crate) struct Line {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Line {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            unread: Vec::new(),
        })
    }

    /// The body of the next request; `None` when there is none any more.
    pub(crate) async fn read_request(&mut self) -> Option<String> {
        loop {
            if let Some((head, body)) = measure(&self.unread)
                && self.unread.len() >= head + body
            {
                let rest = self.unread.split_off(head + body);
                let request = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(request[head..].to_vec()).ok();
            }
            match self.socket.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// An answer with a body of known length.
    pub(crate) async fn answer(
        &mut self,
        status: u16,
        headers: &str,
        body: &str,
    ) -> io::Result<()> {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        self.socket.write_all(text.as_bytes()).await
    }

    /// The head of an answer, and as much of its body as shall come.
    pub(crate) async fn answer_in_part(&mut self, body: &str, length: usize) -> io::Result<()> {
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.socket.write_all(text.as_bytes()).await
    }

    /// The head of a stream.
    pub(crate) async fn begin_stream(&mut self) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        self.socket.write_all(head.as_bytes()).await
    }

    /// A part of a stream; an empty one ends it.
    pub(crate) async fn chunk(&mut self, text: &str) -> io::Result<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.socket.write_all(chunk.as_bytes()).await
    }

    /// Resolves when the other side hangs up.
    pub(crate) async fn is_left(&mut self) {
        let mut byte = [0];
        while matches!(self.socket.read(&mut byte).await, Ok(1..)) {}
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO))
    }
}

/// The lengths of the head and the body of a request, once its head is there.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).ok()? else {
        return None;
    };
    let length = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    Some((head, length))
}
