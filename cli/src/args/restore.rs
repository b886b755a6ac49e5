//! `highwater restore` and `highwater load`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgGroup, ArgMatches, Args as ClapArgs, ValueEnum};
use highwater_domain::ids::TableRef;
use highwater_domain::key_filter::KeyFilter;
use highwater_domain::layout::Destination;
use highwater_domain::restore::RestoreId;

use super::dump::Talk;
use super::dyndump_place::DyndumpPlace;
use super::materialize::Second;
use super::yes_or_no;

/// Flags that a resume does not take: the plan was frozen when the restore began.
pub const FROZEN: [&str; 24] = [
    "backup",
    "from",
    "to",
    "id",
    "dry_run",
    "into_existing",
    "allow_overwrite",
    "filter",
    "max_items",
    "rejects",
    "fail_fast",
    "skip_checks",
    "allow_incomplete",
    "key",
    "engine",
    "billing",
    "stream_first",
    "no_ttl",
    "load_write_capacity",
    "deletion_protection",
    "at",
    "grade",
    "stamp_margin",
    "work",
];

const RESTORE_EXAMPLES: &str = "\
Examples:
  highwater list s3://bkt/backups                              (what there is to restore)
  highwater restore s3://bkt/exports/AWSDynamoDB/01768385930622-efd1a093 --to orders --key id:S
  highwater restore 01768385930622-efd1a093 --from s3://bkt/backups --to orders-restored
  highwater restore ./movies.json.gz --to movies --key year:N,title:S
  highwater restore s3://bkt/old/dyndump-prefix --to orders --into-existing
  highwater restore 01768385930622-efd1a093 --from s3://bkt/backups --to orders --dry-run
  highwater restore --resume 01768385999000-1b2c3d4e
  highwater restore s3://bkt/backups/orders --at 2026-11-21T20:15:00Z --to orders-restored
  highwater restore orders --from s3://bkt/backups --at -2h --to orders-restored --dry-run

`highwater list s3://BUCKET/PREFIX` shows the ids of the backups that are there.

A backup is any of: a Highwater snapshot, a dyndump backup, an AWS full or incremental export,
or DynamoDB-JSON lines in a file, a folder or on standard input (-). A new table gets the keys,
indexes, billing, TTL, stream, tags and protection of the one that was backed up, as far as the
backup knows them; what it cannot have is listed.

Every item is accounted for: read = written + skipped + rejected. Exit codes: 0 done, 1 failed
or some items rejected, 2 wrong usage, 130 or 143 stopped by a signal (it can be resumed).";

/// `highwater restore`.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("which").args(["backup", "resume"]).required(true), after_help = RESTORE_EXAMPLES)]
pub struct Restore {
    /// The backup: an id (with --from), s3://BUCKET/KEY, file:///PATH, a path, or - for standard input.
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Where the backup of that id is: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    /// The table to restore into, by name or ARN; a new one unless --into-existing.
    #[arg(
        long = "to",
        env = "HIGHWATER_TO_TABLE",
        value_name = "TABLE",
        required_unless_present = "resume"
    )]
    pub to: Option<TableRef>,
    /// Go on with the restore of this id; its plan stays, capacity and concurrency may change.
    ///
    /// The checkpoints must be where they were: the same --control-table or --control.
    #[arg(long, env = "HIGHWATER_RESUME", value_name = "ID")]
    pub resume: Option<RestoreId>,
    /// The id to give the restore, of the form 01768385999000-1b2c3d4e; a new one by default.
    #[arg(long, env = "HIGHWATER_ID", value_name = "ID")]
    pub id: Option<RestoreId>,
    /// Show the plan and what it will probably cost, and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Fill a table that exists. Items that it has already stay as they are.
    #[arg(long, env = "HIGHWATER_INTO_EXISTING", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub into_existing: bool,
    #[command(flatten)]
    pub second: Second,
    #[command(flatten)]
    pub items: ItemFlags,
    #[command(flatten)]
    pub pace: WritePace,
    #[command(flatten)]
    pub table: NewTable,
}

/// Which items, and how strictly.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(next_help_heading = "Items")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that is given or not"
)]
pub struct ItemFlags {
    /// With an existing table: replace items that it has already.
    #[arg(long, env = "HIGHWATER_ALLOW_OVERWRITE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub allow_overwrite: bool,
    /// Only items whose key attribute is this, ATTRIBUTE=VALUE, or begins with it, ATTRIBUTE^=PREFIX.
    ///
    /// Given more than once, an item must pass every filter. Values of binary keys are written in base64.
    #[arg(long, env = "HIGHWATER_KEY_FILTER", value_name = "FILTER", value_delimiter = None)]
    pub filter: Vec<KeyFilter>,
    /// Stop after exactly so many items that pass the filter, 0 is all; files are then loaded one by one.
    #[arg(
        long,
        short = 'm',
        alias = "maxitems",
        env = "HIGHWATER_MAX_ITEMS",
        value_name = "COUNT"
    )]
    pub max_items: Option<u64>,
    /// Folder for items that the table does not take: s3://BUCKET/PREFIX or file:///PATH.
    ///
    /// Each is kept whole, with the reason. Unless given: ./highwater-rejects on this machine.
    #[arg(long, env = "HIGHWATER_REJECTS", value_name = "URL")]
    pub rejects: Option<Destination>,
    /// Stop at the first item that the table does not take.
    #[arg(long, env = "HIGHWATER_FAIL_FAST", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub fail_fast: bool,
    /// Do not compare hashes and counts with what the backup says.
    #[arg(long, env = "HIGHWATER_SKIP_CHECKS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub skip_checks: bool,
    /// Load what there is of a backup that was never finished.
    #[arg(long, env = "HIGHWATER_ALLOW_INCOMPLETE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub allow_incomplete: bool,
}

