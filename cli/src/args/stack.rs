//! `highwater start`, `highwater stop` and `highwater watch`: the command against a deployed stack.

use clap::{ArgAction, ArgGroup, Args as ClapArgs, Subcommand};
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::layout::Destination;
use highwater_domain::restore::RestoreId;
use highwater_domain::stack::{ExecutionName, StackName, StackNameError};

use super::backup::{Handoff, Pace, Selection, Shape};
use super::materialize::Second;
use super::restore::{ItemFlags, NewTable, WritePace};
use super::yes_or_no;

/// Which stack.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Stack")]
pub struct StackFlags {
    /// The deployed stack: its name in CloudFormation.
    ///
    /// Its state machines tell where its backups go and which control table it has; --control-table and --control mean
    /// nothing here.
    #[arg(long, env = "HIGHWATER_STACK", value_name = "NAME")]
    pub stack: StackName,
    /// Endpoint of Step Functions alone.
    #[arg(
        long,
        env = "HIGHWATER_SFN_ENDPOINT_URL",
        value_name = "URL",
        help_heading = "Connection"
    )]
    pub sfn_endpoint_url: Option<String>,
}

const START_EXAMPLES: &str = "\
Examples:
  highwater start backup orders --stack highwater                 start, and print what will come of it
  highwater start backup orders --stack highwater --watch         the same, and watch it to its end
  highwater start backup orders --stack highwater --name 2026-w47 once, however often it is typed
  highwater start backup --resume 01768385930622-efd1a093 --stack highwater
  highwater start restore 01768385930622-efd1a093 --stack highwater --to orders-restored
  highwater start restore orders --at -2h --stack highwater --to orders-restored --dry-run

Exit codes: 0 started (with --watch: done), 1 failed, 2 wrong usage,
130 or 143 stopped watching by a signal: the execution goes on.";

/// `highwater start`.
#[derive(ClapArgs, Debug)]
#[command(after_help = START_EXAMPLES)]
pub struct Start {
    #[command(subcommand)]
    pub what: StartWhat,
}

/// What is started.
#[derive(Debug, Subcommand)]
pub enum StartWhat {
    /// Start a backup of one of the stack's tables.
    Backup(Box<StartBackup>),
    /// Start a restore of one of the stack's backups, or of any that its functions may read.
    Restore(Box<StartRestore>),
}

/// How it is started.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Start")]
pub struct StartFlags {
    /// The execution's name: a second start of the same name and the same request starts nothing.
    ///
    /// A new one by default. A name is good for 90 days.
    #[arg(long, env = "HIGHWATER_EXECUTION_NAME", value_name = "NAME", value_parser = parse_name)]
    pub name: Option<ExecutionName>,
    /// Go on as `highwater watch` does, to the end.
    #[arg(long, env = "HIGHWATER_WATCH", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub watch: bool,
    /// Show the execution's input, and start nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
}

fn parse_name(text: &str) -> Result<ExecutionName, String> {
    if text.starts_with('#') {
        return Err("a placeholder of an expression is given with --attribute-name here".into());
    }
    text.parse()
        .map_err(|error: StackNameError| error.to_string())
}

/// `highwater start backup`.
///
/// Its `--name` is the execution's: the expressions' placeholders have another flag than in `highwater backup`.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("what").args(["table", "resume"]).required(true))]
#[command(mut_arg("names", |names| names.long("attribute-name")))]
pub struct StartBackup {
    /// One of the stack's tables.
    pub table: Option<TableRef>,
    #[command(flatten)]
    pub stack: StackFlags,
    #[command(flatten)]
    pub start: StartFlags,
    /// Go on with the backup of this id; its plan stays, capacity and concurrency may change.
    #[arg(
        long,
        env = "HIGHWATER_RESUME",
        value_name = "ID",
        help_heading = "Start"
    )]
    pub resume: Option<SnapshotId>,
    /// The id to give the backup; one that follows from the execution by default.
    #[arg(long, env = "HIGHWATER_ID", value_name = "ID", help_heading = "Start")]
    pub id: Option<SnapshotId>,
    #[command(flatten)]
    pub pace: Pace,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub handoff: Handoff,
}

/// `highwater start restore`.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("which").args(["backup", "resume"]).required(true))]
pub struct StartRestore {
    /// The backup: an id, s3://BUCKET/KEY, or with --at one of the stack's tables.
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Where the backup of that id is, s3://BUCKET/PREFIX; where the stack's backups go by default.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    /// The table to restore into, by name; a new one unless --into-existing. The stack must be allowed to make it.
    #[arg(
        long = "to",
        env = "HIGHWATER_TO_TABLE",
        value_name = "TABLE",
        required_unless_present = "resume"
    )]
    pub to: Option<TableRef>,
    #[command(flatten)]
    pub stack: StackFlags,
    #[command(flatten)]
    pub start: StartFlags,
    /// Go on with the restore of this id; its plan stays, capacity and concurrency may change.
    #[arg(
        long,
        env = "HIGHWATER_RESUME",
        value_name = "ID",
        help_heading = "Start"
    )]
    pub resume: Option<RestoreId>,
    /// The id to give the restore; one that follows from the execution by default.
    #[arg(long, env = "HIGHWATER_ID", value_name = "ID", help_heading = "Start")]
    pub id: Option<RestoreId>,
    /// Fill a table that exists. Items that it has already stay as they are.
    #[arg(long, env = "HIGHWATER_INTO_EXISTING", value_parser = yes_or_no(), action = ArgAction::SetTrue, help_heading = "Items")]
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

const WATCH_EXAMPLES: &str = "\
Examples:
  highwater watch --stack highwater                what runs; if it is one execution, watch it
  highwater watch orders --stack highwater         the execution at work on this table
  highwater watch 01768385930622-efd1a093 --stack highwater
  highwater watch nightly-47 --stack highwater     an execution by its name; one that has ended is told of

Reads the stack's control table, which the functions write as they go. Ctrl-C ends the watching
and nothing else.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 or 143 stopped watching by a signal.";

/// `highwater watch`.
#[derive(ClapArgs, Debug)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct Watch {
    /// An execution's name or ARN, a table that one is at work on, or the id of a backup or restore.
    #[arg(value_name = "EXECUTION|TABLE")]
    pub target: Option<String>,
    #[command(flatten)]
    pub stack: StackFlags,
}

const STOP_EXAMPLES: &str = "\
Examples:
  highwater stop orders --stack highwater
  highwater stop backup-orders-20260114T101850-efd1a093 --stack highwater --dry-run

The execution ends at once; functions that are under way end by themselves, within 15 minutes.
What they have committed stays, the backup or restore is marked failed, and `highwater start
backup --resume ID` goes on with it. A stop may be repeated: it does what is left to do.

Exit codes: 0 stopped, or nothing was left to stop; 1 failed; 2 wrong usage.";

/// `highwater stop`.
#[derive(ClapArgs, Debug)]
#[command(after_help = STOP_EXAMPLES)]
pub struct Stop {
    /// An execution's name or ARN, a table that one is at work on, or the id of a backup or restore.
    #[arg(value_name = "EXECUTION|TABLE")]
    pub target: String,
    #[command(flatten)]
    pub stack: StackFlags,
    /// Show what would be stopped, and stop nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// How long to wait for a plan that was being made when the execution was stopped.
    #[arg(
        long,
        env = "HIGHWATER_STOP_WAIT",
        value_name = "SECONDS",
        default_value_t = 20
    )]
    pub wait: u64,
}
