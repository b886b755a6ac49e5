//! `FoldLog`: what the keys of one bucket were at the wanted second, from the runs of all shards.
//!
//! The bucket's part of every run is read, and of each key the last change up to the second and the first after it are
//! found among them. A bucket that is too large for the memory it may take is folded piece by piece, by further bits of
//! the keys' prints; pieces are kept, so that an interrupted fold goes on. The bucket's items and prints come in the
//! order of prints, and `overlay/<bucket>.json` comes last.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::budget::Budget;
use highwater_domain::digest::sha256_hex;
use highwater_domain::key_history::run::{FrameChanges, RunError};
use highwater_domain::key_history::{Around, ItemState};
use highwater_domain::key_print::KeyPrint;
use highwater_domain::part::PartWriter;
use highwater_domain::restore::RestoreId;
use highwater_domain::restore_point::work_folder::{Folded, Scattered, WORK_VERSION};
use highwater_domain::snapshot::Compression;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::merge_work::{Merge, Work, check_stop, merge_of};
use crate::restore_deps::RestoreDeps;
use crate::restore_status;

/// Objects that are fetched at once.
const AT_ONCE: usize = 8;

/// Further bits of the prints by which a bucket can be cut: nobody has so many items.
const MOST_BITS: usize = 48;

/// The input of the state `FoldLog`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldInput {
    /// The restore.
    pub restore_id: RestoreId,
    /// Which of its buckets, from 0; with it come those that are whole lanes behind it, one for each invocation.
    pub bucket: u32,
}

/// The output of the state `FoldLog`, which is its next input until `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldOutput {
    /// The restore.
    pub restore_id: RestoreId,
    /// The bucket that this branch has to go on with: the same, or the next of its lane.
    pub bucket: u32,
    /// Whether this branch has nothing left to do.
    pub done: bool,
}

/// Folds a bucket, after all shards are scattered; `done: false` if the budget was spent before.
pub async fn run(
    deps: &RestoreDeps,
    input: &FoldInput,
    budget: Budget,
) -> Result<FoldOutput, StepError> {
    let record = restore_status::running(deps, &input.restore_id).await?;
    let merge = merge_of(deps, &record)?;
    let done = fold(deps, &merge, input.bucket, budget).await?;
    check_stop(deps, &record, done)?;
    let next = record.bucket_after(input.bucket).filter(|_| done);
    Ok(FoldOutput {
        restore_id: input.restore_id.clone(),
        bucket: next.unwrap_or(input.bucket),
        done: done && next.is_none(),
    })
}

/// Folds one bucket; `false` if the budget was spent before it was done.
///
/// # Errors
/// [`StepError::PartMissing`] if a shard is not scattered yet. [`StepError::NotRestorable`] if a record lacks the image
/// that is needed.
pub async fn fold(
    deps: &RestoreDeps,
    merge: &Merge<'_>,
    bucket: u32,
    budget: Budget,
) -> Result<bool, StepError> {
    if bucket >= merge.point.buckets {
        let buckets = merge.point.buckets;
        return Err(StepError::InvalidInput(format!(
            "bucket {bucket} of {buckets} does not exist"
        )));
    }
    let work = Work::open(deps, merge.point)?;
    if work.has(&work.folder.folded(bucket)).await? {
        return Ok(true);
    }
    let fold = Fold {
        deps,
        merge,
        work: &work,
        bucket,
        budget,
    };
    let Some(pieces) = fold.pieces().await? else {
        return Ok(false);
    };
    let whole = match pieces.as_slice() {
        [Piece::Held(folded)] => folded.clone(),
        _ => fold.join(&pieces).await?,
    };
    let folded = whole.told(bucket);
    work.create_same(&work.folder.items(bucket), whole.items)
        .await?;
    work.create_same(&work.folder.prints(bucket), whole.prints)
        .await?;
    work.settle(work.folder.folded(bucket), folded).await?;
    Ok(true)
}

/// The two objects of a bucket, or of a piece of one.
#[derive(Clone, Debug)]
struct FoldedBytes {
    items: Bytes,
    prints: Bytes,
    count: u64,
    plain_bytes: u64,
}

impl FoldedBytes {
    fn told(&self, bucket: u32) -> Folded {
        let keys = (self.prints.len() / size_of::<KeyPrint>()) as u64;
        Folded {
            version: WORK_VERSION,
            bucket,
            items: self.count,
            absent: keys - self.count,
            plain_bytes: self.plain_bytes,
            stored_bytes: self.items.len() as u64,
            sha256: sha256_hex(&self.items),
            prints_sha256: sha256_hex(&self.prints),
        }
    }
}

