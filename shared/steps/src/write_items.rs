//! Writes a batch of items until every one of them is accounted for: written, already there, or rejected.
//!
//! A batch that the service finds wrong is halved until the wrong item stands alone: the service itself is the
//! judge of what it takes, and its words are the reason that is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::item_digest::ItemDigester;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::restore::{LoadTotals, OnExisting, RestoreRecord};
use highwater_domain::table_writer::{PutAnswer, WriteOp};

use crate::error::StepError;
use crate::patience::{Patience, Wait};
use crate::restore_deps::RestoreDeps;

/// One write, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedOp {
    /// The line of the file, from 1.
    pub line: u64,
    /// The key of the item.
    pub print: KeyPrint,
    /// The write.
    pub op: WriteOp,
}

/// An item that the table does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The line of the file, from 1.
    pub line: u64,
    /// Why, in the service's words or ours.
    pub reason: String,
    /// The item, whole.
    pub op: WriteOp,
}

/// What became of a batch: every op is in exactly one of the counts.
#[derive(Clone, Debug, Default)]
pub struct BatchOutcome {
    /// `written`, `deleted`, `existing`, `rejected`, `consumed_capacity` and `throttles`; nothing of what was read.
    pub totals: LoadTotals,
    /// The rejected ones, in order of their lines.
    pub rejects: Vec<Reject>,
}

/// Why a batch was left half done.
#[derive(Debug)]
pub enum Unfinished {
    /// The budget is spent, or a stop was asked for.
    OutOfTime,
    /// A call failed for good.
    Failed(StepError),
}

impl From<StepError> for Unfinished {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// Writes whose first request may be sent, whatever the time is. The capacity of a batch is reserved; where every item
/// is a request of its own, each waits for its own.
#[derive(Debug)]
pub struct Admitted(pub Vec<NumberedOp>);

/// Writes into one restore's table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ItemWriter {
    deps: RestoreDeps,
    record: Arc<RestoreRecord>,
    file: u32,
    budget: Budget,
}

impl ItemWriter {
    /// A writer for the items of one file.
    #[must_use]
    pub fn new(deps: &RestoreDeps, record: &RestoreRecord, file: u32, budget: Budget) -> Self {
        Self {
            deps: deps.clone(),
            record: Arc::new(record.clone()),
            file,
            budget,
        }
    }

    /// Waits until `ops` may be written, which for none of them is now. `None` if time is up or a stop was asked for.
    pub async fn admit_all(&self, ops: Vec<NumberedOp>) -> Option<Admitted> {
        let estimate = ops.iter().map(|it| units_of(&it.op)).sum();
        let admitted = match self.record.on_existing {
            OnExisting::Overwrite => ops.is_empty() || self.admit(estimate).await.is_ok(),
            OnExisting::Skip => !self.deps.should_stop(&self.budget),
        };
        admitted.then_some(Admitted(ops))
    }

    /// Writes what was admitted, whose keys are all different.
    pub async fn write(&self, Admitted(ops): Admitted) -> Result<BatchOutcome, Unfinished> {
        let mut outcome = match self.record.on_existing {
            OnExisting::Overwrite => self.write_batch(ops).await?,
            OnExisting::Skip => self.write_singly(ops).await?,
        };
        outcome.rejects.sort_by_key(|reject| reject.line);
        outcome.totals.rejected = outcome.rejects.len() as u64;
        Ok(outcome)
    }

