//! What a user asks for: the input of the backup state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::layout::Destination;
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::Compression;
use highwater_domain::table::TableSettings;
use highwater_domain::table_stream::NoHandoff;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capture_handoff::CapturePace;
use crate::error::StepError;

/// A request for a backup: the execution input of `backup.asl.json`, and what the command line makes of its flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupRequest {
    /// The table: name or ARN. A resume may leave it out.
    pub table: Option<TableRef>,
    /// `s3://bucket/prefix` or `file:///path`. A resume may leave it out.
    pub to: Option<String>,
    /// The snapshot to make or to resume; by default the execution names a new one.
    pub snapshot_id: Option<SnapshotId>,
    /// Go on with a snapshot that was stopped. Its plan stays as it was, but for capacity and concurrency.
    pub resume: bool,
    /// Slices of the scan, 1 to 1,000,000; by default as many as the table's size suggests.
    pub segments: Option<u32>,
    /// Workers at once; 4 by default.
    pub concurrency: Option<u32>,
    /// Read capacity units per second, for all workers; 0 is unlimited.
    pub read_capacity: Option<f64>,
    /// The same, as a percentage of what the table has.
    pub read_percent: Option<f64>,
    /// Strongly consistent reads; `true` by default.
    pub consistent: Option<bool>,
    /// `FilterExpression`.
    pub filter: Option<String>,
    /// `ProjectionExpression`.
    pub projection: Option<String>,
    /// `ExpressionAttributeNames`.
    pub names: BTreeMap<String, String>,
    /// `ExpressionAttributeValues`, DynamoDB JSON.
    pub values: BTreeMap<String, Value>,
    /// Stop after exactly so many items. Segments are then scanned one after the other.
    pub max_items: Option<u64>,
    /// `gzip` (default) or `zstd`.
    pub compression: Option<Compression>,
    /// Stored bytes at which a part is cut, 1000 to 1 GiB; 8 MiB by default.
    pub part_bytes: Option<u64>,
    /// The snapshot must be a base for restores to a second: a stream is enabled if the table has none, and the backup
    /// fails rather than go without a handoff. Without it, a stream that is there is used.
    pub with_stream: bool,
    /// How old a stream must be until the scan may begin, in seconds, at most 3600; 60 by default. 0 is right for a local
    /// engine only, whose streams see every change at once and whose listings are never stale.
    pub settle_seconds: Option<u32>,
}

/// The longest that a new stream is waited for.
const MAX_SETTLE_SECONDS: u32 = 3600;

/// Workers at once, if nobody says.
pub const DEFAULT_CONCURRENCY: u32 = 4;

/// DynamoDB's own bound on `TotalSegments`.
pub const MAX_SEGMENTS: u32 = 1_000_000;

/// The most workers that one execution starts.
pub const MAX_CONCURRENCY: u32 = 1000;

/// The stored size of a part, if nobody says: small enough that four workers fit a small function.
pub const DEFAULT_PART_BYTES: u64 = 8 << 20;

/// dyndump's bound, kept.
pub const MIN_PART_BYTES: u64 = 1000;

/// A part is held in memory and sent in one request.
pub const MAX_PART_BYTES: u64 = 1 << 30;

/// The share of a provisioned table's capacity that is used, if nobody says.
pub const DEFAULT_READ_PERCENT: f64 = 50.0;

/// The size of table that one more segment is worth, in bytes.
const BYTES_PER_SEGMENT: u64 = 512 << 20;

/// The most segments that are chosen without being asked for.
const MAX_CHOSEN_SEGMENTS: u64 = 1000;

