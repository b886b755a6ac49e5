//! The live side: every change since the handoff, each key's in order, from shards that any number of workers share by leases.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::incident::IncidentKind;
use highwater_domain::sequence_number::ShardOrdinal;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::tap_stream::{self, RecordSink, RecordSinks, TapRequest, Tapped};
use highwater_steps::{StepError, StopFlag};

use crate::applier::{Applier, Counts};
use crate::builder::SourceBuilder;
use crate::changes::{ChangeRead, ChangeReader};
use crate::core::Core;
use crate::error::SourceError;
use crate::live_deps::{LossWatch, deps_watched, is_fatal};
use crate::live_log::{loss, records_lost, stream_log};
use crate::live_records::LiveRecords;
use crate::plan::{self, Plan};
use crate::record::{Change, Place, Record};
use crate::sink::Sink;

/// How long a request for a stop may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A table's changes as typed records, from the handoff of its snapshot on.
///
/// Any number of processes may run the same source: each shard is read by one of them at a time, a parent before its children, and a
/// process that dies is followed by another from the last checkpoint. The name that the builder was given connects them, and the
/// live side with its snapshot.
#[derive(Debug)]
pub struct LiveSource<T> {
    pub(crate) core: Arc<Core<T>>,
}

impl<T> Clone for LiveSource<T> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

impl<T: Send + Sync + 'static> SourceBuilder<T> {
    /// The live side alone. The handoff is the one that this name's snapshot captured, or is captured by the first call.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn live(self) -> Result<LiveSource<T>, SourceError> {
        Ok(LiveSource { core: self.core()? })
    }
}

/// What following came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveReport {
    /// What became of the records.
    pub counts: Counts,
    /// Shards that this process read to their end.
    pub shards_ended: u64,
}

impl<T: Send + Sync + 'static> LiveSource<T> {
    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Gives every change to `sink` until a stop is asked for, the budget is spent, or (if asked for) all is idle. A shard's
    /// position moves when the sink has applied and flushed what is before it.
    ///
    /// # Errors
    /// [`SourceError::HandoffExpired`] and [`SourceError::RecordsLost`] where changes are gone, [`SourceError::Sink`] and
    /// [`SourceError::Decode`] where a record is not dealt with.
    pub async fn run<S: Sink<T> + 'static>(&self, sink: Arc<S>) -> Result<LiveReport, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        self.run_from(&plan, sink).await
    }

    pub(crate) async fn run_from<S: Sink<T> + 'static>(
        &self,
        plan: &Plan,
        sink: Arc<S>,
    ) -> Result<LiveReport, SourceError> {
        let consumer = Arc::new(SinkConsumer {
            applier: Applier {
                core: Arc::clone(&self.core),
                sink,
                budget: self.core.budget,
            },
            counts: Mutex::default(),
        });
        let delivered = Delivery::new(self, plan, Arc::clone(&consumer) as Arc<dyn Consumer<T>>);
        let tapped = delivered.run(plan).await?;
        let counts = *consumer
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(LiveReport {
            counts,
            shards_ended: tapped.shards_ended,
        })
    }

    /// The changes as an asynchronous stream, for consumers that acknowledge by themselves. A shard waits until what came of it is
    /// acknowledged; a record that is dropped instead holds its shard back until the process ends.
    pub async fn records(&self) -> Result<LiveRecords<T>, SourceError> {
        let (plan, _) = plan::begin(&self.core).await?;
        Ok(LiveRecords::start(self, plan))
    }

    /// Gives the source back. Nothing is kept open between calls, so nothing can fail.
    pub fn close(self) {}
}

/// Takes the decoded records of one shard, in order; when it returns well, all of them are dealt with.
#[async_trait]
pub(crate) trait Consumer<T>: Send + Sync {
    async fn deliver(
        &self,
        place: &Place,
        records: Vec<Record<Change<T>>>,
        halt: &StopFlag,
    ) -> Result<(), SourceError>;
}

struct SinkConsumer<T, S> {
    applier: Applier<T, S>,
    counts: Mutex<Counts>,
}

#[async_trait]
impl<T: Send + Sync + 'static, S: Sink<T>> Consumer<T> for SinkConsumer<T, S> {
    async fn deliver(
        &self,
        place: &Place,
        records: Vec<Record<Change<T>>>,
        halt: &StopFlag,
    ) -> Result<(), SourceError> {
        let mut counts = Counts::default();
        for record in &records {
            counts.note(self.applier.apply(record, halt).await?);
        }
        let applied = records.len() as u64;
        self.applier.flush(place, applied, halt).await?;
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(counts);
        Ok(())
    }
}

/// Reads the stream of a plan into a consumer.
pub(crate) struct Delivery<T> {
    core: Arc<Core<T>>,
    taps: Arc<Taps<T>>,
}

/// Makes the sinks of the leases that this process gets.
struct Taps<T> {
    reader: ChangeReader<T>,
    consumer: Arc<dyn Consumer<T>>,
    watch: Arc<LossWatch>,
    /// Why reading ends: the first failure, with its type.
    failed: Arc<Mutex<Option<SourceError>>>,
}

