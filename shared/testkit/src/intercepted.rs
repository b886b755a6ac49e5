//! One decorator for every port: something is asked before and told after each call.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, ControlTable, SegmentCommit, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::ids::SnapshotId;
use highwater_domain::object_store::{Creation, ListPage, NewObject, ObjectFacts, ObjectStore};
use highwater_domain::restore::{FileCheckpoint, RestoreId, RestoreRecord};
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::snapshot::{Checkpoint, PartId, PartRow, SnapshotRecord};
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_domain::table_admin::{ImportState, TableAdmin, TableChange, TableImporter};
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use serde_json::Value;

/// One call to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The port's method: `create`, `commit_segment`, `scan_page`.
    pub operation: &'static str,
    /// What it is about: the key, the snapshot and segment, the table and segment.
    pub resource: String,
}

/// A number that an interceptor gives a call before it, and gets back after it.
pub type Ticket = u64;

/// Decides over calls to ports.
#[async_trait]
pub trait Interceptor: Debug + Send + Sync {
    /// Asked before the call. An error is the call's answer, and the call does not happen.
    async fn before(&self, call: &Call) -> Result<Ticket, Failure>;

    /// Told after the call took effect (or failed by itself). An error replaces its answer.
    async fn after(&self, call: &Call, ticket: Ticket) -> Result<(), Failure>;
}

/// A port whose calls go through an [`Interceptor`]. Implements every port that `P` does.
#[derive(Debug)]
pub struct Intercepted<P: ?Sized, I> {
    inner: Arc<P>,
    interceptor: Arc<I>,
}

impl<P: ?Sized, I> Intercepted<P, I> {
    /// `inner`, with calls going through `interceptor`. Several ports may share one.
    #[must_use]
    pub fn new(inner: &Arc<P>, interceptor: &Arc<I>) -> Self {
        Self {
            inner: Arc::clone(inner),
            interceptor: Arc::clone(interceptor),
        }
    }
}

impl<P: ?Sized, I> Clone for Intercepted<P, I> {
    fn clone(&self) -> Self {
        Self::new(&self.inner, &self.interceptor)
    }
}

impl<P: ?Sized + Sync + Send, I: Interceptor> Intercepted<P, I> {
    async fn pass<T>(
        &self,
        operation: &'static str,
        resource: String,
        call: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let named = Call {
            operation,
            resource,
        };
        let ticket = self.interceptor.before(&named).await?;
        let answer = call.await;
        self.interceptor.after(&named, ticket).await?;
        answer
    }
}

#[async_trait]
impl<P: ObjectStore + ?Sized, I: Interceptor> ObjectStore for Intercepted<P, I> {
    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        let resource = object.key.clone();
        self.pass("create", resource, self.inner.create(object))
            .await
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        let resource = object.key.clone();
        self.pass("replace", resource, self.inner.replace(object))
            .await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.pass("read", key.to_owned(), self.inner.read(key))
            .await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let call = self.inner.read_range(key, range);
        self.pass("read_range", key.to_owned(), call).await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.pass("facts", key.to_owned(), self.inner.facts(key))
            .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.pass("list", prefix.to_owned(), self.inner.list(prefix, after))
            .await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let call = self.inner.list_folders(prefix, after);
        self.pass("list_folders", prefix.to_owned(), call).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.pass("delete", keys.join(" "), self.inner.delete(keys))
            .await
    }
}

#[async_trait]
impl<P: ControlTable + ?Sized, I: Interceptor> ControlTable for Intercepted<P, I> {
    async fn create_snapshot(&self, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let call = self.inner.create_snapshot(record);
        self.pass("create_snapshot", record.id.to_string(), call)
            .await
    }

    async fn snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<Versioned<SnapshotRecord>>, Failure> {
        self.pass("snapshot", id.to_string(), self.inner.snapshot(id))
            .await
    }

    async fn update_snapshot(&self, seen: i64, record: &SnapshotRecord) -> Result<Cas, Failure> {
        let call = self.inner.update_snapshot(seen, record);
        self.pass("update_snapshot", record.id.to_string(), call)
            .await
    }

    async fn segment(
        &self,
        id: &SnapshotId,
        segment: u32,
    ) -> Result<Option<Versioned<Checkpoint>>, Failure> {
        let call = self.inner.segment(id, segment);
        self.pass("segment", format!("{id}/{segment}"), call).await
    }

    async fn commit_segment(&self, commit: SegmentCommit<'_>) -> Result<Cas, Failure> {
        let resource = format!("{}/{}", commit.snapshot, commit.segment);
        self.pass(
            "commit_segment",
            resource,
            self.inner.commit_segment(commit),
        )
        .await
    }

