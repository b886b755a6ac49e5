//! Reads a sealed snapshot back, and believes nothing: every hash and count is checked on the way.
//!
//! Works from the bucket alone, by the manifests, as any reader of an AWS export would.

use std::sync::Arc;

use highwater_domain::digest::md5_base64;
use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Layout;
use highwater_domain::manifest::{ManifestFile, ManifestSummary, md5_file};
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::part::export_etag;
use highwater_domain::part_reader::{PartError, read_items};
use highwater_domain::snapshot::{Compression, Status};

use crate::error::StepError;
use crate::snapshot_info;

/// A sealed snapshot, its manifests checked.
#[derive(Debug)]
pub struct SealedSnapshot {
    store: Arc<dyn ObjectStore>,
    /// `backup.json`.
    pub metadata: Metadata,
    /// `manifest-summary.json`.
    pub summary: ManifestSummary,
    /// `manifest-files.json`, in order.
    pub files: Vec<ManifestFile>,
}

/// What reading every part has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadTotals {
    /// Parts.
    pub parts: u64,
    /// Items.
    pub items: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes of the lines.
    pub plain_bytes: u64,
}

impl SealedSnapshot {
    /// Opens a snapshot that is `completed`; checks the manifests against their MD5 files and each other.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        layout: &Layout,
        id: &SnapshotId,
    ) -> Result<Self, StepError> {
        let metadata = snapshot_info::metadata(store.as_ref(), layout, id).await?;
        if metadata.status != Status::Completed {
            let reason = format!("it is {}, not completed", metadata.status.as_str());
            return Err(StepError::Interrupted {
                id: id.clone(),
                reason,
            });
        }
        let files = checked(
            store.as_ref(),
            &layout.manifest_files(),
            &layout.manifest_files_md5(),
        )
        .await?;
        let summary = checked(
            store.as_ref(),
            &layout.manifest_summary(),
            &layout.manifest_summary_md5(),
        )
        .await?;
        let summary: ManifestSummary = serde_json::from_slice(&summary)
            .map_err(|error| corrupt(store.as_ref(), &layout.manifest_summary(), &error))?;
        let files: Vec<ManifestFile> = files
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|error| corrupt(store.as_ref(), &layout.manifest_files(), &error))?;
        let items: u64 = files.iter().map(|file| file.item_count).sum();
        if items != summary.item_count
            || items != metadata.item_count
            || files.len() as u64 != metadata.part_count
        {
            return Err(StepError::PartCorrupt(format!(
                "{}: manifests and backup.json disagree on parts or items",
                store.url(layout.root())
            )));
        }
        Ok(Self {
            store,
            metadata,
            summary,
            files,
        })
    }

    /// Reads every item, part by part, as the bytes that DynamoDB sent. Memory is one part.
    pub async fn read(&self, mut each: impl FnMut(&[u8])) -> Result<ReadTotals, StepError> {
        let mut totals = ReadTotals::default();
        for file in &self.files {
            let key = &file.data_file_s3_key;
            let body = self.store.read(key).await.map_err(StepError::Store)?;
            let body = body.ok_or_else(|| StepError::PartMissing(self.store.url(key)))?;
            check_digests(key, &body, file)?;
            let compression = Compression::of_name(key).ok_or_else(|| {
                StepError::PartCorrupt(format!("{key} is neither gzip nor zstd by its name"))
            })?;
            let contents = read_items(&body, key, compression, &mut each)?;
            if contents.items != file.item_count {
                let (expected, found) = (file.item_count, contents.items);
                return Err(PartError::Count {
                    object: key.clone(),
                    expected,
                    found,
                }
                .into());
            }
            totals.parts += 1;
            totals.items += contents.items;
            totals.stored_bytes += body.len() as u64;
            totals.plain_bytes += contents.plain_bytes;
        }
        let expected = (
            self.metadata.compressed_bytes,
            self.metadata.uncompressed_bytes,
        );
        if (totals.stored_bytes, totals.plain_bytes) == expected {
            return Ok(totals);
        }
        Err(StepError::PartCorrupt(
            "the parts' bytes do not add up to what backup.json says".into(),
        ))
    }
}

fn check_digests(key: &str, body: &[u8], file: &ManifestFile) -> Result<(), StepError> {
    let md5 = md5_base64(body);
    if md5 == file.md5_checksum && export_etag(&md5).as_deref() == Some(&file.etag) {
        return Ok(());
    }
    Err(StepError::PartCorrupt(format!(
        "{key} is not what the manifest lists: its MD5 is {md5}, listed are {} and ETag {}",
        file.md5_checksum, file.etag
    )))
}

fn corrupt(store: &dyn ObjectStore, key: &str, error: &serde_json::Error) -> StepError {
    StepError::PartCorrupt(format!("{} is damaged: {error}", store.url(key)))
}

/// The bytes of a manifest, if they are those that its MD5 file names.
async fn checked(
    store: &dyn ObjectStore,
    key: &str,
    md5_key: &str,
) -> Result<bytes::Bytes, StepError> {
    let read = async |key: &str| {
        let body = store.read(key).await.map_err(StepError::Store)?;
        body.ok_or_else(|| StepError::PartMissing(store.url(key)))
    };
    let body = read(key).await?;
    let md5 = read(md5_key).await?;
    if md5_file(&body).as_bytes() == md5.trim_ascii() {
        return Ok(body);
    }
    Err(StepError::PartCorrupt(format!(
        "{} does not have the MD5 that {} says",
        store.url(key),
        store.url(md5_key)
    )))
}
