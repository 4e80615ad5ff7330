//! What the kernel says of this process, under the names that every Prometheus client uses.

use std::fs;

/// One moment of the process.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Time on all CPUs so far.
    pub(super) cpu_seconds: f64,
    /// Physical memory in use.
    pub(super) resident_bytes: f64,
    /// Address space.
    pub(super) virtual_bytes: f64,
    /// Threads.
    pub(super) threads: f64,
    /// Open files and sockets.
    pub(super) open_fds: f64,
    /// How many there may be.
    pub(super) max_fds: f64,
}

impl Process {
    /// This moment; `None` where there is no `/proc`.
    pub(super) fn now() -> Option<Self> {
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count();
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        // The folder that is being read is open too.
        let open_fds = u32::try_from(open_fds.saturating_sub(1)).ok()?;
        Some(Self {
            open_fds: f64::from(open_fds),
            ..Self::read(&read("stat")?, &read("status")?, &read("limits")?)?
        })
    }

    fn read(stat: &str, status: &str, limits: &str) -> Option<Self> {
        // The name of the process may contain anything, so counting begins after it; utime and stime are fields 14 and 15.
        let after_name = stat.rsplit_once(')')?.1;
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.map(|field| field.parse().unwrap_or(0.0)).sum();
        let of = |text: &str, key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        Some(Self {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_bytes: of(status, "VmRSS:")? * 1024.0,
            virtual_bytes: of(status, "VmSize:")? * 1024.0,
            threads: of(status, "Threads:")?,
            open_fds: 0.0,
            max_fds: of(limits, "Max open files").unwrap_or(f64::INFINITY),
        })
    }
}

/// `USER_HZ`, which Linux keeps at 100 for programs on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 7 0 100";
        let status = "Name:\ta) b\nVmSize:\t   2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024      4096      files\n";
        let read = Process::read(stat, status, limits);
        let expected = Process {
            cpu_seconds: 2.0,
            resident_bytes: 1_048_576.0,
            virtual_bytes: 2_097_152.0,
            threads: 7.0,
            open_fds: 0.0,
            max_fds: 1024.0,
        };
        assert_eq!(read, Some(expected));
        assert_eq!(Process::read("", status, limits), None);
    }

    #[test]
    fn knows_this_process() {
        let process = Process::now().expect("tests run on Linux");
        assert!(
            process.resident_bytes > 1e6 && process.threads >= 1.0 && process.open_fds >= 3.0,
            "{process:?}"
        );
    }
}
