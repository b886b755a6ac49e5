//! The S3 side: takes uploads and remembers names, sizes and hashes.
//!
//! Buckets are addressed by path and come into being with their first object. A sink that drops what it takes can
//! give back bodies of up to [`KEPT_BYTES`], one that keeps it all of them: in memory, or in a temporary folder.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    RANGE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use thiserror::Error;

use crate::answer::{Pieces, answer};
use crate::s3::body::{Body, BodyFolder};
use crate::s3::listing::Listing;
use crate::upload::{KEPT_BYTES, Upload, UploadError};

mod body;
mod listing;
mod text;

/// All buckets.
#[derive(Debug)]
pub struct Sink {
    /// Longer bodies are dropped.
    most_kept: u64,
    /// Where bodies are kept, if not in memory.
    folder: Option<BodyFolder>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

type Bucket = BTreeMap<String, StoredObject>;

#[derive(Debug)]
struct StoredObject {
    /// Without its body.
    upload: Upload,
    body: Body,
    content_type: Option<HeaderValue>,
    /// `x-amz-meta-…`.
    metadata: HeaderMap,
}

/// What the sink holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Objects.
    pub objects: u64,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// A request that S3 would refuse too, or that a sink cannot serve.
#[derive(Debug, Error)]
enum Refusal {
    #[error("At least one of the pre-conditions you specified did not hold")]
    PreconditionFailed,
    #[error("The specified key does not exist.")]
    NoSuchKey,
    #[error("{0}")]
    Upload(#[from] UploadError),
    #[error("this was longer than {KEPT_BYTES} bytes, so only its hash was kept")]
    Dropped,
    #[error("the body cannot be kept on disk: {0}")]
    Disk(#[from] io::Error),
    #[error("The requested range is not satisfiable")]
    Range,
    #[error("the request is malformed: {0}")]
    Malformed(String),
    #[error("the replay server does not serve {0}")]
    Unknown(String),
}

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            Self::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
            Self::Upload(UploadError::Checksum(_)) => (StatusCode::BAD_REQUEST, "BadDigest"),
            Self::Upload(_) => (StatusCode::BAD_REQUEST, "IncompleteBody"),
            Self::Disk(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Range => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "InvalidArgument"),
            Self::Dropped | Self::Unknown(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        }
    }

    fn response(&self) -> Response<Pieces> {
        let (status, code) = self.status_and_code();
        let message = text::escape(&self.to_string());
        xml(
            status,
            &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        )
    }
}

fn xml(status: StatusCode, document: &str) -> Response<Pieces> {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}");
    let mut response = answer(status, body);
    let content_type = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl Sink {
    /// A sink that drops what it takes.
    #[must_use]
    pub fn dropping() -> Self {
        Self {
            most_kept: KEPT_BYTES,
            folder: None,
            buckets: Mutex::default(),
        }
    }

    /// A sink that keeps what it takes, in memory.
    #[must_use]
    pub fn keeping() -> Self {
        Self {
            most_kept: u64::MAX,
            folder: None,
            buckets: Mutex::default(),
        }
    }

    /// A sink that keeps what it takes, all but small bodies in a temporary folder that goes with it.
    pub fn on_disk() -> io::Result<Self> {
        Ok(Self {
            folder: Some(BodyFolder::new()?),
            ..Self::keeping()
        })
    }

    /// Forgets all buckets and what is in them.
    pub fn clear(&self) {
        self.buckets().clear();
    }

    /// What the keys with this prefix hold, in one bucket, or in all if `bucket` is empty.
    #[must_use]
    pub fn stored_below(&self, bucket: &str, prefix: &str) -> Stored {
        let mut stored = Stored::default();
        for (name, objects) in &*self.buckets() {
            if bucket.is_empty() || bucket == name {
                for (_, object) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
                    stored.objects += 1;
                    stored.bytes += object.upload.bytes;
                }
            }
        }
        stored
    }

