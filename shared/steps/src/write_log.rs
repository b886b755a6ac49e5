//! Writes stream records to the change log: durable, under names that the records alone decide.
//!
//! A batch that is written twice finds its object there. A batch that is cut anew makes an object that overlaps with
//! another, which readers expect. So this may be called again with anything, by any number of callers at once, and a
//! request that arrives late changes nothing.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::backoff::Backoff;
use highwater_domain::budget::{Budget, Clock};
use highwater_domain::change_log::{
    LOG_OBJECT_BYTES, LogName, LogObjectError, LogPacker, LogRecords, once_in_order, pieces,
};
use highwater_domain::digest;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;

use crate::deps::Unobserved;
use crate::error::StepError;
use crate::live_deps::LiveObserver;

mod contradiction;
mod patience;

use contradiction::{contradict, two_records};
use patience::{LEAST_ATTEMPT_MS, RETRIES, passes};

/// Writes the records of one stream to its log.
///
/// Cancelling a call is safe: what was written is in the log, and the next call finds it there.
#[derive(Debug)]
pub struct LogWriter {
    store: Arc<dyn ObjectStore>,
    place: LogPlace,
    label: String,
    packer: Mutex<Option<LogPacker>>,
    random: Mutex<fastrand::Rng>,
    retries: Backoff,
    budget: Option<(Budget, Arc<dyn Clock>)>,
    observer: Arc<dyn LiveObserver>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Written {
    /// The objects that hold its records, in order, whoever created them.
    pub objects: Vec<LogName>,
    /// Where writing stopped, if it did.
    pub failed: Option<Unwritten>,
}

/// Where writing stopped: everything below is durable, nothing from here on is known to be.
#[derive(Debug)]
pub struct Unwritten {
    /// The least sequence number that is not durable.
    pub first: SequenceNumber,
    /// Why.
    pub error: StepError,
}

impl LogWriter {
    /// A writer to the log of the stream called `label` at `place` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, place: LogPlace, label: String) -> Self {
        Self {
            store,
            place,
            label,
            packer: Mutex::new(None),
            random: Mutex::new(fastrand::Rng::new()),
            retries: RETRIES,
            budget: None,
            observer: Arc::new(Unobserved),
        }
    }

    /// Tries again only while `budget` allows it by `clock`, and waits for no answer beyond it.
    #[must_use]
    pub fn within(mut self, budget: Budget, clock: Arc<dyn Clock>) -> Self {
        self.budget = Some((budget, clock));
        self
    }

    /// Tells `observer` of every object that is durable, and of requests that are tried again.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn LiveObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Has another patience with failures that pass.
    #[must_use]
    pub fn with_retries(mut self, retries: Backoff) -> Self {
        self.retries = retries;
        self
    }

