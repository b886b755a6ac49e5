//! `s3s-fs` made atomic: what it does in several steps on a key, nobody sees half done.
//!
//! `s3s-fs` 0.14.1 checks `If-None-Match` and writes without holding anything in between, moves an
//! object into place before it has compared its checksum, and leaves metadata behind when an object
//! is deleted. A lock per key around its methods mends the first, and a few lines here the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
#[allow(
    clippy::wildcard_imports,
    reason = "two types per operation, all named after it"
)]
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;

use crate::error::LocalError;

/// The longest name of one file, on every file system in common use.
const FILE_NAME_BYTES: usize = 255;

/// An upload id is a UUID.
const UPLOAD_ID_BYTES: usize = 36;

#[derive(Debug)]
pub(crate) struct AtomicS3 {
    files: FileSystem,
    root: PathBuf,
    locks: KeyLocks,
}

impl AtomicS3 {
    pub(crate) fn new(root: &Path) -> Result<Self, LocalError> {
        let files = FileSystem::new(root).map_err(|error| LocalError::Folder {
            path: root.to_owned(),
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        Ok(Self {
            files,
            root: root.to_owned(),
            locks: KeyLocks::default(),
        })
    }

    /// The object's file, if bucket and key can name one.
    fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let bucket_folder = self.root.join(bucket);
        if !bucket_folder.is_dir() {
            return Err(s3_error!(NoSuchBucket, "no bucket {}", bucket));
        }
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        if key.split('/').any(odd) {
            return Err(s3_error!(
                InvalidArgument,
                "this S3 keeps objects as files and cannot name one {:?}",
                key
            ));
        }
        let longest = key.split('/').map(str::len).max().unwrap_or(0);
        if longest > FILE_NAME_BYTES || metadata_file(bucket, key).len() > FILE_NAME_BYTES {
            return Err(s3_error!(
                KeyTooLongError,
                "this S3 keeps objects as files and the key is too long for a file name"
            ));
        }
        Ok(bucket_folder.join(key))
    }

    /// Refuses a key without an object, which `s3s-fs` confuses with folders.
    fn existing(&self, bucket: &str, key: &str) -> S3Result<()> {
        if self.object(bucket, key)?.is_file() {
            Ok(())
        } else {
            Err(s3_error!(NoSuchKey, "no object {:?}", key))
        }
    }

    /// Removes what `s3s-fs` keeps beside an object, so that the next of that name begins afresh.
    fn forget_metadata(&self, bucket: &str, key: &str) -> S3Result<()> {
        for name in [metadata_file(bucket, key), info_file(bucket, key)] {
            remove_if_there(&self.root.join(name))?;
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> S3Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(s3_error!(error, InternalError))
        }
        _ => Ok(()),
    }
}

/// Where `s3s-fs` keeps user metadata.
fn metadata_file(bucket: &str, key: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        ".bucket-{}.object-{}.metadata.json",
        encode(bucket),
        encode(key)
    )
}

/// Where `s3s-fs` keeps checksums and the `ETag`.
fn info_file(bucket: &str, key: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        ".bucket-{}.object-{}.internal.json",
        encode(bucket),
        encode(key)
    )
}

/// One lock for each key that somebody works on.
#[derive(Debug, Default)]
struct KeyLocks(Mutex<HashMap<BucketAndKey, Weak<RwLock<()>>>>);

type BucketAndKey = (String, String);

impl KeyLocks {
    fn of(&self, bucket: &str, key: &str) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= 1024 {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let entry = locks.entry((bucket.to_owned(), key.to_owned()));
        let slot = entry.or_default();
        slot.upgrade().unwrap_or_else(|| {
            let lock = Arc::new(RwLock::new(()));
            *slot = Arc::downgrade(&lock);
            lock
        })
    }
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait]
impl S3 for AtomicS3 {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        let was_there = path.is_file();
        let answer = self.files.put_object(req).await;
        if answer.is_err() && !was_there && path.is_file() {
            // The object was in place before its checksum was found to be wrong.
            std::fs::remove_file(&path).map_err(|error| s3_error!(error, InternalError))?;
        }
        answer
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        if !path.is_file() {
            self.forget_metadata(&bucket, &key)?;
        } else if req.input.if_none_match.is_none() {
            // A replaced object's checksums would be taken for the new one's.
            remove_if_there(&self.root.join(info_file(&bucket, &key)))?;
        }
        self.files.complete_multipart_upload(req).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.object(&bucket, &key)?;
        if let CopySource::Bucket { bucket, key, .. } = &req.input.copy_source {
            self.existing(bucket, key)?;
        }
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        self.files.copy_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        if !path.is_file() {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let answer = self.files.delete_object(req).await?;
        self.forget_metadata(&bucket, &key)?;
        Ok(answer)
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let bucket = req.input.bucket;
        let mut output = DeleteObjectsOutput::default();
        let mut deleted = Vec::new();
        for ObjectIdentifier { key, .. } in req.input.delete.objects {
            let path = self.object(&bucket, &key)?;
            let lock = self.locks.of(&bucket, &key);
            let _alone = lock.write().await;
            if path.is_file() {
                std::fs::remove_file(&path).map_err(|error| s3_error!(error, InternalError))?;
                self.forget_metadata(&bucket, &key)?;
            }
            deleted.push(DeletedObject {
                key: Some(key),
                ..DeletedObject::default()
            });
        }
        output.deleted = Some(deleted);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let lock = self.locks.of(&req.input.bucket, &req.input.key);
        let _shared = lock.read().await;
        self.existing(&req.input.bucket, &req.input.key)?;
        // The open file stays what it is even if the key gets another one while its bytes are sent.
        self.files.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let lock = self.locks.of(&req.input.bucket, &req.input.key);
        let _shared = lock.read().await;
        self.existing(&req.input.bucket, &req.input.key)?;
        self.files.head_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.object(&req.input.bucket, &req.input.key)?;
        let kept = metadata_file(&req.input.bucket, &req.input.key).len();
        if kept + ".upload-".len() + UPLOAD_ID_BYTES > FILE_NAME_BYTES {
            return Err(s3_error!(
                KeyTooLongError,
                "this S3 keeps uploads as files and the key is too long for a file name"
            ));
        }
        self.files.create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.files.upload_part(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.files.list_parts(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.files.abort_multipart_upload(req).await
    }

    async fn list_objects(
        &self,
        mut req: S3Request<ListObjectsInput>,
    ) -> Answer<ListObjectsOutput> {
        // s3s-fs says that it encodes keys and does not: better not to ask it to.
        req.input.encoding_type = None;
        self.files.list_objects(req).await
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        req.input.encoding_type = None;
        self.files.list_objects_v2(req).await
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.files.create_bucket(req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let holds_files = |folder: &Path| {
            crate::directory_listing::holds_file(folder)
                .map_err(|error| s3_error!(error, InternalError))
        };
        let folder = self.root.join(&req.input.bucket);
        // S3 deletes empty buckets only; s3s-fs would take everything with it.
        if folder.is_dir() && holds_files(&folder)? {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.files.delete_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.files.head_bucket(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        self.files.list_buckets(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.files.get_bucket_location(req).await
    }
}
