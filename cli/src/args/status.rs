//! `highwater status`.

use clap::Args as ClapArgs;
use highwater_domain::layout::Destination;

const EXAMPLES: &str = "\
Examples:
  highwater status s3://bkt/backups/orders           one table
  highwater status s3://bkt/backups                  every table there
  highwater status orders customers --from s3://bkt/backups
  highwater status s3://bkt/backups --json | jq .why

For each table: its backups, its change log, what was lost and when, and the mark, one line per
fact and the newest last. All of it is read from the bucket; where the control table is within
reach, who reads which shard at this moment is added.

Exit codes: 0 all is well, 1 failed, 2 wrong usage,
3 something needs a person (the reasons are printed, each with a way out).";

/// `highwater status`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Status {
    /// Tables: s3://BUCKET/PREFIX/TABLE, file:///PATH/TABLE, a path, or a name with --from; or a prefix with tables below.
    #[arg(value_name = "PLACE", required_unless_present = "from")]
    pub places: Vec<String>,
    /// Where tables that are named are: s3://BUCKET/PREFIX or file:///PATH. Without names: all tables there.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
}
