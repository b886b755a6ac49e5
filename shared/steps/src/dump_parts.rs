//! A dump into an object store, in dyndump's layout.
//!
//! The metadata is created first, if nobody has: it is the claim to the prefix. It says `running` and is renewed
//! after every part; `completed` is written once, after the last part, and `failed` by whoever gives up. A crash
//! leaves `running`, which no loader takes.
//!
//! Memory: a few parts in the making, and a bounded queue of pages before them; never the table, never a disk.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::budget::Clock;
use highwater_domain::dyndump::{DyndumpKeys, DyndumpMetadata};
use highwater_domain::dyndump_writer::{CLAIM, DyndumpLedger, DyndumpPart, FinishedDyndumpPart};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::line_sink::LineSink;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_domain::snapshot::Status;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;

use crate::error::StepError;

/// The stored size of a part, if nobody says: dyndump's.
pub const DEFAULT_PART_BYTES: u64 = 50 << 20;

/// The smallest part: dyndump's bound.
pub const MIN_PART_BYTES: u64 = 1000;

/// The largest: it is held in memory and sent in one request.
pub const MAX_PART_BYTES: u64 = 1 << 30;

/// Parts in the making at once: while one is uploaded, another is filled.
const WRITERS: usize = 2;

/// Pages that wait to be compressed.
const QUEUE: usize = 4;

/// Where a dump goes.
#[derive(Clone, Debug)]
pub struct DumpPlace {
    /// The bucket or directory.
    pub store: Arc<dyn ObjectStore>,
    /// The prefix and what follows it.
    pub keys: DyndumpKeys,
    /// Stored bytes at which a part is cut.
    pub part_bytes: u64,
}

