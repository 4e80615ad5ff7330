//! The processes of a bench: starting them, stopping them, and what the kernel says of their CPU time and memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::{TcpListener, TcpSocket};

/// A child process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output was piped")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// This very program again, in the role that `args` name.
    pub(crate) fn role(args: &[String]) -> Result<Self> {
        Self::spawn(Command::new(std::env::current_exe()?).args(args))
    }

    /// Writes one line to the child's standard input.
    pub(crate) fn send_line(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input is open")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// The next line of the child's standard output.
    pub(crate) fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            bail!("a child ended early ({status}); its reason stands above");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads the address that a child told by [`announce`].
    pub(crate) fn read_address(&mut self) -> Result<SocketAddr> {
        Ok(self.read_line()?.parse()?)
    }

    /// Closes the child's input and waits for its end.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a child ended with {status}");
        Ok(())
    }

    /// Asks the child to stop and waits up to `patience` for a clean end.
    pub(crate) fn terminate(mut self, patience: Duration) -> Result<()> {
        signal("-TERM", &[self.child.id()])?;
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the proxy ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the proxy did not end within {patience:?} of SIGTERM");
    }

    /// Whether the child runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time so far, that of its own children included.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let mut all = Cpu::default();
        for pid in self.family()? {
            all.add(pid)?;
        }
        Ok(all)
    }

    /// Resident memory in bytes, that of its own children included: what they share counts for each.
    pub(crate) fn resident(&self) -> Result<f64> {
        let family = self.family()?;
        family.into_iter().map(resident).sum()
    }

    /// The child and its children: nginx is a master that only looks after its workers.
    fn family(&self) -> Result<Vec<u32>> {
        let parent = self.child.id();
        let mut family = vec![parent];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has just ended has no file.
            let Ok(fields) = stat_fields(pid) else {
                continue;
            };
            if fields.get(1).is_some_and(|of| *of == parent.to_string()) {
                family.push(pid);
            }
        }
        Ok(family)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All of it fails when the child has ended, which is what is wanted.
        if self.is_alive() {
            let family = self.family().unwrap_or_default();
            let _ = self.child.kill();
            let _ = signal("-KILL", &family);
        }
        let _ = self.child.wait();
    }
}

/// A reading of the CPU clock of one process or several.
///
/// `stat` has utime + stime of a whole process in ticks of 10 ms, `schedstat` the same time of each living thread in ns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    ticks: u64,
    threads: BTreeMap<String, u64>,
}

impl Cpu {
    fn add(&mut self, pid: u32) -> Result<()> {
        let fields = stat_fields(pid)?;
        let times = fields.iter().skip(11).take(2);
        let ticks = times.map(|field| field.parse::<u64>());
        self.ticks += ticks.sum::<Result<u64, _>>()?;
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread that has just ended has no file; `since` notices.
            let Ok(line) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let nanos = line
                .split_whitespace()
                .next()
                .context("schedstat has a time")?;
            self.threads.insert(
                entry.file_name().to_string_lossy().into_owned(),
                nanos.parse()?,
            );
        }
        Ok(())
    }

    /// Nanoseconds used since `earlier`: by threads, or by ticks when a thread has ended in between.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let all_live = earlier
            .threads
            .keys()
            .all(|thread| self.threads.contains_key(thread));
        if !all_live || self.threads.is_empty() {
            return (self.ticks - earlier.ticks) as f64 * NANOS_PER_TICK;
        }
        let used = |(thread, now): (&String, &u64)| now - earlier.threads.get(thread).unwrap_or(&0);
        self.threads.iter().map(used).sum::<u64>() as f64
    }
}

fn resident(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: f64 = kib.context("smaps_rollup has an Rss line")?.parse()?;
    Ok(kib * 1024.0)
}

/// What `stat` says behind the name: the state, the parent, and so on; utime and stime are the 12th and the 13th.
fn stat_fields(pid: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("stat names the process")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn signal(name: &str, pids: &[u32]) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.arg(name).args(pids.iter().map(u32::to_string));
    // Its complaint about a process that has ended meanwhile is of no use.
    kill.stderr(Stdio::null()).status()?;
    Ok(())
}

/// Where a role listens. Thousands may come at once, so that many may wait, as they may at arbstr.
pub(crate) async fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    Ok(socket.listen(4096)?)
}

/// Tells the parent where this role listens.
pub(crate) fn announce(address: SocketAddr) -> Result<()> {
    println!("{address}");
    Ok(std::io::stdout().flush()?)
}

/// Calls `each` for every line of this role's standard input; returns when the parent has closed it or is gone.
pub(crate) fn follow_parent(mut each: impl FnMut()) {
    for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
        each();
    }
}

/// `USER_HZ` is 100 on every Linux that Rust runs on.
const NANOS_PER_TICK: f64 = 1e7;