impl BackupRequest {
    /// Finds what can be known to be wrong without asking anybody.
    pub fn check(&self) -> Result<(), StepError> {
        if self.resume {
            return self.check_resume();
        }
        if self.table.is_none() {
            return Err(invalid("`table` is missing: name the table to back up"));
        }
        let to = self
            .to
            .as_deref()
            .ok_or_else(|| invalid("`to` is missing: s3://BUCKET/PREFIX or file:///PATH"))?;
        to.parse::<Destination>()?;
        within("segments", self.segments, 1, MAX_SEGMENTS)?;
        within(
            "part_bytes",
            self.part_bytes,
            MIN_PART_BYTES,
            MAX_PART_BYTES,
        )?;
        within("settle_seconds", self.settle_seconds, 0, MAX_SETTLE_SECONDS)?;
        self.check_pace()?;
        self.selection().check()?;
        let leaves_out = !self.selection().is_everything() || self.max_items.unwrap_or(0) > 0;
        if self.with_stream && leaves_out {
            return Err(invalid(format!(
                "`with_stream` asks for a base of restores to a second, but {}: leave one of the two out",
                NoHandoff::Query
            )));
        }
        Ok(())
    }

    fn check_resume(&self) -> Result<(), StepError> {
        if self.snapshot_id.is_none() {
            return Err(invalid(
                "`resume` needs `snapshot_id`: which snapshot to go on with",
            ));
        }
        let frozen = [
            ("segments", self.segments.is_some()),
            ("consistent", self.consistent.is_some()),
            ("filter", self.filter.is_some()),
            ("projection", self.projection.is_some()),
            ("names", !self.names.is_empty()),
            ("values", !self.values.is_empty()),
            ("max_items", self.max_items.is_some()),
            ("compression", self.compression.is_some()),
            ("part_bytes", self.part_bytes.is_some()),
            ("with_stream", self.with_stream),
            ("settle_seconds", self.settle_seconds.is_some()),
        ];
        if let Some((name, _)) = frozen.into_iter().find(|(_, given)| *given) {
            return Err(invalid(format!(
                "`{name}` cannot change when a snapshot is resumed: its plan was frozen when it began"
            )));
        }
        self.check_pace()
    }

    pub(crate) fn check_pace(&self) -> Result<(), StepError> {
        within("concurrency", self.concurrency, 1, MAX_CONCURRENCY)?;
        if self
            .read_capacity
            .is_some_and(|units| !units.is_finite() || units < 0.0)
        {
            return Err(invalid(
                "`read_capacity` must be 0 (unlimited) or more units per second",
            ));
        }
        if self
            .read_percent
            .is_some_and(|percent| !(percent > 0.0 && percent <= 100.0))
        {
            return Err(invalid("`read_percent` must be above 0 and at most 100"));
        }
        if self.read_capacity.is_some() && self.read_percent.is_some() {
            return Err(invalid(
                "`read_capacity` and `read_percent` exclude each other",
            ));
        }
        Ok(())
    }

    /// The filter and projection asked for.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            filter: self.filter.clone(),
            projection: self.projection.clone(),
            names: self.names.clone(),
            values: self.values.clone(),
        }
    }

    /// How long the capture of a handoff waits.
    #[must_use]
    pub fn capture_pace(&self) -> CapturePace {
        self.settle_seconds
            .map_or_else(CapturePace::default, |seconds| {
                CapturePace::settling_in(Duration::from_secs(seconds.into()))
            })
    }

    /// Read capacity units per second for a table with these settings; 0 is unlimited.
    ///
    /// Unasked, half of a provisioned table's capacity is used, and all of an on-demand table's.
    pub fn read_capacity_for(&self, settings: &TableSettings) -> Result<f64, StepError> {
        if let Some(units) = self.read_capacity {
            return Ok(units);
        }
        let provisioned = settings.provisioned_read_capacity();
        let Some(percent) = self.read_percent else {
            return Ok(provisioned.map_or(0.0, |units| units * DEFAULT_READ_PERCENT / 100.0));
        };
        let units = provisioned.or_else(|| settings.on_demand_read_capacity()).ok_or_else(|| {
            invalid("`read_percent` needs a table with provisioned, maximum or warm throughput; use `read_capacity`")
        })?;
        Ok(units * percent / 100.0)
    }

    /// How many segments to scan a table of this size in.
    #[must_use]
    pub fn segments_for(&self, size_bytes: u64, concurrency: u32) -> u32 {
        self.segments.unwrap_or_else(|| {
            let by_size = (size_bytes / BYTES_PER_SEGMENT).min(MAX_CHOSEN_SEGMENTS);
            u32::try_from(by_size).unwrap_or(u32::MAX).max(concurrency)
        })
    }
}

