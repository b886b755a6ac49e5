//! What a restore has on its way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::restore::OnExisting;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};
use highwater_steps::RestoreDeps;
use highwater_steps::restore_request::RestoreRequest;

use crate::restore_stage::{RestoreStage, TARGET, life, lines_request};

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
        let line = |n| {
            format!(
                "{{\"id\":{{\"S\":\"{n}\"}},\"v\":{{\"S\":\"{}\"}}}}\n",
                "x".repeat(bytes)
            )
        };
        let lines: String = (0..items).map(line).collect();
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
        assert_eq!(output.totals.written, items);
        let seen = writer.most.load(Ordering::SeqCst);
        assert!(seen <= most, "{seen} bytes at once");
        assert!(seen > most / 3, "{seen} bytes at once: several batches are");
    }
}
