//! The table and its stream, as a worker reaches them over its connection.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::Creation;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::shard::{Shard, ShardId, StreamListing};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_domain::table_admin::{TableAdmin, TableChange};
use serde_json::Value;

use super::sim_wire::Wire;

/// A port of a service behind a [`Wire`]. Implements every port of the table that `P` does.
#[derive(Debug)]
pub struct Wired<P: ?Sized> {
    service: Arc<P>,
    wire: Wire,
}

impl<P: ?Sized> Wired<P> {
    /// `service`, over `wire`.
    #[must_use]
    pub fn new(service: &Arc<P>, wire: &Wire) -> Self {
        Self {
            service: Arc::clone(service),
            wire: wire.clone(),
        }
    }

    pub(crate) fn service(&self) -> Arc<P> {
        Arc::clone(&self.service)
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }
}

#[async_trait]
impl<P: StreamSource + ?Sized> StreamSource for Wired<P> {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let call = self.service.listing(stream_arn);
        self.wire.read("DescribeStream", stream_arn, call).await?
    }

    async fn children(&self, stream_arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        let call = self.service.children(stream_arn, shard);
        let about = shard.as_str();
        self.wire.read("DescribeStream", about, call).await?
    }

    async fn iterator(
        &self,
        stream_arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        let call = self.service.iterator(stream_arn, shard, from);
        let about = shard.as_str();
        self.wire.read("GetShardIterator", about, call).await?
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        let call = self.service.records(iterator, limit);
        self.wire.read("GetRecords", &iterator.0, call).await?
    }
}

#[async_trait]
impl<P: TableScanner + ?Sized> TableScanner for Wired<P> {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let call = self.service.scan_page(request);
        self.wire.read("Scan", &request.table, call).await?
    }
}

#[async_trait]
impl<P: TableDescriber + ?Sized> TableDescriber for Wired<P> {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        let call = self.service.describe(table);
        self.wire.read("DescribeTable", table, call).await?
    }
}

#[async_trait]
impl<P: TableAdmin + ?Sized + 'static> TableAdmin for Wired<P> {
    async fn create_table(&self, request: &Value) -> Result<Creation, Failure> {
        let (service, request) = (Arc::clone(&self.service), request.clone());
        let about = request["TableName"].to_string();
        let effect = move || at_once(service.create_table(&request));
        self.wire.write("CreateTable", about, effect).await?
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        let (service, change) = (Arc::clone(&self.service), change.clone());
        let about = change.what.clone();
        let effect = move || at_once(service.change(&change));
        self.wire.write("UpdateTable", about, effect).await?
    }
}

/// The answer of a service in memory, which never waits.
pub(crate) fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a service that answers at once")
}
