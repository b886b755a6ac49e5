//! `highwater audit`.

use clap::Args as ClapArgs;
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;

use super::follow::{Sharing, StreamFlags};

const EXAMPLES: &str = "\
Examples:
  highwater audit orders --to s3://bkt/backups
  highwater audit orders --to s3://bkt/backups --json

Reads the table's stream from where the last audit ended, shard by shard, and holds the change
log against it: what the log lacks is written to it as long as the stream still has it, what
nobody has any more becomes an incident, and the mark moves up to where everything was seen.
It is the deployed AuditStream function, run to its end; it may run beside that function, or
beside `highwater follow`. With a --control-table of its own it begins anew, with all that the
stream still has.

Exit codes: 0 the log is complete, 1 failed, 2 wrong usage,
3 something needs a person (a loss that no newer backup has healed),
130 or 143 stopped by a signal (the next audit goes on from there).";

/// `highwater audit`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    /// The table: its name, or its ARN.
    pub table: TableRef,
    /// Where its change log is, the same as its backups: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_TO", value_name = "URL")]
    pub to: Destination,
    #[command(flatten)]
    pub stream: StreamFlags,
    #[command(flatten)]
    pub sharing: Sharing,
}
