//! The laws of [`TableWriter`].

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::{Key, KeySchema, ScalarType};
use highwater_domain::scan::TableScanner;
use highwater_domain::table_writer::{MAX_BATCH_OPS, PutAnswer, TableWriter, WriteOp};
use serde_json::{Value, json};

use crate::canonical::canonical;
use crate::fake_describer::key_members;
use crate::fake_table::{scan_request, scan_segment};
use crate::generate::{Generator, KeyShape};

/// A table that the laws may fill as they like, of the key that [`schema`] gives. They begin and end with an
/// empty one.
#[derive(Clone, Copy, Debug)]
pub struct WritableTable<'a> {
    /// The port under test.
    pub writer: &'a dyn TableWriter,
    /// Another way to the same table.
    pub scanner: &'a dyn TableScanner,
    /// Its name.
    pub name: &'a str,
}

/// The key of the laws' table: `pk` (binary) and `sk` (number).
pub const SHAPE: KeyShape = KeyShape {
    partition: ScalarType::B,
    sort: Some(ScalarType::N),
};

/// The key of the laws' table.
#[must_use]
pub fn schema() -> KeySchema {
    SHAPE.schema()
}

/// The request that makes the laws' table.
#[must_use]
pub fn create_request(name: &str) -> Value {
    let (definitions, keys) = key_members(&schema());
    json!({
        "TableName": name,
        "AttributeDefinitions": definitions,
        "KeySchema": keys,
        "BillingMode": "PAY_PER_REQUEST"
    })
}

/// Runs every law.
pub async fn every_law(table: WritableTable<'_>) {
    items_of_every_type_arrive(table).await;
    a_put_replaces_the_whole_item(table).await;
    an_item_can_have_400_kilobytes(table).await;
    a_number_is_one_key_however_it_is_spelled(table).await;
    deletes_take_items_away(table).await;
    one_bad_item_condemns_its_batch(table).await;
    a_batch_has_25_writes_of_different_keys(table).await;
    an_empty_batch_is_nothing(table).await;
    a_conditional_put_changes_nothing_that_is_there(table).await;
    an_unknown_table_is_not_found(table).await;
}

impl WritableTable<'_> {
    /// Writes until nothing comes back, as a caller does; gives the units that it cost.
    async fn write(&self, ops: Vec<WriteOp>) -> f64 {
        let (mut left, mut units) = (ops, 0.0);
        for _ in 0..1000 {
            let sent = left.len();
            match self.writer.write_batch(self.name, &left).await {
                Ok(answer) => {
                    assert!(answer.unprocessed.len() <= sent);
                    left = answer.unprocessed;
                    units += answer.consumed_capacity;
                }
                Err(failure) => assert!(failure.kind.is_retryable(), "{failure}"),
            }
            if left.is_empty() {
                return units;
            }
        }
        panic!("a batch was never done: {} writes left", left.len());
    }

    /// All items in one form, by key.
    async fn items(&self) -> BTreeMap<String, Value> {
        let items = scan_segment(self.scanner, scan_request(self.name, 0, 1))
            .await
            .unwrap();
        by_key(&items)
    }

    /// Deletes everything, so that the next law begins afresh.
    async fn clear(&self) {
        let items = scan_segment(self.scanner, scan_request(self.name, 0, 1))
            .await
            .unwrap();
        for chunk in items.chunks(MAX_BATCH_OPS) {
            self.write(chunk.iter().map(|item| delete_of(item)).collect())
                .await;
        }
        assert!(self.items().await.is_empty(), "the table is not empty");
    }

    async fn refusal(&self, ops: &[WriteOp]) -> Failure {
        self.writer.write_batch(self.name, ops).await.unwrap_err()
    }
}

/// Items in one form, by their key in one form.
fn by_key(items: &[Vec<u8>]) -> BTreeMap<String, Value> {
    let items = items.iter().map(|item| {
        let item = canonical(item);
        (json!([item["pk"], item["sk"]]).to_string(), item)
    });
    items.collect()
}

