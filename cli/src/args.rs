//! The command line as a value. Every flag has an environment variable.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are the help text here, not Markdown"
)]

pub mod audit;
pub mod backup;
pub mod diff;
pub mod dump;
mod dyndump_env;
pub mod dyndump_place;
mod existing;
pub mod follow;
pub mod materialize;
pub mod replicate;
pub mod restore;
pub mod stack;
pub mod status;
pub mod verify;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgMatches, Args as ClapArgs, CommandFactory as _, FromArgMatches as _, Parser,
    Subcommand,
};
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::layout::Destination;
use highwater_domain::restore::RestoreId;

pub use self::existing::{Delete, Info, Named};

const EXAMPLES: &str = "\
Examples:
  highwater demo                                        see it all happen on this machine
  highwater backup orders --to s3://my-bucket/backups   back up a table
  highwater backup orders --to file:///var/backups --read-percent 20
  highwater backup --resume 01768385930622-efd1a093     go on with one that was stopped
  highwater follow orders --to s3://my-bucket/backups   keep its change log, to restore to any second
  highwater status s3://my-bucket/backups               up to which second, and what needs a person
  highwater restore 01768385930622-efd1a093 --from s3://my-bucket/backups --to orders-restored
  highwater restore s3://my-bucket/backups/orders --at -2h --to orders-restored
  highwater verify 01768385930622-efd1a093 --from s3://my-bucket/backups --table orders
  highwater diff orders orders-restored                 which keys differ
  highwater diff orders orders-replica --live           whether a live replica has gone wrong
  highwater list s3://my-bucket/backups                 which backups are there
  highwater info 01768385930622-efd1a093 --from s3://my-bucket/backups
  highwater start backup orders --stack highwater --watch   have a deployed stack do it, and watch

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 compared and different, or in need of a person,
4 compared and not decided, 130 or 143 stopped by a signal (a backup or restore can be resumed).";

/// Back up Amazon DynamoDB tables to S3, resumable at every step, in the format of AWS's own exports.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Reads a command line.
    ///
    /// A resume refuses flags of the plan that stand on the command line. From the environment, where they may
    /// stand for other backups, they are not meant and not used.
    pub fn try_read<T: Into<OsString> + Clone>(
        line: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let matches =
            dyndump_env::heard(Self::command(), &line, is_set).try_get_matches_from(line)?;
        if let Some((command, given)) = matches.subcommand()
            && let Some(flag) = frozen_flag(command, given)
        {
            // Two flags are repeated, and named for one of theirs.
            let flag = match flag {
                "names" if command == "start" => "attribute-name".to_owned(),
                "names" => "name".to_owned(),
                "values" => "value".to_owned(),
                flag => flag.replace('_', "-"),
            };
            let message =
                format!("--{flag} cannot be given with --resume: the plan stays as it was");
            return Err(Self::command().error(ErrorKind::ArgumentConflict, message));
        }
        let mut args = Self::from_arg_matches(&matches)?;
        if let Some((_, chosen)) = matches.subcommand() {
            let settled = args.command.settle(chosen);
            settled
                .map_err(|message| Self::command().error(ErrorKind::ArgumentConflict, message))?;
        }
        Ok(args)
    }
}

/// A flag of the plan beside `--resume`, if one stands on the command line.
fn frozen_flag(command: &str, given: &ArgMatches) -> Option<&'static str> {
    let (frozen, given): (&[&str], &ArgMatches) = match command {
        "backup" if given.get_one::<SnapshotId>("resume").is_some() => (&backup::FROZEN, given),
        "restore" if given.get_one::<RestoreId>("resume").is_some() => (&restore::FROZEN, given),
        "materialize" if given.get_one::<RestoreId>("resume").is_some() => {
            (&materialize::FROZEN, given)
        }
        // In a stack the same flags are those of the plan; to show the input of a resume is all right.
        "start" => {
            let (what, given) = given.subcommand()?;
            return frozen_flag(what, given).filter(|flag| *flag != "dry_run");
        }
        _ => return None,
    };
    frozen
        .iter()
        .copied()
        .find(|flag| given.value_source(flag) == Some(ValueSource::CommandLine))
}

