//! Whether memory is bounded: the peaks for a table of 200 MB and for one ten times as large.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use highwater_benches::data_set::DataSet;
use highwater_benches::job::{Bench, Job, Measured};
use highwater_benches::size;

/// The largest ratio of the peaks that passes.
const MOST: f64 = 1.20;

/// Runs the real program on a small and on a ten times larger table, and compares the peaks of its memory.
///
/// Backups are kept in this program's memory while they are read again.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything but `puts` unless given. The backup is always made first.
    #[arg(value_enum)]
    jobs: Vec<Job>,
    /// The program; by default the `highwater` beside this one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// What the table holds: small, medium or large items.
    #[arg(long, default_value_t = DataSet::Small)]
    table: DataSet,
    /// Bytes on the wire of the smaller table; the larger one has ten times as many.
    #[arg(long, default_value = "200MB", value_parser = size::parse)]
    size: u64,
    /// So many percent of the writes in batches come back unprocessed.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=90))]
    unprocessed: u8,
    /// Stored size of the backups' parts.
    ///
    /// Small, so that all workers have whole parts at once in the smaller table too. Parts are held whole: with large
    /// ones in a small table the ratio would be that of the parts' sizes.
    #[arg(long, value_name = "SIZE", default_value = "1MB")]
    part_size: OsString,
    /// Further flags for `highwater backup`.
    #[arg(last = true)]
    backup_flags: Vec<OsString>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let program = match &args.binary {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let jobs = match &args.jobs[..] {
        [] => &Job::USUAL[..],
        jobs => jobs,
    };
    writeln!(
        stdout(),
        "{}, table {}\n{:<13}{:>10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8}",
        program.display(),
        args.table,
        "",
        "MB",
        "items",
        "peak MB",
        "wall s",
        "CPU s",
        "MB/s",
        "CPU s/GB",
        "stored %",
    )?;
    let mut backup_flags = vec!["--part-size".into(), args.part_size.clone()];
    backup_flags.extend(args.backup_flags.iter().cloned());
    let mut peaks: BTreeMap<Job, Vec<f64>> = BTreeMap::new();
    for wire_bytes in [args.size, args.size.saturating_mul(10)] {
        let bench = Bench {
            program: &program,
            set: args.table,
            wire_bytes,
            unprocessed: args.unprocessed,
            backup_flags: &backup_flags,
        };
        let note = |measured: &Measured| {
            print(measured);
            let peak = measured.usage.peak_rss_bytes as f64;
            peaks.entry(measured.job).or_default().push(peak);
        };
        bench.run(jobs, note).await?;
    }
    judge(&peaks)
}

/// Prints the ratios; a failure if one is too large.
fn judge(peaks: &BTreeMap<Job, Vec<f64>>) -> Result<ExitCode, Box<dyn Error>> {
    let mut passed = true;
    for (job, peaks) in peaks {
        let ratio = match peaks[..] {
            [small, large] if small > 0.0 => large / small,
            _ => f64::INFINITY,
        };
        passed &= ratio <= MOST;
        let verdict = if ratio <= MOST { "bounded" } else { "it grows" };
        writeln!(
            stdout(),
            "{:<13}peak ratio {ratio:.2}, at most {MOST:.2}: {verdict}",
            job.name()
        )?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(measured: &Measured) {
    let (usage, items) = (&measured.usage, &measured.items);
    let megabytes = items.bytes as f64 / 1e6;
    let stored = measured.stored_bytes.map_or_else(String::new, |stored| {
        format!("{:.1}", stored as f64 / items.bytes as f64 * 100.0)
    });
    // Whoever does not read on sees the exit code.
    drop(writeln!(
        stdout(),
        "{:<13}{megabytes:>10.1} {:>10} {:>8.1} {:>8.2} {:>8.2} {:>8.1} {:>9.2} {stored:>8}",
        measured.job.name(),
        items.items,
        usage.peak_rss_bytes as f64 / 1e6,
        usage.wall_seconds,
        usage.cpu_seconds,
        megabytes / usage.wall_seconds,
        usage.cpu_seconds / megabytes * 1e3,
    ));
}

fn beside_this_program() -> Result<PathBuf, Box<dyn Error>> {
    let path = env::current_exe()?.with_file_name(format!("highwater{}", env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!("{path} is not built: build it in this profile (`cargo build -p highwater`), or give --binary").into())
}
