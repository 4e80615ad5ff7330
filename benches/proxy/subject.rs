//! The subjects: the provider asked directly; the floor, arbstr and nginx in front of it.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::ledger::{self, Ledger};
use crate::load::{Outcome, Plan};
use crate::nginx::Nginx;
use crate::options::Options;
use crate::process::{Cpu, Process};
use crate::script::{self, Tail};

/// What all subjects share: the mock provider, a scratch folder, the options.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) options: Options,
    provider: Process,
    provider_address: SocketAddr,
    folder: PathBuf,
    started: u32,
    nginx: Option<Nginx>,
}

impl Stage {
    pub(crate) fn new(options: Options) -> Result<Self> {
        let mut provider = Process::role(&["upstream".to_owned()])?;
        let provider_address = provider.read_address()?;
        let folder = std::env::temp_dir().join(format!("arbstr-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self {
            options,
            provider,
            provider_address,
            folder,
            started: 0,
            nginx: None,
        })
    }

    /// Has nginx take its turns from now on, if it is installed and starts.
    pub(crate) fn look_for_nginx(&mut self) {
        if let Err(error) = self.try_nginx() {
            self.nginx = None;
            eprintln!("nginx takes no part, its column stays empty: {error:#}");
        }
    }

    fn try_nginx(&mut self) -> Result<()> {
        self.nginx = Some(Nginx::find().context("it is not installed")?);
        self.nginx()?.map_or(Ok(()), Subject::stop)
    }

    /// nginx's name and version, or that there is none.
    pub(crate) fn nginx_version(&self) -> &str {
        self.nginx.as_ref().map_or("no nginx", Nginx::version)
    }

    /// Lets the idle streams that are open come to their end.
    pub(crate) fn release_idle_streams(&mut self) -> Result<()> {
        self.provider.send_line("release")
    }

    /// The provider itself.
    pub(crate) fn direct(&self) -> Subject {
        Subject {
            address: self.provider_address,
            process: None,
            ledger: None,
            tail: Tail::None,
            ends: Ends::WithInput,
            started_in: Duration::ZERO,
        }
    }

    /// arbstr, with a database of its own.
    pub(crate) fn proxy_of(&mut self, setup: Setup) -> Result<Subject> {
        self.arbstr(&self.options.arbstr.clone(), setup)
    }

    fn arbstr(&mut self, binary: &Path, setup: Setup) -> Result<Subject> {
        let folder = self.fresh_folder()?;
        if setup.rows > 0 {
            // A first start makes the tables that are to be filled.
            self.start_arbstr(binary, &folder, setup)?.stop()?;
            ledger::fill(&folder.join("arbstr.db"), setup.rows)?;
        }
        self.start_arbstr(binary, &folder, setup)
    }

    /// What arbstr is compared with: a bare forwarder, unless another arbstr was named.
    pub(crate) fn floor(&mut self) -> Result<Subject> {
        match self.options.against.clone() {
            Some(binary) => self.arbstr(&binary, Setup::default()),
            None => self.bare_floor(),
        }
    }

    fn bare_floor(&self) -> Result<Subject> {
        let begun = Instant::now();
        let mut process = Process::role(&["floor".to_owned(), self.provider_address.to_string()])?;
        let address = process.read_address()?;
        wait_for_health(address, &mut process)?;
        Ok(Subject {
            address,
            process: Some(process),
            ledger: None,
            tail: Tail::None,
            ends: Ends::WithInput,
            started_in: begun.elapsed(),
        })
    }

    /// nginx in front of the provider, where there is one.
    pub(crate) fn nginx(&mut self) -> Result<Option<Subject>> {
        let Some(nginx) = self.nginx.clone() else {
            return Ok(None);
        };
        let folder = self.fresh_folder()?;
        let address = free_address()?;
        let command = nginx.command(&folder, address, self.provider_address)?;
        let (process, started_in) = start(command, address, &folder.join("log"))?;
        Ok(Some(Subject {
            address,
            process: Some(process),
            ledger: None,
            tail: Tail::None,
            ends: Ends::OnSignal,
            started_in,
        }))
    }

    /// What is compared with the floor: arbstr, with a database of its own, unless a second floor was asked for.
    pub(crate) fn proxy(&mut self) -> Result<Subject> {
        if self.options.floor_twice {
            return self.floor();
        }
        self.proxy_of(Setup::default())
    }

    fn fresh_folder(&mut self) -> Result<PathBuf> {
        self.started += 1;
        let folder = self.folder.join(self.started.to_string());
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn start_arbstr(&self, binary: &Path, folder: &Path, setup: Setup) -> Result<Subject> {
        let address = free_address()?;
        let config = write_config(folder, address, self.provider_address, setup)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("-c").arg(config);
        let (process, started_in) = start(command, address, &folder.join("log"))?;
        Ok(Subject {
            address,
            process: Some(process),
            ledger: Some(Ledger::open(&folder.join("arbstr.db"))?),
            tail: Tail::Arbstr,
            ends: Ends::OnSignal,
            started_in,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A folder that stays behind harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What arbstr is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// How many sell each model, all at the same price and address.
    pub(crate) providers: usize,
    /// Requests on record before the first.
    pub(crate) rows: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            providers: 1,
            rows: 0,
        }
    }
}

/// Something that answers requests.
#[derive(Debug)]
pub(crate) struct Subject {
    address: SocketAddr,
    process: Option<Process>,
    ledger: Option<Ledger>,
    tail: Tail,
    ends: Ends,
    /// From its start to its first 200 on `/health`.
    pub(crate) started_in: Duration,
}

/// What makes a subject end.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// Its standard input is closed.
    WithInput,
    /// SIGTERM.
    OnSignal,
}

/// What one load found.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// CPU time of the subject, ns; 0 for the provider itself.
    pub(crate) cpu: f64,
    pub(crate) outcome: Outcome,
}

