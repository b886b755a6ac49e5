//! An S3 inside this process.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::atomic_s3::AtomicS3;
use crate::error::LocalError;
use crate::signed_upload;

/// The file whose lock says that a process serves the folder. No bucket can have its name.
const LOCK_FILE: &str = ".highwater-s3.lock";

/// An S3 on a loopback port, with its objects as files under a folder. It stops when dropped.
///
/// Address buckets by path (`force_path_style`). Any credentials do. `If-None-Match: *` has exactly
/// one winner, and a reader sees an object with its metadata or not at all.
///
/// Not as AWS: a key must be a valid relative path without `.`, `..` or empty components, none of
/// which is longer than a file name may be (255 bytes), and `a` cannot be an object while `a/b` is one. Uploads are held in memory until they are whole; checksums of the parts of a
/// multipart upload are not kept; presigned URLs are not understood.
pub struct EmbeddedS3 {
    endpoint_url: String,
    root: PathBuf,
    server: JoinHandle<()>,
    _lock: File,
}

impl EmbeddedS3 {
    /// Starts an S3 over the folder `root`, made if it is not there. Its subfolders are the buckets.
    pub async fn start(root: &Path) -> Result<Self, LocalError> {
        let unusable = |source| LocalError::Folder {
            path: root.to_owned(),
            source,
        };
        std::fs::create_dir_all(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        let lock = lock(&root)?;
        let service = S3ServiceBuilder::new(AtomicS3::new(&root)?).build();
        let failed = |source| LocalError::Listen {
            engine: "S3",
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            endpoint_url: format!("http://{address}"),
            root,
            server: tokio::spawn(accept(listener, service)),
            _lock: lock,
        })
    }

    /// `http://127.0.0.1:PORT`, for an SDK's endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// Makes a bucket. One that is there already is left as it is.
    pub async fn create_bucket(&self, name: &str) -> Result<(), LocalError> {
        if !s3s::path::check_bucket_name(name) {
            return Err(LocalError::BucketName(name.to_owned()));
        }
        let path = self.root.join(name);
        tokio::fs::create_dir_all(&path)
            .await
            .map_err(|source| LocalError::Folder { path, source })
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Debug for EmbeddedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedS3")
            .field("endpoint_url", &self.endpoint_url)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Takes the folder for this process; the system gives it back however the process ends.
fn lock(root: &Path) -> Result<File, LocalError> {
    let path = root.join(LOCK_FILE);
    let unusable = |source| LocalError::Folder {
        path: root.to_owned(),
        source,
    };
    let file = File::create(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LocalError::InUse {
            path: root.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    // The set ends the connections with this task.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, service.clone()));
            }
            Err(error) => {
                // Out of file handles, usually: let others finish first.
                tracing::warn!(%error, "the embedded S3 could not take a connection");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, service: S3Service) {
    // Small answers must not wait for the client's acknowledgements.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(service.clone(), request));
    if let Err(error) = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await
    {
        tracing::debug!(%error, "a connection to the embedded S3 broke");
    }
}

/// One request. An error aborts the connection, as a torn upload should.
async fn answer(
    service: S3Service,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Box<dyn std::error::Error + Send + Sync>> {
    match signed_upload::unwrap(request).await? {
        Ok(request) => Ok(service.call(request).await?),
        Err(refusal) => Ok(refusal),
    }
}
