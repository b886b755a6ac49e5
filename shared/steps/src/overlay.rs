//! The overlay: what the log says of items at the wanted second, laid over a snapshot's items.
//!
//! A key that the log names is the overlay's, whether the item was there at the second or not; all others are the
//! snapshot's. So a restore loads the snapshot's items that the overlay does not cover, and the overlay's own.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::backup_source::SourceFile;
use highwater_domain::digest::sha256_hex;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::restore_point::RestorePoint;
use highwater_domain::restore_point::work_folder::{Folded, WorkFolder};

use crate::error::StepError;
use crate::merge_work::{Work, open_folder};
use crate::print_table::{PrintTable, PrintTableWriter};
use crate::restore_deps::RestoreDeps;

/// Buckets whose facts are read at once.
const AT_ONCE: usize = 16;

/// Sums over the buckets of an overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayTotals {
    /// Items that were there at the second.
    pub items: u64,
    /// Keys of the log that were not.
    pub absent: u64,
    /// Bytes of the items' lines.
    pub plain_bytes: u64,
    /// Bytes of the items' files as stored.
    pub stored_bytes: u64,
}

impl OverlayTotals {
    /// Keys that the log names.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.items + self.absent
    }

    fn add(&mut self, folded: &Folded) {
        self.items += folded.items;
        self.absent += folded.absent;
        self.plain_bytes += folded.plain_bytes;
        self.stored_bytes += folded.stored_bytes;
    }
}

/// The items of an overlay, as files of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayFiles {
    /// One file for each bucket, in order; a bucket without items has a file without items. Keys from the root of the
    /// work folder's store.
    pub files: Vec<SourceFile>,
    /// Sums over them.
    pub totals: OverlayTotals,
    /// SHA-256 over all that was folded, hex. The same snapshot, log and second give the same one.
    pub fingerprint: String,
}

/// A folded overlay, ready to be asked.
///
/// Memory: at most 24 MiB, whatever the number of keys; 16 bytes for each key in a temporary file.
#[derive(Debug)]
pub struct Overlay {
    store: Arc<dyn ObjectStore>,
    files: OverlayFiles,
    prints: PrintTable,
}

impl Overlay {
    /// The overlay in `folder` of `work`, of so many buckets, with its temporary file where the system keeps such.
    ///
    /// # Errors
    /// [`StepError::PartMissing`] if a bucket is not folded yet, [`StepError::PartCorrupt`] if one is not what was
    /// folded.
    pub async fn open(
        work: &Arc<dyn ObjectStore>,
        folder: &str,
        buckets: u32,
    ) -> Result<Self, StepError> {
        Self::open_in(work, folder, buckets, &std::env::temp_dir()).await
    }

    /// The overlay of a restore.
    pub async fn of(deps: &RestoreDeps, point: &RestorePoint) -> Result<Self, StepError> {
        let (store, folder) = open_folder(deps, &point.work)?;
        Self::open(&store, &folder, point.buckets).await
    }

    /// The same as [`open`](Self::open), with its temporary file in `temporary`.
    pub async fn open_in(
        work: &Arc<dyn ObjectStore>,
        folder: &str,
        buckets: u32,
        temporary: &Path,
    ) -> Result<Self, StepError> {
        let work = Work {
            store: Arc::clone(work),
            folder: WorkFolder::new(folder),
        };
        let told = folded(&work, buckets).await?;
        let files = files_of(&work, &told);
        let mut prints =
            PrintTableWriter::new(files.totals.keys(), temporary).map_err(|error| spill(&error))?;
        for bucket in &told {
            add_prints(&work, bucket, &mut prints).await?;
        }
        Ok(Self {
            store: work.store,
            files,
            prints: prints.finish().map_err(|error| spill(&error))?,
        })
    }

    /// Whether the log names the key with this print: the snapshot's item, if there is one, is then not to be loaded.
    pub fn covers(&self, print: &KeyPrint) -> Result<bool, StepError> {
        self.prints.contains(print).map_err(|error| spill(&error))
    }

    /// The store that [`files`](Self::files) are in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The files of items, one for each bucket, in order.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files.files
    }

    /// Sums over the buckets.
    #[must_use]
    pub fn totals(&self) -> OverlayTotals {
        self.files.totals
    }

    /// SHA-256 over all that was folded, hex.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.files.fingerprint
    }
}

/// The files of a restore's overlay, without what is needed to ask it. Returns the store that they are in, too.
pub async fn overlay_files(
    deps: &RestoreDeps,
    point: &RestorePoint,
) -> Result<(Arc<dyn ObjectStore>, OverlayFiles), StepError> {
    let work = Work::open(deps, point)?;
    let files = files_of(&work, &folded(&work, point.buckets).await?);
    Ok((work.store, files))
}

async fn folded(work: &Work, buckets: u32) -> Result<Vec<Folded>, StepError> {
    let read = (0..buckets).map(|bucket| async move {
        let key = work.folder.folded(bucket);
        work.expect::<Folded>(&key).await
    });
    // Collected first: a stream over a closure that borrows is not `Send` for every lifetime.
    let read: Vec<_> = read.collect();
    stream::iter(read).buffered(AT_ONCE).try_collect().await
}

fn files_of(work: &Work, folded: &[Folded]) -> OverlayFiles {
    let mut totals = OverlayTotals::default();
    let mut text = String::new();
    for bucket in folded {
        totals.add(bucket);
        let (items, prints) = (&bucket.sha256, &bucket.prints_sha256);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {items} {prints}", bucket.bucket);
    }
    OverlayFiles {
        files: folded.iter().map(|it| it.file(&work.folder)).collect(),
        totals,
        fingerprint: sha256_hex(text.as_bytes()),
    }
}

/// Adds a bucket's prints, which follow those of the buckets before it.
async fn add_prints(
    work: &Work,
    bucket: &Folded,
    prints: &mut PrintTableWriter,
) -> Result<(), StepError> {
    let key = work.folder.prints(bucket.bucket);
    let url = || work.store.url(&key);
    let body = work.store.read(&key).await.map_err(StepError::Store)?;
    let body = body.ok_or_else(|| StepError::PartMissing(url()))?;
    let changed =
        |what: &str| StepError::PartCorrupt(format!("{} {what}; begin the restore anew", url()));
    let (found, rest) = body.as_chunks();
    if !rest.is_empty()
        || found.len() as u64 != bucket.keys()
        || sha256_hex(&body) != bucket.prints_sha256
    {
        return Err(changed("is not what was written there"));
    }
    for print in found {
        let is_next = prints
            .push(KeyPrint(*print))
            .map_err(|error| spill(&error))?;
        if !is_next {
            return Err(changed("is not sorted"));
        }
    }
    Ok(())
}

fn spill(error: &std::io::Error) -> StepError {
    StepError::Internal(format!(
        "the temporary file for the overlay's keys cannot be used: {error}"
    ))
}
