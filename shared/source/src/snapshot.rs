//! The snapshot: every item of the table once, in parallel segments, resumable from real checkpoints.

use std::sync::Arc;

use highwater_domain::handoff::Handoff;
use highwater_domain::key::Key;
use highwater_domain::scan::ScanTotals;
use serde::{Deserialize, Serialize};

use crate::builder::SourceBuilder;
use crate::core::Core;
use crate::error::SourceError;
use crate::plan::{self, Plan};
use crate::scan::Scan;

/// A table's items as typed records.
///
/// ```no_run
/// use futures::StreamExt as _;
/// # #[derive(serde::Deserialize)] struct Order { total: u64 }
/// # async fn example(ports: highwater_source::Ports) -> Result<(), highwater_source::SourceError> {
/// let snapshot = highwater_source::builder::<Order>()
///     .table("orders")
///     .ports(ports)
///     .segments(8)
///     .snapshot()?;
/// let mut scan = snapshot.scan().await?;
/// let mut total = 0;
/// while let Some(record) = scan.next().await {
///     let record = record?;
///     total += record.value.total;
///     record.ack();
/// }
/// scan.finish().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SnapshotSource<T> {
    pub(crate) core: Arc<Core<T>>,
}

impl<T> Clone for SnapshotSource<T> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

/// How far one segment is: its checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentProgress {
    /// Where it goes on; `None` at its beginning, and once it is done.
    pub next: Option<Key>,
    /// Whether every item of it was read and acknowledged.
    pub done: bool,
    /// Pages, items and capacity up to there.
    pub totals: ScanTotals,
    /// Items that the decoder passed over.
    pub skipped: u64,
    /// Items that could not be decoded and are with the dead letters.
    pub buried: u64,
}

/// The record's name among the checkpoints.
pub(crate) fn segment_record(segment: u32) -> String {
    format!("segment/{segment:07}")
}

impl<T: Send + 'static> SourceBuilder<T> {
    /// The snapshot alone.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn snapshot(self) -> Result<SnapshotSource<T>, SourceError> {
        Ok(SnapshotSource { core: self.core()? })
    }
}

impl<T: Send + 'static> SnapshotSource<T> {
    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Captures the handoff, and keeps it, before anything of the table is read; or finds the one that was captured. `None` for
    /// a source [`without_stream`](SourceBuilder::without_stream).
    ///
    /// [`scan`](Self::scan) does this by itself.
    pub async fn capture_handoff(&self) -> Result<Option<Handoff>, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        Ok(plan.handoff)
    }

    /// Begins the snapshot. The handoff is captured and kept before the first page is asked for.
    ///
    /// # Errors
    /// [`SourceError::AlreadyBegun`] if a segment has a checkpoint: [`resume`](Self::resume) it.
    pub async fn scan(&self) -> Result<Scan<T>, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        let begun = self.core.ledger.place.names("segment/", None).await;
        let begun = begun.map_err(|failure| SourceError::Checkpoint {
            name: self.core.name.clone(),
            record: "segment/".into(),
            failure: Box::new(failure),
        })?;
        if !begun.is_empty() {
            return Err(SourceError::AlreadyBegun {
                name: self.core.name.clone(),
            });
        }
        self.open(&plan).await
    }

    /// Goes on with a snapshot from its segments' checkpoints: what was acknowledged does not come again, whatever came and was
    /// not does.
    ///
    /// # Errors
    /// [`SourceError::NotBegun`], [`SourceError::OtherSettings`], [`SourceError::TableChanged`],
    /// [`SourceError::HandoffExpired`].
    pub async fn resume(&self) -> Result<Scan<T>, SourceError> {
        let plan = plan::load(&self.core).await?;
        let plan = plan.ok_or_else(|| SourceError::NotBegun {
            name: self.core.name.clone(),
        })?;
        self.open(&plan).await
    }

    pub(crate) async fn open(&self, plan: &Plan) -> Result<Scan<T>, SourceError> {
        plan.fresh_handoff(&self.core)?;
        plan::check_table(&self.core, plan).await?;
        Ok(Scan::start(&self.core, plan))
    }

    /// The segments' checkpoints, in order; a segment without one has not begun.
    pub async fn progress(&self) -> Result<Vec<SegmentProgress>, SourceError> {
        let mut all = Vec::new();
        for segment in 0..self.core.scan.segments {
            let found = self.core.ledger.load(&segment_record(segment)).await?;
            all.push(found.map(|found| found.value).unwrap_or_default());
        }
        Ok(all)
    }

    /// Gives the source back. Nothing is kept open between calls, so nothing can fail.
    pub fn close(self) {}
}
