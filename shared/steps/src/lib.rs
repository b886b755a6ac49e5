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
//! | `PlanRestore` | [`plan_restore`] | the restore's record, the table |
//! | `LoadPart` | [`load_part`] | items in the table, checkpoints, rejects |
//! | `FinalizeRestore` | [`finalize_restore`] | the settings that had to wait, the record's end |

pub mod apply_settings;
pub mod backup_items;
pub mod compare;
mod compare_pass;
mod compare_spill;
pub mod create_table;
pub mod delete_dyndump;
pub mod delete_snapshot;
pub mod deps;
pub mod dump;
pub mod dump_parts;
pub mod dyndump_info;
pub mod error;
mod error_name;
pub mod finalize_backup;
pub mod finalize_restore;
pub mod import_table;
pub mod item_batches;
pub mod item_source;
pub mod list_snapshots;
pub mod live_deps;
mod load_file;
pub mod load_part;
pub mod pace;
pub mod plan_backup;
pub mod plan_restore;
pub mod read_snapshot;
pub mod rejects;
pub mod request;
pub mod restore_deps;
pub mod restore_request;
pub mod restore_status;
mod restore_target;
pub mod scan_segment;
pub mod seal;
pub mod segment_pages;
pub mod snapshot_info;
pub mod source;
pub mod source_file;
pub mod status;
pub mod table_items;
mod table_wait;
pub mod verify_backup;
pub mod write_items;
pub mod write_part;

pub use deps::{Deps, Observer, StopFlag};
pub use error::{ErrorName, StepError};
pub use live_deps::{LeaseGroups, LiveDeps, LiveObserver};
pub use restore_deps::RestoreDeps;
