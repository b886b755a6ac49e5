//! Objects in an S3 bucket, or in what speaks S3's protocol.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::large_buffer::large_buffer;
use highwater_domain::object_store::{Creation, ListPage, NewObject, ObjectFacts, ObjectStore};
use highwater_domain::reused_buffers::ReusedBuffers;

use crate::etag_md5::{self, EtagMd5};
use crate::failure;
use crate::signed_payload::SignedPayload;

/// The user metadata that holds an object's item count.
const ITEM_COUNT: &str = "highwater-items";
/// How often a create is repeated that collided with another one for the same key.
const CONFLICT_ATTEMPTS: u32 = 8;
/// Room is made for no more than this before the bytes are there, whatever an answer promises.
const MOST_PROMISED: u64 = 1 << 30;

/// A body of so many bytes is large enough for its buffer to be worth keeping…
const LEAST_REUSED: u64 = 1 << 20;
/// … unless it has grown beyond this.
const MOST_KEPT: usize = 64 << 20;

/// The bytes of an object, and their MD5 if S3 has told it.
type Read = (Bytes, Option<[u8; 16]>);

/// How often a download is begun whose body broke off; the SDK retries only up to the first byte.
const READ_ATTEMPTS: u32 = 4;
/// The pause before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// One bucket as an [`ObjectStore`].
///
/// A create is `PutObject` with `If-None-Match: *`, so S3 itself picks the one winner. Where an answer
/// was lost on the way and the SDK asked again, the winner may be told [`Creation::Exists`] for its own
/// object: the bytes there tell. Uploads carry their SHA-256, which S3 checks and keeps.
#[derive(Clone, Debug)]
pub struct S3Store {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    etags: EtagMd5,
    bodies: ReusedBuffers,
}

