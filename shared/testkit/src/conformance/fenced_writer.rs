//! The laws of [`FencedWriter`].

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::fenced_writer::{
    Fence, FencedTable, FencedWrite, FencedWriter, MAX_FENCED_WRITES, Repair, Repaired, TOMBSTONE,
    Transacted, Verdict,
};
use highwater_domain::scan::{ScanRequest, TableScanner};
use highwater_domain::selection::Selection;
use highwater_domain::table_writer::WriteOp;
use serde_json::{Value, json};

/// An attribute that is the key of an index of the table, of type `N`.
pub const INDEXED: &str = "indexed";

/// An empty table of the string key `id`, with an index whose partition key is [`INDEXED`].
#[derive(Clone, Copy, Debug)]
pub struct Fenced<'a> {
    /// Writes it.
    pub writer: &'a dyn FencedWriter,
    /// Reads it.
    pub scanner: &'a dyn TableScanner,
    /// The table and its fences.
    pub table: FencedTable<'a>,
}

/// Runs every law. Each has keys of its own.
pub async fn every_law(fenced: Fenced<'_>) {
    the_latest_write_stands(fenced).await;
    fifty_writes_are_one(fenced).await;
    one_stale_write_cancels_all_and_is_named(fenced).await;
    a_fence_outlives_its_item(fenced).await;
    fences_can_be_looked_at(fenced).await;
    what_the_table_does_not_take_is_told(fenced).await;
    items_stay_as_they_are_given(fenced).await;
    a_repair_is_done_at_its_order_only(fenced).await;
    a_repair_of_what_has_no_fence_leaves_none(fenced).await;
    a_repair_that_the_table_does_not_take_is_told(fenced).await;
}

/// A write, owned.
#[derive(Clone, Debug)]
struct Write {
    op: WriteOp,
    key: String,
    id: String,
    order: String,
}

