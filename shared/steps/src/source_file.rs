//! Reads one file of a backup, record by record, in bounded memory.
//!
//! No record is given out before the whole file was found to be what the backup says of it. A file of up to 64 MiB
//! is fetched once and kept; a larger one is read twice, by ranges, and the second reading is held against the
//! first one range by range, so that nobody can change it in between. Where the backup gives a hash the first
//! reading compares hashes, unless the store has done so by itself; where it gives none it takes every line apart.
//!
//! Decompression and parsing run on a thread of their own, fed and drained by short queues, so that they neither
//! stall the runtime nor run ahead of whoever takes the records. A small file is taken apart where its records
//! are asked for.

use std::io::Read;
use std::sync::Arc;

use highwater_domain::backup_source::SourceFile;
use highwater_domain::file_check;
use highwater_domain::item_lines::{ItemLines, Record};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::part_reader::PartError;
use highwater_domain::reused_buffers::ReusedBuffers;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::StepError;

mod stored_bytes;

use stored_bytes::{Feeder, Pins, StoredBytes, WholeObject};

/// Up to here a file needs no thread: the way there and back would take longer than the work.
const AT_ONCE_BYTES: u64 = 64 << 10;

/// Up to here a file is fetched whole.
const WHOLE_BYTES: u64 = 64 << 20;

/// What a larger file is fetched in.
const RANGE_BYTES: u64 = 8 << 20;

/// Records are handed on when they have so many bytes together…
const BATCH_BYTES: u64 = 256 << 10;

/// … or are so many.
const BATCH_RECORDS: usize = 1000;

/// Sizes that tests make small.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    at_once: u64,
    whole: u64,
    range: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE_BYTES,
            whole: WHOLE_BYTES,
            range: RANGE_BYTES,
        }
    }
}

/// What the reading thread says.
enum Said {
    Batch(Vec<Record>),
    Broken(StepError),
    /// The file's end was reached and its count found right. A thread that ends without it has died.
    End,
}

/// The records of one file, in order. Dropping it ends the reading.
#[derive(Debug)]
pub struct Records {
    file: SourceFile,
    from: Origin,
    skip_checks: bool,
    state: State,
}

/// Where records come from.
#[derive(Debug)]
enum Origin {
    /// Taken apart when they are asked for.
    Here(Box<ItemLines<StoredBytes>>),
    Thread {
        said: mpsc::Receiver<Said>,
        /// Held so that a reading that nobody waits for stops fetching.
        _feeder: Option<Feeder>,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Reading,
    Ended,
    Broken,
}

impl Records {
    /// The next few records (some hundred kilobytes), or `None` at the file's end. Never an empty batch.
    ///
    /// The number of items is compared with what the backup says before the end is told.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StepError> {
        match self.state {
            State::Ended => return Ok(None),
            State::Broken => return Err(self.broken("was found to be broken before")),
            State::Reading => {}
        }
        let next = match &mut self.from {
            Origin::Here(lines) => {
                next_batch(lines, &self.file, self.skip_checks).map_err(StepError::from)
            }
            Origin::Thread { said, .. } => match said.recv().await {
                Some(Said::Batch(records)) => Ok(Some(records)),
                Some(Said::End) => Ok(None),
                Some(Said::Broken(error)) => Err(error),
                None => Err(self.broken("was not read to its end: the thread that read it died")),
            },
        };
        self.state = match next {
            Ok(Some(_)) => State::Reading,
            Ok(None) => State::Ended,
            Err(_) => State::Broken,
        };
        next
    }

    fn broken(&self, what: &str) -> StepError {
        StepError::Internal(format!("{} {what}", self.file.object))
    }
}

/// Opens a file of a backup; returns when the file is known to be whole, or at once with `skip_checks`.
///
/// An object that is gone is [`StepError::PartMissing`]; one that is not what it was when the backup was looked at,
/// or not what the backup says, is [`StepError::PartCorrupt`]. `skip_checks` leaves out the comparison of hashes
/// and counts, and the first reading; damage that the decompressor or the parser meets is told all the same.
pub async fn open_file(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    skip_checks: bool,
) -> Result<Records, StepError> {
    open_file_in(store, file, skip_checks, &ReusedBuffers::default()).await
}

/// The same for one of several files that are read one after the other: what they are decompressed into is used again.
pub async fn open_file_in(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    skip_checks: bool,
    buffers: &ReusedBuffers,
) -> Result<Records, StepError> {
    open_sized(store, file, skip_checks, buffers, Sizes::default()).await
}

