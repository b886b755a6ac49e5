//! `highwater backup`.

use clap::{ArgAction, ArgGroup, Args as ClapArgs, ValueEnum};
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::layout::Destination;
use serde_json::Value;

use super::yes_or_no;
use crate::format::parse_bytes;

/// Flags that a resume does not take: the plan was frozen when the backup began.
pub const FROZEN: [&str; 14] = [
    "id",
    "dry_run",
    "segments",
    "consistent",
    "eventual",
    "filter",
    "projection",
    "names",
    "values",
    "max_items",
    "compression",
    "part_size",
    "with_stream",
    "settle_seconds",
];

/// `highwater backup`.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("what").args(["table", "resume"]).required(true))]
pub struct Backup {
    /// The table: its name, or its ARN.
    pub table: Option<TableRef>,
    /// Where to: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(
        long,
        env = "HIGHWATER_TO",
        value_name = "URL",
        required_unless_present = "resume"
    )]
    pub to: Option<Destination>,
    /// Go on with the backup of this id; its plan stays, capacity and concurrency may change.
    #[arg(long, env = "HIGHWATER_RESUME", value_name = "ID")]
    pub resume: Option<SnapshotId>,
    /// The id to give the backup; a new one by default.
    #[arg(long, env = "HIGHWATER_ID", value_name = "ID")]
    pub id: Option<SnapshotId>,
    /// Show the plan and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub pace: Pace,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub handoff: Handoff,
}

/// Where live changes take over.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Restore to a second")]
pub struct Handoff {
    /// Make a base for restores to a second: enable a stream if the table has none, and fail rather than go without.
    ///
    /// A stream that is there is used in any case. One whose view lacks new images is never changed.
    #[arg(long, env = "HIGHWATER_WITH_STREAM", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub with_stream: bool,
    /// How old a stream must be until the scan may begin, 60 by default; 0 for a local engine only.
    #[arg(long, env = "HIGHWATER_SETTLE_SECONDS", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=3600))]
    pub settle_seconds: Option<u32>,
}

/// How fast.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Pace")]
pub struct Pace {
    /// Slices to scan the table in, 1 to 1,000,000; by default what its size suggests.
    #[arg(long, env = "HIGHWATER_SEGMENTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub segments: Option<u32>,
    /// Slices that are scanned at once, 4 by default.
    #[arg(long, short = 'p', env = "HIGHWATER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
    /// Read capacity units per second to use, fractions allowed; 0 is unlimited.
    ///
    /// Unless given: half of a provisioned table's capacity, unlimited for an on-demand table.
    #[arg(
        long,
        short = 'r',
        env = "HIGHWATER_READ_CAPACITY",
        value_name = "UNITS",
        conflicts_with = "read_percent"
    )]
    pub read_capacity: Option<f64>,
    /// The same as a percentage of what the table has.
    #[arg(long, env = "HIGHWATER_READ_PERCENT", value_name = "PERCENT")]
    pub read_percent: Option<f64>,
    /// Strongly consistent reads: the default.
    #[arg(long, env = "HIGHWATER_CONSISTENT", value_parser = yes_or_no(), action = ArgAction::SetTrue, conflicts_with = "eventual")]
    pub consistent: bool,
    /// Eventually consistent reads, at half the price.
    #[arg(long, env = "HIGHWATER_EVENTUAL", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub eventual: bool,
}

/// Which items.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Selection")]
pub struct Selection {
    /// Keep only items that match this DynamoDB filter expression.
    #[arg(long, env = "HIGHWATER_FILTER", value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Keep only these attributes, a DynamoDB projection expression; keys are added.
    #[arg(long, env = "HIGHWATER_PROJECTION", value_name = "EXPRESSION")]
    pub projection: Option<String>,
    /// Name placeholder of the expressions, `#n=attribute`; may be repeated.
    #[arg(long = "name", env = "HIGHWATER_NAMES", value_name = "#N=ATTRIBUTE", value_parser = parse_name)]
    pub names: Vec<(String, String)>,
    /// Value placeholder of the expressions, `:v={"S":"open"}`; may be repeated.
    #[arg(long = "value", env = "HIGHWATER_VALUES", value_name = ":V=JSON", value_parser = parse_value)]
    pub values: Vec<(String, Value)>,
    /// Stop after exactly so many items; a backup then scans its segments one by one.
    #[arg(
        long,
        short = 'm',
        alias = "maxitems",
        env = "HIGHWATER_MAX_ITEMS",
        value_name = "COUNT"
    )]
    pub max_items: Option<u64>,
}

/// What the parts look like.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Format")]
pub struct Shape {
    /// How parts are compressed, gzip by default.
    #[arg(long, env = "HIGHWATER_COMPRESSION")]
    pub compression: Option<Compression>,
    /// Stored size of a part, 1000 to 1GiB, 8MiB by default.
    #[arg(long, env = "HIGHWATER_PART_SIZE", value_name = "SIZE", value_parser = parse_part_size)]
    pub part_size: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Compression {
    /// What AWS's exports use and every reader of them takes.
    Gzip,
    /// Smaller and cheaper; DynamoDB's ImportTable takes it too.
    Zstd,
}

fn parse_name(text: &str) -> Result<(String, String), String> {
    let (name, attribute) = text.split_once('=').ok_or("write #placeholder=attribute")?;
    Ok((name.to_owned(), attribute.to_owned()))
}

fn parse_value(text: &str) -> Result<(String, Value), String> {
    let (name, json) = text
        .split_once('=')
        .ok_or("write :placeholder={\"S\":\"text\"}")?;
    let value =
        serde_json::from_str(json).map_err(|error| format!("{json} is not JSON: {error}"))?;
    Ok((name.to_owned(), value))
}

pub fn parse_part_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if (1000..=1 << 30).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("a part has 1000 bytes to 1GiB, not {bytes}"))
}
