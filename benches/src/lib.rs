//! The bench: a source and a sink that are never the bottleneck, and programs that measure against them.
//!
//! The replay server speaks enough of DynamoDB and S3 on one loopback port for backups, restores and comparisons.
//! Pages are made before the first request and sent with their number filled in; what is uploaded or written is
//! checked, counted and dropped, or kept in memory where it is to be read again. What is measured is then the client.

pub mod answer;
pub mod backup;
pub mod changes;
pub mod command;
pub mod compare;
pub mod comparison;
pub mod consume;
pub mod contender;
pub mod data_set;
pub mod dynamodb;
pub mod item_sum;
pub mod job;
pub mod lineage;
pub mod made_log;
pub mod page;
pub mod process;
pub mod restore;
pub mod s3;
pub mod second;
pub mod server;
pub mod size;
pub mod table;
pub mod upload;
