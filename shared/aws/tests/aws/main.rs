//! The adapters against the embedded engines, and against a server that misbehaves on demand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its stage must stop"
)]

mod clients;
mod control_table;
mod embedded_streams;
mod etag_md5;
mod executions;
mod fenced_writer;
mod loopback;
mod replica_targets;
mod restored_settings;
mod s3_store;
mod scanned_engine;
mod standing_call;
mod stream_source;
mod table_admin;
mod table_describer;
mod table_importer;
mod table_scanner;
mod table_writer;
