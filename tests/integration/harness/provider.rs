//! A provider on a raw socket that follows a script and remembers every byte it was sent.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{Answer, Framing, Step};
use super::row::wait_until;
use super::wire::{self, Wire};

/// A request as the provider got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The head as it came, up to its empty line.
    pub(crate) head: String,
    /// The body, transfer coding taken off.
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        wire::header_lines(&self.head)
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        wire::header(&self.headers(), name).map(str::to_owned)
    }

    /// Whether the body asks for a stream.
    pub(crate) fn is_stream(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .is_ok_and(|body| body["stream"] == true)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Script = dyn Fn(&Seen, usize) -> Answer + Send + Sync;

/// A listening provider. Dropping it closes its port; connections at work end by themselves.
pub(crate) struct Provider {
    address: SocketAddr,
    state: Arc<State>,
    /// Keeps the port of a provider that refuses, so that nobody else gets it.
    _bound: Option<socket2::Socket>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    closed: Mutex<Vec<Option<Instant>>>,
    stopped: AtomicBool,
}

impl Provider {
    /// Answers the n-th request with the n-th answer, and all later ones with the last.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        Self::by(move |_, nth| answers[nth.min(answers.len() - 1)].clone())
    }

    /// Gives every request the same answer.
    pub(crate) fn always(answer: Answer) -> Self {
        Self::answering([answer])
    }

    /// A JSON completion or a whole stream, as asked.
    pub(crate) fn healthy(prompt: u64, completion: u64) -> Self {
        Self::by(move |seen, _| {
            if seen.is_stream() {
                Answer::stream(prompt, completion)
            } else {
                Answer::json(200, &super::completion(prompt, completion))
            }
        })
    }

    /// Answers by a function of the request and its number.
    pub(crate) fn by(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            closed: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self {
            address,
            state,
            _bound: None,
        }
    }

    /// A port that is taken but not listened on: every connection is refused.
    pub(crate) fn refusing() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let state = Arc::new(State {
            script: Box::new(|_, _| Answer::bare()),
            seen: Mutex::default(),
            closed: Mutex::default(),
            stopped: AtomicBool::new(true),
        });
        Self {
            address,
            state,
            _bound: Some(socket),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in the order they were complete.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// The only request there was.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(
            seen.len(),
            1,
            "one request expected, got {:?}",
            seen.iter().map(Seen::text).collect::<Vec<_>>()
        );
        seen[0].clone()
    }

    /// When arbstr closed that connection, once it has.
    pub(crate) fn closed_at(&self, connection: usize) -> Option<Instant> {
        self.state
            .closed
            .lock()
            .unwrap()
            .get(connection)
            .copied()
            .flatten()
    }

    /// Waits until arbstr has closed that connection; says whether it did within `within`.
    pub(crate) fn saw_close(&self, connection: usize, within: Duration) -> bool {
        wait_until(within, || self.closed_at(connection).is_some())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if !self.state.stopped.swap(true, Ordering::SeqCst) {
            drop(TcpStream::connect(self.address));
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let connection = {
            let mut closed = state.closed.lock().unwrap();
            closed.push(None);
            closed.len() - 1
        };
        let state = Arc::clone(state);
        thread::spawn(move || {
            let mut wire = Wire::new(stream);
            let mine = serve(&mut wire, &state, connection);
            if matches!(mine, Ok(Ending::Reset)) {
                wire.reset();
            }
            state.closed.lock().unwrap()[connection].get_or_insert_with(Instant::now);
        });
    }
}

/// How a connection is left.
enum Ending {
    Fin,
    Reset,
}

fn serve(wire: &mut Wire, state: &State, connection: usize) -> io::Result<Ending> {
    loop {
        let Some(seen) = read_request(wire, connection)? else {
            return Ok(Ending::Fin);
        };
        let nth = {
            let mut all = state.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let answer = (state.script)(&seen, nth);
        if let Some(ending) = give(wire, &answer)? {
            return Ok(ending);
        }
    }
}

fn read_request(wire: &mut Wire, connection: usize) -> io::Result<Option<Seen>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let Some(head) = wire.until(b"\r\n\r\n", deadline)? else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&head).into_owned();
    let lines = wire::header_lines(&head);
    let mut body = Vec::new();
    if let Some(length) = wire::header(&lines, "content-length") {
        body = wire.exactly(length.parse().unwrap(), deadline)?;
    } else if wire::header(&lines, "transfer-encoding").is_some() {
        while let Some(piece) = wire.chunk(deadline)? {
            body.extend_from_slice(&piece);
        }
    }
    Ok(Some(Seen {
        head,
        body,
        connection,
    }))
}

/// Follows the steps; `None` when the connection may carry another request.
fn give(wire: &mut Wire, answer: &Answer) -> io::Result<Option<Ending>> {
    if let Some(gate) = &answer.before
        && !gate.pass(|| wire.is_closed())
    {
        return Ok(Some(Ending::Fin));
    }
    thread::sleep(answer.thinking);
    wire.stream.write_all(&answer.head_bytes())?;
    for step in &answer.steps {
        match step {
            Step::Send(bytes) => send(wire, answer.framing, bytes)?,
            Step::Trickle(bytes) => {
                for byte in bytes {
                    send(wire, answer.framing, &[*byte])?;
                }
            }
            Step::Raw(bytes) => wire.stream.write_all(bytes)?,
            Step::Pause(pause) => thread::sleep(*pause),
            Step::Await(gate) => {
                if !gate.pass(|| wire.is_closed()) {
                    return Ok(Some(Ending::Fin));
                }
            }
            Step::Stall => {
                wait_until(Duration::from_secs(20), || wire.is_closed());
                return Ok(Some(Ending::Fin));
            }
            Step::Reset => return Ok(Some(Ending::Reset)),
            Step::Fin => return Ok(Some(Ending::Fin)),
        }
    }
    match answer.framing {
        Framing::Chunked => wire.stream.write_all(b"0\r\n\r\n")?,
        Framing::Length { short: 0 } => {}
        Framing::Length { .. } | Framing::Close => return Ok(Some(Ending::Fin)),
    }
    Ok(None)
}

fn send(wire: &mut Wire, framing: Framing, bytes: &[u8]) -> io::Result<()> {
    if framing != Framing::Chunked {
        return wire.stream.write_all(bytes);
    }
    let mut frame = format!("{:x}\r\n", bytes.len()).into_bytes();
    frame.extend_from_slice(bytes);
    frame.extend_from_slice(b"\r\n");
    wire.stream.write_all(&frame)
}
