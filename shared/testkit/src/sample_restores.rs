//! Records of restores with every field set to something that a careless table would lose.

use highwater_domain::backup_source::{Packing, SourceKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::import_request::ImportSource;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::replica::ReplicaId;
use highwater_domain::restore::{
    Engine, FileCheckpoint, LoadTotals, OnExisting, ReplicaOf, RestoreId, RestoreRecord,
    SourceFacts,
};
use highwater_domain::restore_point::{Needs, RESTORE_POINT_VERSION, RestorePoint, Side};
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::StreamView;
use highwater_domain::snapshot::Status;
use highwater_domain::table_admin::{ChangeCall, TableChange};
use highwater_domain::table_plan::{NotRestored, TablePlan};
use serde_json::json;

/// The record of a restore.
#[must_use]
pub fn restore_record(id: &RestoreId) -> RestoreRecord {
    let attribute = |name: &str, scalar_type| KeyAttribute {
        name: name.to_owned(),
        scalar_type,
    };
    RestoreRecord {
        id: id.clone(),
        request_id: "a \"request\" \u{1f600}".to_owned(),
        source: source(),
        target: "orders-copy".parse().unwrap(),
        key_schema: KeySchema {
            partition: attribute("id", ScalarType::B),
            sort: Some(attribute("at", ScalarType::N)),
        },
        target_table_id: Some("1f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e".to_owned()),
        table_plan: table_plan(),
        on_existing: OnExisting::Overwrite,
        engine: Engine::ImportTable,
        engine_reason: "the table is new, and the backup is AWS's own \u{2192} import".to_owned(),
        lanes: 40,
        concurrency: 8,
        write_capacity: 12.5,
        max_items: u64::from(u32::MAX) + 7,
        filter: vec!["id=AA==".parse().unwrap(), "at^=2026".parse().unwrap()],
        fail_fast: true,
        skip_checks: true,
        rejects: Some("s3://bucket/pre fix/\u{e9}".to_owned()),
        import_arn: Some("arn:aws:dynamodb:eu-north-1:123456789012:table/o/import/1".to_owned()),
        totals: load_totals(9),
        started_at: UnixMillis(1_768_385_930_622),
        status: Status::Failed,
        ended_at: Some(UnixMillis(1_768_385_930_623)),
        error: Some("line \u{2028} of \"text\"".to_owned()),
        point: Some(point()),
        replica: Some(ReplicaOf {
            source_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".to_owned(),
            id: ReplicaId::of("arn:source", "arn:target"),
        }),
        materialize: Some("s3://bucket/pre fix/\u{e9}".to_owned()),
    }
}

fn point() -> RestorePoint {
    RestorePoint {
        version: RESTORE_POINT_VERSION,
        at: UnixSeconds(1_768_385_930),
        table_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".to_owned(),
        snapshot_id: "01768385930622-efd1a093".parse().unwrap(),
        snapshot: "s3://bucket/pre fix/orders/AWSDynamoDB/01768385930622-efd1a093".to_owned(),
        generation: Generation(3),
        stream_label: "2026-01-14T10:18:50.622".to_owned(),
        view: StreamView::NewAndOldImages,
        grade: Grade::Rolled,
        mark: UnixSeconds(1_768_386_000),
        needs: Needs {
            from: UnixSeconds(1_768_385_900),
            until: UnixSeconds(1_768_385_990),
        },
        side: Side::Undo,
        log: "s3://bucket/pre fix/orders/log/2026-01-14T10:18:50.622".to_owned(),
        shards: 7,
        objects: 9_007_199_254_740_993,
        stored_bytes: 1 << 50,
        fingerprint: "e3b0c442".repeat(8),
        buckets: 16,
        stamp_margin_s: 60,
        work: "file:///var/lib/high water".to_owned(),
        bound: vec!["the whole second is \"in\"".to_owned(), String::new()],
    }
}

fn source() -> SourceFacts {
    SourceFacts {
        url: "s3://bucket/pre fix/\u{e9}".to_owned(),
        kind: SourceKind::IncrementalExport,
        files: 9_999_999,
        items: Some(9_007_199_254_740_993),
        stored_bytes: 1 << 50,
        plain_bytes: None,
        fingerprint: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        unchecked: Vec::new(),
    }
}

/// Requests with what a record's payload could lose: empty values, null, deep nesting, large numbers.
fn table_plan() -> TablePlan {
    let ttl = TableChange {
        what: "TTL on attribute \"expires\"".to_owned(),
        call: ChangeCall::UpdateTimeToLive,
        request: json!({"TimeToLiveSpecification": {"Enabled": true, "AttributeName": ""}}),
    };
    let tags = TableChange {
        what: "tags".to_owned(),
        call: ChangeCall::TagResource,
        request: json!({"Tags": [{"Key": "a", "Value": ""}, {}], "Nothing": null}),
    };
    TablePlan {
        create: Some(json!({
            "TableName": "orders-copy",
            "ProvisionedThroughput": {"ReadCapacityUnits": 9_007_199_254_740_993_u64},
            "GlobalSecondaryIndexes": [{"Projection": {"NonKeyAttributes": []}}],
        })),
        import: Some(ImportSource {
            bucket: "bucket".to_owned(),
            prefix: "pre fix/\u{e9}/".to_owned(),
            packing: Packing::Zstd,
        }),
        before_load: vec![tags],
        after_load: vec![ttl],
        not_restored: vec![NotRestored {
            setting: "KMS key arn:aws:kms:eu-north-1:1:key/x".to_owned(),
            reason: "it is another account's".to_owned(),
        }],
    }
}

/// A file's checkpoint after `lines` lines.
#[must_use]
pub fn file_checkpoint(lines: u64) -> FileCheckpoint {
    FileCheckpoint {
        lines,
        totals: load_totals(lines),
        done: lines % 2 == 1,
    }
}

fn load_totals(lines: u64) -> LoadTotals {
    LoadTotals {
        read: lines,
        written: lines / 2,
        deleted: lines / 4,
        existing: 1,
        filtered: 2,
        superseded: 4,
        rejected: 3,
        plain_bytes: lines << 20,
        consumed_capacity: 0.5,
        throttles: 9_007_199_254_740_993,
    }
}
