//! A DynamoDB inside this process.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dynoxide::server::serve_with_shutdown;
use dynoxide::types::Item;
use dynoxide::{Database, ImportOptions};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::LocalError;
use crate::stream_answers::StreamAnswers;
use crate::stream_index;
use crate::streams_front;
use crate::virtual_shards::StreamShape;

/// How long another process may hold the file that is opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks at it.
const AGAIN: Duration = Duration::from_millis(20);

/// A DynamoDB on a loopback port, in memory or in one file. It stops when dropped.
///
/// Parallel scans, transactions and conditional writes behave as the service's; throttles and eventual
/// reads do not exist. Scan order is the keys' own, not a hash's, and `ScannedCount` is one too high for
/// each page that the 1 MB limit cut.
///
/// Streams need [`start_with`](Self::start_with) or [`open_with`](Self::open_with): these cut them into
/// shards that roll over, split and are trimmed. Without, a stream is one shard with an id of its own
/// kind, which is listed as closed while it is open.
pub struct EmbeddedDynamoDb {
    endpoint_url: String,
    /// The engine's own, behind the front.
    address: SocketAddr,
    database: Database,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    front: Option<Front>,
}

/// What answers the calls of streams.
struct Front {
    answers: Arc<StreamAnswers>,
    stop: watch::Sender<()>,
    server: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    /// Starts an empty DynamoDB in memory.
    pub async fn start() -> Result<Self, LocalError> {
        Self::serve(in_memory()?).await
    }

    /// As [`start`](Self::start), with streams of this shape.
    pub async fn start_with(shape: StreamShape) -> Result<Self, LocalError> {
        let database = in_memory()?;
        stream_index::add_to_memory(&database)?;
        Self::serve(database).await?.fronted(shape).await
    }

    /// As [`open`](Self::open), with streams of this shape. The same shape on the same file gives the same
    /// shards; of each table, the stream that was enabled last.
    pub async fn open_with(path: &Path, shape: StreamShape) -> Result<Self, LocalError> {
        let database = opened(path, |path| {
            let database = open_database(path)?;
            stream_index::add_to_file(path)?;
            Ok(database)
        });
        Self::serve(database.await?).await?.fronted(shape).await
    }

    /// Starts a DynamoDB on the database file `path`, made with its folder if it is not there.
    pub async fn open(path: &Path) -> Result<Self, LocalError> {
        Self::serve(opened(path, open_database).await?).await
    }

    /// `http://127.0.0.1:PORT`, for an SDK's endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// The engine itself, for loading tables without the detour over HTTP.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Loads items given as DynamoDB JSON, all or none, without HTTP; gives their number.
    ///
    /// For large tables in tests. Numbers are stored as they are written here, not normalised, no stream
    /// records are made, and an item of an equal key is replaced.
    pub async fn import(&self, table: &str, items: Vec<Vec<u8>>) -> Result<usize, LocalError> {
        let (database, name) = (self.database.clone(), table.to_owned());
        let imported = tokio::task::spawn_blocking(move || {
            let items = items
                .iter()
                .map(|item| serde_json::from_slice(item))
                .collect::<Result<Vec<Item>, _>>()
                .map_err(|error| error.to_string())?;
            database
                .import_items(&name, items, ImportOptions::default())
                .map_err(|error| error.to_string())
        });
        let reason = match imported.await {
            Ok(Ok(result)) => return Ok(result.items_imported),
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        Err(LocalError::Import {
            table: table.to_owned(),
            reason,
        })
    }

    /// Lets every stream record written so far be trimmed, as 24 hours do.
    ///
    /// Without streams of a shape this does nothing.
    pub fn trim_streams(&self) {
        if let Some(front) = &self.front {
            front.answers.trim();
        }
    }

    /// Stops and waits until requests at work are answered and connections are closed.
    pub async fn stop(mut self) {
        if let Some(front) = self.front.take() {
            let _ = front.stop.send(());
            let _ = front.server.await;
        }
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.server).await;
    }

    async fn serve(database: Database) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Listen {
            engine: "DynamoDB",
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let engine = database.clone();
        let server = tokio::spawn(async move {
            // Asked to stop, or the owner is gone: either way the end.
            let shutdown = async move {
                let _ = stopped.await;
            };
            if let Err(reason) = serve_with_shutdown(listener, engine, shutdown).await {
                tracing::error!(reason, "the embedded DynamoDB stopped");
            }
        });
        Ok(Self {
            endpoint_url: format!("http://{address}"),
            address,
            database,
            stop: Some(stop),
            server,
            front: None,
        })
    }

    /// Puts the streams in front of the engine, at a port that does both.
    async fn fronted(mut self, shape: StreamShape) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Listen {
            engine: "DynamoDB",
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let answers = Arc::new(StreamAnswers::new(self.database.clone(), shape));
        let (stop, stopped) = watch::channel(());
        let serve = streams_front::serve(listener, self.address, Arc::clone(&answers), stopped);
        self.endpoint_url = format!("http://{address}");
        self.front = Some(Front {
            answers,
            stop,
            server: tokio::spawn(serve),
        });
        Ok(self)
    }
}

impl fmt::Debug for EmbeddedDynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedDynamoDb")
            .field("endpoint_url", &self.endpoint_url)
            .finish_non_exhaustive()
    }
}

fn in_memory() -> Result<Database, LocalError> {
    Database::memory().map_err(|error| LocalError::Database {
        path: ":memory:".into(),
        reason: error.to_string(),
    })
}

/// SQLite opens, migrates and may wait for a lock: not on the runtime's thread.
async fn opened(
    path: &Path,
    open: fn(&Path) -> Result<Database, LocalError>,
) -> Result<Database, LocalError> {
    let begun = Instant::now();
    loop {
        let owned = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&owned)).await;
        let opened = opened.map_err(|error| LocalError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        // Of processes that make one file at the same time one does it; the engine does not wait for it by itself.
        let is_locked = |reason: &str| reason.contains("database is locked");
        match opened {
            Err(LocalError::Database { reason, .. })
                if is_locked(&reason) && begun.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            opened => return opened,
        }
    }
}

fn open_database(path: &Path) -> Result<Database, LocalError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|source| LocalError::Folder {
            path: folder.to_owned(),
            source,
        })?;
    }
    let failed = |reason: String| LocalError::Database {
        path: path.to_owned(),
        reason,
    };
    let text = path
        .to_str()
        .ok_or_else(|| failed("its name is not valid UTF-8".to_owned()))?;
    Database::new(text).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn any_number_of_openers_may_make_one_file() {
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("control.db");
            let opening = (0..8).map(|_| {
                let path = path.clone();
                tokio::spawn(async move {
                    let engine = EmbeddedDynamoDb::open_with(&path, StreamShape::default());
                    engine.await.map(drop)
                })
            });
            for opened in futures::future::join_all(opening).await {
                opened.unwrap().unwrap();
            }
        }
    }
}
