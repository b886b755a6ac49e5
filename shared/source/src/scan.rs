//! A snapshot under way: segments are read ahead as far as the consumer keeps up, and checkpoints follow the acknowledgements.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use highwater_steps::StopFlag;
use highwater_steps::pace::{Pace, Share};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::Core;
use crate::error::SourceError;
use crate::plan::Plan;
use crate::record::{About, Record};
use crate::segment::{SegmentAcks, SegmentReader};

/// Batches that wait for the consumer.
const AHEAD: usize = 4;

/// The records of a snapshot, as an asynchronous stream with back-pressure: nothing is read while nobody takes what was.
///
/// The stream ends when every segment was read, and after the first error. Then [`finish`](Self::finish) saves the last
/// acknowledgements; dropping the scan instead leaves those of the last moments to come again.
pub struct Scan<T> {
    shared: Arc<Shared<T>>,
    batches: mpsc::Receiver<Result<Vec<Record<T>>, SourceError>>,
    batch: VecDeque<Record<T>>,
    has_failed: bool,
    readers: JoinSet<()>,
}

/// What the workers of one scan share.
pub(crate) struct Shared<T> {
    pub(crate) core: Arc<Core<T>>,
    pub(crate) about: Arc<About>,
    pub(crate) plan: Plan,
    pub(crate) pace: Arc<Pace>,
    /// Ends the workers of this scan and nothing else.
    pub(crate) halt: StopFlag,
    next_segment: AtomicU32,
    savers: Mutex<Savers>,
}

/// What saves checkpoints, for each segment that was begun.
#[derive(Default)]
struct Savers {
    tasks: JoinSet<Result<bool, SourceError>>,
    acks: Vec<Arc<SegmentAcks>>,
}

/// What a scan came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Every segment was read to its end, and everything of it is acknowledged and saved: there is nothing left to resume.
    pub done: bool,
}

impl<T> fmt::Debug for Scan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("source", &self.shared.core.name)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Scan<T> {
    pub(crate) fn start(core: &Arc<Core<T>>, plan: &Plan) -> Self {
        let pace = Pace::new(Arc::clone(&core.ports.clock), Share::Process);
        pace.limit(core.scan.read_capacity, core.scan.concurrency);
        let shared = Arc::new(Shared {
            about: plan.about(core),
            core: Arc::clone(core),
            plan: plan.clone(),
            pace: Arc::new(pace),
            halt: StopFlag::default(),
            next_segment: AtomicU32::new(0),
            savers: Mutex::default(),
        });
        let (to, batches) = mpsc::channel(AHEAD);
        let mut readers = JoinSet::new();
        for _ in 0..core.scan.concurrency {
            readers.spawn(work(Arc::clone(&shared), to.clone()));
        }
        Self {
            shared,
            batches,
            batch: VecDeque::new(),
            has_failed: false,
            readers,
        }
    }

    /// The next records of one segment, in scan order: for consumers that deal with many at once. `None` when every segment was
    /// read, and after an error.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Record<T>>, SourceError>> {
        if !self.batch.is_empty() {
            return Some(Ok(std::mem::take(&mut self.batch).into()));
        }
        if self.has_failed {
            return None;
        }
        let batch = self.batches.recv().await?;
        if batch.is_err() {
            self.fail();
        }
        Some(batch)
    }

    fn fail(&mut self) {
        self.has_failed = true;
        self.shared.halt.set();
        self.batches.close();
    }

    /// Saves what was acknowledged, and says whether there is anything left to resume. What is not acknowledged by now comes
    /// again.
    pub async fn finish(mut self) -> Result<ScanReport, SourceError> {
        self.shared.halt.set();
        self.batches.close();
        // A reader has nothing to lose: what it has handed out is counted, what it has not comes again.
        self.readers.shutdown().await;
        let Savers { mut tasks, acks } = std::mem::take(&mut *lock(&self.shared.savers));
        for segment in &acks {
            segment.close();
        }
        let mut ended = 0;
        let mut failed = None;
        while let Some(saved) = tasks.join_next().await {
            match saved {
                Ok(Ok(done)) => ended += u32::from(done),
                Ok(Err(error)) => failed = Some(error),
                Err(error) => {
                    let lost = format!("saving a checkpoint broke off: {error}");
                    failed = Some(highwater_steps::StepError::Internal(lost).into());
                }
            }
        }
        let all = self.shared.core.scan.segments;
        match failed {
            Some(error) => Err(error),
            None => Ok(ScanReport { done: ended == all }),
        }
    }
}

impl<T: Send + 'static> Stream for Scan<T> {
    type Item = Result<Record<T>, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.batch.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            if self.has_failed {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.batches.poll_recv(context)) {
                Some(Ok(batch)) => self.batch = batch.into(),
                Some(Err(error)) => {
                    self.fail();
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

// The records inside are moved out whole; nothing in here is pinned.
impl<T> Unpin for Scan<T> {}

impl<T: Send + 'static> Shared<T> {
    pub(crate) fn should_stop(&self) -> bool {
        self.halt.is_set() || self.core.should_stop()
    }

    /// Lets a segment's checkpoint follow its acknowledgements from now on, whatever becomes of its reader. The consumer is told at
    /// once if that fails, as long as there is one.
    pub(crate) fn follow(
        &self,
        acks: &Arc<SegmentAcks>,
        saver: impl Future<Output = Result<bool, SourceError>> + Send + 'static,
        to: mpsc::WeakSender<Result<Vec<Record<T>>, SourceError>>,
    ) {
        let mut savers = lock(&self.savers);
        savers.tasks.spawn(async move {
            let error = match saver.await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(to) = to.upgrade() else {
                return Err(error);
            };
            let sent = to.send(Err(error)).await;
            match sent {
                Ok(()) => Ok(false),
                Err(mpsc::error::SendError(untold)) => untold.map(|_| false),
            }
        });
        savers.acks.push(Arc::clone(acks));
    }
}

fn lock<G>(mutex: &Mutex<G>) -> std::sync::MutexGuard<'_, G> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One worker: reads one segment after the other.
async fn work<T: Send + 'static>(
    shared: Arc<Shared<T>>,
    to: mpsc::Sender<Result<Vec<Record<T>>, SourceError>>,
) {
    loop {
        let segment = shared.next_segment.fetch_add(1, Ordering::Relaxed);
        if segment >= shared.core.scan.segments {
            return;
        }
        let reader = SegmentReader {
            shared: Arc::clone(&shared),
            segment,
            to: to.clone(),
        };
        if let Err(error) = reader.read().await {
            // If nobody listens any more, nobody wants to know.
            let _ = to.send(Err(error)).await;
            return;
        }
        if to.is_closed() {
            return;
        }
    }
}
