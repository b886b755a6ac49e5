//! Rows of the control table with every field set to something that a careless table would lose.

use highwater_domain::handoff::{HANDOFF_VERSION, Handoff, HandoffShard};
use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::lineage::{Oddity, Position};
use highwater_domain::mark::Grade;
use highwater_domain::materialized::Materialized;
use highwater_domain::scan::ScanTotals;
use highwater_domain::selection::Selection;
use highwater_domain::sequence_number::{Generation, ShardOrdinal};
use highwater_domain::shard::{Shard, StreamView};
use highwater_domain::snapshot::{
    Checkpoint, Compression, PartId, PartRow, PartTotals, SnapshotRecord, Status, Verified,
};

/// A handoff.
#[must_use]
pub fn handoff() -> Handoff {
    let shard = |id: &str, end: Option<&str>| Shard {
        id: id.parse().unwrap(),
        parent: Some("shardId-00000001768380000000-00000000".parse().unwrap()),
        start: "100000000003498069978".parse().unwrap(),
        end: end.map(|end| end.parse().unwrap()),
    };
    let closed = shard(
        "shardId-00000001768385930622-efd1a093",
        Some("9999999999999999999999999999999999999999"),
    );
    let open = shard("shardId-00000001768385930623-efd1a094", None);
    Handoff {
        version: HANDOFF_VERSION,
        table_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".to_owned(),
        table_id: Some("1f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e".to_owned()),
        stream_arn:
            "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2026-01-14T10:18:50.622"
                .to_owned(),
        stream_label: "2026-01-14T10:18:50.622".to_owned(),
        generation: Generation(65_535),
        view: StreamView::NewImage,
        captured_at: UnixMillis(1_768_385_930_700),
        log_from: UnixMillis(1_768_385_990_622),
        shards: vec![
            HandoffShard {
                resume: Some(Position::After(closed.start.clone())),
                shard: closed,
                ordinal: ShardOrdinal(1_768_385_930_622),
            },
            HandoffShard {
                shard: open,
                ordinal: ShardOrdinal(u64::from(u32::MAX) << 20),
                resume: None,
            },
        ],
        oddities: vec![Oddity::Unsettled],
        expired: true,
    }
}

fn selection() -> Selection {
    Selection {
        filter: Some("#s = :s AND size(b) > :n".to_owned()),
        projection: Some("#s, b.c[0]".to_owned()),
        names: [("#s".to_owned(), "status".to_owned())].into(),
        values: [
            (":s".to_owned(), serde_json::json!({"S": ""})),
            (":n".to_owned(), serde_json::json!({"N": "1E+125"})),
            (
                ":l".to_owned(),
                serde_json::json!({"L": [{"M": {}}, {"NULL": true}]}),
            ),
        ]
        .into(),
    }
}

/// The record of a snapshot.
#[must_use]
pub fn record(id: &SnapshotId) -> SnapshotRecord {
    let attribute = |name: &str, scalar_type| KeyAttribute {
        name: name.to_owned(),
        scalar_type,
    };
    SnapshotRecord {
        id: id.clone(),
        request_id: "a \"request\" \u{1f600}".to_owned(),
        table: "orders".parse().unwrap(),
        table_arn: "arn:aws:dynamodb:eu-north-1:123456789012:table/orders".to_owned(),
        table_id: Some("1f6b3c62-0a5a-4bb4-9d27-1f0f0c5b1a2e".to_owned()),
        key_schema: KeySchema {
            partition: attribute("id", ScalarType::B),
            sort: Some(attribute("at", ScalarType::N)),
        },
        destination: "s3://bucket/pre fix/\u{e9}".to_owned(),
        total_segments: 1_000_000,
        lanes: 4000,
        concurrency: 4,
        consistent: true,
        read_capacity: 12.5,
        selection: selection(),
        max_items: u64::from(u32::MAX) + 7,
        compression: Compression::Zstd,
        part_bytes: 64 << 20,
        with_stream: true,
        handoff: Some(handoff()),
        no_handoff: Some("the stream\u{2019}s view is \"KEYS_ONLY\"".to_owned()),
        started_at: UnixMillis(1_768_385_930_622),
        estimated_items: 9_007_199_254_740_993,
        estimated_bytes: 1 << 50,
        status: Status::Running,
        ended_at: Some(UnixMillis(1_768_385_930_623)),
        error: Some("line \u{2028} of \"text\"".to_owned()),
        verified: Verified {
            after: Some(PartId {
                segment: 3,
                number: 9,
            }),
            totals: totals(5),
            whole_at: Some(UnixMillis(1_768_385_930_700)),
        },
        materialized: Some(Materialized {
            at: "2026-01-14T10:00:00.000Z".to_owned(),
            snapshot: "s3://bucket/pre fix/orders/AWSDynamoDB/01768385930622-efd1a093".to_owned(),
            log: "s3://bucket/pre fix/orders/log/".to_owned(),
            grade: Grade::Assumed,
        }),
    }
}

fn totals(n: u64) -> PartTotals {
    PartTotals {
        parts: n,
        items: n * 1000,
        stored_bytes: n * 9_007_199_254_740_993,
        plain_bytes: n << 30,
    }
}

/// A position whose values are text, number and bytes that must come back as they are.
fn key(n: u32) -> Key {
    Key([
        ("id".to_owned(), KeyValue::B(n.to_be_bytes().to_vec())),
        (
            "at".to_owned(),
            KeyValue::N("-12345678901234567890.123456789012345678".to_owned()),
        ),
        ("name".to_owned(), KeyValue::S("}},{\"\u{e9}".to_owned())),
    ]
    .into())
}

/// A checkpoint before part `next_part`.
#[must_use]
pub fn checkpoint(next_part: u32) -> Checkpoint {
    Checkpoint {
        next_key: Some(key(next_part)),
        next_part,
        done: false,
        scan: ScanTotals {
            pages: u64::from(next_part) * 3,
            scanned: 100,
            items: 99,
            consumed_capacity: 0.5 * f64::from(next_part),
            throttles: 2,
        },
        parts: totals(u64::from(next_part)),
    }
}

/// The row of a part.
#[must_use]
pub fn part_row(segment: u32, number: u32) -> PartRow {
    PartRow {
        id: PartId { segment, number },
        object: format!("p/orders/AWSDynamoDB/x/data/s{segment:05}-p{number:06}.json.gz"),
        items: 1234,
        stored_bytes: 9_007_199_254_740_993,
        plain_bytes: 1 << 40,
        md5: "1B2M2Y8AsgTpgAmY7PhCfg==".to_owned(),
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        first_key: Some(key(number)),
        last_key: None,
    }
}
