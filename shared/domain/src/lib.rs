//! Highwater's pure core: values, decisions and the ports to the outside.
//!
//! Nothing here knows AWS, reads a clock or the environment, or runs asynchronously by itself; time,
//! ids and randomness are passed in. The words are DynamoDB's own: an *item* has a *key*; a table is
//! scanned in *segments*, *page* by page; a *part* is one immutable object of a *snapshot*; a
//! *checkpoint* is the durable progress of one segment.

pub mod backoff;
pub mod backup_source;
pub mod bucket_digests;
pub mod budget;
mod canonical_item;
pub mod capacity;
pub mod change_log;
pub mod control_table;
mod create_request;
mod described_table;
pub mod difference;
pub mod dyndump;
pub mod dyndump_writer;
pub mod encoding;
pub mod engine_choice;
pub mod export_manifest;
pub mod failure;
pub mod file_check;
pub mod handoff;
pub mod ids;
pub mod image_chain;
pub mod import_request;
pub mod incident;
pub mod item_digest;
pub mod item_finder;
pub mod item_lines;
pub mod item_size;
pub mod key;
pub mod key_filter;
pub mod key_history;
pub mod key_print;
pub mod large_buffer;
pub mod layout;
mod left_out;
pub mod line_sink;
pub mod lineage;
pub mod live_control;
mod load_capacity;
pub mod log_facts;
pub mod log_place;
mod log_records;
pub mod manifest;
pub mod mark;
pub mod materialized;
pub mod metadata;
pub mod number;
pub mod object_store;
pub mod packing;
pub mod part;
pub mod part_reader;
mod planned_changes;
pub mod restore;
pub mod restore_control;
pub mod restore_cost;
pub mod restore_point;
pub mod scan;
pub mod selection;
pub mod sequence_number;
pub mod shard;
pub mod snapshot;
pub mod stream_arn;
pub mod stream_record;
pub mod stream_source;
pub mod table;
pub mod table_admin;
pub mod table_change;
pub mod table_plan;
pub mod table_settings_diff;
pub mod table_stream;
mod table_words;
pub mod table_writer;