async fn open_sized(
    store: &Arc<dyn ObjectStore>,
    file: &SourceFile,
    skip_checks: bool,
    buffers: &ReusedBuffers,
    sizes: Sizes,
) -> Result<Records, StepError> {
    if file.stored_bytes <= sizes.whole {
        let object = WholeObject::fetch(store, file).await?;
        let is_checked = skip_checks || object.is_vouched_for(file);
        if file.stored_bytes <= sizes.at_once {
            if !is_checked {
                file_check::check(object.reader(), file)?;
            }
            return Ok(here(object.reader(), file, skip_checks, buffers));
        }
        if !is_checked {
            checked(object.reader(), file).await?;
        }
        let reader = object.reader();
        return Ok(start(reader, file, skip_checks, buffers, None));
    }
    let mut pins = Pins::None;
    if !skip_checks {
        let (bytes, _feeder) = stored_bytes::by_ranges(store, file, sizes.range, Pins::taking());
        pins = checked(bytes, file).await?.into_pins();
    }
    let (bytes, feeder) = stored_bytes::by_ranges(store, file, sizes.range, pins);
    Ok(start(bytes, file, skip_checks, buffers, Some(feeder)))
}

/// The first reading: the whole file, on a thread of its own.
async fn checked(mut bytes: StoredBytes, file: &SourceFile) -> Result<StoredBytes, StepError> {
    let file = file.clone();
    let reading = spawn_blocking(move || {
        let outcome = file_check::check(&mut bytes, &file);
        // Bytes that could not be had explain whatever the decoder made of their absence.
        match (bytes.take_failure(), outcome) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(())) => Ok(bytes),
        }
    });
    reading.await.unwrap_or_else(|error| {
        Err(StepError::Internal(format!(
            "a reading thread died: {error}"
        )))
    })
}

fn lines_of<R: Read>(bytes: R, file: &SourceFile, buffers: &ReusedBuffers) -> ItemLines<R> {
    ItemLines::new(bytes, file.object.clone(), file.packing, file.shape).with_buffers(buffers)
}

fn here(
    bytes: StoredBytes,
    file: &SourceFile,
    skip_checks: bool,
    buffers: &ReusedBuffers,
) -> Records {
    Records {
        from: Origin::Here(Box::new(lines_of(bytes, file, buffers))),
        file: file.clone(),
        skip_checks,
        state: State::Reading,
    }
}

/// The reading that gives records out, on a thread of its own.
fn start(
    bytes: StoredBytes,
    file: &SourceFile,
    skip_checks: bool,
    buffers: &ReusedBuffers,
    feeder: Option<Feeder>,
) -> Records {
    let (say, said) = mpsc::channel(2);
    let (reading, buffers) = (file.clone(), buffers.clone());
    spawn_blocking(move || {
        let mut bytes = bytes;
        let mut lines = lines_of(&mut bytes, &reading, &buffers);
        let outcome = read(&mut lines, &reading, skip_checks, &say);
        drop(lines);
        let last = match (bytes.take_failure(), outcome) {
            (Some(failure), _) => Said::Broken(failure),
            (None, Err(Stop::Part(error))) => Said::Broken(error.into()),
            (None, Err(Stop::Unheard)) => return,
            (None, Ok(())) => Said::End,
        };
        // Nobody may be listening any more; then it does not matter.
        drop(say.blocking_send(last));
    });
    Records {
        file: file.clone(),
        from: Origin::Thread {
            said,
            _feeder: feeder,
        },
        skip_checks,
        state: State::Reading,
    }
}

enum Stop {
    Part(PartError),
    /// The records were dropped.
    Unheard,
}

impl From<PartError> for Stop {
    fn from(error: PartError) -> Self {
        Self::Part(error)
    }
}

fn read<R: Read>(
    lines: &mut ItemLines<R>,
    file: &SourceFile,
    skip_checks: bool,
    say: &mpsc::Sender<Said>,
) -> Result<(), Stop> {
    while let Some(batch) = next_batch(lines, file, skip_checks)? {
        let said = say.blocking_send(Said::Batch(batch));
        said.map_err(|_| Stop::Unheard)?;
    }
    Ok(())
}

