//! `highwater diff`, and what it shares with `highwater verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs};
use highwater_domain::layout::Destination;

use super::follow::parse_duration;
use super::yes_or_no;

const EXAMPLES: &str = "\
Examples:
  highwater diff orders orders-restored
  highwater diff orders s3://bkt/backups/orders/AWSDynamoDB/01768385930622-efd1a093
  highwater diff 01768385930622-efd1a093 01768472330622-0a1b2c3d --from s3://bkt/backups
  highwater diff orders orders --b-region eu-west-1
  highwater diff orders orders --b-endpoint-url http://localhost:8000
  highwater diff ./before.json.gz ./after.json.gz --key id:S,at:N
  highwater diff orders orders-replica --live
  highwater diff orders orders-replica --live --repair --dry-run

A side is a table (its name or ARN) or any backup: an id (with --from), s3://BUCKET/KEY,
file:///PATH, or a path with a slash in it (./movies.json: a plain name is a table's).

Items are equal if they have the same attributes with the same values; the order of attributes and
of set elements and the spelling of numbers do not count. Both sides are read once; if they differ,
once more, to find the keys. Memory does not grow with them. A table that is written to
meanwhile may differ from its backup for that reason alone.

With --live B is a replica of A, and both may be written to: keys that are not the same are looked at
again, until the replica has what the source had, or is known never to get it by itself. This takes
as long as the replica is behind; whoever feeds it must be at work. With --repair the source's item is
written where the replica has gone wrong, unless something is applied there meanwhile.

Exit codes: 0 equal (or all repaired), 3 different, 4 not decided (--live: a key is written to all the
time, the replica is too far behind, or more keys differ than --limit), 1 failed, 2 wrong usage,
130 or 143 stopped by a signal.";

/// `highwater diff`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Diff {
    /// The first table or backup.
    pub a: String,
    /// The second table or backup.
    pub b: String,
    /// Where backups that are named by their id are: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    #[command(flatten)]
    pub live: UnderTraffic,
    #[command(flatten)]
    pub places: Places,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub result: Listing,
}

/// How a live replica is compared with its source.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Live replica")]
pub struct UnderTraffic {
    /// B is a replica of A, and both may be written to: tell only of what has really gone wrong.
    #[arg(long, env = "HIGHWATER_DIFF_LIVE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub live: bool,
    /// With --live: write the source's items where the replica has gone wrong, behind its fences.
    #[arg(long, env = "HIGHWATER_DIFF_REPAIR", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub repair: bool,
    /// With --repair: tell what would be written, and write nothing.
    #[arg(long, env = "HIGHWATER_DIFF_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// With --live: how long a key may wait until the replica is as far as its source was.
    #[arg(
        long,
        env = "HIGHWATER_DIFF_PATIENCE",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = parse_duration
    )]
    pub patience: Duration,
    /// With --live: how often a key is begun with anew that is written to meanwhile.
    #[arg(long, env = "HIGHWATER_DIFF_ROUNDS", value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

/// Where each side is, if not where the other is.
#[derive(ClapArgs, Debug, Default)]
#[command(next_help_heading = "Sides")]
pub struct Places {
    /// Endpoint of DynamoDB and S3 for A alone.
    #[arg(long, env = "HIGHWATER_A_ENDPOINT_URL", value_name = "URL")]
    pub a_endpoint_url: Option<String>,
    /// AWS region of A alone.
    #[arg(long, env = "HIGHWATER_A_REGION", value_name = "REGION")]
    pub a_region: Option<String>,
    /// Named profile of the AWS configuration for A alone: another account, say.
    #[arg(long, env = "HIGHWATER_A_PROFILE", value_name = "NAME")]
    pub a_profile: Option<String>,
    /// Endpoint of DynamoDB and S3 for B alone.
    #[arg(long, env = "HIGHWATER_B_ENDPOINT_URL", value_name = "URL")]
    pub b_endpoint_url: Option<String>,
    /// AWS region of B alone.
    #[arg(long, env = "HIGHWATER_B_REGION", value_name = "REGION")]
    pub b_region: Option<String>,
    /// Named profile of the AWS configuration for B alone.
    #[arg(long, env = "HIGHWATER_B_PROFILE", value_name = "NAME")]
    pub b_profile: Option<String>,
}

/// How tables and backups are read.
#[derive(ClapArgs, Debug, Default)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// Slices of a table, or files of a backup, that are read at once on each side; 4 by default.
    #[arg(long, short = 'p', env = "HIGHWATER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
    /// Slices to scan a table in, 1 to 1,000,000; by default what its size suggests.
    #[arg(long, env = "HIGHWATER_SEGMENTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub segments: Option<u32>,
    /// Read capacity units per second to use of each table, fractions allowed; 0 is unlimited.
    ///
    /// Unless given: half of a provisioned table's capacity, unlimited for an on-demand table.
    #[arg(
        long,
        short = 'r',
        env = "HIGHWATER_READ_CAPACITY",
        value_name = "UNITS"
    )]
    pub read_capacity: Option<f64>,
    /// Eventually consistent reads of tables, at half the price: the newest writes may seem to be missing.
    #[arg(long, env = "HIGHWATER_EVENTUAL", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub eventual: bool,
    /// Do not compare a backup's files with the hashes and counts that it gives.
    #[arg(long, env = "HIGHWATER_SKIP_CHECKS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub skip_checks: bool,
    /// Read what there is of a backup that was never finished.
    #[arg(long, env = "HIGHWATER_ALLOW_INCOMPLETE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub allow_incomplete: bool,
    /// The primary key where neither side knows it: id:S, or id:S,at:N.
    #[arg(long, env = "HIGHWATER_KEY", value_name = "KEY")]
    pub key: Option<String>,
}

/// What is listed, and what it takes.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Result")]
pub struct Listing {
    /// The most keys that are listed, 100 by default; all that differ are counted. Of a live replica the most that are looked at again,
    /// 10,000 by default.
    #[arg(long, env = "HIGHWATER_LIMIT", value_name = "KEYS")]
    pub limit: Option<usize>,
    /// Folder for temporary files, used where many keys differ; the system's own by default.
    #[arg(long, env = "HIGHWATER_TEMP_DIR", value_name = "PATH")]
    pub temp_dir: Option<PathBuf>,
}
