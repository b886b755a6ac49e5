//! `highwater verify`.

use clap::{ArgAction, Args as ClapArgs};
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;

use super::diff::{Listing, Reading};
use super::yes_or_no;

const EXAMPLES: &str = "\
Examples:
  highwater verify 01768385930622-efd1a093 --from s3://bkt/backups
  highwater verify s3://bkt/old/dyndump-prefix
  highwater verify 01768385930622-efd1a093 --from s3://bkt/backups --table orders
  highwater verify 01768385930622-efd1a093 --from s3://bkt/backups --change-log

Without a table every file is read again and held against everything the backup says of itself:
hashes, counts, sizes, the grammar of each line, the key of each item. What it does not say is listed.
With a table the items are compared as `highwater diff` compares them; a table that was written to
since the backup differs from it, of course.
With --change-log the table's change log is read again, too, up to its mark: what each record says of the
item before is held against the record before it.

Exit codes: 0 whole (and equal), 3 different from the table or a broken log, 1 damaged or failed,
2 wrong usage, 130 or 143 stopped by a signal.";

/// `highwater verify`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The backup: an id (with --from), s3://BUCKET/KEY, file:///PATH, a path, or - for standard input.
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// Where the backup of that id is: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    /// Compare with this table: its name, or its ARN.
    #[arg(long, env = "HIGHWATER_VERIFY_TABLE", value_name = "TABLE")]
    pub table: Option<TableRef>,
    /// Read the change log beside the backup again, too: old images against new ones, key by key.
    #[arg(long, env = "HIGHWATER_VERIFY_CHANGE_LOG", value_parser = yes_or_no(), action = ArgAction::SetTrue, conflicts_with = "table")]
    pub change_log: bool,
    /// Put breaks of the change log on record as losses: no restore goes through them until a later snapshot heals them.
    #[arg(long, env = "HIGHWATER_VERIFY_RECORD_BREAKS", value_parser = yes_or_no(), action = ArgAction::SetTrue, requires = "change_log")]
    pub record_breaks: bool,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub result: Listing,
}
