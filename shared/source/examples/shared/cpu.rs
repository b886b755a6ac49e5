//! The CPU time that this process has used, from `/proc/self/schedstat` of each of its threads.

use std::fs;
use std::io;
use std::time::Duration;

/// User and system time of all threads so far.
pub fn used() -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().unwrap_or("0");
        nanos += first.parse::<u64>().map_err(io::Error::other)?;
    }
    Ok(Duration::from_nanos(nanos))
}
