//! A loader says that it is at work before it sends its first request, and that it is done after the last was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::Cas;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::replica::{PhaseError, ReplicaId, ReplicaRecord};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::restore::ReplicaOf;
use highwater_domain::table_writer::{BatchAnswer, PutAnswer, TableWriter, WriteOp};

use crate::error::StepError;

/// One loader at work.
#[derive(Debug)]
pub(crate) struct Loading<'a> {
    control: &'a dyn ReplicaControl,
    of: &'a ReplicaOf,
    name: String,
}

impl<'a> Loading<'a> {
    /// Puts a loader on record that signs no request after `deadline`.
    ///
    /// # Errors
    /// Once the replica is past loading: what this loader would write could land on a later change.
    pub(crate) async fn begin(
        control: &'a dyn ReplicaControl,
        of: &'a ReplicaOf,
        deadline: UnixMillis,
        now: UnixMillis,
    ) -> Result<Self, StepError> {
        let name = format!("{:016x}", fastrand::u64(..));
        let loading = Self { control, of, name };
        let begun = loading.update(|record| {
            let record = record.without_settled(now);
            record.with_attempt(&loading.name, deadline)
        });
        begun.await?;
        Ok(loading)
    }

    /// Every request of it was answered. A loader that cannot say so is waited for.
    pub(crate) async fn end(self) -> Result<(), StepError> {
        self.update(|record| Ok(record.without_attempt(&self.name)))
            .await
    }

    async fn update(
        &self,
        change: impl Fn(&ReplicaRecord) -> Result<ReplicaRecord, PhaseError>,
    ) -> Result<(), StepError> {
        loop {
            let known = self.control.replica(&self.of.source_arn, &self.of.id).await;
            let known = known.map_err(StepError::Control)?;
            let known = known.ok_or_else(|| StepError::ReplicaNotFound(self.of.id.clone()))?;
            let next = change(&known.value).map_err(|error| over(&self.of.id, &error))?;
            if next == known.value {
                return Ok(());
            }
            let cas = self.control.update_replica(known.version, &next).await;
            if let Cas::Applied(_) = cas.map_err(StepError::Control)? {
                return Ok(());
            }
        }
    }
}

fn over(id: &ReplicaId, error: &PhaseError) -> StepError {
    StepError::ReplicaFailed {
        id: id.clone(),
        reason: error.to_string(),
    }
}

/// A writer that knows whether each of its requests was answered. One that was not, because its connection broke or nobody waited for it any
/// more, may still be under way, though it was sent again with success.
#[derive(Debug)]
pub(crate) struct AnsweredWriter {
    inner: Arc<dyn TableWriter>,
    unanswered: AtomicU64,
}

impl AnsweredWriter {
    /// The same writer, watched.
    pub(crate) fn new(inner: &Arc<dyn TableWriter>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            unanswered: AtomicU64::new(0),
        })
    }

    /// Whether no request is or may be under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }

    async fn watch<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        let answer = call.await;
        if !matches!(&answer, Err(failure) if is_unanswered(failure.kind)) {
            self.unanswered.fetch_sub(1, Ordering::AcqRel);
        }
        answer
    }
}

/// Whether a request that failed like this may yet be carried out. A service that says what is wrong has done with it.
fn is_unanswered(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Transient | FailureKind::Unreachable | FailureKind::Other
    )
}

#[async_trait]
impl TableWriter for AnsweredWriter {
    async fn write_batch(&self, table: &str, ops: &[WriteOp]) -> Result<BatchAnswer, Failure> {
        self.watch(self.inner.write_batch(table, ops)).await
    }

    async fn put_if_absent(
        &self,
        table: &str,
        partition_key: &str,
        item: &Bytes,
        want_existing: bool,
    ) -> Result<PutAnswer, Failure> {
        let put = self
            .inner
            .put_if_absent(table, partition_key, item, want_existing);
        self.watch(put).await
    }
}
