//! CPU time of single threads, from the kernel's scheduler (nanoseconds).

use std::fs;
use std::time::Duration;

/// What the calling thread uses for `calls`.
pub(crate) fn of_calls(calls: impl FnOnce()) -> Duration {
    let now = || parse(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default());
    let before = now();
    calls();
    now() - before
}

/// What the thread called `name` has used so far; zero when there is none.
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