impl Command {
    /// Decides between arguments that name the same thing, which the parser cannot do: it does not tell the
    /// command line from the environment.
    fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
        match self {
            Self::Dump(dump) => dump.targets.settle(matches),
            Self::Load(load) => load.settle(matches),
            Self::Info(info) => info.settle(matches),
            Self::Delete(delete) => delete.which.settle(matches),
            _ => Ok(()),
        }
    }
}

/// Takes `1`, `yes`, `on`, `true` and their opposites from an environment variable.
fn yes_or_no() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// Flags that every command takes.
#[derive(ClapArgs, Clone, Debug)]
pub struct Global {
    /// Endpoint of DynamoDB and S3, for local engines; AWS's own unless given.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_ENDPOINT_URL",
        value_name = "URL",
        help_heading = "Connection"
    )]
    pub endpoint_url: Option<String>,
    /// Endpoint of S3 alone.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_S3_ENDPOINT_URL",
        value_name = "URL",
        help_heading = "Connection"
    )]
    pub s3_endpoint_url: Option<String>,
    /// Named profile of the AWS configuration.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_PROFILE",
        value_name = "NAME",
        help_heading = "Connection"
    )]
    pub profile: Option<String>,
    /// AWS region.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_REGION",
        value_name = "REGION",
        help_heading = "Connection"
    )]
    pub region: Option<String>,
    /// Table that keeps checkpoints; created when absent.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_CONTROL_TABLE",
        value_name = "NAME",
        default_value = DEFAULT_CONTROL_TABLE,
        help_heading = "Checkpoints"
    )]
    pub control_table: String,
    /// Keep checkpoints in a file instead of a table: `local`, or `local:PATH`.
    ///
    /// For people who may read the table but create none. Resume works from the same file.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_CONTROL",
        value_name = "WHERE",
        value_parser = parse_control,
        help_heading = "Checkpoints"
    )]
    pub control: Option<LocalControl>,
    /// Print the result as JSON on standard output.
    #[arg(long, global = true, env = "HIGHWATER_JSON", value_parser = yes_or_no(), action = ArgAction::SetTrue, help_heading = "Output")]
    pub json: bool,
    /// Print no progress and no notes, only the result and errors.
    #[arg(long, short, global = true, env = "HIGHWATER_QUIET", value_parser = yes_or_no(), action = ArgAction::SetTrue, help_heading = "Output")]
    pub quiet: bool,
    /// Show log lines, in `tracing`'s filter syntax: `info`, `highwater_steps=debug`.
    #[arg(
        long,
        global = true,
        env = "HIGHWATER_LOG",
        value_name = "FILTER",
        help_heading = "Output"
    )]
    pub log: Option<String>,
}

/// The table that keeps checkpoints, unless another one is named.
pub const DEFAULT_CONTROL_TABLE: &str = "highwater";

/// `--control local[:PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalControl {
    /// The file, if one was named.
    pub path: Option<PathBuf>,
}

impl fmt::Display for LocalControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "local:{}", path.display()),
            None => f.write_str("local"),
        }
    }
}