impl Write {
    fn put(id: &str, value: &str, order: &str) -> Self {
        let item = format!(r#"{{"id":{{"S":"{id}"}},"v":{{"S":"{value}"}}}}"#);
        Self::of(id, WriteOp::Put(item.into()), order)
    }

    fn delete(id: &str, order: &str) -> Self {
        let key = format!(r#"{{"id":{{"S":"{id}"}}}}"#);
        Self::of(id, WriteOp::Delete(key.into()), order)
    }

    fn of(id: &str, op: WriteOp, order: &str) -> Self {
        Self {
            op,
            key: format!(r#"{{"id":{{"S":"{id}"}}}}"#),
            id: format!("fence-of-{id}"),
            order: order.to_owned(),
        }
    }

    fn fenced(&self) -> FencedWrite<'_> {
        FencedWrite {
            op: &self.op,
            key: self.key.as_bytes(),
            fence_id: &self.id,
            order: &self.order,
        }
    }
}

impl Fenced<'_> {
    async fn transact(self, writes: &[Write]) -> Result<Transacted, Failure> {
        let writes: Vec<_> = writes.iter().map(Write::fenced).collect();
        self.writer.transact(self.table, &writes).await
    }

    async fn write(self, write: Write) -> Transacted {
        self.transact(&[write]).await.unwrap()
    }

    /// Repairs with the op of a write, if the fence is at `expected`.
    async fn repair(self, write: &Write, expected: Option<&str>) -> Result<Repaired, Failure> {
        let repair = Repair {
            op: &write.op,
            key: write.key.as_bytes(),
            fence_id: &write.id,
            expected,
        };
        self.writer.repair(self.table, repair).await
    }

    async fn orders(self, writes: &[Write]) -> Vec<Option<String>> {
        let writes: Vec<_> = writes.iter().map(Write::fenced).collect();
        self.writer.orders(self.table, &writes).await.unwrap()
    }

    /// What a reader of the table takes for its items, by their ids, without what is the fence's.
    async fn items(self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        let mut from = None;
        loop {
            let request = ScanRequest {
                table: self.table.target.to_owned(),
                segment: 0,
                total_segments: 1,
                exclusive_start_key: from,
                consistent: true,
                limit: None,
                selection: Selection::default(),
            };
            let page = self.scanner.scan_page(&request).await.unwrap();
            for item in page.items.iter() {
                let mut item: Value = serde_json::from_slice(item).unwrap();
                let members = item.as_object_mut().unwrap();
                if let Fence::Attribute(name) = self.table.fence {
                    let order = members.remove(name);
                    let is_loaded = item["id"]["S"].as_str().unwrap().starts_with("loaded-");
                    assert!(order.is_some() || is_loaded, "an item without its order");
                }
                let members = item.as_object_mut().unwrap();
                if members.remove(TOMBSTONE).is_none() {
                    found.insert(item["id"]["S"].as_str().unwrap().to_owned(), item);
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return found;
            }
        }
    }

    async fn value(self, id: &str) -> Option<String> {
        let items = self.items().await;
        let value = items.get(id)?["v"]["S"].as_str()?;
        Some(value.to_owned())
    }
}

fn stale() -> Transacted {
    Transacted::Canceled(vec![Verdict::Stale])
}

/// In whatever order and however often writes come, the one of the greatest order stays.
pub async fn the_latest_write_stands(fenced: Fenced<'_>) {
    let write = |value: &str, order: &str| fenced.write(Write::put("latest", value, order));
    assert_eq!(write("2", "2").await, Transacted::Done);
    assert_eq!(write("2", "2").await, stale(), "again");
    assert_eq!(write("1", "1").await, stale(), "late");
    assert_eq!(fenced.value("latest").await.as_deref(), Some("2"));
    assert_eq!(write("4", "4").await, Transacted::Done);
    assert_eq!(write("3", "3").await, stale(), "late");
    assert_eq!(fenced.value("latest").await.as_deref(), Some("4"));
    // Orders are compared as text: they come padded.
    assert_eq!(write("5", "10").await, stale());
}

/// As many writes as are allowed are done together.
pub async fn fifty_writes_are_one(fenced: Fenced<'_>) {
    let all: Vec<Write> = (0..MAX_FENCED_WRITES)
        .map(|n| Write::put(&format!("fifty-{n}"), "x", "1"))
        .collect();
    assert_eq!(fenced.transact(&all).await.unwrap(), Transacted::Done);
    let items = fenced.items().await;
    let there = items.keys().filter(|id| id.starts_with("fifty-")).count();
    assert_eq!(there, MAX_FENCED_WRITES);
}

/// Case 67: nothing of a transaction is done of which one write is stale, and which it was is told at its place.
pub async fn one_stale_write_cancels_all_and_is_named(fenced: Fenced<'_>) {
    assert_eq!(
        fenced.write(Write::put("cancel-17", "newer", "5")).await,
        Transacted::Done
    );
    let all: Vec<Write> = (0..MAX_FENCED_WRITES)
        .map(|n| match n % 3 {
            0 => Write::delete(&format!("cancel-{n}"), "3"),
            _ => Write::put(&format!("cancel-{n}"), "x", "3"),
        })
        .collect();
    let Transacted::Canceled(verdicts) = fenced.transact(&all).await.unwrap() else {
        panic!("a stale write was done, or done without");
    };
    assert_eq!(verdicts.len(), all.len());
    for (n, verdict) in verdicts.iter().enumerate() {
        let expected = match n {
            17 => Verdict::Stale,
            _ => Verdict::Clear,
        };
        assert_eq!(*verdict, expected, "write {n}");
    }
    let items = fenced.items().await;
    let there: Vec<_> = items
        .keys()
        .filter(|id| id.starts_with("cancel-"))
        .collect();
    assert_eq!(there, ["cancel-17"], "nothing else was done");
    let orders = fenced.orders(&all).await;
    let standing: Vec<_> = orders.iter().flatten().collect();
    assert_eq!(standing, ["5"], "nor was any fence set");
    // Without it, all the others are fresh.
    let rest: Vec<Write> = all
        .into_iter()
        .filter(|it| !it.id.ends_with("-17"))
        .collect();
    assert_eq!(fenced.transact(&rest).await.unwrap(), Transacted::Done);
}

/// What is deleted stays so, until a later write; a delete of what was never there is a write as well.
pub async fn a_fence_outlives_its_item(fenced: Fenced<'_>) {
    let id = "deleted";
    assert_eq!(
        fenced.write(Write::delete(id, "2")).await,
        Transacted::Done,
        "of nothing"
    );
    assert_eq!(fenced.write(Write::put(id, "1", "1")).await, stale());
    assert_eq!(fenced.value(id).await, None);
    assert_eq!(
        fenced.write(Write::put(id, "3", "3")).await,
        Transacted::Done
    );
    assert_eq!(fenced.write(Write::delete(id, "4")).await, Transacted::Done);
    assert_eq!(fenced.write(Write::delete(id, "4")).await, stale());
    assert_eq!(fenced.write(Write::put(id, "3", "3")).await, stale());
    assert_eq!(fenced.value(id).await, None, "it is not brought back");
    assert_eq!(
        fenced.write(Write::put(id, "5", "5")).await,
        Transacted::Done
    );
    assert_eq!(fenced.value(id).await.as_deref(), Some("5"));
}

/// The orders of any fences can be read, in the order in which they are asked for.
pub async fn fences_can_be_looked_at(fenced: Fenced<'_>) {
    for (id, order) in [("look-a", "7"), ("look-c", "9")] {
        assert_eq!(
            fenced.write(Write::put(id, "x", order)).await,
            Transacted::Done
        );
    }
    assert_eq!(
        fenced.write(Write::delete("look-a", "8")).await,
        Transacted::Done
    );
    let asked: Vec<Write> = ["look-c", "look-b", "look-a"]
        .map(|id| Write::delete(id, "0"))
        .to_vec();
    let orders = fenced.orders(&asked).await;
    assert_eq!(orders, [Some("9".to_owned()), None, Some("8".to_owned())]);
    let many: Vec<Write> = (0..100)
        .map(|n| Write::delete(&format!("look-{n}"), "0"))
        .collect();
    assert_eq!(fenced.orders(&many).await, vec![None; 100]);
    assert_eq!(fenced.orders(&[]).await, Vec::<Option<String>>::new());
}

/// A write that the table will never take is told as such: at its place, or as a request that is wrong. Nothing is done.
pub async fn what_the_table_does_not_take_is_told(fenced: Fenced<'_>) {
    let large = "x".repeat(409_600);
    let large = Write::put("large", &large, "1");
    let of_wrong_type = json!({"id": {"S": "wrong"}, INDEXED: {"S": "no number"}}).to_string();
    let of_wrong_type = Write::of("wrong", WriteOp::Put(of_wrong_type.into()), "1");
    for (n, refused) in [large, of_wrong_type].into_iter().enumerate() {
        let beside = Write::put(&format!("beside-{n}"), "x", "1");
        let answer = fenced.transact(&[beside.clone(), refused.clone()]).await;
        match answer {
            Ok(Transacted::Canceled(verdicts)) => {
                let is_named = matches!(&verdicts[..], [Verdict::Clear, Verdict::Refused(_)]);
                assert!(is_named, "{verdicts:?}");
            }
            Err(failure) => assert_eq!(failure.kind, FailureKind::Invalid, "{failure}"),
            Ok(Transacted::Done) => panic!("{} was taken", refused.id),
        }
        assert_eq!(fenced.value(&format!("beside-{n}")).await, None);
        let orders = fenced.orders(&[beside.clone(), refused]).await;
        assert_eq!(orders, [None, None]);
        assert_eq!(fenced.write(beside).await, Transacted::Done);
    }
}

/// Numbers, sets, empty values: whatever an item holds comes back as DynamoDB spells it.
pub async fn items_stay_as_they_are_given(fenced: Fenced<'_>) {
    let item = json!({
        "id": {"S": "as given \u{1f600} \"quoted\""},
        "n": {"N": "123456789012345678901234567890.12345678"},
        "empty": {"S": ""},
        "bytes": {"B": ""},
        "nothing": {"NULL": true},
        "set": {"SS": ["a"]},
        "deep": {"L": [{"M": {}}, {"L": [{"BOOL": false}]}]},
        INDEXED: {"N": "7"},
    });
    let id = "as given \u{1f600} \"quoted\"";
    let bytes = Bytes::from(item.to_string());
    let key = json!({"id": {"S": id}}).to_string();
    let write = Write {
        key: key.clone(),
        ..Write::of("as-given", WriteOp::Put(bytes), "1")
    };
    assert_eq!(fenced.write(write).await, Transacted::Done);
    assert_eq!(fenced.items().await[id], item);
    let delete = Write {
        key: key.clone(),
        ..Write::of("as-given", WriteOp::Delete(key.into()), "2")
    };
    assert_eq!(fenced.write(delete).await, Transacted::Done);
    assert!(!fenced.items().await.contains_key(id));
}

/// An item that somebody has changed is put right under its fence, and the fence stays where it is: later changes go on.
pub async fn a_repair_is_done_at_its_order_only(fenced: Fenced<'_>) {
    let id = "repaired";
    let (mended, gone) = (Write::put(id, "mended", "0"), Write::delete(id, "0"));
    let repair = async |write: &Write, expected| fenced.repair(write, expected).await.unwrap();
    assert_eq!(
        fenced.write(Write::put(id, "3", "3")).await,
        Transacted::Done
    );
    for elsewhere in [None, Some("2"), Some("4")] {
        assert_eq!(repair(&mended, elsewhere).await, Repaired::Moved);
        assert_eq!(repair(&gone, elsewhere).await, Repaired::Moved);
        assert_eq!(fenced.value(id).await.as_deref(), Some("3"));
    }
    for _ in 0..2 {
        assert_eq!(repair(&mended, Some("3")).await, Repaired::Done);
        assert_eq!(fenced.value(id).await.as_deref(), Some("mended"));
    }
    let order = || async { fenced.orders(&[Write::delete(id, "0")]).await };
    assert_eq!(order().await, [Some("3".to_owned())]);
    assert_eq!(repair(&gone, Some("3")).await, Repaired::Done);
    assert_eq!(fenced.value(id).await, None);
    assert_eq!(
        order().await,
        [Some("3".to_owned())],
        "gone, and still fenced"
    );
    assert_eq!(repair(&mended, Some("3")).await, Repaired::Done);
    assert_eq!(fenced.write(Write::put(id, "2", "2")).await, stale());
    assert_eq!(
        fenced.write(Write::put(id, "4", "4")).await,
        Transacted::Done
    );
    assert_eq!(repair(&mended, Some("3")).await, Repaired::Moved, "late");
    assert_eq!(fenced.value(id).await.as_deref(), Some("4"));
}

/// A key that was loaded and never changed has no fence before and after its repair.
pub async fn a_repair_of_what_has_no_fence_leaves_none(fenced: Fenced<'_>) {
    let id = "loaded-1";
    let (mended, gone) = (Write::put(id, "mended", "0"), Write::delete(id, "0"));
    let repair = async |write: &Write, expected| fenced.repair(write, expected).await.unwrap();
    assert_eq!(repair(&mended, Some("1")).await, Repaired::Moved);
    assert_eq!(fenced.value(id).await, None);
    assert_eq!(repair(&mended, None).await, Repaired::Done);
    assert_eq!(fenced.value(id).await.as_deref(), Some("mended"));
    assert_eq!(fenced.orders(std::slice::from_ref(&gone)).await, [None]);
    assert_eq!(repair(&gone, None).await, Repaired::Done);
    assert_eq!(fenced.value(id).await, None);
    // A delete of nothing is done as well.
    assert_eq!(repair(&gone, None).await, Repaired::Done);
    assert_eq!(fenced.orders(&[gone]).await, [None]);
    assert_eq!(
        fenced.write(Write::put(id, "1", "1")).await,
        Transacted::Done
    );
}

/// As a write is refused, so is a repair; nothing is done.
pub async fn a_repair_that_the_table_does_not_take_is_told(fenced: Fenced<'_>) {
    let large = Write::put("large-repair", &"x".repeat(409_600), "0");
    match fenced.repair(&large, None).await {
        Ok(Repaired::Refused(_)) => {}
        Ok(other) => panic!("{other:?}"),
        Err(failure) => assert_eq!(failure.kind, FailureKind::Invalid, "{failure}"),
    }
    assert_eq!(fenced.value("large-repair").await, None);
}
