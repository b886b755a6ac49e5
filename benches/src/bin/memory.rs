//! Whether a backup's memory is bounded: the peaks for a table of 200 MB and for one ten times as large.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use highwater_benches::backup::{self, BackupRun};
use highwater_benches::data_set::DataSet;
use highwater_benches::server::ReplayServer;
use highwater_benches::size;
use highwater_benches::table::ReplayTable;

/// The largest ratio of the peaks that passes.
const MOST: f64 = 1.20;

/// Backs up a small and a ten times larger table with the real program, and compares the peak memory.
#[derive(Debug, Parser)]
struct Args {
    /// The program; by default the `highwater` beside this one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// What the table holds: small, medium or large items.
    #[arg(long, default_value_t = DataSet::Small)]
    table: DataSet,
    /// Bytes on the wire of the smaller table; the larger one has ten times as many.
    #[arg(long, default_value = "200MB", value_parser = size::parse)]
    size: u64,
    /// Further flags for `highwater backup`.
    #[arg(last = true)]
    more: Vec<OsString>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let highwater = match &args.binary {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    writeln!(
        stdout(),
        "{}, table {}\n{:>12} {:>10} {:>8} {:>8} {:>8} {:>9} {:>10} {:>8}",
        highwater.display(),
        args.table,
        "wire MB",
        "items",
        "peak MB",
        "wall s",
        "CPU s",
        "MB/s",
        "CPU s/GB",
        "stored %",
    )?;
    let mut peaks = Vec::new();
    for wire_bytes in [args.size, args.size.saturating_mul(10)] {
        let table = ReplayTable::new(args.table, wire_bytes)?;
        let server = ReplayServer::start(0, [table]).await?;
        let run = backup::run(&highwater, &server, args.table, &args.more).await?;
        print(&run)?;
        peaks.push(run.usage.peak_rss_bytes as f64);
    }
    let ratio = match peaks[..] {
        [small, large] if small > 0.0 => large / small,
        _ => f64::INFINITY,
    };
    let passed = ratio <= MOST;
    let verdict = if passed {
        "bounded"
    } else {
        "it grows with the table"
    };
    writeln!(
        stdout(),
        "peak ratio {ratio:.2}, at most {MOST:.2}: {verdict}"
    )?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(run: &BackupRun) -> std::io::Result<()> {
    let (usage, served) = (&run.usage, &run.served);
    let megabytes = served.wire_bytes as f64 / 1e6;
    writeln!(
        stdout(),
        "{megabytes:>12.1} {:>10} {:>8.1} {:>8.2} {:>8.2} {:>9.1} {:>10.2} {:>8.1}",
        served.items,
        usage.peak_rss_bytes as f64 / 1e6,
        usage.wall_seconds,
        usage.cpu_seconds,
        megabytes / usage.wall_seconds,
        usage.cpu_seconds / megabytes * 1e3,
        run.stored_bytes as f64 / served.wire_bytes as f64 * 100.0,
    )
}

fn beside_this_program() -> Result<PathBuf, Box<dyn Error>> {
    let path = env::current_exe()?.with_file_name(format!("highwater{}", env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!("{path} is not built: build it in this profile (`cargo build -p highwater`), or give --binary").into())
}
