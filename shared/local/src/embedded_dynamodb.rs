//! A DynamoDB inside this process.

use std::fmt;
use std::path::Path;

use dynoxide::server::serve_with_shutdown;
use dynoxide::types::Item;
use dynoxide::{Database, ImportOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::LocalError;

/// A DynamoDB on a loopback port, in memory or in one file. It stops when dropped.
///
/// Streams, parallel scans, transactions and conditional writes behave as the service's; throttles,
/// shard splits, trims and eventual reads do not exist. Scan order is the keys' own, not a hash's,
/// and `ScannedCount` is one too high for each page that the 1 MB limit cut.
pub struct EmbeddedDynamoDb {
    endpoint_url: String,
    database: Database,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    /// Starts an empty DynamoDB in memory.
    pub async fn start() -> Result<Self, LocalError> {
        let database = Database::memory().map_err(|error| LocalError::Database {
            path: ":memory:".into(),
            reason: error.to_string(),
        })?;
        Self::serve(database).await
    }

    /// Starts a DynamoDB on the database file `path`, made with its folder if it is not there.
    pub async fn open(path: &Path) -> Result<Self, LocalError> {
        let owned = path.to_owned();
        // SQLite opens, migrates and may wait for a lock: not on the runtime's thread.
        let opened = tokio::task::spawn_blocking(move || open_database(&owned)).await;
        let database = opened.map_err(|error| LocalError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })??;
        Self::serve(database).await
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

    /// Stops and waits until requests at work are answered and connections are closed.
    pub async fn stop(mut self) {
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
            database,
            stop: Some(stop),
            server,
        })
    }
}

impl fmt::Debug for EmbeddedDynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedDynamoDb")
            .field("endpoint_url", &self.endpoint_url)
            .finish_non_exhaustive()
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
