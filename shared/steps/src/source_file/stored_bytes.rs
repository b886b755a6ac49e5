//! The stored bytes of one file, as a reader for the thread that takes them apart.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use highwater_domain::backup_source::SourceFile;
use highwater_domain::digest::sha256;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::part_reader::PartError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::Instrument as _;

use crate::error::StepError;

/// An object that was fetched at once.
pub(super) struct WholeObject {
    body: Bytes,
    md5: Option<[u8; 16]>,
}

impl WholeObject {
    pub(super) async fn fetch(
        store: &Arc<dyn ObjectStore>,
        file: &SourceFile,
    ) -> Result<Self, StepError> {
        let read = store.read_told_md5(&file.object).await;
        let read = read.map_err(StepError::Store)?;
        let (body, md5) = read.ok_or_else(|| StepError::PartMissing(store.url(&file.object)))?;
        check_size(file, body.len() as u64)?;
        Ok(Self { body, md5 })
    }

    /// Whether the store has told what the backup says of the bytes, so that nobody has to compute it.
    pub(super) fn is_vouched_for(&self, file: &SourceFile) -> bool {
        self.md5.is_some_and(|md5| file.claims.is_all_in_md5(&md5))
    }

    pub(super) fn reader(&self) -> StoredBytes {
        StoredBytes {
            current: self.body.clone(),
            rest: None,
            failure: None,
        }
    }
}

fn check_size(file: &SourceFile, found: u64) -> Result<(), PartError> {
    if found == file.stored_bytes {
        return Ok(());
    }
    Err(PartError::Size {
        object: file.object.clone(),
        expected: file.stored_bytes,
        found,
    })
}

/// The hashes of a file's ranges: what the first reading saw, the second must see again.
#[derive(Debug)]
pub(super) enum Pins {
    /// There is one reading only.
    None,
    /// The first reading.
    Taking(Vec<[u8; 32]>),
    /// The second.
    Comparing(std::vec::IntoIter<[u8; 32]>),
}

impl Pins {
    pub(super) fn taking() -> Self {
        Self::Taking(Vec::new())
    }

    /// Whether `range` may be used.
    fn admit(&mut self, range: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Taking(pins) => {
                pins.push(sha256(range));
                true
            }
            Self::Comparing(pins) => pins.next() == Some(sha256(range)),
        }
    }
}

/// Fetches ranges ahead of the reader, one in the queue and one in flight. Dropping it stops that.
#[derive(Debug)]
pub(super) struct Feeder(AbortHandle);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a file by ranges of `range` bytes.
pub(super) fn by_ranges(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    range: u64,
    pins: Pins,
) -> (StoredBytes, Feeder) {
    let (send, queue) = mpsc::channel(1);
    let (store, fed) = (store.clone(), file.clone());
    let feeding = async move {
        if let Err(error) = feed(&store, &fed, range, &send).await {
            // Nobody may be listening any more; then it does not matter.
            drop(send.send(Err(error)).await);
        }
    };
    let task = tokio::spawn(feeding.in_current_span());
    let bytes = StoredBytes {
        current: Bytes::new(),
        rest: Some(Ranges {
            object: file.object.clone(),
            queue,
            pins,
            received: 0,
            expected: file.stored_bytes,
        }),
        failure: None,
    };
    (bytes, Feeder(task.abort_handle()))
}

async fn feed(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    range: u64,
    send: &mpsc::Sender<Result<Bytes, StepError>>,
) -> Result<(), StepError> {
    let missing = || StepError::PartMissing(store.url(&file.object));
    let facts = store.facts(&file.object).await.map_err(StepError::Store)?;
    check_size(file, facts.ok_or_else(missing)?.bytes)?;
    let mut start = 0;
    while start < file.stored_bytes {
        let end = file.stored_bytes.min(start + range);
        let read = store.read_range(&file.object, start..end).await;
        let body = read.map_err(StepError::Store)?.ok_or_else(missing)?;
        if body.len() as u64 != end - start {
            check_size(file, start + body.len() as u64)?;
        }
        if send.send(Ok(body)).await.is_err() {
            return Ok(());
        }
        start = end;
    }
    Ok(())
}

/// What is still to come of a file that is read by ranges.
struct Ranges {
    object: String,
    queue: mpsc::Receiver<Result<Bytes, StepError>>,
    pins: Pins,
    received: u64,
    expected: u64,
}

impl Ranges {
    /// The next range, or `None` at the file's end.
    fn next(&mut self) -> Result<Option<Bytes>, StepError> {
        match self.queue.blocking_recv() {
            Some(range) => {
                let range = range?;
                if !self.pins.admit(&range) {
                    return Err(StepError::from(PartError::Changed {
                        object: self.object.clone(),
                        at: self.received,
                    }));
                }
                self.received += range.len() as u64;
                Ok(Some(range))
            }
            None if self.received == self.expected => Ok(None),
            // An end that comes too early must not pass for the file's.
            None => Err(StepError::Internal(format!(
                "fetching {} ended after {} of {} bytes",
                self.object, self.received, self.expected
            ))),
        }
    }
}

/// The stored bytes of one file, in order. Blocks while the next range is being fetched.
pub(super) struct StoredBytes {
    current: Bytes,
    rest: Option<Ranges>,
    failure: Option<StepError>,
}

impl fmt::Debug for StoredBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredBytes").finish_non_exhaustive()
    }
}

impl StoredBytes {
    /// Why the bytes ended early, if they did.
    pub(super) fn take_failure(&mut self) -> Option<StepError> {
        self.failure.take()
    }

    /// What the first reading has seen, for the second.
    pub(super) fn into_pins(self) -> Pins {
        match self.rest.map(|rest| rest.pins) {
            Some(Pins::Taking(pins)) => Pins::Comparing(pins.into_iter()),
            _ => Pins::None,
        }
    }
}

impl Read for StoredBytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(rest) = &mut self.rest else {
                return Ok(0);
            };
            match rest.next() {
                Ok(Some(range)) => self.current = range,
                Ok(None) => return Ok(0),
                Err(error) => {
                    let words = io::Error::other(error.to_string());
                    self.failure = Some(error);
                    return Err(words);
                }
            }
        }
        let taken = self.current.len().min(out.len());
        if let Some(room) = out.get_mut(..taken) {
            self.current.copy_to_slice(room);
        }
        Ok(taken)
    }
}
