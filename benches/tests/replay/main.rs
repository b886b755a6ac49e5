//! The replay server, seen from its clients: the real program and the SDKs.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot start its server has failed"
)]

mod contenders;
mod dynamodb;
mod jobs;
mod log;
mod s3;

use highwater_benches::data_set::DataSet;
use highwater_benches::server::ReplayServer;
use highwater_benches::table::ReplayTable;

/// A server with one table, that drops uploads.
async fn server(set: DataSet, wire_bytes: u64) -> ReplayServer {
    let table = ReplayTable::new(set, wire_bytes);
    ReplayServer::start(0, table).await.unwrap()
}