/// Resident memory around a load of idle streams, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) before: f64,
    pub(crate) open: f64,
    pub(crate) after: f64,
    /// CPU time from the first to the last, ns.
    pub(crate) cpu: f64,
}

impl Subject {
    /// Carries `plan` out; every answer and every row is verified.
    pub(crate) fn load(&mut self, plan: &Plan) -> Result<Turn> {
        let before = self.cpu()?;
        let mut load = self.start_load(plan)?;
        let outcome = Outcome::parse(&load.read_line()?)?;
        load.finish()?;
        self.settle(&outcome)?;
        let cpu = match (before, self.cpu()?) {
            (Some(before), Some(after)) => after.since(&before),
            _ => 0.0,
        };
        Ok(Turn { cpu, outcome })
    }

    /// Opens the idle streams of `plan`, and weighs the subject before, while they are open, and after they left.
    pub(crate) fn hold(&mut self, plan: &Plan, stage: &mut Stage) -> Result<Memory> {
        let process = self
            .process
            .as_ref()
            .context("the provider is not weighed")?;
        let before = process.resident()?;
        let cpu = process.cpu()?;
        let mut load = self.start_load(plan)?;
        let opened = load.read_line()?;
        anyhow::ensure!(opened == "open", "the load said {opened:?}");
        std::thread::sleep(Duration::from_secs(1));
        let open = process.resident()?;
        stage.release_idle_streams()?;
        let outcome = Outcome::parse(&load.read_line()?)?;
        load.finish()?;
        std::thread::sleep(SETTLING);
        let after = process.resident()?;
        let cpu = process.cpu()?.since(&cpu);
        self.settle(&outcome)?;
        Ok(Memory {
            before,
            open,
            after,
            cpu,
        })
    }

    /// Stops the subject, which must end cleanly; arbstr must leave no other row behind.
    pub(crate) fn stop(self) -> Result<()> {
        match (self.process, self.ends) {
            (Some(process), Ends::OnSignal) => process.terminate(Duration::from_secs(10))?,
            (Some(process), Ends::WithInput) => process.finish()?,
            (None, _) => {}
        }
        self.ledger.map_or(Ok(()), Ledger::close)
    }

    fn start_load(&self, plan: &Plan) -> Result<Process> {
        let mut args = vec!["load".to_owned()];
        args.extend(plan.to_args(self.address, self.tail));
        Process::role(&args)
    }

    fn settle(&mut self, outcome: &Outcome) -> Result<()> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        ledger.settle(outcome.requests)
    }

    fn cpu(&self) -> Result<Option<Cpu>> {
        self.process.as_ref().map(Process::cpu).transpose()
    }
}

/// Starts a proxy that will listen on `address`; with its failure comes what it wrote to `log`.
fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<(Process, Duration)> {
    command.stderr(File::create(log)?);
    let begun = Instant::now();
    let mut process = Process::spawn(&mut command)?;
    let ready = wait_for_health(address, &mut process);
    let started_in = begun.elapsed();
    ready.with_context(|| {
        let log = fs::read_to_string(log).unwrap_or_default();
        log.trim_end().to_owned()
    })?;
    Ok((process, started_in))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn write_config(
    folder: &Path,
    listen: SocketAddr,
    provider: SocketAddr,
    setup: Setup,
) -> Result<PathBuf> {
    let models = script::ALL
        .map(|shape| format!("{:?}", shape.name()))
        .join(", ");
    let database = folder.join("arbstr.db");
    let mut config = format!(
        r#"[server]
listen = "{listen}"

[database]
path = {database:?}
"#
    );
    for number in 1..=setup.providers {
        config.push_str(&format!(
            r#"
[[providers]]
name = "bench-{number}"
url = "http://{provider}/v1"
api_key = "sk-of-no-value"
models = [{models}]
input_rate = 10000
cached_input_rate = 5000
output_rate = 30000
base_fee = 1
"#
        ));
    }
    let path = folder.join("arbstr.toml");
    fs::write(&path, config)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(path)
}

/// Asks for `/health`, as fast as the answer can matter, until it says 200.
fn wait_for_health(address: SocketAddr, process: &mut Process) -> Result<()> {
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(10) {
        if is_healthy(address) {
            return Ok(());
        }
        if !process.is_alive() {
            bail!("it ended before it was ready");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    bail!("no 200 on /health within 10 s");
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(address)?;
        write!(socket, "GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        Ok(head == *b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

/// How long after the last stream's end memory is weighed again.
const SETTLING: Duration = Duration::from_secs(5);
