//! The replay server: both services on one loopback port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::answer::Pieces;
use crate::dynamodb::Tables;
use crate::item_sum::ItemSum;
use crate::s3::{Sink, Stored};
use crate::table::{ReplayTable, Served};

/// A running server. It stops when dropped.
///
/// Requests with the header `x-amz-target` are DynamoDB's, all others S3's. Credentials and signatures
/// are not looked at.
#[derive(Debug)]
pub struct ReplayServer {
    endpoint_url: String,
    services: Arc<Services>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Services {
    tables: Tables,
    sink: Sink,
}

impl ReplayServer {
    /// Starts a server with these tables on 127.0.0.1, at `port`, or at any free one if that is 0. Uploads are
    /// dropped.
    pub async fn start(
        port: u16,
        tables: impl IntoIterator<Item = ReplayTable>,
    ) -> io::Result<Self> {
        Self::over(port, Tables::new(tables), Sink::dropping()).await
    }

    /// Starts a server over these services.
    pub async fn over(port: u16, tables: Tables, sink: Sink) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let endpoint_url = format!("http://{}", listener.local_addr()?);
        let services = Arc::new(Services { tables, sink });
        Ok(Self {
            endpoint_url,
            listener: tokio::spawn(accept(listener, Arc::clone(&services))),
            services,
        })
    }

    /// `http://127.0.0.1:PORT`, the endpoint of both services.
    #[must_use]
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// What was served of all tables so far.
    #[must_use]
    pub fn served(&self) -> Served {
        self.services.tables.served()
    }

    /// How many records were served of all streams so far.
    #[must_use]
    pub fn served_records(&self) -> u64 {
        self.services.tables.served_records()
    }

    /// Makes an empty table to write into, unless there is one of that name.
    pub fn make_table(&self, name: &str) {
        self.services.tables.make(name);
    }

    /// What was written into a table that a client made; `None` if there is no such table.
    #[must_use]
    pub fn written(&self, table: &str) -> Option<ItemSum> {
        self.services.tables.written(table)
    }

    /// Forgets all objects of the sink.
    pub fn forget_objects(&self) {
        self.services.sink.clear();
    }

    /// What lies in the sink below a prefix.
    #[must_use]
    pub fn stored_below(&self, bucket: &str, prefix: &str) -> Stored {
        self.services.sink.stored_below(bucket, prefix)
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, services: Arc<Services>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&services)));
            }
            Err(error) => {
                tracing::warn!(%error, "the replay server could not take a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, services: Arc<Services>) {
    let _ = stream.set_nodelay(true);
    let handle = service_fn(move |request| {
        let services = Arc::clone(&services);
        async move { services.answer(request).await }
    });
    // A client that ends in the middle of something is its own concern.
    if let Err(error) = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), handle)
        .await
    {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Services {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Pieces>, hyper::Error> {
        let target = request.headers().get("x-amz-target").cloned();
        let Some(target) = target else {
            return self.sink.answer(request).await;
        };
        let body = request.into_body().collect().await?.to_bytes();
        let target = target.to_str().unwrap_or_default();
        Ok(self.tables.answer(target, &body))
    }
}