fn parse_control(text: &str) -> Result<LocalControl, String> {
    match text.split_once(':') {
        None if text == "local" => Ok(LocalControl { path: None }),
        Some(("local", path)) if !path.is_empty() => Ok(LocalControl {
            path: Some(path.into()),
        }),
        _ => Err("write `local`, or `local:PATH` with the file's path".into()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Back up a table, or go on with a backup that was stopped.
    Backup(Box<backup::Backup>),
    /// Restore any backup into a new table with all its settings, or into one that exists.
    Restore(Box<restore::Restore>),
    /// Make a new backup of what a table was at a second, from a backup and the change log; no table is touched.
    Materialize(Box<materialize::Materialize>),
    /// Fill a table from a file, standard input or a backup: dyndump's `load`.
    Load(Box<restore::Load>),
    /// Write a table's items to a file, standard output or S3 as lines: what dyndump does.
    Dump(Box<dump::Dump>),
    /// Check a backup: read all of it again, or hold it against a table.
    Verify(Box<verify::Verify>),
    /// Compare two tables or backups, and list the keys that differ.
    Diff(Box<diff::Diff>),
    /// Write a table's stream to its change log, record by record, so that it can be restored to any second.
    Follow(Box<follow::Follow>),
    /// Keep a second table equal to a table: load it from a backup, then give it every change from the log.
    Replicate(Box<replicate::Replicate>),
    /// Let a replica that has caught up stand by itself.
    Promote(Box<replicate::Promote>),
    /// Hold the change log against the stream, fill in what it lacks, and move the mark.
    Audit(Box<audit::Audit>),
    /// Show how tables stand: backups, change log, mark, losses, and what needs a person.
    Status(status::Status),
    /// List the backups at a place.
    List(List),
    /// Show one backup, also while it is being made.
    Info(Info),
    /// Delete a backup: its parts first, its metadata last.
    Delete(Delete),
    /// Start a backup or a restore in a deployed stack.
    Start(stack::Start),
    /// Watch what a deployed stack does, to its end.
    Watch(stack::Watch),
    /// Stop what a deployed stack does, so that it can be resumed.
    Stop(stack::Stop),
    /// Watch it happen on this machine: a backup while the table is written to, its change log, restores to three seconds.
    Demo(Demo),
}

/// `highwater list`.
#[derive(ClapArgs, Debug)]
pub struct List {
    /// Where: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Destination,
    /// Only backups of this table.
    #[arg(long, env = "HIGHWATER_TABLE", value_name = "TABLE")]
    pub table: Option<TableRef>,
}

/// `highwater demo`.
#[derive(ClapArgs, Debug)]
pub struct Demo {
    /// Items to fill the table with.
    #[arg(long, env = "HIGHWATER_DEMO_ITEMS", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub items: u32,
    /// Folder for the backup and its log; a new one among the temporary files by default.
    #[arg(long, env = "HIGHWATER_DEMO_DIR", value_name = "PATH")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_resume_in_a_stack_may_be_shown_and_named() {
        for line in [
            "start backup --resume 01768385930622-efd1a093 --stack night --dry-run --name again",
            "start restore --resume 01768385930622-efd1a093 --stack night --dry-run -p 8",
            "start backup orders --stack night --filter #s=:x --attribute-name #s=state --value :x={\"N\":\"1\"}",
        ] {
            let args = std::iter::once("highwater").chain(line.split(' '));
            assert!(Args::try_read(args).is_ok(), "{line}");
        }
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            let exempt = ["help", "version"];
            for flag in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let name = flag.get_id().as_str();
                assert!(
                    flag.get_env().is_some() || exempt.contains(&name),
                    "{} {name}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn wrong_usage_is_refused_by_the_parser() {
        for line in [
            "backup",
            "backup orders",
            "backup orders --to nowhere",
            "backup orders --to s3://bucket --segments 0",
            "backup orders --to s3://bucket --segments 1000001",
            "backup orders --to s3://bucket --part-size 10",
            "backup orders --to s3://bucket --read-capacity 5 --read-percent 5",
            "backup orders --to s3://bucket --consistent --eventual",
            "backup --resume 01768385930622-efd1a093 --segments 4",
            "backup --resume 01768385930622-efd1a093 --id 01768385930622-efd1a093",
            "backup --resume 01768385930622-efd1a093 --dry-run",
            "backup --resume 01768385930622-efd1a093 --value :v={\"S\":\"x\"}",
            "backup --resume latest",
            "info x --from s3://bucket",
            "--control nowhere list s3://bucket",
            "start backup orders",
            "start backup --stack night",
            "start backup orders --stack 1night",
            "start backup orders --stack night --name a/b",
            "start backup orders --stack night --name #s=state",
            "start backup --resume 01768385930622-efd1a093 --stack night --segments 4",
            "start backup --resume 01768385930622-efd1a093 --stack night --attribute-name #s=state",
            "start restore 01768385930622-efd1a093 --stack night",
            "start restore --resume 01768385930622-efd1a093 --stack night --at -2h",
            "stop --stack night",
            "watch orders",
        ] {
            let args = std::iter::once("highwater").chain(line.split(' '));
            assert_eq!(
                Args::try_read(args)
                    .map(|_| ())
                    .map_err(|error| error.exit_code()),
                Err(2),
                "{line}"
            );
        }
    }
}
