//! The real binary with a config, a folder and a database of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, process, thread};

use super::client::{Client, Reply};
use super::provider::Provider;
use super::row::{Row, wait_until};

/// How long a record may take after the end of its request.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);

/// How long anything may take that is waited for by its line in the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);

/// One provider in the config.
#[derive(Clone)]
pub(crate) struct ProviderConfig {
    name: String,
    url: String,
    models: Vec<String>,
    lines: Vec<String>,
    tables: Vec<String>,
    rates: Option<(String, String)>,
}

impl ProviderConfig {
    /// A provider of `model-a` at 1000 sats in, 2000 out, with the key `sk-<name>-secret`.
    pub(crate) fn new(name: &str, provider: &Provider) -> Self {
        Self {
            name: name.to_owned(),
            url: provider.url(),
            models: vec!["model-a".to_owned()],
            lines: vec![format!("api_key = \"sk-{name}-secret\"")],
            tables: Vec::new(),
            rates: Some(("1000".to_owned(), "2000".to_owned())),
        }
    }

    pub(crate) fn models(mut self, models: &[&str]) -> Self {
        self.models = models.iter().map(|&model| model.to_owned()).collect();
        self
    }

    /// Sats per 1,000,000 tokens, as written in the config.
    pub(crate) fn rates(mut self, input: &str, output: &str) -> Self {
        self.rates = Some((input.to_owned(), output.to_owned()));
        self
    }

    pub(crate) fn no_rates(mut self) -> Self {
        self.rates = None;
        self
    }

    /// No `api_key` in the config.
    pub(crate) fn no_key(mut self) -> Self {
        self.lines.retain(|line| !line.starts_with("api_key"));
        self
    }

    /// Somewhere else than where the scripted provider listens.
    pub(crate) fn url(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    /// One more line of the provider's table.
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// A `[[providers.model_rates]]` table.
    pub(crate) fn model_rates(mut self, lines: &str) -> Self {
        self.tables.push(lines.to_owned());
        self
    }

    fn write(&self, out: &mut String) {
        let models: Vec<_> = self
            .models
            .iter()
            .map(|model| format!("{model:?}"))
            .collect();
        writeln!(
            out,
            "[[providers]]\nname = \"{}\"\nurl = \"{}\"\nmodels = [{}]",
            self.name,
            self.url,
            models.join(", ")
        )
        .unwrap();
        if let Some((input, output)) = &self.rates {
            writeln!(out, "input_rate = {input}\noutput_rate = {output}").unwrap();
        }
        for line in &self.lines {
            writeln!(out, "{line}").unwrap();
        }
        for table in &self.tables {
            writeln!(out, "[[providers.model_rates]]\n{table}").unwrap();
        }
    }
}

/// A config being written, and what else an arbstr is started with.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    sections: BTreeMap<String, Vec<String>>,
    providers: Vec<ProviderConfig>,
    tail: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    database: Option<PathBuf>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::default()
            .set("retry", "backoff_base_ms = 1")
            .set("timeouts", "connect = 2")
    }

    /// One provider named alpha.
    pub(crate) fn of(provider: &Provider) -> Self {
        Self::new().provider(ProviderConfig::new("alpha", provider))
    }

    pub(crate) fn provider(mut self, provider: ProviderConfig) -> Self {
        self.providers.push(provider);
        self
    }

    /// A line in a section; a later line for the same key takes the place of the earlier.
    pub(crate) fn set(mut self, section: &str, line: &str) -> Self {
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let lines = self.sections.entry(section.to_owned()).or_default();
        lines.retain(|old| key(old) != key(line));
        lines.push(line.to_owned());
        self
    }

    /// Text at the end of the file.
    pub(crate) fn tail(mut self, text: &str) -> Self {
        self.tail += text;
        self.tail.push('\n');
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A database that other processes may share.
    pub(crate) fn database(mut self, path: &Path) -> Self {
        self.database = Some(path.to_owned());
        self
    }

    /// The config as text.
    pub(crate) fn text(&self, folder: &Path) -> String {
        let mut sections = self.sections.clone();
        let server = sections.entry("server".to_owned()).or_default();
        if !server.iter().any(|line| line.starts_with("listen")) {
            server.push("listen = \"127.0.0.1:0\"".to_owned());
        }
        let path = self
            .database
            .clone()
            .unwrap_or_else(|| folder.join("arbstr.db"));
        sections
            .entry("database".to_owned())
            .or_default()
            .push(format!("path = {:?}", path.display().to_string()));
        let mut out = String::new();
        for (section, lines) in &sections {
            writeln!(out, "[{section}]\n{}", lines.join("\n")).unwrap();
        }
        for provider in &self.providers {
            provider.write(&mut out);
        }
        out + &self.tail
    }

    /// Starts the binary in a new folder and waits until it listens.
    #[track_caller]
    pub(crate) fn start(&self) -> Arbstr {
        Arbstr::start(self.clone(), Arc::new(Folder::new()))
    }
}

