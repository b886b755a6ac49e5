//! Rows of the control table with every field set to something that a careless table would lose.

use highwater_domain::ids::{SnapshotId, UnixMillis};
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::scan::ScanTotals;
use highwater_domain::selection::Selection;
use highwater_domain::snapshot::{
    Checkpoint, Compression, PartId, PartRow, PartTotals, SnapshotRecord, Status, Verified,
};

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
        selection: Selection {
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
        },
        max_items: u64::from(u32::MAX) + 7,
        compression: Compression::Zstd,
        part_bytes: 64 << 20,
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
        },
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
