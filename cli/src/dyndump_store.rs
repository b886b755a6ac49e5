//! The object store of a dyndump backup.

use std::sync::Arc;

use highwater_aws::Clients;
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::dyndump::DyndumpKeys;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{ObjectStore, Stores as _};
use highwater_steps::StepError;

use crate::args::{Global, Info, Named};
use crate::connect::{self, LocalAndS3};
use crate::error::CliError;

/// The location that a URL names, which must have a prefix: every key begins with it.
pub fn location(url: &str) -> Result<SourceLocation, CliError> {
    let location: SourceLocation = url.parse().map_err(StepError::from)?;
    if location.key.is_empty() {
        return Err(CliError::Usage(format!(
            "{url} names no prefix, which the backup's keys begin with: s3://BUCKET/PREFIX or file:///FOLDER/PREFIX"
        )));
    }
    Ok(location)
}

/// The dyndump backup that the arguments name; `None` if they name one of Highwater's.
pub async fn of(
    args: &Info,
    global: &Global,
) -> Result<Option<(Arc<dyn ObjectStore>, DyndumpKeys)>, CliError> {
    let location = match (&args.backup, args.place.location()) {
        (Some(Named::Id(_)), _) | (None, None) => return Ok(None),
        (Some(Named::Place(location)), _) => location.clone(),
        (None, Some(location)) => location.map_err(CliError::Usage)?,
    };
    let clients = match &location.store {
        Destination::Directory { .. } => None,
        Destination::S3 { .. } => {
            let clients = Clients::connect(&connect::settings(global)).await?;
            Some(clients.with_retries(args.max_retries))
        }
    };
    let store = LocalAndS3::new(clients).open(&location.store)?;
    Ok(Some((store, DyndumpKeys::new(&location.key))))
}
