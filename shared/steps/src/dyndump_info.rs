//! What is known of a dyndump backup, also while it is being made.

use highwater_domain::dyndump::{DyndumpKeys, DyndumpMetadata};
use highwater_domain::object_store::ObjectStore;

use crate::error::StepError;

/// The backup's metadata. Its writer renews it after every part, so a running one shows how far it is.
pub async fn run(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
) -> Result<DyndumpMetadata, StepError> {
    match read(store, keys).await? {
        Some(metadata) => Ok(metadata),
        None => Err(StepError::BackupNotFound {
            url: store.url(keys.prefix()),
            looked_for: format!("{} is not there", store.url(&keys.metadata())),
        }),
    }
}

/// The same, `None` if there is no metadata.
pub(crate) async fn read(
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
) -> Result<Option<DyndumpMetadata>, StepError> {
    let key = keys.metadata();
    let Some(body) = store.read(&key).await.map_err(StepError::Store)? else {
        return Ok(None);
    };
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        StepError::PartCorrupt(format!(
            "{} is no metadata of dyndump's: {error}",
            store.url(&key)
        ))
    })
}
