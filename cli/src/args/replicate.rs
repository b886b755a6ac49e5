//! `highwater replicate` and `highwater promote`.

use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs, ValueEnum};
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::key_filter::KeyFilter;
use highwater_domain::layout::Destination;
use highwater_domain::replica::FenceMode;

use super::follow::{Sharing, StreamFlags, parse_duration};
use super::yes_or_no;

const REPLICATE_EXAMPLES: &str = "\
Examples:
  highwater replicate orders --to orders-copy --from s3://bkt/backups
  highwater replicate orders --to orders-copy --from s3://bkt/backups --dry-run
  highwater replicate orders --to arn:aws:dynamodb:eu-west-1:111122223333:table/orders \\
      --target-region eu-west-1 --target-role arn:aws:iam::111122223333:role/highwater --from s3://bkt/backups
  highwater replicate orders --to orders-eu --from s3://bkt/backups --filter region=eu
  highwater promote orders --to orders-copy

The replica is loaded from a snapshot (the newest with a handoff; one is taken if there is none) and
then given every change since that snapshot's handoff, from the change log. It ends up equal to the
source, item for item, whatever is retried, doubled, delayed or killed on the way: each change is
written in one transaction with a row of a table of fences beside the replica, which refuses what
is older than what is there.

A replica goes through `load`, `quiesce` and `live`. Stop it at any time; the same command goes on.
Its table must be empty, with the source's key and without time to live, or not there at all.

Exit codes: 0 ended in order, 1 failed, 2 wrong usage, 3 the replica refuses some records (each is
kept whole), 130 or 143 by a second signal.";

const PROMOTE_EXAMPLES: &str = "\
Examples:
  highwater promote orders --to orders-copy                    (only if it has caught up)
  highwater promote orders --to orders-copy --most-lag 5m
  highwater promote orders --to orders-copy --as-it-is         (the source is gone)

Ends the replication for good, and deletes the table of fences, so that nothing of ours can write to
the table any more. Stop writing to the source before, and wait until `highwater status` says that
the replica is equal; then no change is left behind.";

/// `highwater replicate`.
#[derive(ClapArgs, Debug)]
#[command(after_help = REPLICATE_EXAMPLES)]
pub struct Replicate {
    /// The table to replicate: its name, or its ARN.
    pub table: TableRef,
    /// The table that is kept equal, by name or ARN; made like the source if it is not there.
    #[arg(long = "to", env = "HIGHWATER_REPLICA", value_name = "TABLE")]
    pub to: TableRef,
    /// Where the table's change log and backups are: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Destination,
    /// The backup to load, one with a handoff; by default the newest that there is.
    #[arg(long, env = "HIGHWATER_SNAPSHOT", value_name = "ID")]
    pub snapshot: Option<SnapshotId>,
    /// Show what would be done, and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// End once the replica has all that the log holds, and not by a signal only.
    #[arg(long, env = "HIGHWATER_UNTIL_IDLE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub until_idle: bool,
    /// Leave writing the log to others: a deployed stack, or `highwater follow`.
    #[arg(long, env = "HIGHWATER_NO_FOLLOW", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub no_follow: bool,
    /// Only items whose key attribute is this, ATTRIBUTE=VALUE, or begins with it, ATTRIBUTE^=PREFIX. Repeatable.
    #[arg(long, env = "HIGHWATER_KEY_FILTER", value_name = "FILTER", value_delimiter = None)]
    pub filter: Vec<KeyFilter>,
    /// Where the order of changes is kept: in a table beside the replica, or in an attribute of its items.
    #[arg(
        long,
        env = "HIGHWATER_FENCE",
        value_enum,
        default_value = "table",
        value_name = "WHERE"
    )]
    pub fence: FenceArg,
    #[command(flatten)]
    pub access: Access,
    #[command(flatten)]
    pub stream: StreamFlags,
    #[command(flatten)]
    pub sharing: Sharing,
}

/// Where the replica is.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Replica")]
pub struct Access {
    /// The replica's region, if it is not the source's.
    #[arg(long, env = "HIGHWATER_TARGET_REGION", value_name = "REGION")]
    pub target_region: Option<String>,
    /// The role to assume for the replica's account, by ARN.
    #[arg(long, env = "HIGHWATER_TARGET_ROLE", value_name = "ARN")]
    pub target_role: Option<String>,
}

/// Where fences are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FenceArg {
    /// In a table of their own; the replica's items are the source's, byte for byte. 4 write units for 1 KB.
    Table,
    /// In an attribute of the items, which `promote` takes out. 2 write units for 1 KB.
    Attribute,
}

impl From<FenceArg> for FenceMode {
    fn from(fence: FenceArg) -> Self {
        match fence {
            FenceArg::Table => Self::Table,
            FenceArg::Attribute => Self::Attribute,
        }
    }
}

/// `highwater promote`.
#[derive(ClapArgs, Debug)]
#[command(after_help = PROMOTE_EXAMPLES)]
pub struct Promote {
    /// The table that is replicated: its name, or its ARN if it is gone.
    pub table: TableRef,
    /// The replica.
    #[arg(long = "to", env = "HIGHWATER_REPLICA", value_name = "TABLE")]
    pub to: TableRef,
    /// How far it may be behind.
    #[arg(
        long,
        env = "HIGHWATER_MOST_LAG",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = parse_duration
    )]
    pub most_lag: Duration,
    /// Promote it as it is, whatever it lacks.
    #[arg(long, env = "HIGHWATER_AS_IT_IS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub as_it_is: bool,
    /// Show how it stands and whether it could be promoted, and change nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
}
