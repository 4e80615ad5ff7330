//! The release binary: its config, its start and its end, and what the kernel says of it in between.

use std::fmt::{self, Write as _};
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::script::{self, PROVIDERS};

/// arbstr in front of the providers; killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

/// What the process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    /// Resident memory, KiB.
    pub(crate) resident: u64,
    pub(crate) threads: u64,
    pub(crate) sockets: u64,
    /// Open files that are no sockets.
    pub(crate) files: u64,
}

impl Proxy {
    /// Starts it, and waits until it answers.
    pub(crate) async fn start(providers: Vec<SocketAddr>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("arbstr-soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.join("arbstr.toml");
        fs::write(&config, config_text(address, &folder, &providers)?)?;
        fs::set_permissions(&config, Permissions::from_mode(0o600))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_arbstr"));
        command.arg("serve").arg("-c").arg(&config);
        // The return of an unused probe is logged for debugging only, and without it the story of a circuit has gaps.
        command.env("RUST_LOG", "info,arbstr=debug");
        command.stderr(File::create(folder.join("log"))?);
        let mut proxy = Self {
            child: command.spawn()?,
            address,
            folder,
        };
        proxy.wait_for_health().await?;
        Ok(proxy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("arbstr.db")
    }

    pub(crate) fn vitals(&self) -> Result<Vitals> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let (mut sockets, mut files) = (0, 0);
        for entry in fs::read_dir(process.join("fd"))? {
            // A file closed in between is not open any more.
            let Ok(target) = fs::read_link(entry?.path()) else {
                continue;
            };
            if target.to_string_lossy().starts_with("socket:") {
                sockets += 1;
            } else {
                files += 1;
            }
        }
        Ok(Vitals {
            resident: field(&status, "VmRSS:")?,
            threads: field(&status, "Threads:")?,
            sockets,
            files,
        })
    }

    /// Asks it to stop, and waits for a clean end.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "arbstr ended with {status}");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("arbstr did not end within {STOP_PATIENCE:?} of SIGTERM");
    }

    /// Removes its files.
    pub(crate) fn clean_up(&self) {
        // A folder that stays behind harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }

    async fn wait_for_health(&mut self) -> Result<()> {
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(10) {
            if self.is_healthy() {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() {
                bail!("arbstr ended before it was ready: {}", self.log()?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("no 200 on /health within 10 s");
    }

    fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut socket = TcpStream::connect(self.address)?;
            let host = self.address;
            write!(
                socket,
                "GET /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer.starts_with("HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail when the child has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} KiB resident, {} threads, {} sockets, {} other files",
            self.resident, self.threads, self.sockets, self.files
        )
    }
}

/// How long a circuit stays open.
pub(crate) const OPEN_SECS: u64 = 1;
/// What no log and no row may hold.
pub(crate) const KEY: &str = "sk-soak-of-no-value";
const STOP_PATIENCE: Duration = Duration::from_secs(15);

fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .with_context(|| format!("no {name} in status"))?
        .parse()?)
}

fn config_text(listen: SocketAddr, folder: &Path, providers: &[SocketAddr]) -> Result<String> {
    let database = folder.join("arbstr.db");
    let mut text = format!(
        r#"[server]
listen = "{listen}"

[database]
path = {database:?}

[stream]
drain_max_secs = 20

[timeouts]
connect = 1
first_event = 1
response = 2
idle = 1

[circuit]
failures = 3
open_secs = {OPEN_SECS}
"#
    );
    for (index, address) in providers.iter().enumerate() {
        write_provider(&mut text, index, *address)?;
    }
    Ok(text)
}

fn write_provider(text: &mut String, index: usize, address: SocketAddr) -> fmt::Result {
    let models: Vec<String> = (0..PROVIDERS)
        .map(|model| format!("{:?}", script::model(model)))
        .collect();
    let leaving = if aborts(index) { "abort" } else { "drain" };
    write!(
        text,
        r#"
[[providers]]
name = "{}"
url = "http://{address}/v1"
api_key = "{KEY}"
models = [{}]
input_rate = 1
output_rate = 1
base_fee = {}
on_client_disconnect = "{leaving}"
"#,
        script::provider(index),
        models.join(", "),
        script::BASE_FEE
    )?;
    for model in 0..PROVIDERS {
        let rate = script::input_rate(index, model);
        write!(
            text,
            "\n[[providers.model_rates]]\nmodel = {:?}\ninput_rate = {rate}\noutput_rate = {}\n",
            script::model(model),
            rate * script::OUTPUT_FACTOR
        )?;
    }
    Ok(())
}

/// Whether a provider's answers are broken off when their client leaves, instead of being read to their end.
pub(crate) fn aborts(provider: usize) -> bool {
    provider >= 3
}