    /// Answers a request. Fails if the client went away in the middle of it.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Pieces>, hyper::Error> {
        match self.served(request).await {
            Ok(response) => Ok(response),
            Err(Refusal::Upload(UploadError::Broken(error))) => Err(error),
            Err(refusal) => Ok(refusal.response()),
        }
    }

    async fn served(&self, request: Request<Incoming>) -> Result<Response<Pieces>, Refusal> {
        let (parts, body) = request.into_parts();
        let malformed = |what: &str| Refusal::Malformed(what.to_owned());
        let path = parts.uri.path().trim_start_matches('/');
        let path = text::percent_decode(path).ok_or_else(|| malformed("the path"))?;
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let query = text::query(parts.uri.query().unwrap_or_default());
        let query = query.ok_or_else(|| malformed("the query"))?;
        let is_plain = query.keys().all(|name| name == "x-id");
        match (&parts.method, key.is_empty()) {
            (&Method::PUT, false) if is_plain => {
                let upload = Upload::receive(&parts.headers, body, self.most_kept).await?;
                self.put(bucket, key, upload, &parts.headers)
            }
            (&Method::PUT, true) if is_plain => {
                self.buckets().entry(bucket.to_owned()).or_default();
                Ok(answer(StatusCode::OK, ""))
            }
            (&Method::HEAD, true) => Ok(answer(StatusCode::OK, "")),
            (&Method::HEAD, false) if is_plain => Ok(self.head(bucket, key, &parts.headers)),
            (&Method::GET, false) if is_plain => self.get(bucket, key, &parts.headers),
            (&Method::GET, true) if query.contains_key("list-type") => {
                let listing = Listing::asked(bucket, &query).map_err(Refusal::Malformed)?;
                let buckets = self.buckets();
                let objects = buckets.get(bucket).into_iter().flatten();
                let objects = objects
                    .map(|(key, object)| (&**key, object.upload.bytes, etag(&object.upload)));
                Ok(xml(StatusCode::OK, &listing.document(objects)))
            }
            (&Method::POST, true) if query.contains_key("delete") => {
                let body = body.collect().await.map_err(UploadError::from)?.to_bytes();
                self.delete_all(bucket, &String::from_utf8_lossy(&body))
            }
            (&Method::DELETE, false) if is_plain => {
                self.buckets()
                    .get_mut(bucket)
                    .map(|bucket| bucket.remove(key));
                Ok(answer(StatusCode::NO_CONTENT, ""))
            }
            (method, _) => Err(Refusal::Unknown(format!("{method} {}", parts.uri))),
        }
    }

    fn put(
        &self,
        bucket: &str,
        key: &str,
        mut upload: Upload,
        headers: &HeaderMap,
    ) -> Result<Response<Pieces>, Refusal> {
        let body = Body::keep(upload.body.take(), self.folder.as_ref())?;
        let mut buckets = self.buckets();
        let bucket = buckets.entry(bucket.to_owned()).or_default();
        match headers.get(IF_NONE_MATCH) {
            Some(tag) if tag != "*" => {
                return Err(Refusal::Unknown("If-None-Match of a tag".into()));
            }
            Some(_) if bucket.contains_key(key) => return Err(Refusal::PreconditionFailed),
            _ => {}
        }
        let mut response = answer(StatusCode::OK, "");
        tell_encryption(response.headers_mut(), &upload);
        let is_metadata = |name: &HeaderName| name.as_str().starts_with("x-amz-meta-");
        let metadata = headers.iter().filter(|(name, _)| is_metadata(name));
        let object = StoredObject {
            upload,
            body,
            content_type: headers.get(CONTENT_TYPE).cloned(),
            metadata: metadata
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        };
        bucket.insert(key.to_owned(), object);
        Ok(response)
    }

    fn head(&self, bucket: &str, key: &str, asked: &HeaderMap) -> Response<Pieces> {
        let buckets = self.buckets();
        let Some(object) = buckets.get(bucket).and_then(|bucket| bucket.get(key)) else {
            return answer(StatusCode::NOT_FOUND, "");
        };
        let mut response = answer(StatusCode::OK, "");
        let headers = response.headers_mut();
        object.describe(headers, asked);
        headers.insert(CONTENT_LENGTH, object.upload.bytes.into());
        response
    }

    fn get(&self, bucket: &str, key: &str, asked: &HeaderMap) -> Result<Response<Pieces>, Refusal> {
        let buckets = self.buckets();
        let object = buckets.get(bucket).and_then(|bucket| bucket.get(key));
        let object = object.ok_or(Refusal::NoSuchKey)?;
        let length = object.body.len().ok_or(Refusal::Dropped)?;
        let mut response = match asked.get(RANGE) {
            None => answer(StatusCode::OK, object.body.read(0..length)?),
            Some(asked) => {
                let range = range(asked, length)?;
                let told = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                let mut response = answer(StatusCode::PARTIAL_CONTENT, object.body.read(range)?);
                tell(response.headers_mut(), CONTENT_RANGE, &told);
                response
            }
        };
        object.describe(response.headers_mut(), asked);
        Ok(response)
    }

    fn delete_all(&self, bucket: &str, document: &str) -> Result<Response<Pieces>, Refusal> {
        let malformed = || Refusal::Malformed("the list of keys to delete".into());
        let keys: Vec<String> = text::elements(document, "Key")
            .map(text::unescape)
            .collect::<Option<_>>()
            .ok_or_else(malformed)?;
        let quiet = text::elements(document, "Quiet").any(|quiet| quiet == "true");
        let mut deleted = String::new();
        let mut buckets = self.buckets();
        let bucket = buckets.entry(bucket.to_owned()).or_default();
        for key in &keys {
            bucket.remove(key);
            if !quiet {
                deleted = deleted + "<Deleted><Key>" + &text::escape(key) + "</Key></Deleted>";
            }
        }
        Ok(xml(
            StatusCode::OK,
            &format!("<DeleteResult>{deleted}</DeleteResult>"),
        ))
    }

    /// Poisoned or not, the map is whole: nothing panics between two of its changes.
    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredObject {
    fn describe(&self, headers: &mut HeaderMap, asked: &HeaderMap) {
        headers.extend(self.metadata.clone());
        if let Some(content_type) = &self.content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        tell_encryption(headers, &self.upload);
        let wanted = asked
            .get("x-amz-checksum-mode")
            .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
        // A checksum is of the whole object.
        if wanted && self.upload.sha256_sent && !asked.contains_key(RANGE) {
            let sha256 = HeaderName::from_static("x-amz-checksum-sha256");
            tell(headers, sha256, &BASE64.encode(self.upload.sha256));
            let kind = HeaderName::from_static("x-amz-checksum-type");
            tell(headers, kind, "FULL_OBJECT");
        }
    }
}

/// What `bytes=FIRST-LAST` or `bytes=FIRST-` names of so many bytes. Never empty.
fn range(asked: &HeaderValue, length: usize) -> Result<Range<usize>, Refusal> {
    let text = asked.to_str().unwrap_or_default();
    let unknown = || Refusal::Unknown(format!("the range {text:?}"));
    let (first, last) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or_else(unknown)?;
    let first: usize = first.parse().map_err(|_| unknown())?;
    let last = match last {
        "" => usize::MAX,
        last => last.parse().map_err(|_| unknown())?,
    };
    if first >= length || last < first {
        return Err(Refusal::Range);
    }
    Ok(first..last.saturating_add(1).min(length))
}

fn tell(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // What is told is hexadecimal or base64, always a valid value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// As S3 does of what its own keys encrypt.
fn tell_encryption(headers: &mut HeaderMap, upload: &Upload) {
    tell(headers, ETAG, &etag(upload));
    let encryption = HeaderName::from_static("x-amz-server-side-encryption");
    tell(headers, encryption, "AES256");
}

/// The MD5, as S3 gives it of what its own keys encrypt.
fn etag(upload: &Upload) -> String {
    format!("\"{}\"", hex::encode(upload.md5))
}
