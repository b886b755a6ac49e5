//! `s3s-fs` made atomic: what it does in several steps on a key, nobody sees half done.
//!
//! `s3s-fs` 0.14.1 checks `If-None-Match` and writes without holding anything in between, moves an
//! object into place before it has compared its checksum, and leaves metadata behind when an object
//! is deleted. A lock per key around its methods mends the first, and a few lines here the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
#[allow(
    clippy::wildcard_imports,
    reason = "two types per operation, all named after it"
)]
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;

use crate::error::LocalError;
use crate::long_keys::{FiledAs, fits, remove_if_there};

#[derive(Debug)]
pub(crate) struct AtomicS3 {
    files: Arc<FileSystem>,
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
            files: Arc::new(files),
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
        if !fits(key) {
            return Err(s3_error!(
                KeyTooLongError,
                "the key is longer than 1024 bytes, or one of its components than the 255 of a file name"
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

    /// Removes an object with all that is kept of it, so that the next of that name begins afresh.
    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let path = self.object(bucket, key)?;
        let lock = self.locks.of(bucket, key);
        let _alone = lock.write().await;
        if path.is_file() {
            remove_if_there(&path).map_err(broken)?;
            let filed = FiledAs::of(bucket, key);
            filed.remove(&self.root).map_err(broken)?;
        }
        Ok(())
    }
}

/// Says to `s3s-fs` where the object is.
fn file_as(bucket: &mut String, key: &mut String) {
    let filed = FiledAs::of(bucket, key);
    (*bucket, *key) = (filed.bucket, filed.key);
}

fn broken(error: std::io::Error) -> S3Error {
    s3_error!(error, InternalError)
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

/// Puts an object that nobody else works on.
async fn put_alone(
    store: &FileSystem,
    root: &Path,
    path: &Path,
    filed: &FiledAs,
    req: S3Request<PutObjectInput>,
) -> Answer<PutObjectOutput> {
    let was_there = path.is_file();
    filed.prepare(root, path).map_err(broken)?;
    let answer = store.put_object(req).await;
    if answer.is_ok() {
        filed.reveal(root, path).map_err(broken)?;
    } else if filed.is_by_hash() {
        filed.take_back(root, path).map_err(broken)?;
    } else if !was_there && path.is_file() {
        // The object was in place before its checksum was found to be wrong.
        filed.remove(root).map_err(broken)?;
    }
    answer
}

#[async_trait]
impl S3 for AtomicS3 {
    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let filed = FiledAs::of(&bucket, &key);
        (req.input.bucket, req.input.key) = (filed.bucket.clone(), filed.key.clone());
        let alone = self.locks.of(&bucket, &key).write_owned().await;
        let (store, root) = (Arc::clone(&self.files), self.root.clone());
        // A task of its own: the request of a client that dies ends with its connection, and S3 replaces an object whole
        // or not at all, its checksum with it.
        let putting = tokio::spawn(async move {
            let _alone = alone;
            put_alone(&store, &root, &path, &filed, req).await
        });
        putting
            .await
            .map_err(|error| s3_error!(InternalError, "{}", error))?
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let filed = FiledAs::of(&bucket, &key);
        (req.input.bucket, req.input.key) = (filed.bucket.clone(), filed.key.clone());
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        filed.prepare(&self.root, &path).map_err(broken)?;
        if !path.is_file() || req.input.if_none_match.is_none() {
            // A replaced or deleted object's checksums would be taken for the new one's.
            remove_if_there(&self.root.join(filed.info_file())).map_err(broken)?;
        }
        if !path.is_file() {
            remove_if_there(&self.root.join(filed.metadata_file())).map_err(broken)?;
        }
        let mut answer = self.files.complete_multipart_upload(req).await?;
        filed.reveal(&self.root, &path).map_err(broken)?;
        if let Some(outcome) = answer.output.future.take() {
            answer.output.future = Some(Box::pin(async move {
                let mut output = outcome.await?;
                (output.bucket, output.key) = (Some(bucket), Some(key));
                Ok(output)
            }));
        }
        Ok(answer)
    }

    async fn copy_object(&self, mut req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let path = self.object(&bucket, &key)?;
        let filed = FiledAs::of(&bucket, &key);
        (req.input.bucket, req.input.key) = (filed.bucket.clone(), filed.key.clone());
        if let CopySource::Bucket { bucket, key, .. } = &mut req.input.copy_source {
            self.existing(bucket, key)?;
            let source = FiledAs::of(bucket, key);
            (*bucket, *key) = (source.bucket.into(), source.key.into());
        }
        let lock = self.locks.of(&bucket, &key);
        let _alone = lock.write().await;
        filed.prepare(&self.root, &path).map_err(broken)?;
        let answer = self.files.copy_object(req).await?;
        filed.reveal(&self.root, &path).map_err(broken)?;
        Ok(answer)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.delete(&req.input.bucket, &req.input.key).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let bucket = req.input.bucket;
        let mut output = DeleteObjectsOutput::default();
        let mut deleted = Vec::new();
        for ObjectIdentifier { key, .. } in req.input.delete.objects {
            self.delete(&bucket, &key).await?;
            deleted.push(DeletedObject {
                key: Some(key),
                ..DeletedObject::default()
            });
        }
        output.deleted = Some(deleted);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let lock = self.locks.of(&req.input.bucket, &req.input.key);
        let _shared = lock.read().await;
        self.existing(&req.input.bucket, &req.input.key)?;
        file_as(&mut req.input.bucket, &mut req.input.key);
        // The open file stays what it is even if the key gets another one while its bytes are sent.
        self.files.get_object(req).await
    }

    async fn head_object(&self, mut req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let lock = self.locks.of(&req.input.bucket, &req.input.key);
        let _shared = lock.read().await;
        self.existing(&req.input.bucket, &req.input.key)?;
        file_as(&mut req.input.bucket, &mut req.input.key);
        self.files.head_object(req).await
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.object(&bucket, &key)?;
        file_as(&mut req.input.bucket, &mut req.input.key);
        let mut answer = self.files.create_multipart_upload(req).await?;
        (answer.output.bucket, answer.output.key) = (Some(bucket), Some(key));
        Ok(answer)
    }

    // The parts of an upload are filed by its id alone.
    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.files.upload_part(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.files.list_parts(req).await
    }

    async fn abort_multipart_upload(
        &self,
        mut req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        file_as(&mut req.input.bucket, &mut req.input.key);
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