impl S3Store {
    /// The store that is `bucket`. Keys are whole keys within it.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            etags: EtagMd5::default(),
            bodies: ReusedBuffers::keeping(1, MOST_KEPT),
        }
    }

    /// Uploads an object, if `condition` is met where there is one.
    async fn put(
        &self,
        object: &NewObject,
        condition: Option<&str>,
    ) -> Result<PutObjectOutput, SdkError<PutObjectError, HttpResponse>> {
        let sha256 = object.digest();
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&object.key)
            .content_type(object.content_type)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(BASE64.encode(sha256))
            .set_content_encoding(object.content_encoding.map(str::to_owned))
            .set_if_none_match(condition.map(str::to_owned))
            .body(ByteStream::from(object.body.clone()));
        for (name, value) in &object.user_metadata {
            put = put.metadata(name, value);
        }
        if let Some(count) = object.item_count {
            put = put.metadata(ITEM_COUNT, count.to_string());
        }
        let signed = SignedPayload::of(&sha256);
        put.customize().interceptor(signed).send().await
    }

    /// Uploads an object to a key that is free. The answer, or `None` if it is not.
    async fn put_if_free(&self, object: &NewObject) -> Result<Option<PutObjectOutput>, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.put(object, Some("*")).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            match status(&error) {
                Some(412) => return Ok(None),
                Some(409) if attempts < CONFLICT_ATTEMPTS && is_conflict(&error) => {}
                _ => return Err(self.failure("PutObject", &object.key, error)),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    pub(crate) fn failure<E>(
        &self,
        operation: &'static str,
        key: &str,
        error: SdkError<E, HttpResponse>,
    ) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        failure::from_sdk(operation, self.url(key), error)
    }

    /// Tells a missing object from a missing bucket: the answer to a HEAD has no body to say which.
    async fn bucket_exists(&self) -> Result<(), Failure> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            // Whoever may not ask this was told the truth about the object by its own 404.
            Err(error) if status(&error) == Some(403) => Ok(()),
            Err(error) if status(&error) == Some(404) => Err(Failure::new(
                FailureKind::NotFound,
                "HeadBucket",
                format!("s3://{}", self.bucket),
                "the bucket does not exist",
            )),
            Err(error) => Err(self.failure("HeadBucket", "", error)),
        }
    }

    /// A body in one buffer. Gathering its pieces first would hold all of it twice.
    async fn whole(
        &self,
        mut body: ByteStream,
        length: Option<i64>,
    ) -> Result<Bytes, ByteStreamError> {
        let length = length.and_then(|length| u64::try_from(length).ok());
        let length = length.unwrap_or(0).min(MOST_PROMISED);
        if length < LEAST_REUSED {
            let mut bytes = large_buffer(length);
            gather(&mut body, &mut bytes).await?;
            return Ok(bytes.into());
        }
        // Whoever reads one part after the other has every page of memory already.
        let mut bytes = self.bodies.take_or(|| large_buffer(length));
        gather(&mut body, &mut bytes).await?;
        Ok(bytes.freeze())
    }

    /// Downloads an object, or the range of it that an HTTP `Range` header names.
    async fn get(&self, key: &str, range: Option<String>) -> Result<Option<Read>, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let get = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(key)
                .set_range(range.clone())
                // A checksum is of the whole object.
                .set_checksum_mode(range.is_none().then_some(ChecksumMode::Enabled));
            let output = match get.send().await {
                Ok(output) => output,
                Err(error) if code(&error) == Some("NoSuchKey") => return Ok(None),
                // The range begins behind the object's end.
                Err(error) if range.is_some() && status(&error) == Some(416) => {
                    return Ok(Some((Bytes::new(), None)));
                }
                Err(error) => return Err(self.failure("GetObject", key, error)),
            };
            let md5 = etag_md5::of_read(&output);
            match self.whole(output.body, output.content_length).await {
                Ok(body) => return Ok(Some((body, md5))),
                Err(error) if attempts == READ_ATTEMPTS => {
                    return Err(Failure::new(
                        FailureKind::Transient,
                        "GetObject",
                        self.url(key),
                        failure::root_cause(&error),
                    )
                    .with_source(error));
                }
                Err(error) => tracing::debug!(key, %error, "a download broke off"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

async fn gather(body: &mut ByteStream, bytes: &mut Vec<u8>) -> Result<(), ByteStreamError> {
    while let Some(piece) = body.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(())
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn bucket(&self) -> &str {
        &self.bucket
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        let created = self.put_if_free(&object).await?;
        Ok(created.map_or(Creation::Exists, |_| Creation::Created))
    }

    async fn create_told_md5(
        &self,
        object: NewObject,
    ) -> Result<(Creation, Option<[u8; 16]>), Failure> {
        Ok(match self.put_if_free(&object).await? {
            Some(answer) => (Creation::Created, self.etags.of(&object.body, &answer)),
            None => (Creation::Exists, None),
        })
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.put(&object, None)
            .await
            .map(drop)
            .map_err(|error| self.failure("PutObject", &object.key, error))
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.get(key, None).await?.map(|(body, _)| body))
    }

    async fn read_told_md5(&self, key: &str) -> Result<Option<Read>, Failure> {
        self.get(key, None).await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        // No object reaches that far, and servers read positions as signed numbers.
        let last = range.end.saturating_sub(1).min(i64::MAX.unsigned_abs());
        if range.is_empty() || range.start > last {
            // HTTP has no spelling for a range of nothing.
            return Ok(self.facts(key).await?.map(|_| Bytes::new()));
        }
        let header = format!("bytes={}-{last}", range.start);
        Ok(self.get(key, Some(header)).await?.map(|(body, _)| body))
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled);
        let output = match head.send().await {
            Ok(output) => output,
            Err(error) if status(&error) == Some(404) => {
                return self.bucket_exists().await.map(|()| None);
            }
            Err(error) if status(&error) == Some(403) => {
                let mut failure = self.failure("HeadObject", key, error);
                failure.message.push_str(
                    "; without s3:ListBucket on the bucket S3 answers so for a missing object too",
                );
                return Err(failure);
            }
            Err(error) => return Err(self.failure("HeadObject", key, error)),
        };
        let bytes = output
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        let Some(bytes) = bytes else {
            return Err(Failure::new(
                FailureKind::Corrupt,
                "HeadObject",
                self.url(key),
                "the answer gives no length",
            ));
        };
        Ok(Some(ObjectFacts {
            bytes,
            sha256: output.checksum_sha256().and_then(sha256),
            item_count: output.metadata().and_then(item_count),
            user_metadata: output
                .metadata()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect(),
        }))
    }

    /// Pages go on behind a key, `after`, so that a position outlives the listing that gave it.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let mut listing = self
            .listing(prefix)
            .set_start_after(after.map(str::to_owned));
        loop {
            let mut page = self.listed(prefix, listing).await?;
            let (Some(token), None) = (&page.next, page.objects.last()) else {
                if page.next.is_some() {
                    page.next = page.objects.last().map(|object| object.key.clone());
                }
                return Ok(page);
            };
            // An empty page that is not the last one gives no key to go on behind.
            listing = self.listing(prefix).continuation_token(token);
        }
    }

    /// Pages go on at S3's own token: a folder that ended one could not be told from its contents.
    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        let listing = self
            .listing(prefix)
            .delimiter("/")
            .set_continuation_token(after.map(str::to_owned));
        self.listed(prefix, listing).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.delete_keys(keys).await
    }
}

/// The whole object's SHA-256. The checksum of a multipart upload's parts (`…-7`) is none.
fn sha256(base64: &str) -> Option<[u8; 32]> {
    BASE64.decode(base64).ok()?.try_into().ok()
}

fn item_count(metadata: &HashMap<String, String>) -> Option<u64> {
    metadata.get(ITEM_COUNT)?.parse().ok()
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
}

/// Two creates met: one of them, perhaps neither, is in. S3 wants the upload repeated.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
fn is_conflict(error: &SdkError<PutObjectError, HttpResponse>) -> bool {
    code(error).is_none_or(|code| matches!(code, "ConditionalRequestConflict" | "OperationAborted"))
}