/// How fast.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(next_help_heading = "Pace")]
pub struct WritePace {
    /// Files that are loaded at once, 4 by default.
    #[arg(long, short = 'p', alias = "parallel", env = "HIGHWATER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
    /// Write capacity units per second to use, fractions allowed; 0 is unlimited.
    ///
    /// Unless given: half of an existing provisioned table's capacity, unlimited otherwise.
    #[arg(
        long,
        short = 'w',
        env = "HIGHWATER_WRITE_CAPACITY",
        value_name = "UNITS",
        conflicts_with = "write_percent"
    )]
    pub write_capacity: Option<f64>,
    /// The same as a percentage of what the table has.
    #[arg(long, env = "HIGHWATER_WRITE_PERCENT", value_name = "PERCENT")]
    pub write_percent: Option<f64>,
}

/// What the new table is like.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(next_help_heading = "New table")]
pub struct NewTable {
    /// Its key where the backup does not say: id:S, or id:S,at:N with a sort key; S text, N number, B binary.
    #[arg(long, env = "HIGHWATER_KEY", value_name = "KEY")]
    pub key: Option<String>,
    /// Who writes the items: Highwater, DynamoDB's own ImportTable, or whichever suits the backup better.
    #[arg(long, env = "HIGHWATER_ENGINE", value_name = "ENGINE")]
    pub engine: Option<EngineArg>,
    /// How it is billed, as the backed-up table by default.
    #[arg(long, env = "HIGHWATER_BILLING")]
    pub billing: Option<BillingArg>,
    /// Have its stream from the beginning, so that it carries the restored items too.
    #[arg(long, env = "HIGHWATER_STREAM_FIRST", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub stream_first: bool,
    /// Leave TTL off.
    #[arg(long, env = "HIGHWATER_NO_TTL", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub no_ttl: bool,
    /// Give the table and its indexes at least so much write capacity during the load, and take it back after.
    #[arg(long, env = "HIGHWATER_LOAD_WRITE_CAPACITY", value_name = "UNITS", value_parser = clap::value_parser!(u64).range(1..))]
    pub load_write_capacity: Option<u64>,
    /// Deletion protection, as the backed-up table by default.
    #[arg(long, env = "HIGHWATER_DELETION_PROTECTION", value_name = "on|off")]
    pub deletion_protection: Option<OnOff>,
}

/// `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// Import where it is possible and clearly better, else write; the plan says which and why.
    Auto,
    /// Highwater writes, through the table's write capacity.
    Write,
    /// DynamoDB's ImportTable: a new table, no write units, no local secondary indexes.
    ImportTable,
}

/// `--billing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BillingArg {
    /// As the backed-up table.
    AsIs,
    /// Per request.
    OnDemand,
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// With it.
    On,
    /// Without it.
    Off,
}

const LOAD_EXAMPLES: &str = "\
Examples:
  highwater load orders --file orders.json
  zcat orders.json.gz | highwater load orders --stdin
  highwater load orders --s3-bucket my-bucket --s3-prefix backups/orders --allow-overwrite -w 100

`load` is `restore --into-existing` under dyndump's name and flags; docs/DYNDUMP.md has the whole table.";

/// `highwater load`.
#[derive(ClapArgs, Debug)]
#[command(after_help = LOAD_EXAMPLES)]
pub struct Load {
    /// The table to fill, which must exist.
    pub table: TableRef,
    /// A file of DynamoDB-JSON lines, plain, gzip or zstd; - is standard input.
    #[arg(
        long,
        short,
        alias = "filename",
        env = "HIGHWATER_FILE",
        value_name = "PATH"
    )]
    pub file: Option<PathBuf>,
    /// Read lines from standard input.
    #[arg(long, env = "HIGHWATER_STDIN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub stdin: bool,
    /// Any backup: s3://BUCKET/KEY or file:///PATH.
    #[arg(long, env = "HIGHWATER_LOAD_FROM", value_name = "URL")]
    pub from: Option<String>,
    #[command(flatten)]
    pub place: DyndumpPlace,
    /// Show the plan and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub items: ItemFlags,
    #[command(flatten)]
    pub pace: WritePace,
    /// How often a request that fails in passing is sent again; 0 is never. Without it, for about three minutes,
    /// and throttled writes as long as it takes.
    #[arg(
        long,
        env = "HIGHWATER_MAX_RETRIES",
        value_name = "COUNT",
        help_heading = "Pace"
    )]
    pub max_retries: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Load {
    /// Decides between the places that are named: one on the command line goes before those of the environment.
    pub(super) fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let said = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let places = [
            said("file"),
            said("stdin"),
            said("from"),
            said("s3_bucket") || said("s3_prefix"),
        ];
        match places.iter().filter(|said| **said).count() {
            0 => {}
            1 => {
                let [file, stdin, from, place] = places;
                self.file = self.file.take().filter(|_| file);
                self.stdin &= stdin;
                self.from = self.from.take().filter(|_| from);
                if !place {
                    self.place = DyndumpPlace::default();
                }
            }
            _ => {
                return Err("--file, --stdin, --from and --s3-bucket/--s3-prefix name the same thing: give one".into());
            }
        }
        if self
            .file
            .as_ref()
            .is_some_and(|path| path.as_os_str() == "-")
        {
            (self.file, self.stdin) = (None, true);
        }
        if !self.stdin && self.file.is_none() {
            self.place.settle(matches, "from", "--from")?;
            if self.from.is_none() && self.place.s3_bucket.is_none() {
                return Err(
                    "say what to load: --file, --stdin, --from, or --s3-bucket and --s3-prefix"
                        .into(),
                );
            }
        }
        Ok(())
    }
}