fn put(item: &str) -> WriteOp {
    WriteOp::Put(Bytes::copy_from_slice(item.as_bytes()))
}

/// The delete of an item.
fn delete_of(item: &[u8]) -> WriteOp {
    let key: Key = schema().key_of(item).expect("an item with its key");
    WriteOp::Delete(serde_json::to_vec(&key).expect("a key is JSON").into())
}

/// An item with a number key and a text.
fn item(sort: &str, text: &str) -> String {
    format!(r#"{{"pk":{{"B":"AP8="}},"sk":{{"N":"{sort}"}},"text":{{"S":"{text}"}}}}"#)
}

/// Whatever DynamoDB can hold is written and read back equal in meaning, and is paid for.
pub async fn items_of_every_type_arrive(table: WritableTable<'_>) {
    let generator = Generator::new(5, SHAPE).with_big_every(0);
    let items: Vec<Vec<u8>> = (0..150).map(|index| generator.item(index)).collect();
    for chunk in items.chunks(MAX_BATCH_OPS) {
        let puts = chunk.iter().map(|item| WriteOp::Put(item.clone().into()));
        assert!(
            table.write(puts.collect()).await > 0.0,
            "it costs something"
        );
    }
    assert_eq!(table.items().await, by_key(&items));
    table.clear().await;
}

/// Nothing of the item that was there is left.
pub async fn a_put_replaces_the_whole_item(table: WritableTable<'_>) {
    let before = r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"old":{"SS":["a"]}}"#;
    let after = r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"new":{"NULL":true}}"#;
    table.write(vec![put(before)]).await;
    table.write(vec![put(after)]).await;
    assert_eq!(table.items().await, by_key(&[after.into()]));
    table.clear().await;
}

/// The largest item goes in, one byte more does not.
pub async fn an_item_can_have_400_kilobytes(table: WritableTable<'_>) {
    let item_of = |bytes: usize| {
        let around = "pk".len() + 2 + "sk".len() + 2 + "text".len();
        item("1", &"x".repeat(bytes - around))
    };
    let largest = item_of(409_600);
    table.write(vec![put(&largest)]).await;
    assert_eq!(table.items().await, by_key(&[largest.into_bytes()]));
    // AWS counts numbers only approximately: well beyond is what is surely too large.
    let failure = table.refusal(&[put(&item_of(409_700))]).await;
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    table.clear().await;
}

/// `100`, `1E+2` and `100.0` are one key.
pub async fn a_number_is_one_key_however_it_is_spelled(table: WritableTable<'_>) {
    for (spelling, text) in [("100", "a"), ("1E+2", "b"), ("100.0", "c")] {
        table.write(vec![put(&item(spelling, text))]).await;
    }
    assert_eq!(table.items().await, by_key(&[item("100", "c").into()]));
    let answer = table
        .writer
        .put_if_absent(table.name, "pk", &item("0.1e3", "d").into(), false)
        .await
        .unwrap();
    assert_eq!(answer, PutAnswer::Exists { item: None });
    table
        .write(vec![delete_of(item("+1e2", "").as_bytes())])
        .await;
    assert!(table.items().await.is_empty());
}

/// A delete takes its item away, and nothing where there is none; puts and deletes share a batch.
pub async fn deletes_take_items_away(table: WritableTable<'_>) {
    let [one, two, three] = ["1", "2", "3"].map(|sort| item(sort, "x"));
    table.write(vec![put(&one), put(&two)]).await;
    table
        .write(vec![
            delete_of(one.as_bytes()),
            put(&three),
            delete_of(item("4", "").as_bytes()),
        ])
        .await;
    assert_eq!(table.items().await, by_key(&[two.into(), three.into()]));
    table.clear().await;
}

