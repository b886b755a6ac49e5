//! `highwater dump`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args as ClapArgs, ValueEnum};
use highwater_domain::encoding::Encoding;
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;

use super::backup::{Selection, parse_part_size};
use super::dyndump_place::DyndumpPlace;
use super::yes_or_no;

const EXAMPLES: &str = "\
Examples:
  highwater dump orders --file orders.json
  highwater dump orders --stdout | gzip > orders.json.gz
  highwater dump orders --s3-bucket my-bucket --s3-prefix dumps/orders --file orders.json
  highwater dump orders --to s3://my-bucket/dumps/orders -r 50 -p 8
  highwater dump orders --file orders.json --encoding typed

A dump keeps no checkpoints, no table settings and no stream position: `highwater backup` does.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 or 143 stopped by a signal. docs/DYNDUMP.md lists
every flag and variable of dyndump's with ours.";

/// `highwater dump`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Dump {
    /// The table: its name, or its ARN.
    pub table: TableRef,
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub lines: Lines,
    #[command(flatten)]
    pub pace: ReadPace,
    #[command(flatten)]
    pub selection: Selection,
    /// Show what would be dumped and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub talk: Talk,
}

/// Where to. Several may be given; the table is read once.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Targets")]
pub struct Targets {
    /// A file of lines. It appears under its name when it is whole; `-` is standard output.
    #[arg(
        long,
        short,
        alias = "filename",
        env = "HIGHWATER_FILE",
        value_name = "PATH"
    )]
    pub file: Option<PathBuf>,
    /// Standard output. Nothing but items goes there.
    #[arg(long, env = "HIGHWATER_STDOUT", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub stdout: bool,
    /// An object store: s3://BUCKET/PREFIX or file:///FOLDER/PREFIX.
    #[arg(long, env = "HIGHWATER_TO", value_name = "URL")]
    pub to: Option<String>,
    #[command(flatten)]
    pub place: DyndumpPlace,
    /// What the object store gets.
    #[arg(
        long,
        env = "HIGHWATER_LAYOUT",
        value_enum,
        default_value_t = LayoutArg::Dyndump
    )]
    pub layout: LayoutArg,
    /// Stored size of a part, 1000 to 1GiB; 50MiB by default, 8MiB in Highwater's layout.
    #[arg(long, env = "HIGHWATER_PART_SIZE", value_name = "SIZE", value_parser = parse_part_size)]
    pub part_size: Option<u64>,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayoutArg {
    /// dyndump's parts and metadata, which dyndump's own `load` reads.
    Dyndump,
    /// A Highwater snapshot: the same as `highwater backup --eventual`.
    Highwater,
}

/// What a line looks like.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Lines")]
pub struct Lines {
    /// How items are written.
    #[arg(long, env = "HIGHWATER_ENCODING", value_enum, default_value_t = EncodingArg::Wire)]
    pub encoding: EncodingArg,
    /// With typed and plain: numbers in quotes, for readers that would round them.
    #[arg(long, env = "HIGHWATER_STRING_NUMS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub string_nums: bool,
}

/// `--encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingArg {
    /// DynamoDB's own JSON, {"n":{"N":"1"}}, as it was sent.
    Wire,
    /// {"n":{"type":"number","value":1}}. Binary values that are no UTF-8 text are in base64 and marked so.
    Typed,
    /// {"n":1}. It cannot be restored: the types are gone.
    Plain,
}

impl Lines {
    /// The encoding asked for.
    pub fn encoding(&self) -> Encoding {
        let numbers_as_strings = self.string_nums;
        match self.encoding {
            EncodingArg::Wire => Encoding::Wire,
            EncodingArg::Typed => Encoding::Typed { numbers_as_strings },
            EncodingArg::Plain => Encoding::Plain { numbers_as_strings },
        }
    }
}

/// How fast.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Pace")]
pub struct ReadPace {
    /// Segments that are scanned at once.
    #[arg(long, short = 'p', alias = "concurrency", env = "HIGHWATER_CONCURRENCY", default_value_t = highwater_steps::dump::DEFAULT_PARALLEL, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub parallel: u32,
    /// Slices to scan the table in, 1 to 1,000,000; as many as --parallel by default.
    #[arg(long, env = "HIGHWATER_SEGMENTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub segments: Option<u32>,
    /// Read capacity units per second to use, fractions allowed; 0 is unlimited.
    ///
    /// Unless given: half of a provisioned table's capacity, unlimited for an on-demand table.
    #[arg(
        long,
        short = 'r',
        env = "HIGHWATER_READ_CAPACITY",
        value_name = "UNITS"
    )]
    pub read_capacity: Option<f64>,
    /// Strongly consistent reads, at twice the price.
    #[arg(long, short = 'c', env = "HIGHWATER_CONSISTENT", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub consistent_read: bool,
    /// How often a request that fails in passing is sent again; 0 is never.
    #[arg(
        long,
        env = "HIGHWATER_MAX_RETRIES",
        value_name = "COUNT",
        default_value_t = 10
    )]
    pub max_retries: u32,
}

/// What it says while it works.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct Talk {
    /// Nothing on standard error but errors; the same as --quiet.
    #[arg(long, env = "HIGHWATER_SILENT", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub silent: bool,
    /// No progress bar and no progress lines.
    #[arg(long, env = "HIGHWATER_NO_PROGRESS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub no_progress: bool,
    /// Where a log of the job goes: a file, which is added to, or stdout (also -) or stderr.
    ///
    /// dyndump's --log; ours is the filter of the program's own log lines.
    #[arg(long, env = "HIGHWATER_LOG_TO", value_name = "FILE|-|stdout|stderr")]
    pub log_to: Option<String>,
    /// How the log's lines begin, as Go writes layouts; empty for no time.
    #[arg(
        long,
        env = "HIGHWATER_LOG_TIMESTAMP",
        value_name = "LAYOUT",
        default_value = "2006-01-02T15:04:05Z07:00"
    )]
    pub log_timestamp: String,
}

impl Targets {
    /// See [`DyndumpPlace::settle`]; `--file -` is `--stdout`.
    pub(super) fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let said = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if !self.place.settle(matches, "to", "--to")? {
            self.to = None;
        }
        // A file of the environment is not meant where the command line says standard output, and the other way round.
        match (said("file"), said("stdout")) {
            (true, false) => self.stdout = false,
            (false, true) => self.file = None,
            _ => {}
        }
        if self
            .file
            .as_ref()
            .is_some_and(|path| path.as_os_str() == "-")
        {
            (self.file, self.stdout) = (None, true);
        }
        if self.file.is_none()
            && !self.stdout
            && self.to.is_none()
            && self.place.s3_bucket.is_none()
        {
            return Err(
                "say where to: --file or --stdout, and/or --to (or --s3-bucket and --s3-prefix)"
                    .into(),
            );
        }
        Ok(())
    }

    /// `file:///…` and `s3://…` below which the ordinary backup of `--layout highwater` goes.
    pub fn destination(&self) -> Option<Result<Destination, String>> {
        let url = self.to.clone().or_else(|| self.place.url())?;
        Some(
            url.parse()
                .map_err(|error: highwater_domain::layout::DestinationError| error.to_string()),
        )
    }
}
