//! `highwater materialize`, and the flags about a second that it shares with `restore`.

use clap::{ArgAction, ArgGroup, Args as ClapArgs, ValueEnum};
use highwater_domain::layout::Destination;
use highwater_domain::restore::RestoreId;

use super::yes_or_no;

/// Flags that a resume does not take.
pub const FROZEN: [&str; 9] = [
    "backup",
    "from",
    "to",
    "id",
    "dry_run",
    "at",
    "grade",
    "stamp_margin",
    "work",
];

/// To which second, and what for.
#[derive(ClapArgs, Clone, Debug, Default)]
#[command(next_help_heading = "To a second")]
pub struct Second {
    /// What the table was at this second: 2026-11-21T20:15:00Z, -2h (or s, m, d) ago, or latest.
    ///
    /// Needs a snapshot with a handoff and the change log beside it; BACKUP may then be the table's folder, and the
    /// snapshot with the least of the log between is taken. The whole second is included.
    #[arg(
        long,
        env = "HIGHWATER_AT",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub at: Option<String>,
    /// How well the log must be known to be complete up to there; the best that reaches it by default.
    #[arg(long, env = "HIGHWATER_GRADE", requires = "at")]
    pub grade: Option<GradeArg>,
    /// How far DynamoDB's stamps may be from true time at the edges of the scan, 60s by default; 0s for a local engine.
    #[arg(long, env = "HIGHWATER_STAMP_MARGIN", value_name = "DURATION", value_parser = parse_seconds, requires = "at")]
    pub stamp_margin: Option<u64>,
    /// Folder for what lies between the log and the load, deleted after success: s3://BUCKET/PREFIX or file:///PATH.
    ///
    /// It takes about as much room as the stretch of the log, twice. Unless given: ./highwater-work on this machine.
    #[arg(long, env = "HIGHWATER_WORK", value_name = "URL", requires = "at")]
    pub work: Option<Destination>,
}

/// `--grade`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GradeArg {
    /// By a later record of each shard.
    Proven,
    /// Also by the time at which shards were made.
    Rolled,
    /// Also by silence, if DynamoDB publishes within two minutes.
    Assumed,
}

/// Whole seconds from `60`, `60s`, `2m`, `1h` or `1d`.
pub(super) fn parse_seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.find(|it: char| !it.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .zip(seconds)
        .and_then(|(number, seconds)| number.checked_mul(seconds))
        .ok_or_else(|| format!("{text:?} is no time: write 60s, 2m, 1h or 1d"))
}

const EXAMPLES: &str = "\
Examples:
  highwater materialize s3://bkt/backups/orders --at 2026-11-21T20:15:00Z --to s3://bkt/restored
  highwater materialize 01768385930622-efd1a093 --from s3://bkt/backups --at -2h --to file:///var/states
  highwater restore ID --from s3://bkt/restored --to orders-2 --engine import-table   (then)

The new snapshot is like any other: an AWS full export that ImportTable, Athena, verify and restore read. No table is
touched. Its id is printed; it has no handoff, because no live changes take over from a moment that is over.";

/// `highwater materialize`.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("which").args(["backup", "resume"]).required(true), after_help = EXAMPLES)]
pub struct Materialize {
    /// A snapshot's id (with --from), or where a snapshot or a table's folder is: s3://BUCKET/KEY, file:///PATH, a path.
    #[arg(value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Where the snapshot of that id, or the table of that name, is: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    /// Where the new snapshot goes: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(
        long,
        env = "HIGHWATER_TO",
        value_name = "URL",
        required_unless_present = "resume"
    )]
    pub to: Option<Destination>,
    /// Go on with the one of this id; its plan stays.
    #[arg(long, env = "HIGHWATER_RESUME", value_name = "ID")]
    pub resume: Option<RestoreId>,
    /// The id to give the new snapshot, of the form 01768385999000-1b2c3d4e; a new one by default.
    #[arg(long, env = "HIGHWATER_ID", value_name = "ID")]
    pub id: Option<RestoreId>,
    /// Show the plan and write nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub second: Second,
    /// Shards, buckets and files that are worked on at once, 4 by default.
    #[arg(long, short = 'p', alias = "parallel", env = "HIGHWATER_CONCURRENCY", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub concurrency: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let read = ["60", "60s", "2m", "1h", "1d", "0s"].map(parse_seconds);
        assert_eq!(read, [60, 60, 120, 3600, 86_400, 0].map(Ok));
        for wrong in ["", "s", "-1s", "1w", "1.5m", "99999999999999999999s"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
        let too_long = parse_seconds("999999999999999999d");
        assert!(too_long.is_err());
    }
}
