//! The bench: a source and a sink that are never the bottleneck, and programs that measure against them.
//!
//! The replay server speaks enough of DynamoDB and S3 on one loopback port for a backup. Pages are
//! made before the first request and sent as they are, without a copy; uploads are hashed, counted and
//! dropped. What is measured is then the client.

pub mod answer;
pub mod backup;
pub mod data_set;
pub mod dynamodb;
pub mod page;
pub mod process;
pub mod s3;
pub mod server;
pub mod size;
pub mod table;
pub mod upload;
