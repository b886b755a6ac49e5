//! The use cases of Highwater, one file per workflow step, over the ports that the core declares.
//!
//! A Lambda function and the command line run the same code: the state machine names a step, a function
//! of the same name wires it, and this crate does it. Nothing here names an AWS SDK.
//!
//! | state | file | what it leaves behind |
//! |---|---|---|
//! | `PlanBackup` | [`plan_backup`] | the snapshot's record, `backup.json` (`running`), `table.json` |
//! | `ScanSegment` | [`scan_segment`] | parts and checkpoints |
//! | `FinalizeBackup` | [`finalize_backup`] | manifests, and `backup.json` (`completed` or `failed`) |
//! | `PlanRestore` | [`plan_restore`] | the restore's record, the table; to a second, the list of the log's objects |
//! | `ScatterLog` | [`scatter_log`] | to a second: one shard's changes in runs, by key |
//! | `FoldLog` | [`fold_log`] | to a second: what the keys of one bucket were |
//! | `LoadPart` | [`load_part`] | items in the table or parts of a new snapshot, checkpoints, rejects |
//! | `FinalizeRestore` | [`finalize_restore`] | the settings that had to wait, the new snapshot's seal, the record's end |
//!
//! Beside the state machines, called by a stream and by a schedule:
//!
//! | function | file | what it leaves behind |
//! |---|---|---|
//! | `ConsumeStream` | [`consume_stream`] | a batch in the change log |
//! | `AuditStream` | [`audit_tables`], [`audit_stream`] | a complete change log, the mark |

pub mod apply_directly;
pub mod apply_log;
pub mod apply_settings;
pub mod audit_stream;
pub mod audit_tables;
pub mod backup_items;
pub mod begin_log;
pub mod capture_handoff;
pub mod compare;
mod compare_pass;
mod compare_spill;
pub mod consume_stream;
mod copy_file;
pub mod create_table;
mod decide_restore;
pub mod delete_dyndump;
pub mod delete_snapshot;
pub mod deps;
pub mod dump;
pub mod dump_parts;
pub mod dyndump_info;
pub mod error;
mod error_name;
pub mod failure_input;
pub mod finalize_backup;
pub mod finalize_restore;
pub mod fold_log;
pub mod follow;
mod follow_stream;
pub mod hold_handoff;
pub mod import_table;
pub mod item_batches;
pub mod item_source;
pub mod keep_unread;
pub mod known_facts;
mod late_parts;
mod late_records;
mod link_spill;
pub mod list_snapshots;
pub mod live_deps;
pub mod live_status;
mod load_file;
pub mod load_part;
pub mod log_index;
pub mod log_sink;
pub mod log_stream;
mod log_target;
mod materialize;
pub mod merge_work;
pub mod note_incident;
pub mod overlay;
pub mod pace;
mod paced_reader;
mod patience;
pub mod plan_backup;
pub mod plan_handoff;
pub mod plan_restore;
pub mod poll_shard;
pub mod polled;
mod print_table;
pub mod publish_mark;
pub mod read_snapshot;
pub mod record_breaks;
pub mod rejects;
pub mod replica;
pub mod request;
pub mod restore_deps;
pub mod restore_point;
pub mod restore_request;
pub mod restore_status;
mod restore_target;
mod resume_backup;
pub mod scan_segment;
pub mod scatter_log;
pub mod seal;
pub mod segment_pages;
pub mod service_time;
mod shard_batch;
mod shard_end;
mod shard_gap;
mod shard_reader;
mod shard_records;
pub mod shard_rows;
mod shard_work;
pub mod snapshot_info;
pub mod source;
pub mod source_file;
pub mod stable_listing;
pub mod stack;
pub mod status;
mod stream_event;
pub mod stream_log;
pub mod survey_shards;
pub mod table_items;
mod table_wait;
pub mod tap_stream;
pub mod verify_backup;
pub mod verify_log;
pub mod watch_table;
pub mod write_items;
pub mod write_log;
pub mod write_part;

pub use deps::{Deps, JobEnd, Observer, SnapshotDeps, StopFlag};
pub use error::{ErrorName, StepError};
pub use live_deps::{LeaseGroups, LiveDeps, LiveObserver, LogDeps};
pub use restore_deps::RestoreDeps;