impl DumpPlace {
    /// Refuses a place where a backup is, of any status, or parts that are left of one. Writes nothing.
    pub async fn check(&self) -> Result<(), StepError> {
        if self.part_bytes < MIN_PART_BYTES {
            return Err(StepError::InvalidInput(format!(
                "PartSize too small: a part has at least {MIN_PART_BYTES} bytes, not {}",
                self.part_bytes
            )));
        }
        let metadata = self.store.read(&self.keys.metadata()).await;
        if let Some(body) = metadata.map_err(StepError::Store)? {
            let there: Option<DyndumpMetadata> = serde_json::from_slice(&body).ok();
            return Err(self.taken(there.as_ref()));
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&self.keys.parts(), after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            let mut parts = page.objects.iter();
            if let Some(part) = parts.find(|one| self.keys.part_number(&one.key).is_some()) {
                return Err(StepError::BackupExists {
                    url: self.store.url(self.keys.prefix()),
                    what: format!("{} is there, without metadata", self.store.url(&part.key)),
                });
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn taken(&self, there: Option<&DyndumpMetadata>) -> StepError {
        let what = there.map_or_else(
            || format!("{} is there", self.store.url(&self.keys.metadata())),
            |there| format!("of table {:?}, {}", there.table_name, there.status.as_str()),
        );
        StepError::BackupExists {
            url: self.store.url(self.keys.prefix()),
            what,
        }
    }

    /// Claims the place and begins. `metadata` says what is dumped; its counts are kept here.
    ///
    /// `claim` is a text that no other dump has. Nothing has been written if this fails, except where the answer
    /// of the store got lost: then the metadata may stay as `running`.
    pub async fn begin(
        self,
        metadata: DyndumpMetadata,
        claim: String,
        clock: Arc<dyn Clock>,
    ) -> Result<DumpParts, StepError> {
        self.check().await?;
        let shared = Arc::new(Shared {
            ledger: AsyncMutex::new(DyndumpLedger::new(metadata)),
            place: self,
            claim,
            clock,
            failure: Mutex::new(None),
            is_abandoned: Mutex::new(false),
        });
        let object = shared.metadata_object().await;
        if !shared.create(object).await.map_err(StepError::Store)? {
            return Err(shared.place.taken(None));
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(AsyncMutex::new(receiver));
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            writers.spawn(shared.clone().write_parts(receiver.clone()));
        }
        Ok(DumpParts {
            shared,
            sender: Mutex::new(Some(sender)),
            writers: AsyncMutex::new(writers),
        })
    }
}

/// A dump in the making, as a sink for lines.
#[derive(Debug)]
pub struct DumpParts {
    shared: Arc<Shared>,
    sender: Mutex<Option<mpsc::Sender<Bytes>>>,
    writers: AsyncMutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    place: DumpPlace,
    claim: String,
    clock: Arc<dyn Clock>,
    ledger: AsyncMutex<DyndumpLedger>,
    /// The first failure; every later call fails with it too.
    failure: Mutex<Option<Failure>>,
    is_abandoned: Mutex<bool>,
}

impl Shared {
    /// One writer: fills a part, stores it, and so on to the end of the lines.
    async fn write_parts(self: Arc<Self>, lines: Arc<AsyncMutex<mpsc::Receiver<Bytes>>>) {
        if let Err(failure) = self.try_write_parts(&lines).await {
            lock(&self.failure).get_or_insert(failure);
        }
    }

    async fn try_write_parts(
        &self,
        lines: &AsyncMutex<mpsc::Receiver<Bytes>>,
    ) -> Result<(), Failure> {
        let mut part = DyndumpPart::new(self.place.part_bytes);
        loop {
            let next = lines.lock().await.recv().await;
            let Some(page) = next else { break };
            let mut rest = &page[..];
            while !rest.is_empty() {
                rest = part.push(rest).map_err(|error| self.broken(&error))?;
                if part.is_full() {
                    let next = DyndumpPart::new(self.place.part_bytes);
                    self.store(std::mem::replace(&mut part, next)).await?;
                }
            }
        }
        // A dump that was given up needs no last, half part: nobody can go on from it.
        if part.is_empty() || self.is_over() {
            return Ok(());
        }
        self.store(part).await
    }

    fn is_over(&self) -> bool {
        *lock(&self.is_abandoned) || lock(&self.failure).is_some()
    }

    async fn store(&self, part: DyndumpPart) -> Result<(), Failure> {
        let part: FinishedDyndumpPart = part.finish().map_err(|error| self.broken(&error))?;
        let number = self.ledger.lock().await.next_number();
        let number = number.ok_or_else(|| self.refuse("nine digits number no more parts"))?;
        let object = part.object(&self.place.keys, number, &self.claim);
        let url = self.place.store.url(&object.key);
        if !self.create(object).await? {
            return Err(self.refuse(&format!(
                "{url} is there already: something else writes to this prefix"
            )));
        }
        let mut ledger = self.ledger.lock().await;
        ledger.stored(number, &part);
        // Under the lock, so that no older account is written over a newer one.
        let object = ledger.object(&self.place.keys, &self.claim);
        self.place.store.replace(object).await
    }

    /// Creates an object; `false` if somebody else's is there. One of ours may be, if an answer was lost.
    async fn create(&self, object: NewObject) -> Result<bool, Failure> {
        let key = object.key.clone();
        if self.place.store.create(object).await? == Creation::Created {
            return Ok(true);
        }
        let facts = self.place.store.facts(&key).await?;
        let claim = facts.and_then(|facts| facts.user_metadata.get(CLAIM).cloned());
        Ok(claim.as_ref() == Some(&self.claim))
    }

    async fn metadata_object(&self) -> NewObject {
        let ledger = self.ledger.lock().await;
        ledger.object(&self.place.keys, &self.claim)
    }

    async fn end(&self, status: Status) -> Result<(), Failure> {
        let mut ledger = self.ledger.lock().await;
        ledger.end(status, self.clock.now().to_rfc3339());
        let object = ledger.object(&self.place.keys, &self.claim);
        self.place.store.replace(object).await
    }

    fn refuse(&self, message: &str) -> Failure {
        let prefix = self.place.store.url(self.place.keys.prefix());
        Failure::new(FailureKind::Invalid, "dump", prefix, message)
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        self.refuse(&format!("the compressor failed: {error}"))
    }

    /// The first failure, once more.
    fn check(&self) -> Result<(), Failure> {
        match lock(&self.failure).as_ref() {
            None => Ok(()),
            Some(first) => Err(Failure::new(
                first.kind,
                first.operation,
                first.resource.clone(),
                first.message.clone(),
            )),
        }
    }
}

impl DumpParts {
    /// What the metadata says now.
    pub async fn metadata(&self) -> DyndumpMetadata {
        self.shared.ledger.lock().await.metadata().clone()
    }

    /// No more lines: waits until every writer has done what it had to do.
    async fn drain(&self) -> Result<(), Failure> {
        drop(lock(&self.sender).take());
        let mut writers = self.writers.lock().await;
        while let Some(ended) = writers.join_next().await {
            if let Err(error) = ended {
                let failure = self.shared.refuse(&format!("a writer was lost: {error}"));
                lock(&self.shared.failure).get_or_insert(failure);
            }
        }
        self.shared.check()
    }
}

#[async_trait]
impl LineSink for DumpParts {
    fn url(&self) -> String {
        let place = &self.shared.place;
        place.store.url(place.keys.prefix())
    }

    async fn write(&self, lines: Bytes) -> Result<(), Failure> {
        self.shared.check()?;
        let sender = lock(&self.sender).clone();
        let sent = match sender {
            Some(sender) => sender.send(lines).await.is_ok(),
            None => false,
        };
        self.shared.check()?;
        if sent {
            return Ok(());
        }
        Err(self.shared.refuse("nobody takes lines any more"))
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.drain().await
    }

    async fn commit(&self) -> Result<(), Failure> {
        self.shared.check()?;
        self.shared.end(Status::Completed).await
    }

    async fn abandon(&self) -> Result<(), Failure> {
        *lock(&self.shared.is_abandoned) = true;
        // Uploads under way end first, so that the metadata counts what is there.
        let _ = self.drain().await;
        self.shared.end(Status::Failed).await
    }
}

/// A poisoned lock means that another task panicked beside a plain value: it is still a value.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