/// A part of a bucket, in the order of prints.
enum Piece {
    /// The whole bucket, in memory.
    Held(FoldedBytes),
    /// A piece in the work folder, by its bits.
    Kept(String, Folded),
}

/// What reading a piece came to.
enum Gathered {
    Keys(BTreeMap<KeyPrint, Around>),
    TooMuch,
    OutOfTime,
}

struct Fold<'a> {
    deps: &'a RestoreDeps,
    merge: &'a Merge<'a>,
    work: &'a Work,
    bucket: u32,
    budget: Budget,
}

impl Fold<'_> {
    /// Folds the bucket in one piece if it fits in memory, else in as many as it takes. `None` if time is up.
    async fn pieces(&self) -> Result<Option<Vec<Piece>>, StepError> {
        let mut pieces = Vec::new();
        let mut left = vec![String::new()];
        while let Some(bits) = left.pop() {
            if let Some(folded) = self.kept(&bits).await? {
                pieces.push(Piece::Kept(bits, folded));
                continue;
            }
            match self.gather(&bits).await? {
                Gathered::OutOfTime => return Ok(None),
                Gathered::TooMuch if bits.len() < MOST_BITS => {
                    // The next to be popped are the keys whose bit is 0: pieces come in the order of prints.
                    left.push(format!("{bits}1"));
                    left.push(format!("{bits}0"));
                }
                Gathered::TooMuch => {
                    return Err(StepError::Internal(format!(
                        "bucket {} cannot be cut into pieces that fit in memory",
                        self.bucket
                    )));
                }
                Gathered::Keys(keys) => {
                    let folded = self.fold(keys)?;
                    pieces.push(if bits.is_empty() {
                        Piece::Held(folded)
                    } else {
                        let told = self.keep(&bits, folded).await?;
                        Piece::Kept(bits, told)
                    });
                }
            }
        }
        Ok(Some(pieces))
    }

    async fn kept(&self, bits: &str) -> Result<Option<Folded>, StepError> {
        if bits.is_empty() {
            return Ok(None);
        }
        let key = self.work.folder.piece(self.bucket, bits, "json");
        self.work.read(&key).await
    }

    async fn keep(&self, bits: &str, piece: FoldedBytes) -> Result<Folded, StepError> {
        let key = |suffix| self.work.folder.piece(self.bucket, bits, suffix);
        let told = piece.told(self.bucket);
        self.work.create_same(&key("zst"), piece.items).await?;
        self.work.create_same(&key("prints"), piece.prints).await?;
        self.work.settle(key("json"), told).await
    }

    /// The changes of the keys whose prints go on with `bits`, or the news that they are too many.
    async fn gather(&self, bits: &str) -> Result<Gathered, StepError> {
        let at = self.merge.point.at;
        let skipped = self.merge.point.buckets.trailing_zeros();
        let mut keys: BTreeMap<KeyPrint, Around> = BTreeMap::new();
        let mut bytes = 0_usize;
        let mut frames = std::pin::pin!(self.frames());
        while let Some((key, frame)) = frames.try_next().await? {
            let broken = |error: RunError| {
                let url = self.work.store.url(&key);
                StepError::PartCorrupt(format!("{url}: {error}; begin the restore anew"))
            };
            for change in FrameChanges::new(&frame).map_err(broken)? {
                let (print, change) = change.map_err(broken)?;
                if !goes_on_with(&print, skipped, bits) {
                    continue;
                }
                match keys.entry(print) {
                    Entry::Occupied(mut known) => {
                        bytes -= known.get().weight();
                        known.get_mut().add(at, &change);
                        bytes += known.get().weight();
                    }
                    Entry::Vacant(unknown) => {
                        let mut around = Around::default();
                        around.add(at, &change);
                        bytes += around.weight();
                        unknown.insert(around);
                    }
                }
                if bytes > self.merge.limits.fold_bytes && keys.len() > 1 {
                    return Ok(Gathered::TooMuch);
                }
            }
            tokio::task::yield_now().await;
            if self.deps.should_stop(&self.budget) {
                return Ok(Gathered::OutOfTime);
            }
        }
        Ok(Gathered::Keys(keys))
    }

    /// The bucket's frames in the runs of all shards, with the keys of the runs. They come in no order that matters.
    fn frames(&self) -> impl futures::Stream<Item = Result<(String, Bytes), StepError>> + '_ {
        stream::iter(0..self.merge.point.shards)
            .map(move |shard| async move {
                let key = self.work.folder.scattered(shard);
                self.work.expect::<Scattered>(&key).await
            })
            .buffered(AT_ONCE)
            .map_ok(move |scattered| {
                let shard = scattered.shard;
                let runs = (0_u32..).zip(scattered.runs);
                let frames: Vec<(u32, Range<u64>)> = runs
                    .filter_map(|(chunk, run)| Some((chunk, run.of_bucket(self.bucket)?)))
                    .collect();
                let frames = frames.into_iter();
                stream::iter(frames.map(move |(chunk, range)| Ok((shard, chunk, range))))
            })
            .try_flatten()
            .map_ok(move |(shard, chunk, range)| self.frame(shard, chunk, range))
            .try_buffered(AT_ONCE)
    }

    async fn frame(
        &self,
        shard: u32,
        chunk: u32,
        range: Range<u64>,
    ) -> Result<(String, Bytes), StepError> {
        let key = self.work.folder.run(shard, chunk);
        let wanted = range.end - range.start;
        let frame = self.work.store.read_range(&key, range).await;
        let frame = frame
            .map_err(StepError::Store)?
            .ok_or_else(|| StepError::PartMissing(self.work.store.url(&key)))?;
        if frame.len() as u64 == wanted {
            return Ok((key, frame));
        }
        let url = self.work.store.url(&key);
        Err(StepError::PartCorrupt(format!(
            "{url} is shorter than it was when it was written; begin the restore anew"
        )))
    }

    /// What the keys were at the second.
    fn fold(&self, keys: BTreeMap<KeyPrint, Around>) -> Result<FoldedBytes, StepError> {
        let broken = |error| {
            StepError::Internal(format!("bucket {} cannot be written: {error}", self.bucket))
        };
        let room = self.merge.limits.fold_bytes as u64;
        let mut items = PartWriter::new(Compression::Zstd, room).map_err(broken)?;
        let mut prints = Vec::with_capacity(keys.len() * size_of::<KeyPrint>());
        for (print, around) in keys {
            let state = around.state(self.merge.point.at);
            let state = state.map_err(|missing| StepError::NotRestorable {
                table: self.merge.point.table_arn.clone(),
                at: self.merge.point.at.to_rfc3339(),
                reason: missing.to_string(),
            })?;
            prints.extend_from_slice(&print.0);
            if let Some(ItemState::There(item)) = state {
                items.push(&item).map_err(broken)?;
            }
        }
        let items = items.finish().map_err(broken)?;
        Ok(FoldedBytes {
            items: items.body,
            prints: prints.into(),
            count: items.items,
            plain_bytes: items.plain_bytes,
        })
    }

    /// The bucket from its pieces: one compressed frame behind the other.
    async fn join(&self, pieces: &[Piece]) -> Result<FoldedBytes, StepError> {
        let mut whole = FoldedBytes {
            items: Bytes::new(),
            prints: Bytes::new(),
            count: 0,
            plain_bytes: 0,
        };
        let (mut items, mut prints) = (Vec::new(), Vec::new());
        for piece in pieces {
            let Piece::Kept(bits, folded) = piece else {
                return Err(StepError::Internal("a piece was not kept".into()));
            };
            let key = |suffix| self.work.folder.piece(self.bucket, bits, suffix);
            items.extend_from_slice(&self.piece(&key("zst"), &folded.sha256).await?);
            prints.extend_from_slice(&self.piece(&key("prints"), &folded.prints_sha256).await?);
            whole.count += folded.items;
            whole.plain_bytes += folded.plain_bytes;
        }
        whole.items = items.into();
        whole.prints = prints.into();
        Ok(whole)
    }

    async fn piece(&self, key: &str, sha256: &str) -> Result<Bytes, StepError> {
        let url = || self.work.store.url(key);
        let body = self.work.store.read(key).await.map_err(StepError::Store)?;
        let body = body.ok_or_else(|| StepError::PartMissing(url()))?;
        if sha256_hex(&body) == sha256 {
            return Ok(body);
        }
        Err(StepError::PartCorrupt(format!(
            "{} is not what was written there; begin the restore anew",
            url()
        )))
    }
}

/// Whether a print goes on with `bits` behind its first `skipped` bits.
fn goes_on_with(print: &KeyPrint, skipped: u32, bits: &str) -> bool {
    let number = u128::from_be_bytes(print.0) << skipped;
    let mut places = (0..128_u32).rev();
    bits.bytes().all(|bit| {
        let place = places.next().unwrap_or_default();
        (number >> place & 1 == 1) == (bit == b'1')
    })
}
