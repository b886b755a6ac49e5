//! The live side as an asynchronous stream of records that the consumer acknowledges.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use highwater_steps::StopFlag;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::ack::{Ack, AckWindow, Acknowledged};
use crate::core::Core;
use crate::error::SourceError;
use crate::live::{Consumer, Delivery, LiveSource};
use crate::plan::Plan;
use crate::record::{Change, Place, Record};

/// Batches that wait for the consumer.
const AHEAD: usize = 4;

/// How long a request for a stop may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Changes as they come. Get one from [`LiveSource::records`]; it ends with a stop, and after an error.
///
/// Dropping it ends the reading as a crash does: what is not acknowledged comes again.
pub struct LiveRecords<T> {
    batches: mpsc::Receiver<Result<Vec<Record<Change<T>>>, SourceError>>,
    batch: VecDeque<Record<Change<T>>>,
    task: JoinHandle<()>,
}

impl<T> fmt::Debug for LiveRecords<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveRecords")
    }
}

impl<T> Drop for LiveRecords<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Send + Sync + 'static> LiveRecords<T> {
    pub(crate) fn start(live: &LiveSource<T>, plan: Plan) -> Self {
        let (to, batches) = mpsc::channel(AHEAD);
        let consumer = Arc::new(Channel {
            core: Arc::clone(&live.core),
            to: to.clone(),
        });
        let delivery = Delivery::new(live, &plan, consumer);
        let task = tokio::spawn(async move {
            if let Err(error) = delivery.run(&plan).await {
                // If nobody listens any more, nobody wants to know.
                let _ = to.send(Err(error)).await;
            }
        });
        Self {
            batches,
            batch: VecDeque::new(),
            task,
        }
    }
}

impl<T: Send + Sync + 'static> Stream for LiveRecords<T> {
    type Item = Result<Record<Change<T>>, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.batch.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            match std::task::ready!(self.batches.poll_recv(context)) {
                Some(Ok(batch)) => self.batch = batch.into(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

// The records inside are moved out whole; nothing in here is pinned.
impl<T> Unpin for LiveRecords<T> {}

/// Hands batches over and waits until they are acknowledged.
struct Channel<T> {
    core: Arc<Core<T>>,
    to: mpsc::Sender<Result<Vec<Record<Change<T>>>, SourceError>>,
}

/// The acknowledgements of one batch.
#[derive(Debug, Default)]
struct BatchAcks {
    window: Mutex<AckWindow<()>>,
    changed: Notify,
}

impl BatchAcks {
    fn window(&self) -> MutexGuard<'_, AckWindow<()>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acknowledged for BatchAcks {
    fn done(&self, number: u64) {
        if self.window().done(number) {
            self.changed.notify_one();
        }
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Consumer<T> for Channel<T> {
    async fn deliver(
        &self,
        _: &Place,
        records: Vec<Record<Change<T>>>,
        halt: &StopFlag,
    ) -> Result<(), SourceError> {
        let acks = Arc::new(BatchAcks::default());
        let numbered = records.into_iter().map(|record| {
            let number = acks.window().hand_out();
            let ack = Ack::new(Arc::clone(&acks) as Arc<dyn Acknowledged>, number);
            Record { ack, ..record }
        });
        let batch: Vec<_> = numbered.collect();
        acks.window().end_page(());
        if self.to.send(Ok(batch)).await.is_err() {
            return Err(self.core.stopped());
        }
        loop {
            if acks.window().advance().is_some() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = acks.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if halt.is_set() || self.core.should_stop() {
                        return Err(self.core.stopped());
                    }
                }
            }
        }
    }
}
