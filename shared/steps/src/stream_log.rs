//! One stream's log as a worker sees it: its objects, its leases, its facts.

use std::sync::Arc;

use highwater_domain::live_control::LogId;
use highwater_domain::log_facts::StreamFacts;
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{Creation, ObjectStore};
use highwater_lease::Leases;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::begin_log::LogBegun;
use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::service_time::ServiceTime;
use crate::status::json_object;

/// The log of one stream. Cheap to clone; clones share what was learned.
#[derive(Clone, Debug)]
pub struct StreamLog {
    /// Where the objects are.
    pub store: Arc<dyn ObjectStore>,
    /// Their keys.
    pub place: LogPlace,
    /// The stream.
    pub facts: StreamFacts,
    /// The log's name in the control table.
    pub id: LogId,
    /// The leases of its shards, as this worker sees them.
    pub leases: Leases,
    /// DynamoDB's time.
    pub time: ServiceTime,
    /// How late DynamoDB publishes a record at most, in milliseconds.
    pub publication_ms: u64,
}

impl StreamLog {
    /// A log that has begun, for the worker called `worker`.
    pub fn of(
        deps: &LiveDeps,
        store: &Arc<dyn ObjectStore>,
        place: &LogPlace,
        begun: &LogBegun,
        worker: &str,
        publication_ms: u64,
    ) -> Result<Self, StepError> {
        Ok(Self {
            store: Arc::clone(store),
            place: place.clone(),
            facts: begun.facts.clone(),
            id: begun.log.clone(),
            leases: deps.leases.group(&begun.log.lease_group(), worker)?,
            time: ServiceTime::new(Arc::clone(&deps.clock)),
            publication_ms,
        })
    }

    /// The stream's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.facts.stream_label
    }

    /// The stream's ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.facts.stream_arn
    }

    /// A fact of the log, or `None` if there is none of this key.
    pub async fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StepError> {
        let Some(body) = self.store.read(key).await.map_err(StepError::Store)? else {
            return Ok(None);
        };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            StepError::LogCorrupt(format!(
                "{} is not what a change log keeps there: {error}",
                self.store.url(key)
            ))
        })
    }

    /// Puts a fact on record, or finds the one that stands: everybody goes by that.
    pub async fn settle_fact<T>(&self, key: String, fact: T) -> Result<(T, Creation), StepError>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        let object = json_object(key.clone(), &fact)?;
        if self.store.create(object).await.map_err(StepError::Store)? == Creation::Created {
            return Ok((fact, Creation::Created));
        }
        let standing = self.fact(&key).await?.ok_or_else(|| {
            let url = self.store.url(&key);
            StepError::LogCorrupt(format!("{url} was there and is gone"))
        })?;
        Ok((standing, Creation::Exists))
    }

    /// The bodies of all facts in a folder, by key.
    pub async fn keys_below(&self, folder: &str) -> Result<Vec<String>, StepError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(folder, after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }
}
