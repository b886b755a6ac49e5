//! Highwater's adapters to AWS: the ports of `highwater-domain` over the SDKs.
//!
//! [`Clients`] is the one place that builds the configuration of services. [`DynamoScanner`] reads a table page by
//! page and keeps the items as the bytes that DynamoDB sent, [`DynamoWriter`] sends items as the bytes that
//! a backup holds; [`S3Store`] keeps objects in a bucket; [`DynamoDescriber`] reads a table's settings
//! verbatim, [`DynamoAdmin`] and [`DynamoImporter`] make tables from them; [`DynamoStreams`] reads streams,
//! whose records stay the bytes that came, too; [`KvControlTable`] records who has done what; [`SfnExecutions`]
//! starts and stops the deployed state machines.
//! Whatever fails comes back as a [`highwater_domain::failure::Failure`], judged once, in [`failure`].

mod answer_capture;
mod assumed_role;
mod attribute_value;
mod batch_write;
mod call_pattern;
mod checked_body;
mod clients;
mod connection;
mod control_table;
mod endpoint;
mod etag_md5;
mod executions;
pub mod failure;
mod fence_tables;
mod fenced_repair;
mod fenced_writer;
mod http_client;
mod item_capture;
mod item_reader;
mod live_control;
mod page_capture;
mod record_capture;
mod replica_control;
mod replica_targets;
mod request_body;
mod restore_control;
mod s3_deletion;
mod s3_listing;
mod s3_store;
mod sdk_config;
mod signed_payload;
mod sigv4;
mod standing_call;
mod stream_source;
mod table_admin;
mod table_describer;
mod table_importer;
mod table_scanner;
mod table_writer;
mod url_key;

pub use clients::Clients;
pub use connection::ConnectionSettings;
pub use control_table::KvControlTable;
pub use executions::SfnExecutions;
pub use fence_tables::DynamoFenceTables;
pub use fenced_writer::DynamoFencedWriter;
pub use item_reader::DynamoItemReader;
pub use replica_targets::DynamoTargets;
pub use s3_store::S3Store;
pub use stream_source::DynamoStreams;
pub use table_admin::DynamoAdmin;
pub use table_describer::DynamoDescriber;
pub use table_importer::DynamoImporter;
pub use table_scanner::DynamoScanner;
pub use table_writer::DynamoWriter;