/// The next few records; `None` at the file's end, when their number was found right.
fn next_batch<R: Read>(
    lines: &mut ItemLines<R>,
    file: &SourceFile,
    skip_checks: bool,
) -> Result<Option<Vec<Record>>, PartError> {
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    while batch_bytes < BATCH_BYTES && batch.len() < BATCH_RECORDS {
        let Some(record) = lines.next()? else {
            break;
        };
        batch_bytes += record.plain_bytes;
        batch.push(record);
    }
    if !batch.is_empty() {
        return Ok(Some(batch));
    }
    if !skip_checks {
        file_check::check_count(file, lines.records())?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorName;
    use async_trait::async_trait;
    use bytes::Bytes;
    use highwater_domain::backup_source::{FileClaims, LineShape, Packing};
    use highwater_domain::digest::{md5, md5_base64};
    use highwater_domain::failure::Failure;
    use highwater_domain::failure::FailureKind;
    use highwater_domain::object_store::{Creation, ListPage, NewObject, ObjectFacts, ObjectStore};
    use highwater_testkit::failing::{Failing, Moment};
    use highwater_testkit::fake_store::{FakeStore, object};
    use highwater_testkit::intercepted::Intercepted;
    use std::ops::Range;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// Files beyond a kilobyte are large, and those below a hundred bytes need no thread.
    const SMALL: Sizes = Sizes {
        at_once: 100,
        whole: 1000,
        range: 777,
    };

    /// A store that swaps an object for another of the same size after so many ranges, and counts ranges.
    #[derive(Debug)]
    struct Swapping {
        store: FakeStore,
        ranges: AtomicU64,
        swap_after: u64,
        /// What it says of every object that is read whole.
        told: Option<[u8; 16]>,
    }

    #[async_trait]
    impl ObjectStore for Swapping {
        fn url(&self, key: &str) -> String {
            self.store.url(key)
        }
        fn bucket(&self) -> &str {
            self.store.bucket()
        }
        async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
            self.store.create(object).await
        }
        async fn replace(&self, object: NewObject) -> Result<(), Failure> {
            self.store.replace(object).await
        }
        async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
            self.store.read(key).await
        }
        async fn read_told_md5(
            &self,
            key: &str,
        ) -> Result<Option<(Bytes, Option<[u8; 16]>)>, Failure> {
            let read = self.store.read(key).await?;
            Ok(read.map(|body| (body, self.told)))
        }
        async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
            if self.ranges.fetch_add(1, Ordering::SeqCst) == self.swap_after {
                let swap = |body: &mut Vec<u8>| {
                    let text = String::from_utf8(std::mem::take(body)).unwrap();
                    *body = text.replace("\"1999\"", "\"XXXX\"").into_bytes();
                };
                assert!(self.store.tamper(key, swap));
            }
            self.store.read_range(key, range).await
        }
        async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
            self.store.facts(key).await
        }
        async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
            self.store.list(prefix, after).await
        }
        async fn list_folders(
            &self,
            prefix: &str,
            after: Option<&str>,
        ) -> Result<ListPage, Failure> {
            self.store.list_folders(prefix, after).await
        }
        async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
            self.store.delete(keys).await
        }
    }

    fn text(items: u64) -> String {
        let lines = (0..items).map(|n| format!("{{\"id\":{{\"S\":\"{n}\"}}}}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn stored(text: &str, swap_after: u64) -> (Arc<Swapping>, SourceFile) {
        let store = FakeStore::new();
        store.plant(object("x.json", text));
        let file = SourceFile {
            object: "x.json".into(),
            stored_bytes: text.len() as u64,
            packing: Packing::None,
            shape: LineShape::Bare,
            claims: FileClaims::default(),
        };
        let store = Swapping {
            store,
            ranges: AtomicU64::new(0),
            swap_after,
            told: None,
        };
        (Arc::new(store), file)
    }

    async fn open_small(
        store: &Arc<dyn ObjectStore>,
        file: &SourceFile,
        skip: bool,
    ) -> Result<Records, StepError> {
        open_sized(store, file, skip, &ReusedBuffers::default(), SMALL).await
    }

    async fn count(store: &Arc<Swapping>, file: &SourceFile, skip: bool) -> Result<u64, StepError> {
        let store: Arc<dyn ObjectStore> = store.clone();
        let mut records = open_small(&store, file, skip).await?;
        let mut count = 0;
        loop {
            match records.next().await {
                Ok(Some(batch)) => count += batch.len() as u64,
                Ok(None) => return Ok(count),
                Err(error) => {
                    let again = records.next().await.unwrap_err();
                    assert!(again.to_string().contains("broken before"), "b8: {again}");
                    return Err(error);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_the_store_says_of_a_files_bytes_need_not_be_computed() {
        for items in [3, 30] {
            let (store, mut file) = stored(&text(items), u64::MAX);
            let telling = |told| {
                let store = FakeStore::new();
                store.plant(object("x.json", &text(items)));
                Arc::new(Swapping {
                    store,
                    ranges: AtomicU64::new(0),
                    swap_after: u64::MAX,
                    told,
                })
            };
            // The backup's MD5 is not that of the bytes: who computes it refuses the file.
            let claimed = md5(b"another file's");
            file.claims.md5 = Some(md5_base64(b"another file's"));
            for told in [None, Some(md5(text(items).as_bytes())), Some([7; 16])] {
                let error = count(&telling(told), &file, false).await.unwrap_err();
                assert!(error.to_string().contains("its MD5 is"), "{error}");
            }
            let told = telling(Some(claimed));
            assert_eq!(count(&told, &file, false).await.unwrap(), items);
            // Any other hash is the backup's own, and is computed.
            file.claims.sha256 = Some("00".repeat(32));
            assert!(count(&told, &file, false).await.is_err());
            file.claims = FileClaims::default();
            assert_eq!(count(&store, &file, false).await.unwrap(), items);
        }
    }

    #[tokio::test]
    async fn a_large_file_is_read_twice_by_ranges() {
        let (store, mut file) = stored(&text(3000), u64::MAX);
        let ranges = file.stored_bytes.div_ceil(SMALL.range);
        assert_eq!(count(&store, &file, false).await.unwrap(), 3000);
        assert_eq!(store.ranges.swap(0, Ordering::SeqCst), 2 * ranges);
        assert_eq!(count(&store, &file, true).await.unwrap(), 3000);
        assert_eq!(store.ranges.load(Ordering::SeqCst), ranges);
        file.claims.md5 = Some(md5_base64(text(3000).as_bytes()));
        assert_eq!(count(&store, &file, false).await.unwrap(), 3000);
        file.claims.md5 = Some(md5_base64(b""));
        let error = count(&store, &file, false).await.unwrap_err();
        assert!(error.to_string().contains("its MD5 is"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_changed_between_the_two_readings_gives_out_nothing_of_the_change() {
        let (store, file) = stored(&text(3000), u64::MAX);
        let ranges = file.stored_bytes.div_ceil(SMALL.range);
        for swap_after in (0..2 * ranges).step_by(7) {
            let (store, file) = stored(&text(3000), swap_after);
            match count(&store, &file, false).await {
                // Swapped behind the place that was already read for good, or before it was first read.
                Ok(count) => assert_eq!(count, 3000),
                Err(error) => assert!(
                    error.to_string().contains("was changed by somebody"),
                    "{error}"
                ),
            }
        }
        let (changed, file_of) = stored(&text(3000), ranges);
        let error = count(&changed, &file_of, false).await.unwrap_err();
        assert!(
            error.to_string().contains("was changed by somebody"),
            "{error}"
        );
        // A change of size is seen at once.
        store.store.plant(object("x.json", &text(2999)));
        let error = count(&store, &file, true).await.unwrap_err();
        assert!(error.to_string().contains("bytes where"), "{error}");
        assert!(store.store.lose("x.json"));
        assert!(matches!(
            count(&store, &file, true).await,
            Err(StepError::PartMissing(_))
        ));
    }

    #[tokio::test]
    async fn the_count_is_compared_at_the_end_even_if_a_hash_is_right() {
        for items in [3, 10, 3000] {
            let (store, mut file) = stored(&text(items), u64::MAX);
            file.claims.md5 = Some(md5_base64(text(items).as_bytes()));
            file.claims.items = Some(items + 1);
            let error = count(&store, &file, false).await.unwrap_err();
            assert!(error.to_string().contains("items where"), "{error}");
            assert_eq!(
                count(&store, &file, true).await.unwrap(),
                items,
                "unless checks are skipped"
            );
        }
    }

    #[tokio::test]
    async fn a_range_that_cannot_be_fetched_is_told_and_never_taken_for_the_end() {
        let (store, file) = stored(&text(500), u64::MAX);
        for nth in 1.. {
            let failing = Arc::new(Failing::once(nth, Moment::Before, FailureKind::Throttled));
            let shared: Arc<dyn ObjectStore> = Arc::new(Intercepted::new(&store, &failing));
            let outcome = async {
                let mut records = open_small(&shared, &file, false).await?;
                let mut count = 0;
                while let Some(batch) = records.next().await? {
                    count += batch.len();
                }
                Ok::<_, StepError>(count)
            };
            let outcome = outcome.await;
            if !failing.has_struck() {
                assert_eq!(outcome.unwrap(), 500);
                assert!(nth > 10, "both readings were met: {nth}");
                return;
            }
            assert_eq!(
                outcome.unwrap_err().name(),
                ErrorName::Throttled,
                "call {nth}"
            );
        }
    }

    #[tokio::test]
    async fn dropped_records_stop_the_fetching() {
        let (store, file) = stored(&text(200_000), u64::MAX);
        let shared: Arc<dyn ObjectStore> = store.clone();
        let mut records = open_small(&shared, &file, true).await.unwrap();
        assert!(records.next().await.unwrap().is_some());
        drop(records);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let fetched = store.ranges.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(store.ranges.load(Ordering::SeqCst), fetched);
        assert!(
            fetched * SMALL.range < file.stored_bytes / 2,
            "{fetched} ranges were fetched"
        );
    }
}
