//! Where tables' backups and logs lie, as people name them: a table's folder, or a place with such folders.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use highwater_domain::backup_source::SourceLocation;
use highwater_domain::ids::TableRef;
use highwater_domain::layout::{Destination, Layout};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore_point::TablePlace;
use highwater_steps::StepError;

use crate::args::Global;
use crate::connect;
use crate::error::CliError;

/// What lies in a table's folder: backups, and the log.
const FOLDERS: [&str; 2] = ["AWSDynamoDB/", "log/"];

/// One table's folder.
#[derive(Clone, Debug)]
pub struct TableFolder {
    /// The store that it is in.
    pub store: Arc<dyn ObjectStore>,
    /// Its log; the backups lie beside it.
    pub place: LogPlace,
}

impl fmt::Display for TableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.place.root();
        let folder = root.trim_end_matches("log/");
        f.write_str(self.store.url(folder).trim_end_matches('/'))
    }
}

/// Every table that `places` name, each once. Without any: all tables at `from`.
pub async fn find(
    places: &[String],
    from: Option<&Destination>,
    global: &Global,
) -> Result<Vec<TableFolder>, CliError> {
    let mut found = Vec::new();
    if let (true, Some(from)) = (places.is_empty(), from) {
        found.extend(at(&from.to_string(), global).await?);
    }
    for place in places {
        let url = url_of(place, from)?;
        found.extend(at(&url, global).await?);
    }
    let mut seen = BTreeSet::new();
    found.retain(|folder: &TableFolder| seen.insert(folder.to_string()));
    Ok(found)
}

/// A place as a URL. A bare name is a table's, if it is known where tables are; a path otherwise.
fn url_of(place: &str, from: Option<&Destination>) -> Result<String, CliError> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let table: Option<TableRef> = place.parse().ok();
    if let (Some(table), Some(from)) = (&table, from) {
        let from = from.to_string();
        return Ok(format!("{}/{}", from.trim_end_matches('/'), table.name()));
    }
    if table.is_some() && !Path::new(place).exists() {
        return Err(CliError::Usage(format!(
            "{place} is a table's name: say where its backups are, --from s3://BUCKET/PREFIX"
        )));
    }
    let absolute =
        std::path::absolute(place).map_err(|error| CliError::Usage(format!("{place}: {error}")))?;
    match absolute.to_str() {
        Some(path) => Ok(format!("file://{path}")),
        None => Err(CliError::Usage(format!(
            "{} is not valid UTF-8",
            absolute.display()
        ))),
    }
}

/// The table whose folder this is, or the tables whose folders are in it.
async fn at(url: &str, global: &Global) -> Result<Vec<TableFolder>, CliError> {
    let location: SourceLocation = url.parse().map_err(StepError::from)?;
    if let Ok(place) = TablePlace::of(&location) {
        let store = connect::store(global, &place.store).await?;
        if is_table(store.as_ref(), &place.folder()).await? {
            let place = place.log();
            return Ok(vec![TableFolder { store, place }]);
        }
    }
    let destination: Destination = url.parse().map_err(StepError::from)?;
    let store = connect::store(global, &destination).await?;
    let mut tables = Vec::new();
    for name in names(store.as_ref(), &Layout::folder(destination.prefix())).await? {
        let place = TableFolder {
            store: store.clone(),
            place: LogPlace::new(destination.prefix(), &name),
        };
        let folder = format!("{}{name}/", Layout::folder(destination.prefix()));
        if is_table(store.as_ref(), &folder).await? {
            tables.push(place);
        }
    }
    if tables.is_empty() {
        return Err(StepError::BackupNotFound {
            url: url.to_owned(),
            looked_for:
                "neither a table's folder (AWSDynamoDB/ or log/ in it) nor one with tables' folders"
                    .into(),
        }
        .into());
    }
    Ok(tables)
}

async fn is_table(store: &dyn ObjectStore, folder: &str) -> Result<bool, CliError> {
    let names = names(store, folder).await?;
    Ok(FOLDERS
        .iter()
        .any(|known| names.iter().any(|name| name == known.trim_end_matches('/'))))
}

/// The names of the folders directly in `parent`, in order.
async fn names(store: &dyn ObjectStore, parent: &str) -> Result<Vec<String>, CliError> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list_folders(parent, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        names.extend(page.folders.iter().filter_map(|folder| {
            let name = folder.strip_prefix(parent)?.strip_suffix('/')?;
            Some(name.to_owned())
        }));
        after = page.next;
        if after.is_none() {
            return Ok(names);
        }
    }
}
