//! A source's checkpoints as a store of small objects: where the reading of shards keeps who goes on from a shard, and what was
//! lost. A change log keeps the same facts in its bucket.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::Cas;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::{
    Creation, ListPage, ListedObject, NewObject, ObjectFacts, ObjectStore,
};

use crate::checkpoints::Checkpoints;

/// Facts, each created once.
#[derive(Clone, Debug)]
pub(crate) struct FactsStore {
    pub(crate) source: String,
    pub(crate) place: Arc<dyn Checkpoints>,
}

#[async_trait]
impl ObjectStore for FactsStore {
    fn url(&self, key: &str) -> String {
        format!("source:{}/{key}", self.source)
    }

    fn bucket(&self) -> &str {
        &self.source
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        Ok(
            match self.place.save(&object.key, None, object.body).await? {
                Cas::Applied(_) => Creation::Created,
                Cas::Lost => Creation::Exists,
            },
        )
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        loop {
            let seen = self.place.load(&object.key).await?;
            let seen = seen.map(|seen| seen.version);
            let saved = self.place.save(&object.key, seen, object.body.clone());
            if let Cas::Applied(_) = saved.await? {
                return Ok(());
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.place.load(key).await?.map(|found| found.value))
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let whole = self.read(key).await?;
        Ok(whole.map(|body| {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(body.len());
            let (start, end) = (at(range.start), at(range.end));
            body.slice(start..end.max(start))
        }))
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        let body = self.read(key).await?;
        Ok(body.map(|body| ObjectFacts {
            bytes: body.len() as u64,
            sha256: None,
            item_count: None,
            user_metadata: std::collections::BTreeMap::new(),
        }))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let names = self.place.names(prefix, after).await?;
        let next = names.last().cloned();
        // Sizes are not asked for by anybody who lists facts.
        let objects = names.into_iter().map(|key| ListedObject { key, bytes: 0 });
        Ok(ListPage {
            objects: objects.collect(),
            folders: Vec::new(),
            next,
        })
    }

    async fn list_folders(&self, prefix: &str, _: Option<&str>) -> Result<ListPage, Failure> {
        Err(self.refuse("list folders", prefix))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        match keys.first() {
            None => Ok(()),
            Some(key) => Err(self.refuse("delete", key)),
        }
    }
}

impl FactsStore {
    fn refuse(&self, operation: &'static str, what: &str) -> Failure {
        let message = "facts of a source are created and stay";
        Failure::new(FailureKind::Invalid, operation, self.url(what), message)
    }
}
