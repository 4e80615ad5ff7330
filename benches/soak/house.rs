//! One scripted provider: answers as its phase has it, and keeps a book of what it was asked and how it answered.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::http::Line;
use crate::schedule::{Course, Phase};
use crate::script;

/// One provider.
#[derive(Debug)]
pub(crate) struct House {
    index: usize,
    address: SocketAddr,
    seed: u64,
    phase: watch::Sender<Phase>,
    hang_up: watch::Sender<()>,
    busy: AtomicUsize,
    book: Mutex<Book>,
}

/// What a provider writes down.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The requests that it read, in order.
    pub(crate) sightings: Vec<Sighting>,
    /// When it came up and when it went down, in turn.
    pub(crate) turns: Vec<Turn>,
    /// Phases that began.
    pub(crate) phases: usize,
}

/// A provider came up or went down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) at: Instant,
    pub(crate) is_up: bool,
}

/// A request that a provider read.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) request: u32,
    pub(crate) model: usize,
    pub(crate) at: Instant,
    pub(crate) told: Told,
}

/// How far the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing that can be told from silence; also what was cut off before its beginning was out.
    Nothing,
    /// An error status.
    Refusal(u16),
    /// An error with the status 200.
    Fault,
    /// 200 and an empty body.
    Empty,
    /// A part of a JSON answer.
    Part,
    /// A stream's beginning.
    Beginning,
    /// All of it, so that it costs what [`script::bill`] says.
    All,
}

/// Whether the connection can carry another request.
type GoOn = bool;

impl House {
    /// A provider on a port that no outgoing connection is ever given.
    pub(crate) async fn build(index: usize, seed: u64) -> io::Result<(Arc<Self>, TcpListener)> {
        let listener = bind_outside_ephemeral(index, seed).await?;
        let house = Self {
            index,
            address: listener.local_addr()?,
            seed,
            phase: watch::Sender::new(Phase::Healthy),
            hang_up: watch::Sender::new(()),
            busy: AtomicUsize::new(0),
            book: Mutex::default(),
        };
        Ok((Arc::new(house), listener))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&self) {
        self.hang_up.send_replace(());
    }

    /// Whether no request is being answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes through the phases of `course`, which began at `start`.
    pub(crate) async fn live(
        self: Arc<Self>,
        listener: TcpListener,
        course: Course,
        start: Instant,
    ) -> io::Result<()> {
        let mut door = Some(self.open(listener));
        for (from, phase) in course {
            tokio::time::sleep_until((start + from).into()).await;
            if phase == Phase::Refused {
                self.close(door.take()).await;
            } else if door.is_none() {
                door = Some(self.open(TcpListener::bind(self.address).await?));
            }
            self.enter(phase);
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        let house = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&house).converse(socket));
            }
        })
    }

    async fn close(&self, door: Option<JoinHandle<()>>) {
        if let Some(door) = door {
            door.abort();
            // The listener is closed once its task is gone, and that it was aborted is no news.
            let _ = door.await;
        }
        self.hang_up();
    }

    fn enter(&self, phase: Phase) {
        let mut book = self.book();
        book.phases += 1;
        let was_up = book.turns.last().is_none_or(|turn| turn.is_up);
        if was_up != phase.is_up() {
            book.turns.push(Turn {
                at: Instant::now(),
                is_up: phase.is_up(),
            });
        }
        drop(book);
        self.phase.send_replace(phase);
    }

    async fn converse(self: Arc<Self>, socket: TcpStream) {
        let mut hang_up = self.hang_up.subscribe();
        let talk = async {
            let mut line = Line::new(socket).ok();
            while let Some(open) = &mut line {
                let Some(request) = open.read_request().await else {
                    return;
                };
                self.busy.fetch_add(1, Ordering::SeqCst);
                let _busy = Busy(&self);
                let phase = *self.phase.borrow();
                let Some(question) = Question::read(&request) else {
                    return;
                };
                let number = self.note(&question);
                if phase == Phase::Reset {
                    // A failure here closes the connection all the same.
                    let _ = line.take().map(Line::reset);
                    return;
                }
                let answer = Answer {
                    house: &self,
                    question,
                    number,
                    dice: Dice::new(
                        self.seed,
                        (number * script::PROVIDERS + self.index) as u64 + 1_000,
                    ),
                };
                if !answer.give(phase, open).await.unwrap_or(false) {
                    return;
                }
            }
        };
        tokio::select! {
            () = talk => {}
            _ = hang_up.changed() => {}
        }
    }

    fn note(&self, question: &Question) -> usize {
        let mut book = self.book();
        book.sightings.push(Sighting {
            request: question.request,
            model: question.model,
            at: Instant::now(),
            told: Told::Nothing,
        });
        book.sightings.len() - 1
    }
}

/// Counts an answer as being given for as long as it lives.
struct Busy<'a>(&'a House);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a request says.
#[derive(Debug)]
struct Question {
    request: u32,
    model: usize,
    stream: bool,
    usage: bool,
}

impl Question {
    fn read(body: &str) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_str(body).ok()?;
        let request = script::number(json["user"].as_str()?)?;
        Some(Self {
            request: u32::try_from(request).ok()?,
            model: script::number(json["model"].as_str()?)?,
            stream: json["stream"] == true,
            usage: json["stream_options"]["include_usage"] == true,
        })
    }
}

