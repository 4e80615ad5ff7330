//! What a scripted provider says, as data: a list of steps on the wire, so that a table of cases can hold it.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// One answer to one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    head: Option<Head>,
    /// Waited for before anything is said.
    pub(crate) before: Option<Gate>,
    /// Slept before anything is said.
    pub(crate) thinking: Duration,
    pub(crate) steps: Vec<Step>,
    pub(crate) framing: Framing,
}

#[derive(Clone, Debug)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    Chunked,
    /// By Content-Length: what the steps send in all, plus `short` that never comes.
    Length {
        short: usize,
    },
    Close,
}

/// One thing a provider does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Body bytes, one write and (if chunked) one chunk.
    Send(Vec<u8>),
    /// Body bytes, each a write and a chunk of its own.
    Trickle(Vec<u8>),
    /// Bytes as they are, outside all framing.
    Raw(Vec<u8>),
    Pause(Duration),
    /// Goes on when the test opens the gate.
    Await(Gate),
    /// Says nothing more until arbstr closes.
    Stall,
    Reset,
    Fin,
}

impl Answer {
    /// A chunked answer with a head and nothing yet in its body.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            head: Some(Head {
                status,
                headers: Vec::new(),
            }),
            ..Self::default()
        }
    }

    /// No head at all: the steps are the whole of it.
    pub(crate) fn bare() -> Self {
        Self {
            framing: Framing::Close,
            ..Self::default()
        }
    }

    /// A JSON answer with its Content-Length.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status)
            .header("content-type", "application/json")
            .framed(Framing::Length { short: 0 })
            .send(body)
    }

    /// The error an OpenAI-shaped provider gives, with `code` inside.
    pub(crate) fn fault(status: u16, code: &str) -> Self {
        Self::json(
            status,
            &format!(
                r#"{{"error":{{"message":"provider says {status}","type":"some_error","param":null,"code":"{code}"}}}}"#
            ),
        )
    }

    /// The head of a stream of events.
    pub(crate) fn sse() -> Self {
        Self::new(200).header("content-type", "text/event-stream; charset=utf-8")
    }

    /// A whole stream: role, "Hello", finish, usage, `[DONE]`, each a chunk of its own.
    pub(crate) fn stream(prompt: u64, completion: u64) -> Self {
        Self::sse()
            .send(chunk("Hel"))
            .send(chunk("lo"))
            .send(finish("stop"))
            .send(usage_chunk(prompt, completion))
            .send(super::DONE)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let head = self.head.as_mut().expect("a bare answer has no headers");
        head.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Body ends with the connection.
    pub(crate) fn until_close(self) -> Self {
        self.framed(Framing::Close)
    }

    /// Body is told by Content-Length.
    pub(crate) fn with_length(self) -> Self {
        self.framed(Framing::Length { short: 0 })
    }

    /// Content-Length promises more than comes.
    pub(crate) fn short_by(self, short: usize) -> Self {
        self.framed(Framing::Length { short })
    }

    pub(crate) fn send(self, body: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(body.as_ref().to_vec()))
    }

    pub(crate) fn trickle(self, body: impl AsRef<[u8]>) -> Self {
        self.step(Step::Trickle(body.as_ref().to_vec()))
    }

    pub(crate) fn raw(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Raw(bytes.as_ref().to_vec()))
    }

    pub(crate) fn pause(self, millis: u64) -> Self {
        self.step(Step::Pause(Duration::from_millis(millis)))
    }

    pub(crate) fn wait_for(self, gate: &Gate) -> Self {
        self.step(Step::Await(gate.clone()))
    }

    pub(crate) fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    pub(crate) fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    pub(crate) fn fin(self) -> Self {
        self.step(Step::Fin)
    }

    /// Nothing at all, not even the head, before the gate opens.
    pub(crate) fn after(mut self, gate: &Gate) -> Self {
        self.before = Some(gate.clone());
        self
    }

    /// Nothing at all, not even the head, for a while.
    pub(crate) fn after_pause(mut self, millis: u64) -> Self {
        self.thinking = Duration::from_millis(millis);
        self
    }

    /// The head at once, the body later.
    pub(crate) fn pause_before_body(mut self, millis: u64) -> Self {
        self.steps
            .insert(0, Step::Pause(Duration::from_millis(millis)));
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The bytes of the head, or none for a bare answer.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let Some(head) = &self.head else {
            return Vec::new();
        };
        let mut out = Vec::new();
        write!(out, "HTTP/1.1 {} Scripted\r\n", head.status).unwrap();
        for (name, value) in &head.headers {
            write!(out, "{name}: {value}\r\n").unwrap();
        }
        match self.framing {
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::Length { short } => {
                write!(out, "content-length: {}\r\n", self.body().len() + short).unwrap()
            }
            Framing::Close => out.extend_from_slice(b"connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The whole body that the steps send, framing left out.
    pub(crate) fn body(&self) -> Vec<u8> {
        let parts = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) | Step::Trickle(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        parts.collect::<Vec<_>>().concat()
    }
}

/// A point a scripted provider waits at until the test says go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    reached: usize,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.0.lock().unwrap().open
    }

    /// Waits until a provider stands before the gate.
    #[track_caller]
    pub(crate) fn wait_reached(&self) {
        let state = self.0.0.lock().unwrap();
        let waited = self
            .0
            .1
            .wait_timeout_while(state, Duration::from_secs(5), |state| state.reached == 0)
            .unwrap();
        assert!(!waited.1.timed_out(), "no provider came to the gate");
    }

    /// The provider's side: false when `gone` said so or ten seconds went by.
    pub(crate) fn pass(&self, gone: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut state = self.0.0.lock().unwrap();
        state.reached += 1;
        self.0.1.notify_all();
        while !state.open {
            if gone() || Instant::now() > deadline {
                return false;
            }
            state = self
                .0
                .1
                .wait_timeout(state, Duration::from_millis(5))
                .unwrap()
                .0;
        }
        true
    }
}

/// One event with `data` as its data line.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A content chunk of choice 0.
pub(crate) fn chunk(content: &str) -> String {
    let content = content.replace('\\', "\\\\").replace('"', "\\\"");
    event(&format!(
        r#"{{"id":"chatcmpl-p1","object":"chat.completion.chunk","created":1700000001,"model":"served-name","choices":[{{"index":0,"delta":{{"content":"{content}"}},"finish_reason":null}}]}}"#
    ))
}

/// The chunk that ends choice 0.
pub(crate) fn finish(reason: &str) -> String {
    event(&format!(
        r#"{{"id":"chatcmpl-p1","object":"chat.completion.chunk","created":1700000001,"model":"served-name","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#
    ))
}

/// The usage-only chunk that `include_usage` causes.
pub(crate) fn usage_chunk(prompt: u64, completion: u64) -> String {
    event(&format!(
        r#"{{"id":"chatcmpl-p1","object":"chat.completion.chunk","created":1700000001,"model":"served-name","choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}}}"#,
        prompt + completion
    ))
}

/// A JSON completion with its usage.
pub(crate) fn completion(prompt: u64, completion: u64) -> String {
    format!(
        r#"{{"id":"chatcmpl-p1","object":"chat.completion","created":1700000001,"model":"served-name","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}}}"#,
        prompt + completion
    )
}
