//! The processes of a bench: starting them, stopping them, and what the kernel says of their CPU time and memory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

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
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
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

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::read(self.child.id())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<f64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find(|line| line.starts_with("Rss:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: f64 = kib.context("smaps_rollup has an Rss line")?.parse()?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when the child has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A reading of a process's CPU clock.
///
/// `stat` has utime + stime of the whole process in ticks of 10 ms, `schedstat` the same time of each living thread in ns.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    ticks: u64,
    threads: BTreeMap<String, u64>,
}

impl Cpu {
    fn read(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
        let (_, fields) = stat.rsplit_once(')').context("stat names the process")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread that has just ended has no file; `since` notices.
            let Ok(line) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let nanos = line
                .split_whitespace()
                .next()
                .context("schedstat has a time")?;
            threads.insert(
                entry.file_name().to_string_lossy().into_owned(),
                nanos.parse()?,
            );
        }
        Ok(Self { ticks, threads })
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