/// One answer being given.
struct Answer<'a> {
    house: &'a House,
    question: Question,
    number: usize,
    dice: Dice,
}

impl Answer<'_> {
    async fn give(mut self, phase: Phase, line: &mut Line) -> io::Result<GoOn> {
        match phase {
            Phase::Healthy => {
                let delay = self.dice.millis(0, 20);
                self.all(line, delay).await
            }
            Phase::Slow => {
                let delay = self.dice.millis(100, 400);
                self.all(line, delay).await
            }
            Phase::Failing => self.refuse(line, 500).await,
            Phase::Busy => self.refuse(line, 503).await,
            Phase::Throttled => self.refuse(line, 429).await,
            // Who resets or refuses has not come here.
            Phase::Silent | Phase::Refused | Phase::Reset => self.keep_silent(line).await,
            Phase::Broken => self.break_off(line).await,
            Phase::ErrorFirst => self.fault(line).await,
            Phase::Empty => self.nothing(line).await,
        }
    }

    fn told(&self, told: Told) {
        self.house.book().sightings[self.number].told = told;
    }

    fn model(&self) -> String {
        script::model(self.question.model)
    }

    fn events(&self) -> Vec<String> {
        script::events(self.question.request, &self.model(), self.question.usage)
    }

    async fn all(&mut self, line: &mut Line, delay: Duration) -> io::Result<GoOn> {
        tokio::time::sleep(delay).await;
        if !self.question.stream {
            let answer = script::answer(self.question.request, &self.model());
            line.answer(200, "", &answer).await?;
            self.told(Told::All);
            return Ok(true);
        }
        line.begin_stream().await?;
        if self.dice.chance(20) {
            line.chunk(": one moment\n\n").await?;
        }
        let events = self.events();
        for (place, event) in events.iter().enumerate() {
            line.chunk(event).await?;
            let is_last = place + 1 == events.len();
            self.told(if is_last { Told::All } else { Told::Beginning });
            tokio::time::sleep(self.dice.millis(0, 15)).await;
        }
        line.chunk("").await?;
        Ok(true)
    }

    async fn refuse(&mut self, line: &mut Line, status: u16) -> io::Result<GoOn> {
        let headers = match status {
            500 => String::new(),
            _ => {
                let wait = script::retry_after(self.dice.chance(50));
                format!("retry-after: {wait}\r\n")
            }
        };
        let fault = script::fault("out_of_order");
        line.answer(status, &headers, &fault).await?;
        self.told(Told::Refusal(status));
        Ok(true)
    }

    /// Until the phase is over, or the other side hangs up.
    async fn keep_silent(&mut self, line: &mut Line) -> io::Result<GoOn> {
        let mut phase = self.house.phase.subscribe();
        if self.dice.chance(50) {
            if self.question.stream {
                line.begin_stream().await?;
                line.chunk(": one moment\n\n").await?;
            } else {
                line.answer_in_part("", 1_000).await?;
            }
        }
        tokio::select! {
            _ = phase.changed() => {}
            () = line.is_left() => {}
        }
        Ok(false)
    }

    /// A JSON answer in part; a stream that breaks, ends too early, or falls silent after a good beginning.
    async fn break_off(&mut self, line: &mut Line) -> io::Result<GoOn> {
        if !self.question.stream {
            let answer = script::answer(self.question.request, &self.model());
            line.answer_in_part(&answer[..answer.len() / 2], answer.len())
                .await?;
            self.told(Told::Part);
            return Ok(false);
        }
        line.begin_stream().await?;
        let upto = 1 + usize::try_from(self.dice.below(3)).unwrap_or(0);
        for event in self.events().iter().take(upto) {
            line.chunk(event).await?;
            self.told(Told::Beginning);
            tokio::time::sleep(self.dice.millis(0, 15)).await;
        }
        match self.dice.below(3) {
            0 => line.chunk("").await.map(|()| true),
            1 => {
                line.is_left().await;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    async fn fault(&mut self, line: &mut Line) -> io::Result<GoOn> {
        let fault = script::fault("overloaded");
        if self.question.stream {
            line.begin_stream().await?;
            line.chunk(&format!("data: {fault}\n\n")).await?;
            self.told(Told::Fault);
            line.chunk("").await?;
        } else {
            line.answer(200, "", &fault).await?;
            self.told(Told::Fault);
        }
        Ok(true)
    }

    async fn nothing(&mut self, line: &mut Line) -> io::Result<GoOn> {
        if self.question.stream {
            line.begin_stream().await?;
            line.chunk("").await?;
        } else {
            line.answer(200, "", "").await?;
        }
        self.told(Told::Empty);
        Ok(true)
    }
}

/// The port has to be free again whenever the provider comes back, so it lies below those that the system hands out to
/// outgoing connections.
async fn bind_outside_ephemeral(index: usize, seed: u64) -> io::Result<TcpListener> {
    let mut dice = Dice::new(seed, 10_000 + index as u64);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let port = u16::try_from(12_000 + dice.below(18_000)).unwrap_or(0);
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
