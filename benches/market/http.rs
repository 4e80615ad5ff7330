//! The same markets over sockets: scripted sellers on loopback, the real binary between them and a client.
//!
//! Sellers keep the books: what each job was charged, failures included, and what whole answers came to, which the ledger
//! must hold to the nanosat. Requests follow one another as fast as they are answered, except where time matters: bursts
//! take place in a twentieth of their time, and flaky markets in a thirtieth, so that a circuit is open as large a part of them
//! as it would be of the hours they stand for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arbstr_price::Sats;
use arbstr_wire::Usage;

use crate::direct::{Past, service};
use crate::world::{Climate, Fate, Seller, World};

/// What each job cost, and by how much the ledger is off, in percent.
pub(crate) fn run(world: &Arc<World>, turn: u64) -> Result<(Vec<Sats>, f64)> {
    let town = Arc::new(Town::new(world));
    let addresses = (0..world.sellers.len())
        .map(|index| town.open(index))
        .collect::<Result<Vec<_>>>()?;
    let mut proxy = Proxy::start(world, &addresses, turn)?;
    match world.climate {
        Climate::Burst => in_bursts(world, proxy.address),
        Climate::Flaky => one_by_one(world, proxy.address, Some(FLAKY_SPEED)),
        _ => one_by_one(world, proxy.address, None),
    }
    proxy.stop()?;
    let booked = booked(&proxy.folder.join("arbstr.db"))?;
    let books = town.books();
    let gap = (booked - books.whole.nanosats()).abs();
    let off = 100.0 * gap as f64 / books.whole.nanosats() as f64;
    let paid = books.paid.clone();
    drop(books);
    // A folder that stays behind harms nobody.
    let _ = std::fs::remove_dir_all(&proxy.folder);
    Ok((paid, off))
}

/// The sellers, and the books they keep together.
struct Town {
    world: Arc<World>,
    books: Mutex<Books>,
    busy: Vec<AtomicUsize>,
}

struct Books {
    past: Past,
    paid: Vec<Sats>,
    whole: Sats,
}

impl Town {
    fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            books: Mutex::new(Books {
                past: Past::new(world),
                paid: vec![Sats::ZERO; world.jobs.len()],
                whole: Sats::ZERO,
            }),
            busy: world.sellers.iter().map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(self: &Arc<Self>, index: usize) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let town = Arc::clone(self);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let town = Arc::clone(&town);
                // A connection that breaks is arbstr's to notice.
                thread::spawn(move || town.talk(index, socket).ok());
            }
        });
        Ok(address)
    }

    fn talk(&self, index: usize, socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        let mut reader = BufReader::new(socket.try_clone()?);
        let mut socket = socket;
        while let Some((head, body)) = read_message(&mut reader)? {
            let title = header(&head, "x-title").context("a request of nobody's")?;
            let (number, again) = title.split_once('/').context("a title")?;
            self.busy[index].fetch_add(1, Ordering::SeqCst);
            let go_on = self.answer(
                index,
                number.parse()?,
                again.parse()?,
                memchr::memmem::find(&body, b"\"stream\":true").is_some(),
                &mut socket,
            );
            self.busy[index].fetch_sub(1, Ordering::SeqCst);
            if !go_on? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        index: usize,
        number: usize,
        again: u64,
        streams: bool,
        socket: &mut TcpStream,
    ) -> Result<bool> {
        let (seller, job) = (&self.world.sellers[index], &self.world.jobs[number]);
        let full = seller.capacity > 0 && self.busy[index].load(Ordering::SeqCst) > seller.capacity;
        let fate = seller.fate(job, index, again);
        if full || fate == Fate::Refused || !seller.is_up(job.at) {
            let status = if full { 429 } else { 503 };
            respond(
                socket,
                status,
                "application/json",
                br#"{"error":{"message":"busy"}}"#,
            )?;
            return Ok(true);
        }
        let mut books = self.books();
        let usage = books.past.bill(&self.world, index, job, job.at);
        let charged = match fate {
            Fate::Broken => seller.cost(&seller.half(&usage)),
            _ => seller.cost(&usage),
        };
        books.paid[number] = books.paid[number].checked_add(charged).context("a sum")?;
        if fate == Fate::Good {
            books.whole = books.whole.checked_add(charged).context("a sum")?;
            books.past.serve(&self.world, index, job, job.at);
        }
        drop(books);
        if self.world.climate == Climate::Burst {
            thread::sleep(service(seller, job) / BURST_SPEED);
        }
        let text = "abcdefgh ".repeat(1 + usize::try_from(seller.text(job))? / 9);
        let answer = if streams {
            stream(&text, &usage)
        } else {
            whole(&text, &usage)
        };
        let kind = if streams {
            "text/event-stream"
        } else {
            "application/json"
        };
        if fate == Fate::Broken {
            let half = &answer.as_bytes()[..answer.len() / 2];
            write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            )?;
            socket.write_all(half)?;
            return Ok(false);
        }
        respond(socket, 200, kind, answer.as_bytes())?;
        Ok(true)
    }
}

