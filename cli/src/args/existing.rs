//! `highwater info` and `highwater delete`: commands about a backup that exists.

use std::str::FromStr;

use clap::{ArgAction, ArgMatches, Args as ClapArgs};
use highwater_domain::backup_source::{LocationError, SourceLocation};
use highwater_domain::ids::{NameError, SnapshotId, TableRef};
use highwater_domain::layout::Destination;

use super::dump::Talk;
use super::dyndump_place::DyndumpPlace;
use super::yes_or_no;
use crate::error::CliError;

/// `highwater info`.
#[derive(ClapArgs, Debug)]
pub struct Info {
    /// The backup's id (with --from), or the place of a dyndump backup: s3://BUCKET/PREFIX, file:///FOLDER/PREFIX.
    #[arg(value_name = "ID|URL")]
    pub backup: Option<Named>,
    /// Where the backup of that id is: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_FROM", value_name = "URL")]
    pub from: Option<Destination>,
    /// Its table, where looking through all tables takes too long.
    #[arg(long, env = "HIGHWATER_TABLE", value_name = "TABLE")]
    pub table: Option<TableRef>,
    #[command(flatten)]
    pub place: DyndumpPlace,
    /// How often a request that fails in passing is sent again, for dyndump backups; 0 is never.
    #[arg(
        long,
        env = "HIGHWATER_MAX_RETRIES",
        value_name = "COUNT",
        default_value_t = 10
    )]
    pub max_retries: u32,
}

/// What `info` and `delete` are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A Highwater backup.
    Id(SnapshotId),
    /// A dyndump backup.
    Place(SourceLocation),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let place = text.parse().map(Self::Place);
            return place.map_err(|error: LocationError| error.to_string());
        }
        let id = text.parse().map(Self::Id);
        id.map_err(|error: NameError| error.to_string())
    }
}

/// `highwater delete`.
#[derive(ClapArgs, Debug)]
pub struct Delete {
    #[command(flatten)]
    pub which: Info,
    /// Do not ask, and delete even what claims to be running.
    #[arg(long, short, env = "HIGHWATER_FORCE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub force: bool,
    /// Delete the parts of a dyndump backup whose metadata is gone or cannot be read.
    #[arg(long, env = "HIGHWATER_FORCE_ORPHANS", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub force_orphans: bool,
    /// Show what would be deleted and delete nothing.
    #[arg(long, env = "HIGHWATER_DRY_RUN", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub talk: Talk,
}

impl Info {
    /// The id and the place of one of Highwater's own backups.
    pub fn of_highwater(&self) -> Result<(&SnapshotId, &Destination), CliError> {
        match (&self.backup, &self.from) {
            (Some(Named::Id(id)), Some(from)) => Ok((id, from)),
            _ => Err(CliError::Usage(
                "name the backup: its id, and --from".into(),
            )),
        }
    }

    pub(super) fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
        if !self.place.settle(matches, "backup", "ID or URL")? {
            self.backup = None;
        }
        match (&self.backup, &self.from) {
            (None, _) if self.place.s3_bucket.is_none() => Err(
                "name the backup: its id with --from, its URL, or --s3-bucket and --s3-prefix"
                    .into(),
            ),
            (Some(Named::Id(id)), None) => Err(format!(
                "{id} is a backup's id: say where it is, --from s3://BUCKET/PREFIX"
            )),
            _ => Ok(()),
        }
    }
}