fn invalid(message: impl Into<String>) -> StepError {
    StepError::InvalidInput(message.into())
}

pub(crate) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    least: T,
    most: T,
) -> Result<(), StepError> {
    match value {
        Some(value) if value < least || value > most => Err(invalid(format!(
            "`{name}` is {value}; it must be from {least} to {most}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(fields: &Value) -> BackupRequest {
        let mut whole = json!({"table": "orders", "to": "s3://bucket/p"});
        for (name, value) in fields.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (fields, word) in [
            (json!({"segments": 0}), "segments"),
            (json!({"segments": 1_000_001}), "segments"),
            (json!({"part_bytes": 10}), "part_bytes"),
            (json!({"concurrency": 0}), "concurrency"),
            (json!({"read_capacity": -1}), "read_capacity"),
            (json!({"read_percent": 0}), "read_percent"),
            (json!({"read_percent": 101}), "read_percent"),
            (json!({"read_percent": 5, "read_capacity": 5}), "exclude"),
            (json!({"to": "bucket"}), "destination"),
            (json!({"to": null}), "`to`"),
            (json!({"table": null}), "`table`"),
            (json!({"filter": " "}), "filter"),
            (json!({"resume": true}), "snapshot_id"),
            (
                json!({"resume": true, "snapshot_id": "01768385930622-efd1a093", "segments": 3}),
                "frozen",
            ),
        ] {
            let error = request(&fields).check().unwrap_err();
            assert_eq!(error.name(), crate::ErrorName::InvalidInput);
            assert!(error.to_string().contains(word), "{fields}: {error}");
        }
        request(&json!({"segments": 1_000_000, "read_capacity": 0, "part_bytes": 1000}))
            .check()
            .unwrap();
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_value::<BackupRequest>(json!({"segmets": 4})).is_err());
    }

    #[test]
    fn segments_follow_the_tables_size_but_never_fall_below_the_workers() {
        let request = BackupRequest::default();
        assert_eq!(request.segments_for(0, 4), 4);
        assert_eq!(request.segments_for(10 << 30, 4), 20);
        assert_eq!(request.segments_for(u64::MAX, 4), 1000);
        assert_eq!(
            BackupRequest {
                segments: Some(7),
                ..request
            }
            .segments_for(u64::MAX, 4),
            7
        );
    }

    #[test]
    fn capacity_is_half_of_what_is_provisioned_unless_asked_otherwise() {
        let table = |table: Value| TableSettings {
            version: 1,
            table,
            time_to_live: None,
            tags: None,
            continuous_backups: None,
            unavailable: Vec::new(),
        };
        let provisioned = table(json!({"ProvisionedThroughput": {"ReadCapacityUnits": 300}}));
        let on_demand = table(json!({"ProvisionedThroughput": {"ReadCapacityUnits": 0}}));
        let warm = table(json!({"WarmThroughput": {"ReadUnitsPerSecond": 12_000}}));
        let asks = |read_capacity, read_percent| BackupRequest {
            read_capacity,
            read_percent,
            ..Default::default()
        };
        let rate = |asks: &BackupRequest, table| {
            asks.read_capacity_for(table)
                .map_err(|error| error.to_string())
        };
        assert_eq!(rate(&asks(None, None), &provisioned), Ok(150.0));
        assert_eq!(rate(&asks(None, None), &on_demand), Ok(0.0));
        assert_eq!(rate(&asks(Some(0.0), None), &provisioned), Ok(0.0));
        assert_eq!(rate(&asks(None, Some(10.0)), &warm), Ok(1200.0));
        assert!(rate(&asks(None, Some(10.0)), &on_demand).is_err());
    }
}