/// arbstr itself.
struct Proxy {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Proxy {
    fn start(world: &World, addresses: &[SocketAddr], turn: u64) -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("arbstr-market-{}-{turn}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.join("arbstr.toml");
        std::fs::write(&config, settings(world, addresses, &folder))?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_arbstr"))
            .args(["serve", "--listen", &address.to_string(), "-c"])
            .arg(&config)
            .env("RUST_LOG", "error")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let proxy = Self {
            child,
            address,
            folder,
        };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(proxy);
            }
            thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!(
            "arbstr did not start; see {}",
            proxy.folder.join("log").display()
        )
    }

    fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "arbstr ended with {status}");
        Ok(())
    }
}

fn settings(world: &World, addresses: &[SocketAddr], folder: &Path) -> String {
    let mut text = format!(
        "[database]\npath = {:?}\n[circuit]\nopen_secs = {}\n",
        folder.join("arbstr.db"),
        OPEN_SECS / FLAKY_SPEED,
    );
    for (seller, address) in world.sellers.iter().zip(addresses) {
        text += &provider(seller, *address);
    }
    text
}

fn provider(seller: &Seller, address: SocketAddr) -> String {
    let rates = &seller.rates;
    let cached = rates
        .cached_input
        .map_or_else(String::new, |rate| format!("cached_input_rate = {rate}\n"));
    format!(
        "[[providers]]\nname = \"{}\"\nurl = \"http://{address}/v1\"\napi_key = \"key\"\nmodels = [\"m\"]\n\
         input_rate = {}\noutput_rate = {}\nbase_fee = {}\n{cached}",
        seller.name, rates.input, rates.output, rates.base_fee
    )
}

/// Asks for a job until it is served whole.
fn ask_until_served(world: &World, address: SocketAddr, number: usize) {
    for again in 0..100 {
        if ask(world, address, number, again).unwrap_or(false) {
            return;
        }
    }
}

/// One request after the other, none before its time at that speed.
fn one_by_one(world: &World, address: SocketAddr, speed: Option<u32>) {
    let start = now();
    for (number, job) in world.jobs.iter().enumerate() {
        if let Some(speed) = speed {
            thread::sleep((job.at / speed).saturating_sub(start.elapsed()));
        }
        ask_until_served(world, address, number);
    }
}

fn in_bursts(world: &Arc<World>, address: SocketAddr) {
    let start = now();
    let mut threads = Vec::new();
    for (number, job) in world.jobs.iter().enumerate() {
        let due = job.at / BURST_SPEED;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let world = Arc::clone(world);
        threads.push(thread::spawn(move || {
            ask_until_served(&world, address, number)
        }));
    }
    for thread in threads {
        thread.join().expect("no client panics");
    }
}

fn ask(world: &World, address: SocketAddr, number: usize, again: u64) -> Result<bool> {
    let body = &world.jobs[number].body;
    let mut socket = TcpStream::connect(address)?;
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         x-title: {number}/{again}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    socket.write_all(body)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let good = answer.starts_with(b"HTTP/1.1 200");
    let broken = memchr::memmem::find(&answer, b"upstream_stream_interrupted").is_some();
    Ok(good && !broken)
}

/// A message with a length; `None` where the connection ends.
fn read_message(reader: &mut BufReader<TcpStream>) -> Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = header(&head, "content-length").unwrap_or("0").parse()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn respond(socket: &mut TcpStream, status: u16, kind: &str, body: &[u8]) -> Result<()> {
    let length = body.len();
    let mut answer =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    answer.extend_from_slice(body);
    socket.write_all(&answer)?;
    Ok(())
}

fn whole(text: &str, usage: &Usage) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{}}}"#,
        usage_json(usage)
    )
}

fn stream(text: &str, usage: &Usage) -> String {
    let chunk = |choices: &str, more: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{choices}]{more}}}\n\n"
        )
    };
    let mut events = String::new();
    for piece in text.as_bytes().chunks(400) {
        let piece = String::from_utf8_lossy(piece);
        let delta =
            format!(r#"{{"index":0,"delta":{{"content":"{piece}"}},"finish_reason":null}}"#);
        events += &chunk(&delta, "");
    }
    events += &chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, "");
    events += &chunk("", &format!(",\"usage\":{}", usage_json(usage)));
    events + "data: [DONE]\n\n"
}

fn usage_json(usage: &Usage) -> String {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let cached = usage.cached_input.unwrap_or(0);
    format!(
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}"#,
        input + output
    )
}

/// What the ledger says that whole answers cost, in nanosats.
fn booked(database: &Path) -> Result<i128> {
    let connection = rusqlite::Connection::open(database)?;
    let sum: i64 = connection.query_row(
        "SELECT sum(cost_nanosats) FROM requests WHERE success = 1",
        [],
        |row| row.get(0),
    )?;
    Ok(i128::from(sum))
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn now() -> Instant {
    Instant::now()
}

/// How much faster bursts pass than their time says.
const BURST_SPEED: u32 = 20;
/// The same of flaky markets.
const FLAKY_SPEED: u32 = 30;
/// How long a circuit stays open by the market's time: what arbstr does unless it is told otherwise.
const OPEN_SECS: u32 = 30;
