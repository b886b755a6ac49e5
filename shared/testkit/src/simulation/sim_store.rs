//! A bucket, as a worker reaches it over its connection.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{
    Creation, ListPage, NewObject, ObjectFacts, ObjectStore, Stores,
};

use super::sim_ports::at_once;
use super::sim_wire::Wire;

/// One bucket, whatever destination is asked for, behind a [`Wire`].
///
/// The bucket itself must answer at once, as [`FakeStore`](crate::fake_store::FakeStore) does.
#[derive(Clone, Debug)]
pub struct WiredStores {
    bucket: Arc<dyn ObjectStore>,
    wire: Wire,
}

impl WiredStores {
    /// `bucket`, over `wire`.
    #[must_use]
    pub fn new(bucket: Arc<dyn ObjectStore>, wire: &Wire) -> Self {
        Self {
            bucket,
            wire: wire.clone(),
        }
    }
}

impl Stores for WiredStores {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl ObjectStore for WiredStores {
    fn url(&self, key: &str) -> String {
        self.bucket.url(key)
    }

    fn bucket(&self) -> &str {
        self.bucket.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        let (bucket, about) = (Arc::clone(&self.bucket), object.key.clone());
        let effect = move || at_once(bucket.create(object.clone()));
        self.wire.write("create", about, effect).await?
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        let (bucket, about) = (Arc::clone(&self.bucket), object.key.clone());
        let effect = move || at_once(bucket.replace(object.clone()));
        self.wire.write("replace", about, effect).await?
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.wire.read("read", key, self.bucket.read(key)).await?
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let call = self.bucket.read_range(key, range);
        self.wire.read("read", key, call).await?
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.wire.read("facts", key, self.bucket.facts(key)).await?
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let call = self.bucket.list(prefix, after);
        self.wire.read("list", prefix, call).await?
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let call = self.bucket.list_folders(prefix, after);
        self.wire.read("list", prefix, call).await?
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        let (bucket, keys) = (Arc::clone(&self.bucket), keys.to_vec());
        let effect = move || at_once(bucket.delete(&keys));
        self.wire.write("delete", String::new(), effect).await?
    }
}
