//! Highwater's pure core: values, decisions and the ports to the outside.
//!
//! Nothing here knows AWS, reads a clock or the environment, or runs asynchronously by itself; time,
//! ids and randomness are passed in. The words are DynamoDB's own: an *item* has a *key*; a table is
//! scanned in *segments*, *page* by page; a *part* is one immutable object of a *snapshot*; a
//! *checkpoint* is the durable progress of one segment.

pub mod backoff;
pub mod backup_source;
pub mod budget;
pub mod capacity;
pub mod control_table;
pub mod failure;
pub mod ids;
pub mod item_finder;
pub mod item_size;
pub mod key;
pub mod key_filter;
pub mod layout;
pub mod manifest;
pub mod metadata;
pub mod number;
pub mod object_store;
pub mod part;
pub mod part_reader;
pub mod restore;
pub mod restore_control;
pub mod scan;
pub mod selection;
pub mod snapshot;
pub mod table;
pub mod table_admin;
pub mod table_plan;
pub mod table_writer;
