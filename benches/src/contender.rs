//! What Highwater is measured against, and the pieces of Highwater that no command shows by themselves.
//!
//! Each is one run of the program `contender`, a process that does nothing else. It tells what it has come to as one
//! line of JSON, which the bench holds against what the replay server knows.

use serde::{Deserialize, Serialize};

pub mod event_log;
pub mod limit;
pub mod limit_read;
pub mod miniz_gzip;
pub mod record_log;
pub mod typed_export;
pub mod typed_item;
pub mod typed_restore;
pub mod wire;

/// What a contender has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Items or records that went through it.
    pub items: u64,
    /// Bytes of their JSON; 0 where a contender cannot tell.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes after compression; 0 where nothing is compressed.
    #[serde(default)]
    pub stored_bytes: u64,
}
