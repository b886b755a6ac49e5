//! Records that a replica does not take, kept whole: `<table>/replicas/<id>/refused/<order>.json`.

use std::sync::Arc;

use highwater_domain::layout::Destination;
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{Creation, ObjectStore};
use highwater_domain::replica::ReplicaId;
use highwater_domain::replica_batch::ReplicaWrite;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::StepError;
use crate::status::json_object;

/// The version of the object's layout.
const VERSION: u32 = 1;

/// One record that was refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The layout's version.
    pub version: u32,
    /// Why, in DynamoDB's words.
    pub reason: String,
    /// Its order among the records of its key.
    pub order: String,
    /// The record as it came.
    pub record: Box<RawValue>,
}

/// Where they are kept.
#[derive(Clone, Debug)]
pub struct RefusedPlace {
    store: Arc<dyn ObjectStore>,
    folder: String,
}

impl RefusedPlace {
    /// The place of one replica, beside the log at `log`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, log: &LogPlace, id: &ReplicaId) -> Self {
        let folder = format!("{}/{id}/refused/", super::folder(log));
        Self { store, folder }
    }

    /// The folder's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.store.url(&self.folder)
    }

    /// Keeps a record; whether it was not there before. The object is durable when this returns.
    pub async fn keep(&self, write: &ReplicaWrite, reason: &str) -> Result<bool, StepError> {
        let broken = |error: &dyn std::fmt::Display| {
            StepError::Internal(format!("a refused record cannot be kept: {error}"))
        };
        let text = String::from_utf8(write.raw.to_vec()).map_err(|error| broken(&error))?;
        let refused = Refused {
            version: VERSION,
            reason: reason.to_owned(),
            order: write.order.clone(),
            record: RawValue::from_string(text).map_err(|error| broken(&error))?,
        };
        let key = format!("{}{}-{}.json", self.folder, write.order, write.fence_id);
        let object = json_object(key, &refused)?;
        let created = self.store.create(object).await.map_err(StepError::Store)?;
        Ok(created == Creation::Created)
    }

    /// The keys of all that were kept.
    pub async fn keys(&self) -> Result<Vec<String>, StepError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&self.folder, after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }
}

/// The store and the place of the log that a replica is fed from.
pub(crate) fn log_of(
    stores: &dyn highwater_domain::object_store::Stores,
    log: &str,
    table: &str,
) -> Result<(Arc<dyn ObjectStore>, LogPlace), StepError> {
    let destination: Destination = log.parse()?;
    let store = stores.open(&destination).map_err(StepError::Store)?;
    Ok((store, LogPlace::new(destination.prefix(), table)))
}
