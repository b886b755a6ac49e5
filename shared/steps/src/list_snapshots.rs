//! Which snapshots are at a destination, by what the bucket alone says.

use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use serde::Serialize;

use crate::error::StepError;

/// One snapshot in a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// The table's folder.
    pub table: String,
    /// The snapshot's name.
    pub snapshot_id: SnapshotId,
    /// Its `backup.json`; `None` if that is absent or unreadable, as after an interrupted deletion.
    pub metadata: Option<Metadata>,
}

/// Every snapshot below `prefix`, of one table or of all, oldest first per table.
pub async fn run(
    store: &dyn ObjectStore,
    prefix: &str,
    table: Option<&str>,
) -> Result<Vec<Listed>, StepError> {
    let tables = match table {
        Some(table) => vec![table.to_owned()],
        None => folders(store, &Layout::folder(prefix)).await?,
    };
    let mut listed = Vec::new();
    for table in tables {
        for folder in folders(store, &Layout::snapshots_of(prefix, &table)).await? {
            // Other tools' exports may live in the same folder, under names of their own.
            let Ok(snapshot_id) = folder.parse::<SnapshotId>() else {
                continue;
            };
            let layout = Layout::new(prefix, &table, &snapshot_id);
            let body = store
                .read(&layout.metadata())
                .await
                .map_err(StepError::Store)?;
            let metadata = body.and_then(|body| serde_json::from_slice(&body).ok());
            listed.push(Listed {
                table: table.clone(),
                snapshot_id,
                metadata,
            });
        }
    }
    Ok(listed)
}

/// The names of the folders directly below `parent`, in order.
async fn folders(store: &dyn ObjectStore, parent: &str) -> Result<Vec<String>, StepError> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store
            .list_folders(parent, after.as_deref())
            .await
            .map_err(StepError::Store)?;
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
