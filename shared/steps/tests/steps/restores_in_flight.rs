//! What a restore has on its way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::restore::OnExisting;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::{RestoreDeps, StepError, StopFlag};

use crate::restore_stage::{RestoreStage, TARGET, committed, life, lines_request};

/// `count` lines, each an item with so many bytes in its attribute.
fn lines(count: usize, bytes: usize) -> String {
    let value = "x".repeat(bytes);
    let line = |n| format!("{{\"id\":{{\"S\":\"{n}\"}},\"v\":{{\"S\":\"{value}\"}}}}\n");
    (0..count).map(line).collect()
}

/// Writes into a table after a moment, and knows the most bytes of items that were on their way at once.
#[derive(Debug)]
struct Watched {
    table: Arc<dyn TableWriter>,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl TableWriter for Watched {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        let bytes: usize = ops.iter().map(|op| op.body().len()).sum();
        let now = self.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.now.fetch_sub(bytes, Ordering::SeqCst);
        self.table.write_batch(table, ops).await
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        self.table
            .put_if_absent(table, partition_key, item, want_existing)
            .await
    }
}

// In real time: a paused clock stands still while a thread reads a large file.
#[tokio::test]
async fn few_bytes_are_on_their_way_at_once_however_large_the_items() {
    for (items, bytes, most) in [(400, 200, 8 * 25 * 250), (60, 100_000, 4_600_000)] {
        let lines = lines(items, bytes);
        let stage = RestoreStage::of_lines(&lines).await;
        stage.with_table(TARGET, &[]);
        let writer = Arc::new(Watched {
            table: stage.deps.writer.clone(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let deps = RestoreDeps {
            writer: writer.clone(),
            ..stage.deps.clone()
        };
        let request = RestoreRequest {
            on_existing: Some(OnExisting::Overwrite),
            ..lines_request()
        };
        let output = life(&deps, request).await.unwrap();
        assert_eq!(output.totals.written, items as u64);
        let seen = writer.most.load(Ordering::SeqCst);
        assert!(seen <= most, "{seen} bytes at once");
        assert!(seen > most / 3, "{seen} bytes at once: several batches are");
    }
}

/// Writes into a table; its first write is what somebody waits for who then asks for a stop.
#[derive(Debug)]
struct StopsAtFirst {
    table: Arc<dyn TableWriter>,
    stop: StopFlag,
}

#[async_trait]
impl TableWriter for StopsAtFirst {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        self.stop.set();
        self.table.write_batch(table, ops).await
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        self.stop.set();
        self.table
            .put_if_absent(table, partition_key, item, want_existing)
            .await
    }
}

// One worker thread runs what was begun last before what was begun first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_written_when_a_stop_came_is_committed() {
    for on_existing in [OnExisting::Overwrite, OnExisting::Skip] {
        let stage = RestoreStage::of_lines(&lines(400, 200)).await;
        let table = stage.with_table(TARGET, &[]);
        let stop = StopFlag::default();
        let deps = RestoreDeps {
            writer: Arc::new(StopsAtFirst {
                table: stage.deps.writer.clone(),
                stop: stop.clone(),
            }),
            stop,
            ..stage.deps.clone()
        };
        let request = RestoreRequest {
            on_existing: Some(on_existing),
            ..lines_request()
        };
        let restore = tokio::spawn(async move { life(&deps, request).await });
        let error = restore.await.unwrap().unwrap_err();
        assert!(
            matches!(error, StepError::RestoreInterrupted { .. }),
            "{error}"
        );
        let there = table.items().len() as u64;
        assert!(there > 0 && there < 400, "in the middle: {there}");
        assert_eq!(committed(&stage).await.written, there, "{on_existing:?}");
    }
}
