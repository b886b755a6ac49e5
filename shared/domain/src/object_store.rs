//! The port to the place where snapshots live: a bucket, or a directory that behaves like one.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;
use crate::layout::Destination;

/// An object to be written, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewObject {
    /// The full key, relative to the root of the store, without a leading slash.
    pub key: String,
    /// The bytes.
    pub body: Bytes,
    /// Their SHA-256, if it is known: S3 compares, and nobody has to compute it again.
    pub sha256: Option<[u8; 32]>,
    /// The MIME type that S3 keeps beside it.
    pub content_type: &'static str,
    /// The number of items inside, kept as user metadata so that a check needs no download.
    pub item_count: Option<u64>,
    /// `Content-Encoding`, where the object is to be served as something compressed.
    pub content_encoding: Option<&'static str>,
    /// Further user metadata, names in lower case without `x-amz-meta-`. A directory keeps none.
    pub user_metadata: BTreeMap<String, String>,
}

impl NewObject {
    /// The SHA-256 of the bytes: the known one, or else computed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.sha256
            .unwrap_or_else(|| Sha256::digest(&self.body).into())
    }
}

/// What became of a conditional create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is there now, and this call made it.
    Created,
    /// Some earlier or rival call made it; nothing was changed.
    Exists,
}

/// What a store knows about an object without sending its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Size, in bytes as stored.
    pub bytes: u64,
    /// SHA-256 of the stored bytes, where the store keeps it from the upload.
    pub sha256: Option<[u8; 32]>,
    /// The item count given at the upload, where the store keeps it.
    pub item_count: Option<u64>,
    /// All user metadata, names in lower case without `x-amz-meta-`. Empty where the store keeps none.
    pub user_metadata: BTreeMap<String, String>,
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The full key.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// One page of a listing, in byte order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects below the prefix. With a delimiter, only those without a further `/`.
    pub objects: Vec<ListedObject>,
    /// With [`ObjectStore::list_folders`], the distinct next path components, each ending in `/`.
    pub folders: Vec<String>,
    /// Where the next page begins, or `None` at the end.
    pub next: Option<String>,
}

/// A flat, strongly consistent store of immutable objects with an atomic create-if-absent.
///
/// # Laws
/// - Of any number of concurrent [`create`](Self::create) calls for one key exactly one answers
///   [`Creation::Created`], and a reader sees that call's bytes or nothing, never a part of them.
/// - What was created or replaced is visible to every later `read`, `facts` and `list`.
/// - Deleting what is not there succeeds.
/// - Keys are opaque: `a+b`, spaces, `%`, unicode and `..` name exactly the object they spell, or are refused.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync {
    /// How a person names this object: `s3://bucket/key` or a path.
    fn url(&self, key: &str) -> String;

    /// The bucket that AWS's manifests name; for a directory, its name.
    fn bucket(&self) -> &str;

    /// Creates the object if its key is free.
    async fn create(&self, object: NewObject) -> Result<Creation, Failure>;

    /// The same; and of an object that this call made, the MD5 of its bytes, if the store computes that by itself and says
    /// so. Nobody else has to, then.
    async fn create_told_md5(
        &self,
        object: NewObject,
    ) -> Result<(Creation, Option<[u8; 16]>), Failure> {
        Ok((self.create(object).await?, None))
    }

    /// Writes the object whether or not the key is taken. For metadata only; parts are created.
    async fn replace(&self, object: NewObject) -> Result<(), Failure>;

    /// The object's bytes, or `None` if there is none.
    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure>;

    /// The same; and the MD5 that the store computed when the object was put there, if it says so and if what came was held
    /// against another checksum of that time. Nobody else has to compute it, then.
    async fn read_told_md5(&self, key: &str) -> Result<Option<(Bytes, Option<[u8; 16]>)>, Failure> {
        Ok(self.read(key).await?.map(|body| (body, None)))
    }

    /// The bytes from `range.start` up to `range.end`, fewer at the object's end, none behind it; `None` if
    /// there is no object.
    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure>;

    /// The object's facts, or `None` if there is none.
    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure>;

    /// Objects whose key starts with `prefix`, from the page that `after` names.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure>;

    /// The distinct path components directly below `prefix` (which ends in `/` or is empty).
    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure>;

    /// Deletes these keys, at most 1000 in a call. Keys that are not there count as deleted.
    async fn delete(&self, keys: &[String]) -> Result<(), Failure>;
}

/// Opens the store that a destination names.
pub trait Stores: Debug + Send + Sync {
    /// The store of `destination`; fails where this program cannot reach that kind of place.
    fn open(&self, destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure>;
}
