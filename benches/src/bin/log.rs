//! What the change log costs: to write it, and to restore a second from a log of any size.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use highwater_benches::changes::Keys;
use highwater_benches::consume::{self, Consumed};
use highwater_benches::data_set::DataSet;
use highwater_benches::process::Usage;
use highwater_benches::second::{LogBench, Stage};
use highwater_benches::size;

/// The largest ratio of the peaks that passes.
const MOST: f64 = 1.20;

/// The most memory that passes, in bytes.
const MOST_BYTES: f64 = 300e6;

/// Writes and restores a small and a ten times larger change log, and compares the peaks of memory.
///
/// Fails if a peak is above 300 MB, or grows with the log. Takes about as much of the temporary folder as the larger log.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// What to measure; everything unless given.
    #[arg(value_enum)]
    jobs: Vec<Job>,
    /// The program; by default the `highwater` beside this one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// What the table holds: small, medium or large items.
    #[arg(long, default_value_t = DataSet::Small)]
    table: DataSet,
    /// Bytes of the table on the wire.
    #[arg(long, default_value = "100MB", value_parser = size::parse)]
    table_size: u64,
    /// Bytes of the smaller log's records before compression; the larger one has ten times as many.
    #[arg(long, default_value = "500MB", value_parser = size::parse)]
    size: u64,
    /// Only one log, of the size that is given.
    #[arg(long)]
    once: bool,
    /// How many keys the records are about, but in `distinct`.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    #[command(subcommand)]
    child: Option<Child>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Job {
    /// The step of the function consume-stream, on as many bytes of Lambda events.
    Consume,
    /// `materialize` of a second near the log's end.
    Materialize,
    /// `restore --at` of that second into a new table.
    Restore,
    /// `materialize` where every record has a key of its own: nothing can be reduced.
    Distinct,
    /// `restore --at` of such a log.
    DistinctRestore,
}

impl Job {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn keys(self, few: u64) -> Option<Keys> {
        match self {
            Self::Consume => None,
            Self::Materialize | Self::Restore => Some(Keys::Few(few)),
            Self::Distinct | Self::DistinctRestore => Some(Keys::Distinct),
        }
    }
}

/// What this program does as a process that it measures itself.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    ConsumeEvents {
        folder: PathBuf,
        endpoint_url: String,
    },
    #[command(hide = true)]
    PackEvents { folder: PathBuf },
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    match &args.child {
        Some(Child::ConsumeEvents {
            folder,
            endpoint_url,
        }) => consume::consume_folder(folder, endpoint_url).await?,
        Some(Child::PackEvents { folder }) => consume::pack_folder(folder)?,
        None => return bench(&args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bench(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let program = match &args.binary {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let mut jobs = match &args.jobs[..] {
        [] => Job::value_variants().to_vec(),
        jobs => jobs.to_vec(),
    };
    jobs.sort_unstable();
    jobs.dedup();
    writeln!(
        stdout(),
        "{}, table {}\n{:<17}{:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>10} {:>9}",
        program.display(),
        args.table,
        "",
        "log MB",
        "stored MB",
        "records",
        "keys",
        "peak MB",
        "wall s",
        "CPU s",
        "CPU s/100k",
        "CPU s/GB",
    )?;
    let mut sizes = vec![args.size];
    if !args.once {
        sizes.push(args.size.saturating_mul(10));
    }
    let mut peaks: BTreeMap<Job, Vec<f64>> = BTreeMap::new();
    for log_bytes in sizes {
        let mut stage: Option<(Keys, Stage)> = None;
        for job in &jobs {
            let usage = run(*job, args, &program, log_bytes, &mut stage).await?;
            let peak = usage.peak_rss_bytes as f64;
            peaks.entry(*job).or_default().push(peak);
        }
    }
    judge(&peaks, args.once)
}

/// Runs one job and prints it. `stage` is the log of the job before, which may do for this one too.
async fn run(
    job: Job,
    args: &Args,
    program: &Path,
    log_bytes: u64,
    stage: &mut Option<(Keys, Stage)>,
) -> Result<Usage, Box<dyn Error>> {
    let Some(keys) = job.keys(args.keys) else {
        let consumed = consume::run(&env::current_exe()?, args.table, log_bytes).await?;
        print_consumed(&consumed);
        return Ok(consumed.step);
    };
    let made = match stage.take().filter(|(made, _)| *made == keys) {
        Some((_, made)) => made,
        None => prepare(args, program, log_bytes, keys).await?,
    };
    let usage = match job {
        Job::Materialize | Job::Distinct => made.materialize().await?,
        _ => made.restore().await?,
    };
    print(&job.name(), &usage, &Log::of(&made));
    *stage = Some((keys, made));
    Ok(usage)
}

async fn prepare(
    args: &Args,
    program: &Path,
    log_bytes: u64,
    keys: Keys,
) -> Result<Stage, Box<dyn Error>> {
    let bench = LogBench {
        program,
        set: args.table,
        table_bytes: args.table_size,
        log_bytes,
        keys,
    };
    Ok(bench.prepare().await?)
}

/// Prints the ratios; a failure if one is too large, or a peak is.
fn judge(peaks: &BTreeMap<Job, Vec<f64>>, once: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut passed = true;
    for (job, peaks) in peaks {
        let highest = peaks.iter().copied().fold(0.0, f64::max);
        let ratio = match peaks[..] {
            [small, large] if small > 0.0 => large / small,
            [_] if once => 1.0,
            _ => f64::INFINITY,
        };
        let fits = highest < MOST_BYTES;
        passed &= ratio <= MOST && fits;
        writeln!(
            stdout(),
            "{:<17}peak ratio {ratio:.2}, at most {MOST:.2}: {}; highest {:.1} MB, below {:.0}: {}",
            job.name(),
            if ratio <= MOST { "bounded" } else { "it grows" },
            highest / 1e6,
            MOST_BYTES / 1e6,
            if fits { "yes" } else { "no" },
        )?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a job was about.
struct Log {
    plain_bytes: u64,
    stored_bytes: u64,
    records: u64,
    keys: u64,
}

impl Log {
    fn of(stage: &Stage) -> Self {
        Self {
            plain_bytes: stage.log.plain_bytes,
            stored_bytes: stage.stored.bytes,
            records: stage.log.records,
            keys: stage.keys,
        }
    }
}

fn print(name: &str, usage: &Usage, log: &Log) {
    let gigabytes = log.plain_bytes as f64 / 1e9;
    // Whoever does not read on sees the exit code.
    drop(writeln!(
        stdout(),
        "{name:<17}{:>9.1} {:>9.1} {:>9} {:>8} {:>8.1} {:>8.2} {:>8.2} {:>10.3} {:>9.2}",
        gigabytes * 1e3,
        log.stored_bytes as f64 / 1e6,
        log.records,
        log.keys,
        usage.peak_rss_bytes as f64 / 1e6,
        usage.wall_seconds,
        usage.cpu_seconds,
        usage.cpu_seconds / log.records as f64 * 1e5,
        usage.cpu_seconds / gigabytes,
    ));
}

fn print_consumed(consumed: &Consumed) {
    let log = Log {
        plain_bytes: consumed.plain_bytes,
        stored_bytes: consumed.stored_bytes,
        records: consumed.records,
        keys: 100_000.min(consumed.records),
    };
    print(&Job::Consume.name(), &consumed.step, &log);
    print("  zstd -1 alone", &consumed.zstd, &log);
    drop(writeln!(
        stdout(),
        "  {:.2} times the CPU of the compression",
        consumed.step.cpu_seconds / consumed.zstd.cpu_seconds,
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
