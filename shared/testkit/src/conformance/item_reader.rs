//! The laws of [`ItemReader`].

use highwater_domain::failure::FailureKind;
use highwater_domain::item_reader::{ItemReader, ReadItem};
use highwater_domain::table_writer::{TableWriter, WriteOp};
use serde_json::{Value, json};

/// A table of the string key `id`.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a> {
    /// Reads it.
    pub reader: &'a dyn ItemReader,
    /// Writes it.
    pub writer: &'a dyn TableWriter,
    /// Its name.
    pub table: &'a str,
}

/// Runs every law. Each has keys of its own.
pub async fn every_law(table: Readable<'_>) {
    what_was_written_is_read(table).await;
    nothing_is_no_failure(table).await;
    what_cannot_be_read_is_told(table).await;
}

impl Readable<'_> {
    async fn write(self, op: WriteOp) {
        let answer = self.writer.write_batch(self.table, &[op]).await.unwrap();
        assert_eq!(answer.unprocessed, []);
    }

    async fn read(self, id: &str) -> ReadItem {
        let key = json!({"id": {"S": id}}).to_string();
        let read = self.reader.read_item(self.table, key.as_bytes()).await;
        read.unwrap()
    }
}

/// Each write is seen by the next read, whole, whatever it holds; and the answer says when it was given and what it cost.
pub async fn what_was_written_is_read(table: Readable<'_>) {
    let id = "read \u{1f600} \"quoted\"";
    let item = json!({
        "id": {"S": id},
        "n": {"N": "123456789012345678901234567890.12345678"},
        "empty": {"S": ""},
        "bytes": {"B": "/wA="},
        "nothing": {"NULL": true},
        "set": {"SS": ["}]"]},
        "deep": {"L": [{"M": {"Item": {"S": "x"}}}, {"L": [{"BOOL": false}]}]},
        "ConsumedCapacity": {"S": "x".repeat(5000)},
    });
    table.write(WriteOp::Put(item.to_string().into())).await;
    let read = table.read(id).await;
    let found: Value = serde_json::from_slice(&read.item.unwrap()).unwrap();
    assert_eq!(found, item);
    assert!(
        read.answered_at.0 > 1_600_000_000_000,
        "{:?}",
        read.answered_at
    );
    assert!(
        read.consumed_capacity >= 2.0,
        "strongly, {} units",
        read.consumed_capacity
    );
    for n in 0..20 {
        let item = json!({"id": {"S": id}, "n": {"N": n.to_string()}});
        table.write(WriteOp::Put(item.to_string().into())).await;
        let read = table.read(id).await;
        let found: Value = serde_json::from_slice(&read.item.unwrap()).unwrap();
        assert_eq!(found, item, "write {n}");
    }
}

/// A key that was never written, and one that was deleted.
pub async fn nothing_is_no_failure(table: Readable<'_>) {
    assert_eq!(table.read("never").await.item, None);
    let item = json!({"id": {"S": "gone"}}).to_string();
    table.write(WriteOp::Put(item.clone().into())).await;
    assert!(table.read("gone").await.item.is_some());
    table.write(WriteOp::Delete(item.into())).await;
    assert_eq!(table.read("gone").await.item, None);
}

/// No table, no key of the table, no JSON.
pub async fn what_cannot_be_read_is_told(table: Readable<'_>) {
    let key = br#"{"id":{"S":"a"}}"#;
    let nowhere = table.reader.read_item("nowhere", key).await;
    assert_eq!(nowhere.unwrap_err().kind, FailureKind::NotFound);
    for key in [
        &br#"{"id":{"N":"1"}}"#[..],
        br#"{"at":{"S":"a"}}"#,
        b"{}",
        b"id",
    ] {
        let failure = table.reader.read_item(table.table, key).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    }
}
