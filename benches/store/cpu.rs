//! CPU time of single threads.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the calling thread uses for `calls`.
pub(crate) fn of_calls(calls: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::from_secs(now.tv_sec.unsigned_abs())
            + Duration::from_nanos(now.tv_nsec.unsigned_abs())
    };
    let before = now();
    calls();
    now() - before
}

/// What the thread called `name` had used when it was last put to sleep; zero when there is none.
pub(crate) fn of_thread(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks
        .filter_map(Result::ok)
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .map(|text| parse(&text))
        .sum()
}

fn parse(schedstat: &str) -> Duration {
    let used = schedstat
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok());
    Duration::from_nanos(used.unwrap_or(0))
}