    async fn part(&self, id: &SnapshotId, part: PartId) -> Result<Option<PartRow>, Failure> {
        let resource = format!("{id}/{}/{}", part.segment, part.number);
        self.pass("part", resource, self.inner.part(id, part)).await
    }

    async fn segments(
        &self,
        id: &SnapshotId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, Checkpoint)>, Failure> {
        let call = self.inner.segments(id, after, limit);
        self.pass("segments", id.to_string(), call).await
    }

    async fn parts(
        &self,
        id: &SnapshotId,
        after: Option<PartId>,
        limit: u32,
    ) -> Result<Vec<PartRow>, Failure> {
        let call = self.inner.parts(id, after, limit);
        self.pass("parts", id.to_string(), call).await
    }

    async fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), Failure> {
        let call = self.inner.forget_snapshot(id);
        self.pass("forget_snapshot", id.to_string(), call).await
    }
}

#[async_trait]
impl<P: RestoreControl + ?Sized, I: Interceptor> RestoreControl for Intercepted<P, I> {
    async fn create_restore(&self, record: &RestoreRecord) -> Result<Cas, Failure> {
        let call = self.inner.create_restore(record);
        self.pass("create_restore", record.id.to_string(), call)
            .await
    }

    async fn restore(&self, id: &RestoreId) -> Result<Option<Versioned<RestoreRecord>>, Failure> {
        self.pass("restore", id.to_string(), self.inner.restore(id))
            .await
    }

    async fn update_restore(&self, seen: i64, record: &RestoreRecord) -> Result<Cas, Failure> {
        let call = self.inner.update_restore(seen, record);
        self.pass("update_restore", record.id.to_string(), call)
            .await
    }

    async fn file(
        &self,
        id: &RestoreId,
        file: u32,
    ) -> Result<Option<Versioned<FileCheckpoint>>, Failure> {
        let call = self.inner.file(id, file);
        self.pass("file", format!("{id}/{file}"), call).await
    }

    async fn commit_file(
        &self,
        id: &RestoreId,
        file: u32,
        seen: Option<i64>,
        next: &FileCheckpoint,
    ) -> Result<Cas, Failure> {
        let call = self.inner.commit_file(id, file, seen, next);
        self.pass("commit_file", format!("{id}/{file}"), call).await
    }

    async fn files(
        &self,
        id: &RestoreId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<(u32, FileCheckpoint)>, Failure> {
        let call = self.inner.files(id, after, limit);
        self.pass("files", id.to_string(), call).await
    }

    async fn forget_restore(&self, id: &RestoreId) -> Result<(), Failure> {
        let call = self.inner.forget_restore(id);
        self.pass("forget_restore", id.to_string(), call).await
    }
}

#[async_trait]
impl<P: TableScanner + ?Sized, I: Interceptor> TableScanner for Intercepted<P, I> {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let resource = format!("{}/{}", request.table, request.segment);
        self.pass("scan_page", resource, self.inner.scan_page(request))
            .await
    }
}

#[async_trait]
impl<P: TableDescriber + ?Sized, I: Interceptor> TableDescriber for Intercepted<P, I> {
    async fn describe(&self, table: &str) -> Result<TableSettings, Failure> {
        self.pass("describe", table.to_owned(), self.inner.describe(table))
            .await
    }
}

#[async_trait]
impl<P: TableWriter + ?Sized, I: Interceptor> TableWriter for Intercepted<P, I> {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        let call = self.inner.write_batch(table, ops);
        self.pass("write_batch", table.to_owned(), call).await
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let call = self
            .inner
            .put_if_absent(table, partition_key, item, want_existing);
        self.pass("put_if_absent", table.to_owned(), call).await
    }
}

/// A text in a request.
fn text_at(request: &Value, pointer: &str) -> String {
    let text = request.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

#[async_trait]
impl<P: TableAdmin + ?Sized, I: Interceptor> TableAdmin for Intercepted<P, I> {
    async fn create_table(&self, request: &Value) -> Result<Creation, Failure> {
        let resource = text_at(request, "/TableName");
        self.pass("create_table", resource, self.inner.create_table(request))
            .await
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        self.pass("change", change.what.clone(), self.inner.change(change))
            .await
    }
}

#[async_trait]
impl<P: TableImporter + ?Sized, I: Interceptor> TableImporter for Intercepted<P, I> {
    async fn import_table(&self, request: &Value) -> Result<String, Failure> {
        let resource = text_at(request, "/TableCreationParameters/TableName");
        self.pass("import_table", resource, self.inner.import_table(request))
            .await
    }

    async fn describe_import(&self, import_arn: &str) -> Result<ImportState, Failure> {
        let call = self.inner.describe_import(import_arn);
        self.pass("describe_import", import_arn.to_owned(), call)
            .await
    }
}
