//! What a program costs: its memory, its CPU and its time, as Linux accounts for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use std::{fs, io};

use thiserror::Error;
use tokio::process::Command;

/// How often the program is looked at. Peaks are the kernel's own, so none between two looks is lost but
/// one in the last moment before the end.
const INTERVAL: Duration = Duration::from_millis(5);
/// Clock ticks per second in `/proc`: the same on every architecture that Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The most memory that was resident at once, in bytes. Of a program and the programs that it starts: the sum of
    /// the peaks of each, which may not have come at one time.
    pub peak_rss_bytes: u64,
    /// User and system time of all threads, and of the programs that it started and waited for, in seconds.
    pub cpu_seconds: f64,
    /// From start to end, in seconds.
    pub wall_seconds: f64,
    /// How it ended.
    pub status: ExitStatus,
}

/// A program could not be run or watched.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It did not start.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system does not tell what the program uses. Only Linux does.
    #[error("{path} cannot be read, so memory and CPU cannot be measured: {source}")]
    Account {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The system tells it in words of its own.
    #[error("{0} is not as Linux documents it")]
    Format(String),
    /// The end could not be waited for.
    #[error("the program's end was lost: {0}")]
    Wait(#[source] io::Error),
}

/// Runs a program to its end and tells what it cost. If this future is dropped, the program is killed.
pub async fn measure(mut command: Command) -> Result<Usage, ProcessError> {
    let started = Instant::now();
    let mut child = command.kill_on_drop(true).spawn().map_err(|source| {
        let program = PathBuf::from(command.as_std().get_program());
        ProcessError::Start { program, source }
    })?;
    // There is one as long as nobody has waited for the end.
    let id = child.id().unwrap_or(0);
    let folder = format!("/proc/{id}");
    let mut peak = 0;
    let mut children = BTreeMap::new();
    let mut looks = tokio::time::interval(INTERVAL);
    // Ended but not yet waited for: its memory is gone, its times are final.
    while let Some(now) = peak_rss(&folder)? {
        peak = peak.max(now);
        look_at_children(id, &mut children);
        looks.tick().await;
    }
    peak += children.into_values().sum::<u64>();
    let wall_seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds(&folder)?;
    let status = child.wait().await.map_err(ProcessError::Wait)?;
    Ok(Usage {
        peak_rss_bytes: peak,
        cpu_seconds,
        wall_seconds,
        status,
    })
}

fn read(path: String) -> Result<String, ProcessError> {
    fs::read_to_string(&path).map_err(|source| ProcessError::Account { path, source })
}

/// The peak so far, in bytes; `None` once the process has given its memory back.
///
/// Not `ru_maxrss`: that begins with the peak of the parent, whose image a child runs in until its exec.
fn peak_rss(folder: &str) -> Result<Option<u64>, ProcessError> {
    let path = format!("{folder}/status");
    let status = read(path.clone())?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else {
        return Ok(None);
    };
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>();
    kibibytes
        .map(|kibibytes| Some(kibibytes * 1024))
        .map_err(|_| ProcessError::Format(path))
}

/// Notes the peaks of the programs that this one has started, and that those have. One that ends meanwhile is left
/// with the peak that was seen.
fn look_at_children(id: u32, peaks: &mut BTreeMap<u32, u64>) {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        let Ok(child) = child.parse() else { continue };
        if let Ok(Some(peak)) = peak_rss(&format!("/proc/{child}")) {
            peaks.insert(child, peak);
        }
        look_at_children(child, peaks);
    }
}

/// The CPU seconds that this very process has used so far, all threads together.
pub fn own_cpu_seconds() -> Result<f64, ProcessError> {
    cpu_seconds("/proc/self")
}

/// Fields 14 to 17 of `stat`: its own times and those of its children. The second field is a name in parentheses, with any character in it.
fn cpu_seconds(folder: &str) -> Result<f64, ProcessError> {
    let path = format!("{folder}/stat");
    let stat = read(path.clone())?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let ticks: Vec<u64> = fields
        .into_iter()
        .flatten()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    match ticks[..] {
        [_, _, _, _] => Ok(ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND),
        _ => Err(ProcessError::Format(path)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_time_and_end_are_the_programs_own() {
        // 64 MB in the shell's memory, and some work; the parent's own memory must not count.
        let ballast = vec![1u8; 256 << 20];
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "x=$(head -c 64000000 /dev/zero | tr '\\0' 'x'); exit 3",
        ]);
        let usage = measure(command).await.unwrap();
        assert_eq!(usage.status.code(), Some(3));
        assert!(usage.peak_rss_bytes > 64_000_000, "{usage:?}");
        assert!(usage.peak_rss_bytes < ballast.len() as u64, "{usage:?}");
        assert!(usage.cpu_seconds > 0.0, "{usage:?}");
        assert!(usage.wall_seconds > 0.0, "{usage:?}");
    }

    /// As of `sh -c 'aws … | gzip'`: what the shell itself uses is next to nothing.
    #[tokio::test]
    async fn what_a_program_starts_and_waits_for_is_counted_with_it() {
        let mut command = Command::new("sh");
        let pipe =
            "sh -c 'x=$(head -c 48000000 /dev/zero | tr \"\\0\" x); y=$x; sleep 0.05' | cat; :";
        command.args(["-c", pipe]);
        let usage = measure(command).await.unwrap();
        assert!(usage.status.success(), "{usage:?}");
        assert!(usage.peak_rss_bytes > 48_000_000, "{usage:?}");
        assert!(usage.cpu_seconds > 0.0, "{usage:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = measure(Command::new("/no/such/program")).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