/// An item that the service cannot take fails its batch as invalid, and nothing of the batch is done.
pub async fn one_bad_item_condemns_its_batch(table: WritableTable<'_>) {
    let long_key = format!(
        r#"{{"pk":{{"B":"{}"}},"sk":{{"N":"1"}}}}"#,
        "AAAA".repeat(683)
    );
    for bad in [
        r#"{"pk":{"B":"AA=="}}"#,
        r#"{"pk":{"S":"AA=="},"sk":{"N":"1"}}"#,
        r#"{"pk":{"B":""},"sk":{"N":"1"}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"one"}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"n":{"N":"123456789012345678901234567890123456789"}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"s":{"SS":[]}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"s":{"SS":["a","a"]}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"x":{"X":"1"}}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"},"x":{"S":1}}"#,
        // Not even JSON; the last would be a write of its own if it were believed.
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"}"#,
        r#"{"pk":{"B":"AA=="},"sk":{"N":"1"}}}},{"PutRequest":{"Item":{"pk":{"B":"AQ=="},"sk":{"N":"1"}}"#,
        long_key.as_str(),
    ] {
        let batch = [put(&item("1", "x")), put(bad), put(&item("2", "x"))];
        let failure = table.refusal(&batch).await;
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}: {bad}");
        let failure = table
            .writer
            .put_if_absent(
                table.name,
                "pk",
                &Bytes::copy_from_slice(bad.as_bytes()),
                true,
            )
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}: {bad}");
        assert!(table.items().await.is_empty(), "{bad}");
    }
    let half_a_key = WriteOp::Delete(Bytes::from_static(br#"{"pk":{"B":"AA=="}}"#));
    let failure = table.refusal(&[put(&item("1", "x")), half_a_key]).await;
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    assert!(table.items().await.is_empty());
}

/// One write more than a batch can have, or two of one key, and nothing is done.
pub async fn a_batch_has_25_writes_of_different_keys(table: WritableTable<'_>) {
    let puts: Vec<WriteOp> = (0..=MAX_BATCH_OPS)
        .map(|n| put(&item(&n.to_string(), "x")))
        .collect();
    let failure = table.refusal(&puts).await;
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    let twice = [puts[0].clone(), delete_of(puts[0].body())];
    let failure = table.refusal(&twice).await;
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    assert!(table.items().await.is_empty());
    table.write(puts[1..].to_vec()).await;
    assert_eq!(table.items().await.len(), MAX_BATCH_OPS);
    table.clear().await;
}

/// A batch of nothing succeeds and costs nothing.
pub async fn an_empty_batch_is_nothing(table: WritableTable<'_>) {
    let answer = table.writer.write_batch(table.name, &[]).await.unwrap();
    assert_eq!(
        answer,
        highwater_domain::table_writer::BatchAnswer::default()
    );
}

/// The first put of a key wins; later ones are told of it, with the item if they ask.
pub async fn a_conditional_put_changes_nothing_that_is_there(table: WritableTable<'_>) {
    let (first, second) = (item("1", "first"), item("1", "second"));
    let put_if_absent = async |item: &str, want_existing| {
        let item = Bytes::copy_from_slice(item.as_bytes());
        let call = table
            .writer
            .put_if_absent(table.name, "pk", &item, want_existing);
        call.await.unwrap()
    };
    match put_if_absent(&first, true).await {
        PutAnswer::Written { consumed_capacity } => assert!(consumed_capacity > 0.0),
        exists @ PutAnswer::Exists { .. } => panic!("{exists:?}"),
    }
    let refused = put_if_absent(&second, false).await;
    assert_eq!(refused, PutAnswer::Exists { item: None });
    match put_if_absent(&second, true).await {
        PutAnswer::Exists { item: Some(found) } => {
            assert_eq!(canonical(&found), canonical(first.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(table.items().await, by_key(&[first.into()]));
    table.clear().await;
}

/// A table that is not there is an error of its own kind.
pub async fn an_unknown_table_is_not_found(table: WritableTable<'_>) {
    const NONE: &str = "no-such-table-here";
    let item = item("1", "x");
    let failure = table.writer.write_batch(NONE, &[put(&item)]).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    let failure = table
        .writer
        .put_if_absent(NONE, "pk", &item.into(), false)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
}
