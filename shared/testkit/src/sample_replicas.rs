//! Records of replicas with every field set to something that a careless table would lose.

use highwater_domain::ids::UnixMillis;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{
    Attempt, FenceMode, Phase, REPLICA_VERSION, ReplicaId, ReplicaRecord,
};
use highwater_domain::sequence_number::Generation;

/// The record of a live replica of `source_arn` in the table called `target`.
#[must_use]
pub fn replica_record(source_arn: &str, target: &str) -> ReplicaRecord {
    let target_arn = format!("arn:aws:dynamodb:eu-west-1:999999999999:table/{target}");
    ReplicaRecord {
        version: REPLICA_VERSION,
        id: ReplicaId::of(source_arn, &target_arn),
        source: source_arn.parse().unwrap(),
        source_arn: source_arn.to_owned(),
        source_table_id: Some("1f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e".to_owned()),
        target: target_arn.parse().unwrap(),
        target_table_id: Some("2f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e".to_owned()),
        target_region: Some("eu-west-1".to_owned()),
        target_role: Some("arn:aws:iam::999999999999:role/replica \"writer\"".to_owned()),
        fence: FenceMode::Attribute,
        key_schema: KeySchema {
            partition: KeyAttribute {
                name: "p\u{e9}".to_owned(),
                scalar_type: ScalarType::B,
            },
            sort: Some(KeyAttribute {
                name: "at".to_owned(),
                scalar_type: ScalarType::N,
            }),
        },
        filter: vec!["p\u{e9}=AA==".parse().unwrap(), "at^=2026".parse().unwrap()],
        log: "s3://bucket/pre fix/\u{e9}".to_owned(),
        snapshot: "s3://bucket/pre fix/orders/AWSDynamoDB/01768385930622-efd1a093".to_owned(),
        load: "01768385930622-efd1a093".parse().unwrap(),
        stream_arn: format!("{source_arn}/stream/2026-01-14T10:18:50.622"),
        stream_label: "2026-01-14T10:18:50.622".to_owned(),
        generation: Generation(3),
        captured_at: UnixMillis(1_768_385_930_622),
        scanned_at: UnixMillis(1_768_385_999_999),
        phase: Phase::Live,
        attempts: vec![Attempt {
            id: "00ff".to_owned(),
            deadline: UnixMillis(9_007_199_254_740_993),
        }],
        began_at: UnixMillis(1_768_386_000_000),
        live_since: Some(UnixMillis(1_768_386_100_000)),
        applied: Some(UnixSeconds(1_768_386_200)),
        applied_at: Some(UnixMillis(1_768_386_200_001)),
        late_ms: 360_000,
        stamp_margin_s: 60,
        rejected: 2,
        refused: 9_007_199_254_740_993,
        error: Some("line \u{2028} of \"text\"".to_owned()),
    }
}
