//! `backup.json`: what a person, a script and dyndump's readers want to know of a snapshot.
//!
//! The first ten members are dyndump's, under its names and with its meanings.

use serde::{Deserialize, Serialize};

use crate::handoff::{Handoff, KeptHandoff, UnreadableHandoff};
use crate::ids::SnapshotId;
use crate::key::KeySchema;
use crate::materialized::Materialized;
use crate::scan::ScanTotals;
use crate::selection::Selection;
use crate::snapshot::{Compression, PartTotals, SnapshotRecord, Status};

/// The version of the `backup.json` layout that this build writes.
pub const BACKUP_JSON_VERSION: u32 = 1;

/// The metadata of a snapshot. Members that a foreign or older writer left out read as their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The table's name.
    pub table_name: String,
    /// The table's ARN.
    pub table_arn: String,
    /// `running`, `failed` or `completed`.
    pub status: Status,
    /// `full`, or `query` if something was left out on purpose.
    pub backup_type: String,
    /// RFC 3339.
    pub backup_start_time: String,
    /// RFC 3339; absent while running.
    pub backup_end_time: Option<String>,
    /// Bytes of the lines.
    pub uncompressed_bytes: u64,
    /// Bytes of the parts as stored.
    pub compressed_bytes: u64,
    /// Items.
    pub item_count: u64,
    /// Parts.
    pub part_count: u64,
    /// The layout's version, [`BACKUP_JSON_VERSION`].
    pub version: u32,
    /// The snapshot's name.
    pub snapshot_id: Option<SnapshotId>,
    /// The execution or command that made it; tells a retried plan from a rival one.
    pub request_id: String,
    /// The program that wrote it.
    pub written_by: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// The table's primary key.
    pub key_schema: Option<KeySchema>,
    /// Slices of the scan.
    pub total_segments: u32,
    /// Strongly consistent reads.
    pub consistent: bool,
    /// Filter and projection.
    pub selection: Selection,
    /// The limit on items; 0 is none.
    pub max_items: u64,
    /// How parts are compressed.
    pub compression: Compression,
    /// What the scan took from the table.
    pub scan: ScanTotals,
    /// Why it failed.
    pub error: Option<String>,
    /// The stream positions where live changes take over. A plain snapshot has none, and cannot be restored to a second.
    pub handoff: Option<KeptHandoff>,
    /// Why there is no handoff, where there is none.
    pub no_handoff: Option<String>,
    /// What it was made from, if not by a scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub materialized: Option<Materialized>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            table_name: String::new(),
            table_arn: String::new(),
            status: Status::Running,
            backup_type: "full".into(),
            backup_start_time: String::new(),
            backup_end_time: None,
            uncompressed_bytes: 0,
            compressed_bytes: 0,
            item_count: 0,
            part_count: 0,
            version: BACKUP_JSON_VERSION,
            snapshot_id: None,
            request_id: String::new(),
            written_by: String::new(),
            table_id: None,
            key_schema: None,
            total_segments: 0,
            consistent: false,
            selection: Selection::default(),
            max_items: 0,
            compression: Compression::Gzip,
            scan: ScanTotals::default(),
            error: None,
            handoff: None,
            no_handoff: None,
            materialized: None,
        }
    }
}

impl Metadata {
    /// The stream positions where live changes take over, if there are any.
    pub fn handoff(&self) -> Result<Option<&Handoff>, UnreadableHandoff> {
        self.handoff.as_ref().map(KeptHandoff::get).transpose()
    }

    /// The metadata of a snapshot: its record, and what its segments have done.
    #[must_use]
    pub fn of(record: &SnapshotRecord, parts: &PartTotals, scan: &ScanTotals) -> Self {
        Self {
            table_name: record.table.name().to_owned(),
            table_arn: record.table_arn.clone(),
            status: record.status,
            backup_type: record.backup_type().to_owned(),
            backup_start_time: record.started_at.to_rfc3339(),
            backup_end_time: record.ended_at.map(crate::ids::UnixMillis::to_rfc3339),
            uncompressed_bytes: parts.plain_bytes,
            compressed_bytes: parts.stored_bytes,
            item_count: parts.items,
            part_count: parts.parts,
            version: BACKUP_JSON_VERSION,
            snapshot_id: Some(record.id.clone()),
            request_id: record.request_id.clone(),
            written_by: concat!("highwater ", env!("CARGO_PKG_VERSION")).to_owned(),
            table_id: record.table_id.clone(),
            key_schema: Some(record.key_schema.clone()),
            total_segments: record.total_segments,
            consistent: record.consistent,
            selection: record.selection.clone(),
            max_items: record.max_items,
            compression: record.compression,
            scan: *scan,
            error: record.error.clone(),
            handoff: record
                .handoff
                .clone()
                .map(|handoff| KeptHandoff::Read(Box::new(handoff))),
            no_handoff: record.no_handoff.clone(),
            materialized: record.materialized.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dd_16_members_that_are_missing_read_as_their_defaults() {
        let metadata: Metadata =
            serde_json::from_str(r#"{"table_name":"a_table","item_count":1234}"#).unwrap();
        assert_eq!(
            (metadata.table_name.as_str(), metadata.item_count),
            ("a_table", 1234)
        );
        assert_eq!(
            Metadata {
                table_name: String::new(),
                item_count: 0,
                ..metadata
            },
            Metadata::default()
        );
    }

    #[test]
    fn a_handoff_that_cannot_be_read_hides_nothing_else() {
        let text = r#"{"item_count": 7, "handoff": {"version": 9}}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(metadata.item_count, 7);
        assert!(metadata.handoff().unwrap_err().0.contains('9'));
        for text in [r#"{"handoff": null}"#, "{}"] {
            let metadata: Metadata = serde_json::from_str(text).unwrap();
            assert_eq!(metadata.handoff(), Ok(None));
        }
    }

    #[test]
    fn dyndumps_members_come_first_under_its_names() {
        let text = serde_json::to_string_pretty(&Metadata::default()).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().split('"').nth(1))
            .take(10)
            .collect();
        assert_eq!(
            names,
            [
                "table_name",
                "table_arn",
                "status",
                "backup_type",
                "backup_start_time",
                "backup_end_time",
                "uncompressed_bytes",
                "compressed_bytes",
                "item_count",
                "part_count"
            ]
        );
    }
}
