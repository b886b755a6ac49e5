//! Both together: the snapshot into a sink, then every change since the handoff into the same sink.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use highwater_steps::StopFlag;

use crate::applier::{Applier, Counts};
use crate::builder::SourceBuilder;
use crate::core::Core;
use crate::error::SourceError;
use crate::live::{LiveReport, LiveSource};
use crate::plan::{self, Plan};
use crate::record::{Change, Place, Record};
use crate::sink::Sink;
use crate::snapshot::SnapshotSource;

/// Batches of the snapshot that are applied at once.
const AT_ONCE: usize = 8;

/// A table's items and then its changes, into one sink.
///
/// [`run`](Self::run) does what is left to do: it captures the handoff and begins the snapshot, or resumes it, or goes on with the
/// changes, and comes back when a stop is asked for, the budget is spent, or something cannot go on. Run it again to go on.
#[derive(Debug)]
pub struct Bootstrap<T, S> {
    core: Arc<Core<T>>,
    sink: Arc<S>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootstrapReport {
    /// What became of the snapshot's items in this run.
    pub snapshot: Counts,
    /// What became of the changes in this run.
    pub live: LiveReport,
}

impl<T: Send + Sync + 'static> SourceBuilder<T> {
    /// Snapshot and changes into one sink.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn bootstrap<S: Sink<T> + 'static>(self, sink: S) -> Result<Bootstrap<T, S>, SourceError> {
        Ok(Bootstrap {
            core: self.core()?,
            sink: Arc::new(sink),
        })
    }
}

impl<T: Send + Sync + 'static, S: Sink<T> + 'static> Bootstrap<T, S> {
    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Bootstraps, and follows.
    pub async fn run(&self) -> Result<BootstrapReport, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        let snapshot = self.snapshot(&plan).await?;
        let mut report = BootstrapReport {
            snapshot,
            ..BootstrapReport::default()
        };
        if plan.handoff.is_some() {
            let live = LiveSource {
                core: Arc::clone(&self.core),
            };
            report.live = live.run_from(&plan, Arc::clone(&self.sink)).await?;
        }
        Ok(report)
    }

    /// The snapshot alone, or what is left of it.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] if it was stopped before it was done.
    pub async fn run_snapshot(&self) -> Result<Counts, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        self.snapshot(&plan).await
    }

    async fn snapshot(&self, plan: &Plan) -> Result<Counts, SourceError> {
        const DONE: &str = "snapshot-done";
        if self.core.ledger.load::<bool>(DONE).await?.is_some() {
            return Ok(Counts::default());
        }
        let source = SnapshotSource {
            core: Arc::clone(&self.core),
        };
        let mut scan = source.open(plan).await?;
        let applier = Applier {
            core: Arc::clone(&self.core),
            sink: Arc::clone(&self.sink),
            budget: self.core.budget,
        };
        let mut counts = Counts::default();
        let mut failed = None;
        let mut under_way = FuturesUnordered::new();
        loop {
            let batch = tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    match done {
                        Ok(more) => counts.add(more),
                        Err(error) => { failed = Some(error); break; }
                    }
                    continue;
                }
                batch = scan.next_batch(), if under_way.len() < AT_ONCE => batch,
            };
            match batch {
                Some(Ok(batch)) => under_way.push(apply(&applier, batch)),
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        // What is under way is finished: it is most of the work already.
        while let Some(done) = under_way.next().await {
            match done {
                Ok(more) => counts.add(more),
                Err(error) => failed = Some(failed.unwrap_or(error)),
            }
        }
        drop(under_way);
        let finished = scan.finish().await;
        if let Some(failed) = failed {
            return Err(failed);
        }
        if !finished?.done {
            return Err(self.core.stopped());
        }
        // Whoever else says so says the same.
        self.core.ledger.save(DONE, None, &true).await?;
        Ok(counts)
    }
}

/// Applies a batch of one segment, makes it durable, and only then acknowledges it.
async fn apply<T: Send + Sync + 'static, S: Sink<T>>(
    applier: &Applier<T, S>,
    batch: Vec<Record<T>>,
) -> Result<Counts, SourceError> {
    let halt = StopFlag::default();
    let mut counts = Counts::default();
    let mut acks = Vec::with_capacity(batch.len());
    let mut place = Place::Stream;
    for record in batch {
        if applier.should_stop() {
            return Err(applier.core.stopped());
        }
        let record = record.map(|new| Change::Scanned { new });
        counts.note(applier.apply(&record, &halt).await?);
        place = record.place;
        acks.push(record.ack);
    }
    applier.flush(&place, acks.len() as u64, &halt).await?;
    for ack in acks {
        ack.ack();
    }
    Ok(counts)
}