impl<T> fmt::Debug for Taps<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taps")
    }
}

impl<T: Send + Sync + 'static> RecordSinks for Taps<T> {
    fn open(&self, stop: &StopFlag) -> Box<dyn RecordSink> {
        Box::new(TapSink {
            reader: self.reader.clone(),
            consumer: Arc::clone(&self.consumer),
            watch: Arc::clone(&self.watch),
            failed: Arc::clone(&self.failed),
            halt: stop.clone(),
        })
    }
}

struct TapSink<T> {
    reader: ChangeReader<T>,
    consumer: Arc<dyn Consumer<T>>,
    watch: Arc<LossWatch>,
    failed: Arc<Mutex<Option<SourceError>>>,
    halt: StopFlag,
}

impl<T> fmt::Debug for TapSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TapSink")
    }
}

impl<T: Send + Sync + 'static> TapSink<T> {
    async fn deliver(
        &self,
        shard: &ShardId,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
    ) -> Result<(), SourceError> {
        if self.watch.lost().is_some() {
            // What comes behind a loss is not applied as if nothing were missing.
            return Err(self.reader.core.stopped());
        }
        let place = Place::Shard(shard.clone());
        let mut read = Vec::with_capacity(records.len());
        for record in records {
            if let ChangeRead::Record(record) = self.reader.read(record, &place, ordinal).await? {
                read.push(*record);
            }
        }
        if read.is_empty() {
            return Ok(());
        }
        self.consumer.deliver(&place, read, &self.halt).await
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> RecordSink for TapSink<T> {
    async fn take(
        &mut self,
        shard: &ShardId,
        ordinal: ShardOrdinal,
        records: &[StreamRecord],
    ) -> Result<(), StepError> {
        let Err(error) = self.deliver(shard, ordinal, records).await else {
            return Ok(());
        };
        let words = error.to_string();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        Err(StepError::Internal(words))
    }
}

impl<T: Send + Sync + 'static> Delivery<T> {
    pub(crate) fn new(live: &LiveSource<T>, plan: &Plan, consumer: Arc<dyn Consumer<T>>) -> Self {
        let core = Arc::clone(&live.core);
        let reader = ChangeReader {
            about: plan.about(&core),
            core: Arc::clone(&core),
        };
        Self {
            taps: Arc::new(Taps {
                reader,
                consumer,
                watch: Arc::new(LossWatch::new(Arc::clone(&core.metrics))),
                failed: Arc::default(),
            }),
            core,
        }
    }

    /// Reads until there is a reason to stop. A stop that was asked for is no error.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Tapped, SourceError> {
        let core = &self.core;
        let Some(handoff) = &plan.handoff else {
            return Err(SourceError::NoStream {
                table: core.table.to_string(),
                reason: format!("source {} began without_stream()", core.name),
            });
        };
        let watch = &self.taps.watch;
        let deps = deps_watched(core, Arc::clone(watch), watch.halt.clone());
        let log = Arc::new(stream_log(core, plan, handoff)?);
        // A loss that is on record stands, whoever saw it.
        let known = tap_stream::incidents(&log).await?;
        if let Some(lost) = known.into_iter().find(is_fatal) {
            return Err(loss(core, &log, handoff, &lost).await);
        }
        tap_stream::register(&log, handoff).await?;
        let request = TapRequest {
            table: core.table.clone(),
            survey_every: Duration::from_millis(core.live.survey_every_ms),
            settle: Duration::from_millis(core.live.settle_ms),
            until_idle: core.live.until_idle,
            seed: core.live.seed,
        };
        let taps = Arc::clone(&self.taps) as Arc<dyn RecordSinks>;
        let reading = Box::pin(tap_stream::run(&deps, &log, &request, taps, core.budget));
        let tapped = until(reading, core, &watch.halt).await;
        let mut failed = self
            .taps
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if core.should_stop() && matches!(failed, Some(SourceError::Stopped { .. })) {
            // The stop was asked for in the middle of a wait; what was in hand comes again.
            failed = None;
        }
        if let Some(lost) = watch.lost() {
            return Err(loss(core, &log, handoff, &lost).await);
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        match tapped {
            Ok(tapped) if tapped.closed => {
                let known = tap_stream::incidents(&log).await?;
                let ended = known
                    .into_iter()
                    .find(|it| it.kind == IncidentKind::StreamEnded);
                let detail = ended.map_or_else(|| "the stream has ended".into(), |it| it.detail);
                Err(records_lost(core, detail))
            }
            Ok(tapped) => Ok(tapped),
            Err(_) if core.should_stop() => Ok(Tapped::default()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads to the end, and passes a stop on that is asked for meanwhile.
async fn until<T>(
    reading: impl Future<Output = Result<Tapped, StepError>> + Unpin,
    core: &Core<T>,
    halt: &StopFlag,
) -> Result<Tapped, StepError> {
    let mut reading = reading;
    loop {
        tokio::select! {
            biased;
            tapped = &mut reading => return tapped,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if core.stop.is_set() {
                    halt.set();
                }
            }
        }
    }
}