    /// Draws waits from `seed`.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = Mutex::new(fastrand::Rng::with_seed(seed));
        self
    }

    /// Where the log is.
    #[must_use]
    pub fn place(&self) -> &LogPlace {
        &self.place
    }

    /// The stream's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How a person names an object of the log.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        self.store.url(key)
    }

    /// Makes records of `shard` durable, in any order and as often as they come; when it returns, they are.
    ///
    /// One object, or as few as their size allows. No records make no object.
    pub async fn write(
        &self,
        shard: &ShardId,
        records: &[StreamRecord],
    ) -> Result<Vec<LogName>, StepError> {
        let written = self.write_some(shard, records).await?;
        match written.failed {
            None => Ok(written.objects),
            Some(unwritten) => Err(unwritten.error),
        }
    }

    /// The same, but tells how far it came. An error means that nothing was tried.
    pub async fn write_some(
        &self,
        shard: &ShardId,
        records: &[StreamRecord],
    ) -> Result<Written, StepError> {
        let records = self.in_order(shard, records)?;
        let mut waiting: Vec<&[StreamRecord]> = pieces(&records, LOG_OBJECT_BYTES).collect();
        waiting.reverse();
        let mut written = Written::default();
        while let Some(piece) = waiting.pop() {
            match self.write_piece(shard, piece).await {
                Ok(Placed::Here(name)) => written.objects.push(name),
                Ok(Placed::NameTaken) => {
                    let (left, right) = piece.split_at(piece.len() / 2);
                    waiting.extend([right, left]);
                }
                Err(error) => {
                    // A piece is never empty.
                    let first = piece.first().map(|record| record.sequence_number.clone());
                    written.failed = first.map(|first| Unwritten { first, error });
                    break;
                }
            }
        }
        Ok(written)
    }

    /// Creates an object that is a fact, unless it is there.
    pub async fn create_once(&self, object: NewObject) -> Result<Creation, StepError> {
        self.patiently("create an object", || self.store.create(object.clone()))
            .await
    }

    /// Ascending, each record once: whatever order they came in, the same records make the same objects.
    fn in_order<'a>(
        &self,
        shard: &ShardId,
        records: &'a [StreamRecord],
    ) -> Result<Cow<'a, [StreamRecord]>, StepError> {
        if records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number) {
            return Ok(Cow::Borrowed(records));
        }
        let mut sorted = records.to_vec();
        sorted.sort_by(|a, b| a.sequence_number.cmp(&b.sequence_number));
        let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
        let folder = || self.store.url(&self.place.shard(&self.label, shard));
        if let Some((a, b)) = pairs.find(|(a, b)| contradict(a, b)) {
            return Err(two_records(&folder(), a, b));
        }
        Ok(Cow::Owned(once_in_order(sorted)))
    }

    async fn write_piece(
        &self,
        shard: &ShardId,
        records: &[StreamRecord],
    ) -> Result<Placed, StepError> {
        let (name, body) = self.pack(shard, records)?;
        let object = NewObject {
            key: name.key(&self.place.stream(&self.label)),
            body,
            content_type: "application/zstd",
            item_count: Some(name.count),
            ..NewObject::default()
        };
        if self.create_once(object.clone()).await? == Creation::Exists {
            match self.look(&name, &object, records).await? {
                Found::TheSame => {}
                Found::Others if records.len() > 2 => return Ok(Placed::NameTaken),
                // One or two records are all that such a name can mean.
                Found::Others => {
                    let url = self.store.url(&object.key);
                    return Err(StepError::LogCorrupt(format!(
                        "{url} holds a record that this version cannot read where another was to be written: see whether a newer version wrote it"
                    )));
                }
                Found::Damaged(damage) => self.mend(object.clone(), &damage).await?,
            }
        }
        let stored_bytes = object.body.len() as u64;
        self.observer.logged(shard, &name, stored_bytes);
        Ok(Placed::Here(name))
    }

    fn pack(
        &self,
        shard: &ShardId,
        records: &[StreamRecord],
    ) -> Result<(LogName, Bytes), StepError> {
        let mut packer = self.packer.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match packer.take().map_or_else(LogPacker::new, Ok) {
            Ok(ready) => packer.insert(ready).object(shard, records),
            Err(error) => Err(error),
        };
        made.map_err(|error| {
            StepError::Internal(format!("records of shard {shard} make no object: {error}"))
        })
    }

    /// What is there under the name that was to be ours.
    ///
    /// Two objects of one name may differ in bytes and hold the same records: Lambda's events and `GetRecords` dress
    /// a record differently. They may also hold different records between the same two, where somebody has filled
    /// gaps.
    async fn look(
        &self,
        name: &LogName,
        ours: &NewObject,
        records: &[StreamRecord],
    ) -> Result<Found, StepError> {
        let key = &ours.key;
        let facts = self
            .patiently("look at an object", || self.store.facts(key))
            .await?;
        let sha256 = facts.and_then(|facts| facts.sha256);
        if sha256 == Some(digest::sha256(&ours.body)) {
            return Ok(Found::TheSame);
        }
        let theirs = self
            .patiently("read an object", || self.store.read(key))
            .await?;
        let Some(theirs) = theirs else {
            return Err(StepError::Store(Failure::new(
                FailureKind::Transient,
                "read",
                self.store.url(key),
                "the object was there and is not any more: is somebody deleting the log?",
            )));
        };
        if theirs == ours.body {
            return Ok(Found::TheSame);
        }
        let mut same = true;
        let mut contradiction = None;
        for (index, read) in LogRecords::new(key, name, &theirs[..]).enumerate() {
            match (read, records.get(index)) {
                (Ok(theirs), Some(ours)) if contradict(&theirs, ours) => {
                    contradiction = Some(two_records(&self.store.url(key), &theirs, ours));
                }
                (Ok(theirs), ours) => {
                    same &= ours.is_some_and(|ours| ours.sequence_number == theirs.sequence_number);
                }
                // Whole, and with a record that this version cannot read: somebody else's fact.
                (Err(LogObjectError::Record { .. }), _) => return Ok(Found::Others),
                (Err(damage), _) => return Ok(Found::Damaged(damage)),
            }
        }
        // Only now is it known that what was read is what was written.
        match contradiction {
            Some(error) => Err(error),
            None if same => Ok(Found::TheSame),
            None => Ok(Found::Others),
        }
    }

    /// Puts a whole object in the place of one that nobody can read.
    ///
    /// An object that can be read is never replaced. This one would stop every reader of its shard, and what it should
    /// hold by its name is at hand; beside it, under another name, it would not help them.
    async fn mend(&self, object: NewObject, damage: &LogObjectError) -> Result<(), StepError> {
        let url = self.store.url(&object.key);
        tracing::warn!(object = url, %damage, "a damaged object of the log is replaced");
        self.patiently("replace an object", || self.store.replace(object.clone()))
            .await
    }

    /// One request, however often it takes, while there is time.
    async fn patiently<T, F>(
        &self,
        what: &str,
        mut request: impl FnMut() -> F + Send,
    ) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut retry = 0;
        loop {
            let failure = match self.in_time(what, request()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let random = self
                .random
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .f64();
            let wait_ms = self.retries.wait_ms(retry, random);
            let Some(wait_ms) = wait_ms.filter(|ms| passes(&failure) && self.allows_wait(*ms))
            else {
                return Err(StepError::Store(failure));
            };
            self.observer
                .retrying("the change log", &failure.to_string(), wait_ms);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            retry += 1;
        }
    }

    /// The answer, or a failure when the time is over: a request that hangs must not take the whole invocation
    /// with it. If it takes effect after all, it writes what it would have written.
    async fn in_time<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let budget = self.budget.as_ref();
        let left = budget.and_then(|(budget, clock)| budget.left_ms(clock.now()));
        let Some(left) = left else {
            return request.await;
        };
        let limit = Duration::from_millis(left.max(LEAST_ATTEMPT_MS));
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                FailureKind::Transient,
                "write the log",
                self.store.url(&self.place.stream(&self.label)),
                format!("no answer within {} ms to: {what}", limit.as_millis()),
            )),
        }
    }

    fn allows_wait(&self, ms: u64) -> bool {
        let budget = self.budget.as_ref();
        budget.is_none_or(|(budget, clock)| budget.allows_wait(clock.now(), ms))
    }
}

/// What became of a piece.
enum Placed {
    Here(LogName),
    /// Other records have its name. Of fewer records the name says more; of two it says everything.
    NameTaken,
}

enum Found {
    TheSame,
    Others,
    Damaged(LogObjectError),
}
