//! Highwater beside the limit, the SDK's types and the tools of others: CPU per gigabyte, memory, and whether the
//! promises are kept.

use std::env;
use std::error::Error;
use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use highwater_benches::comparison::contenders::{Contender, Path};
use highwater_benches::comparison::figures::Pair;
use highwater_benches::comparison::peers::Peers;
use highwater_benches::comparison::rounds::{self, Outcome};
use highwater_benches::comparison::scaling::{self, Growth, Shape};
use highwater_benches::comparison::stages::{Setup, Trouble};
use highwater_benches::comparison::targets::Outcomes;
use highwater_benches::comparison::{document, report};
use highwater_benches::data_set::DataSet;
use highwater_benches::process::Usage;
use highwater_benches::size;
use highwater_domain::ids::UnixMillis;

type Failed = Box<dyn Error>;

/// Measures every contender as a process of its own, at two sizes, in interleaved rounds. Linux only.
///
/// Fails if a promise is missed or a contender of this repository fails. A run of everything writes its tables to
/// docs/BENCHMARKS.md.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Only these paths.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Path>,
    /// Only these data sets.
    #[arg(long, value_delimiter = ',')]
    sets: Vec<DataSet>,
    /// How often everyone runs; medians are of these.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The two sizes between which slopes are taken. Slow contenders get a part of them.
    #[arg(long, value_delimiter = ',', default_value = "100MB,500MB", value_parser = size::parse)]
    sizes: Vec<u64>,
    /// Little and fast: 3 rounds of 50 and 200 MB. Good to see what runs, not to quote.
    #[arg(long, conflicts_with_all = ["rounds", "sizes"])]
    quick: bool,
    /// Without the tools of others.
    #[arg(long)]
    no_peers: bool,
    /// Where the tools of others are; by default `target/peers`, which `benches/peers/install.sh` fills.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    scaling: Option<Other>,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The program; by default the `highwater` beside this one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Print the promises and end well all the same.
    #[arg(long)]
    no_judge: bool,
    /// Write the tables to this document, also after a run of only a part.
    #[arg(long, value_name = "PATH")]
    docs: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// CPU, time and memory of an export against the table's size, segments and workers.
    Scaling {
        /// The largest table.
        #[arg(long, default_value = "10GB", value_parser = size::parse)]
        most: u64,
        /// Only these data sets.
        #[arg(long, value_delimiter = ',', default_value = "small")]
        sets: Vec<DataSet>,
        /// How often each is measured; medians are of these.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        #[command(flatten)]
        common: Common,
    },
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failed> {
    let args = Args::parse();
    let passed = match args.scaling {
        Some(Other::Scaling {
            most,
            sets,
            rounds,
            common,
        }) => scale(&sets, most, rounds, &common).await?,
        None => compare(&args).await?,
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn compare(args: &Args) -> Result<bool, Failed> {
    let setup = setup(args)?;
    let paths = chosen(&args.only, &Path::ALL);
    let sets = chosen(&args.sets, &DataSet::ALL);
    let rounds = if args.quick { 3 } else { args.rounds };
    let versions = if args.no_peers {
        Vec::new()
    } else {
        setup.peers.versions()
    };
    let mut section = format!(
        "## The comparison\n\n{}",
        document::circumstances(
            now(),
            &format!(
                "{rounds} rounds, slopes between {} and {} MB",
                setup.sizes[0] / 1_000_000,
                setup.sizes[1] / 1_000_000
            ),
            &versions,
        )
    );
    writeln!(stdout(), "{section}")?;
    let mut outcomes = Outcomes::new();
    for path in paths {
        tell(&mut section, &report::heading(path))?;
        for &set in &sets {
            let outcome = rounds::run(&setup, path, set, rounds.into(), !args.no_peers, note).await;
            tell(&mut section, &report::table(path, set, &outcome))?;
            outcomes.insert((path, set), outcome);
        }
    }
    let verdicts = report::verdicts(&outcomes);
    tell(&mut section, &format!("### The promises\n\n{verdicts}"))?;
    let lost = report::where_we_lose(&outcomes);
    tell(&mut section, &format!("### Where we lose\n\n{lost}"))?;
    let is_whole = args.only.is_empty() && args.sets.is_empty() && !args.quick && !args.no_peers;
    write(&args.common, is_whole, "compare", &section)?;
    let failed = outcomes.values().any(Outcome::has_own_failures);
    let missed = report::missed(&outcomes);
    writeln!(stdout(), "{missed} promises are missed")?;
    Ok(!failed && (missed == 0 || args.common.no_judge))
}

async fn scale(sets: &[DataSet], most: u64, rounds: u16, common: &Common) -> Result<bool, Failed> {
    let program = program(common)?;
    let method = format!("zstd, medians of {rounds} rounds; start-up taken off the CPU");
    let mut section = format!(
        "## How it scales\n\n{}",
        document::circumstances(now(), &method, &[])
    );
    writeln!(stdout(), "{section}")?;
    let mut bounded = true;
    for &set in sets {
        tell(&mut section, &format!("### {set} items\n"))?;
        let series = scaling::run(&program, set, most, rounds.into(), note_shape).await?;
        for series in series {
            bounded &= series.growth().is_none_or(Growth::is_bounded);
            tell(&mut section, &series.table())?;
        }
    }
    write(common, most >= 10_000_000_000, "scaling", &section)?;
    Ok(bounded || common.no_judge)
}

/// Prints a piece of the section, and adds it.
fn tell(section: &mut String, piece: &str) -> Result<(), std::io::Error> {
    section.push('\n');
    section.push_str(piece);
    writeln!(stdout(), "\n{piece}")
}

/// Writes the section where it was asked for; a run of everything is written in any case.
fn write(common: &Common, is_whole: bool, name: &str, section: &str) -> Result<(), Failed> {
    let usual = is_whole.then(|| PathBuf::from("docs/BENCHMARKS.md"));
    match common.docs.clone().or(usual) {
        Some(path) => {
            document::write_section(&path, name, section)?;
            writeln!(stdout(), "{} is written", path.display())?;
        }
        None => writeln!(stdout(), "only a part was measured: no document is written")?,
    }
    Ok(())
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    UnixMillis(u64::try_from(millis).unwrap_or(0))
}

fn chosen<T: Copy>(wanted: &[T], all: &[T]) -> Vec<T> {
    if wanted.is_empty() { all } else { wanted }.to_vec()
}

fn setup(args: &Args) -> Result<Setup, Failed> {
    let sizes = match args.sizes[..] {
        _ if args.quick => [50_000_000, 200_000_000],
        [small, large] if small < large => [small, large],
        _ => {
            return Err(
                "--sizes wants two sizes, the smaller one first: --sizes 100MB,500MB".into(),
            );
        }
    };
    let peers = match &args.peers {
        Some(folder) => folder.clone(),
        None => env::current_exe()?.with_file_name("../peers"),
    };
    Ok(Setup {
        highwater: program(&args.common)?,
        contender: beside("contender")?,
        peers: Peers::new(&peers)?,
        sizes,
    })
}

fn program(common: &Common) -> Result<PathBuf, Failed> {
    match &common.binary {
        Some(path) => Ok(path.clone()),
        None => beside("highwater"),
    }
}

/// The program of this name in the folder of this one.
fn beside(name: &str) -> Result<PathBuf, Failed> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path = env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let path = path.display();
    Err(
        format!("{path} is not built: `cargo build --release -p highwater -p highwater-benches`")
            .into(),
    )
}

/// One line per run, for whoever waits.
fn note(round: usize, contender: Contender, pair: &Result<Pair, Trouble>) {
    let said = match pair {
        Ok(pair) => {
            let cpu = pair.cpu_per_gb().unwrap_or(f64::NAN);
            let peak = pair.large.peak_rss_bytes as f64 / 1e6;
            format!("{cpu:8.2} s/GB {peak:6.0} MB")
        }
        Err(trouble) => trouble.to_string(),
    };
    let (round, title) = (round + 1, contender.title());
    // Whoever does not read on gets the tables all the same.
    drop(writeln!(stderr(), "round {round}  {said}  {title}"));
}

fn note_shape(shape: Shape, usage: &Usage) {
    let Shape {
        bytes,
        segments,
        workers,
    } = shape;
    let (megabytes, peak) = (bytes / 1_000_000, usage.peak_rss_bytes as f64 / 1e6);
    drop(writeln!(
        stderr(),
        "{megabytes:>6} MB, {segments:>2} segments, {workers} workers: {:7.2} s of CPU, {:7.2} s, {peak:5.0} MB",
        usage.cpu_seconds,
        usage.wall_seconds
    ));
}
