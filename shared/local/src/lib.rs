//! What stands in for AWS on one machine: a DynamoDB, an S3 and a folder that behaves like a bucket.
//!
//! The two engines listen on 127.0.0.1, at ports the system picks, and speak the services' own HTTP
//! protocols: any SDK reaches them through an endpoint URL, with whatever credentials it has. They
//! are the convenience of `highwater demo` and of the tests, not the oracle of how AWS behaves.

mod atomic_s3;
mod directory_listing;
mod directory_store;
mod embedded_dynamodb;
mod embedded_s3;
mod error;
mod long_keys;
mod seed;
mod signed_upload;
mod stream_answers;
mod stream_index;
mod stream_wire;
mod streams_front;
mod virtual_shards;
mod whole_file;

pub use directory_store::DirectoryStore;
pub use embedded_dynamodb::EmbeddedDynamoDb;
pub use embedded_s3::EmbeddedS3;
pub use error::LocalError;
pub use virtual_shards::StreamShape;