/// A folder that goes when nobody uses it any more.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = env::temp_dir().join(format!(
            "arbstr-test-{}-{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if env::var_os("ARBSTR_KEEP_TEST_FOLDERS").is_none() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

/// The binary, not yet told what to do, with nothing of this process' environment but what it cannot do without.
pub(crate) fn command(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arbstr"));
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .current_dir(folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running arbstr.
pub(crate) struct Arbstr {
    setup: Setup,
    folder: Arc<Folder>,
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Arbstr {
    #[track_caller]
    fn start(setup: Setup, folder: Arc<Folder>) -> Self {
        let config = folder.write("arbstr.toml", &setup.text(folder.path()));
        let mut command = command(&folder);
        command.env(
            "RUST_LOG",
            "debug,hyper=info,hyper_util=info,rustls=info,h2=info,rusqlite_migration=info",
        );
        command
            .arg("serve")
            .arg("-c")
            .arg(config)
            .args(&setup.arguments);
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("piped"), &log);
        collect(child.stderr.take().expect("piped"), &log);
        let mut address = None;
        wait_until(Duration::from_secs(10), || {
            address = listening_on(&log.lock().unwrap());
            address.is_some() || child.try_wait().unwrap().is_some()
        });
        let Some(address) = address else {
            drop(child.kill());
            panic!("arbstr does not listen:\n{}", log.lock().unwrap());
        };
        Self {
            setup,
            folder,
            child,
            address,
            log,
        }
    }

    /// Starts it anew on the same folder, after it has ended.
    #[track_caller]
    pub(crate) fn restart(mut self) -> Self {
        drop(self.child.kill());
        self.child.wait().unwrap();
        Self::start(self.setup.clone(), Arc::clone(&self.folder))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.setup
            .database
            .clone()
            .unwrap_or_else(|| self.folder.path().join("arbstr.db"))
    }

    /// The binary once more, in the same folder and so with the same config.
    pub(crate) fn command(&self) -> Command {
        let mut command = command(&self.folder);
        command.envs(
            self.setup
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }

    /// Memory in use, in KiB, as the kernel tells it.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many files and sockets it holds open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// Everything it has said so far. A line may be 20 ms on its way.
    pub(crate) fn log(&self) -> String {
        thread::sleep(Duration::from_millis(40));
        self.log.lock().unwrap().clone()
    }

    /// Waits until `text` is in the log that many times.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str, times: usize) {
        let is_there = || self.log().matches(text).count() >= times;
        assert!(
            wait_until(LOGGED_WITHIN, is_there),
            "no {text:?} in {}",
            self.log()
        );
    }

    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A chat completion.
    #[track_caller]
    pub(crate) fn chat(&self, body: &str) -> Reply {
        self.chat_with(&[], body)
    }

    /// A chat completion with more headers.
    #[track_caller]
    pub(crate) fn chat_with(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        self.call(
            "POST",
            "/v1/chat/completions",
            &[&[("content-type", "application/json")], headers].concat(),
            body.as_bytes(),
        )
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    #[track_caller]
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut client = self.client();
        client.request(method, path, headers, body);
        client.reply(method)
    }

    /// The row of that request once it is completed.
    #[track_caller]
    pub(crate) fn row(&self, id: &str) -> Row {
        let mut row = None;
        wait_until(RECORDED_WITHIN, || {
            row = self.row_now(id);
            row.as_ref().is_some_and(Row::is_settled)
        });
        row.unwrap_or_else(|| panic!("no row {id} among {:?}", self.rows()))
    }

    /// The row of the first request once it is completed.
    #[track_caller]
    pub(crate) fn first_row(&self) -> Row {
        let is_settled = || self.rows().first().is_some_and(Row::is_settled);
        assert!(wait_until(RECORDED_WITHIN, is_settled), "{:?}", self.rows());
        self.rows().remove(0)
    }

    /// The row of that request as it stands.
    pub(crate) fn row_now(&self, id: &str) -> Option<Row> {
        Row::read(
            &self.database(),
            "SELECT * FROM requests WHERE correlation_id = ?1",
            &[id],
        )
        .pop()
    }

    /// Every request on record, oldest first.
    pub(crate) fn rows(&self) -> Vec<Row> {
        Row::read(
            &self.database(),
            "SELECT * FROM requests ORDER BY rowid",
            &[],
        )
    }

    /// The attempts of that request, in order.
    pub(crate) fn attempts(&self, id: &str) -> Vec<Row> {
        Row::read(
            &self.database(),
            "SELECT * FROM attempts WHERE correlation_id = ?1 ORDER BY number",
            &[id],
        )
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("still running after {within:?}:\n{}", self.log()))
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Arbstr {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let log = self.log.lock().map(|log| log.clone()).unwrap_or_default();
            eprintln!("--- arbstr said ---\n{}", tail(&log, 6000));
        }
    }
}

fn tail(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

fn listening_on(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    let (line, _) = rest.split_once('\n')?;
    let address: String = line
        .chars()
        .take_while(|c| c.is_ascii_digit() || ".:[]".contains(*c))
        .collect();
    address.parse().ok()
}

fn collect(pipe: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            log.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}
