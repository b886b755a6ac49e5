//! Ports of a worker that dies at a given call: that call never returns, before it takes effect or after it, and the rest is
//! silence. Or of one that stands still there for a while, as a suspended machine does, and then goes on.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::layout::Destination;
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};
use highwater_domain::object_store::{
    Creation, ListPage, NewObject, ObjectFacts, ObjectStore, Stores,
};
use highwater_domain::shard::{Shard, ShardId, StreamListing};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_kv as kv;
use highwater_lease::{Change, LeaseId, Outcome, Row, Rows};
use highwater_testkit::failing::Moment;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One worker's life, in calls.
#[derive(Debug)]
pub struct Life {
    dies_at: u64,
    moment: Moment,
    calls: AtomicU64,
    dead: AtomicBool,
    death: Notify,
    nap: Option<Duration>,
    wakes_at: Mutex<Option<Instant>>,
}

impl Life {
    /// A life that ends at its `dies_at`-th call, from 1.
    pub fn until(dies_at: u64, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            dies_at,
            moment,
            calls: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            death: Notify::new(),
            nap: None,
            wakes_at: Mutex::new(None),
        })
    }

    /// A life that stands still for so long at its `naps_at`-th call.
    pub fn napping(naps_at: u64, moment: Moment, nap: Duration) -> Arc<Self> {
        let life = Arc::into_inner(Self::until(naps_at, moment)).unwrap();
        Arc::new(Self {
            nap: Some(nap),
            ..life
        })
    }

    /// One that does not end by itself.
    pub fn long() -> Arc<Self> {
        Self::until(u64::MAX, Moment::Before)
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Returns when it ends.
    pub async fn death(&self) {
        loop {
            let notified = self.death.notified();
            if self.is_over() {
                return;
            }
            notified.await;
        }
    }

    /// Whether the call came at which it was to happen.
    pub fn has_struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.dies_at
    }

    async fn die(&self) {
        if let Some(nap) = self.nap {
            *self.wakes_at.lock().unwrap() = Some(Instant::now() + nap);
            return;
        }
        self.dead.store(true, Ordering::SeqCst);
        self.death.notify_waiters();
        self.death.notify_one();
        std::future::pending::<()>().await;
    }

    /// While it stands still, nothing leaves it and nothing reaches it.
    async fn wake(&self) {
        let wakes_at = *self.wakes_at.lock().unwrap();
        if let Some(at) = wakes_at {
            tokio::time::sleep_until(at).await;
        }
    }

    async fn pass<T>(&self, call: impl Future<Output = T> + Send) -> T {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_over() || (number == self.dies_at && self.moment == Moment::Before) {
            self.die().await;
        }
        self.wake().await;
        let answer = call.await;
        if self.is_over() || (number == self.dies_at && self.moment == Moment::After) {
            self.die().await;
        }
        self.wake().await;
        answer
    }
}

/// A port under a life.
#[derive(Debug)]
pub struct Mortal<P: ?Sized> {
    pub life: Arc<Life>,
    pub port: Arc<P>,
}

impl<P: ?Sized> Mortal<P> {
    pub fn new(port: &Arc<P>, life: &Arc<Life>) -> Arc<Self> {
        Arc::new(Self {
            life: Arc::clone(life),
            port: Arc::clone(port),
        })
    }
}

#[async_trait]
impl<P: StreamSource + ?Sized> StreamSource for Mortal<P> {
    async fn listing(&self, arn: &str) -> Result<StreamListing, StreamError> {
        self.life.pass(self.port.listing(arn)).await
    }

    async fn children(&self, arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        self.life.pass(self.port.children(arn, shard)).await
    }

    async fn iterator(
        &self,
        arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        self.life.pass(self.port.iterator(arn, shard, from)).await
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        self.life.pass(self.port.records(iterator, limit)).await
    }
}

#[async_trait]
impl<P: TableDescriber + ?Sized> TableDescriber for Mortal<P> {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        self.life.pass(self.port.describe(table)).await
    }
}

#[async_trait]
impl<P: LiveControl + ?Sized> LiveControl for Mortal<P> {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        self.life.pass(self.port.mark(log)).await
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        let call = self.port.publish_mark(log, seen, mark);
        self.life.pass(call).await
    }
}

#[async_trait]
impl<P: Rows + ?Sized> Rows for Mortal<P> {
    async fn get(&self, id: &LeaseId) -> Result<Option<Row>, kv::Error> {
        self.life.pass(self.port.get(id)).await
    }

    async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, kv::Error> {
        self.life.pass(self.port.page(after)).await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Outcome, kv::Error> {
        self.life.pass(self.port.write(changes)).await
    }
}

impl<P: ObjectStore + ?Sized + 'static> Stores for Mortal<P> {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(Mortal::new(&self.port, &self.life))
    }
}

#[async_trait]
impl<P: ObjectStore + ?Sized> ObjectStore for Mortal<P> {
    fn url(&self, key: &str) -> String {
        self.port.url(key)
    }

    fn bucket(&self) -> &str {
        self.port.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        self.life.pass(self.port.create(object)).await
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.life.pass(self.port.replace(object)).await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.life.pass(self.port.read(key)).await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        self.life.pass(self.port.read_range(key, range)).await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.life.pass(self.port.facts(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.life.pass(self.port.list(prefix, after)).await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.life.pass(self.port.list_folders(prefix, after)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.life.pass(self.port.delete(keys)).await
    }
}