    async fn write_batch(&self, ops: Vec<NumberedOp>) -> Result<BatchOutcome, Unfinished> {
        let mut outcome = BatchOutcome::default();
        let mut admitted = true;
        let mut batches = vec![ops];
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let sent = self
                .send_batch(&batch, admitted, &mut outcome.totals)
                .await?;
            admitted = false;
            let Some(reason) = sent else {
                continue;
            };
            let mut batch = batch;
            if batch.len() > 1 {
                let rest = batch.split_off(batch.len() / 2);
                batches.extend([rest, batch]);
            } else if let Some(NumberedOp { line, op, .. }) = batch.pop() {
                let op = op.detached();
                outcome.rejects.push(Reject { line, reason, op });
            }
        }
        Ok(outcome)
    }

    /// Sends a batch until nothing of it is unprocessed. `Some` reason if the service does not take it as it is.
    async fn send_batch(
        &self,
        batch: &[NumberedOp],
        mut admitted: bool,
        totals: &mut LoadTotals,
    ) -> Result<Option<String>, Unfinished> {
        let table = self.record.target.as_str();
        let mut left: Vec<WriteOp> = batch.iter().map(|it| it.op.clone()).collect();
        let mut patience = self.patience();
        while !left.is_empty() {
            let estimate = left.iter().map(units_of).sum();
            if !std::mem::take(&mut admitted) {
                self.admit(estimate).await?;
            }
            match self.deps.writer.write_batch(table, &left).await {
                Ok(answer) => {
                    let sent = left.len();
                    let back = answer.unprocessed.len();
                    left = self.originals_of(&answer.unprocessed, batch)?;
                    let consumed = told_or(answer.consumed_capacity, estimate, sent, back);
                    self.deps.pace.settle(estimate, consumed);
                    totals.consumed_capacity += consumed;
                    totals.throttles += back as u64;
                    if back > 0 {
                        let reason = format!("{back} of {sent} writes came back unprocessed");
                        patience.progress(back < sent);
                        self.pause(&patience.next(None)?, &reason).await?;
                    }
                }
                Err(failure) if failure.kind == FailureKind::Invalid => {
                    self.deps.pace.settle(estimate, 0.0);
                    // Some of the batch may be in from an attempt before this one; writing it again changes nothing.
                    return Ok(Some(failure.message));
                }
                Err(failure) => {
                    self.deps.pace.settle(estimate, 0.0);
                    totals.throttles += u64::from(failure.kind == FailureKind::Throttled);
                    let reason = failure.to_string();
                    self.pause(&patience.next(Some(failure))?, &reason).await?;
                }
            }
        }
        totals.written += batch.len() as u64;
        totals.deleted += batch
            .iter()
            .filter(|it| matches!(it.op, WriteOp::Delete(_)))
            .count() as u64;
        Ok(None)
    }

    /// What comes back may be spelled differently; what is sent again is what was read.
    fn originals_of(
        &self,
        unprocessed: &[WriteOp],
        batch: &[NumberedOp],
    ) -> Result<Vec<WriteOp>, StepError> {
        if unprocessed.is_empty() {
            return Ok(Vec::new());
        }
        let originals: HashMap<KeyPrint, &WriteOp> =
            batch.iter().map(|it| (it.print, &it.op)).collect();
        let find = |op: &WriteOp| {
            let print = self.record.key_schema.print_of(op.body()).ok()?;
            originals.get(&print).map(|&original| original.clone())
        };
        unprocessed
            .iter()
            .map(|op| {
                find(op).ok_or_else(|| {
                    StepError::Table(Failure::new(
                        FailureKind::Corrupt,
                        "BatchWriteItem",
                        self.record.target.as_str(),
                        "UnprocessedItems names an item that was not sent",
                    ))
                })
            })
            .collect()
    }

    /// Conditional puts, all at once: 25 of them weigh on the table as one batch does.
    async fn write_singly(&self, ops: Vec<NumberedOp>) -> Result<BatchOutcome, Unfinished> {
        let puts: Vec<_> = ops.into_iter().map(|op| self.put(op)).collect();
        let mut outcome = BatchOutcome::default();
        for put in futures::future::join_all(puts).await {
            let put = put?;
            outcome.totals.add(&put.totals);
            outcome.rejects.extend(put.rejects);
        }
        Ok(outcome)
    }

    async fn put(&self, numbered: NumberedOp) -> Result<BatchOutcome, Unfinished> {
        let mut outcome = BatchOutcome::default();
        let WriteOp::Put(item) = &numbered.op else {
            return Err(StepError::Internal("a delete where items are to be kept".into()).into());
        };
        let totals = &mut outcome.totals;
        let mut patience = self.patience();
        // Whether an attempt may have been done although its answer never came.
        let mut in_doubt = false;
        let mut begun = true;
        loop {
            let estimate = units_of(&numbered.op);
            if std::mem::take(&mut begun) {
                self.admit_begun(estimate).await?;
            } else {
                self.admit(estimate).await?;
            }
            match self.put_once(item, in_doubt).await {
                Ok(PutAnswer::Written { consumed_capacity }) => {
                    let consumed = told_or(consumed_capacity, estimate, 1, 0);
                    self.deps.pace.settle(estimate, consumed);
                    totals.consumed_capacity += consumed;
                    totals.written += 1;
                    return Ok(outcome);
                }
                Ok(PutAnswer::Exists { item: there }) => {
                    // A failed condition is charged like a write; the reservation stands.
                    totals.consumed_capacity += estimate;
                    if in_doubt && there.is_some_and(|there| self.is_same(&there, item)) {
                        totals.written += 1;
                    } else {
                        totals.existing += 1;
                    }
                    return Ok(outcome);
                }
                Err(failure) if failure.kind == FailureKind::Invalid => {
                    self.deps.pace.settle(estimate, 0.0);
                    let NumberedOp { line, op, .. } = numbered;
                    let (reason, op) = (failure.message, op.detached());
                    outcome.rejects.push(Reject { line, reason, op });
                    return Ok(outcome);
                }
                Err(failure) => {
                    self.deps.pace.settle(estimate, 0.0);
                    let throttled = failure.kind == FailureKind::Throttled;
                    totals.throttles += u64::from(throttled);
                    in_doubt |= !throttled;
                    let reason = failure.to_string();
                    self.pause(&patience.next(Some(failure))?, &reason).await?;
                }
            }
        }
    }

    async fn put_once(&self, item: &Bytes, want_existing: bool) -> Result<PutAnswer, Failure> {
        let table = self.record.target.as_str();
        let partition_key = &self.record.key_schema.partition.name;
        self.deps
            .writer
            .put_if_absent(table, partition_key, item, want_existing)
            .await
    }

    /// Whether the item that is there is the one that was to be put: then an attempt in doubt was done.
    fn is_same(&self, there: &[u8], item: &[u8]) -> bool {
        let mut digester = ItemDigester::new(&self.record.key_schema, 0);
        match (digester.digest(there), digester.digest(item)) {
            (Ok(there), Ok(item)) => there == item,
            _ => false,
        }
    }

    fn patience(&self) -> Patience {
        Patience::new(self.deps.max_retries, self.record.target.as_str())
    }

    async fn admit(&self, estimate: f64) -> Result<(), Unfinished> {
        let stopping = || self.deps.should_stop(&self.budget);
        if self.deps.pace.admit(estimate, &self.budget, stopping).await {
            return Ok(());
        }
        Err(Unfinished::OutOfTime)
    }

    async fn admit_begun(&self, estimate: f64) -> Result<(), Unfinished> {
        let stopping = || self.deps.should_stop(&self.budget);
        let pace = &self.deps.pace;
        if pace.admit_begun(estimate, &self.budget, stopping).await {
            return Ok(());
        }
        Err(Unfinished::OutOfTime)
    }

    async fn pause(&self, wait: &Wait, reason: &str) -> Result<(), Unfinished> {
        let Wait(wait_ms) = *wait;
        if self.deps.stop.is_set() || !self.budget.allows_wait(self.deps.clock.now(), wait_ms) {
            return Err(Unfinished::OutOfTime);
        }
        self.deps.observer.retrying(self.file, reason, wait_ms);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        Ok(())
    }
}

/// What a write probably costs: a unit for each KB that the item begins. Its JSON is longer than DynamoDB counts, so
/// this errs on the careful side; the answer settles it.
fn units_of(op: &WriteOp) -> f64 {
    op.body().len().div_ceil(1024).max(1) as f64
}

/// What the service said it cost; where it did not say, the estimate for what was done.
fn told_or(consumed: f64, estimate: f64, sent: usize, back: usize) -> f64 {
    if consumed > 0.0 || sent == back {
        return consumed;
    }
    estimate * (sent - back) as f64 / sent as f64
}
