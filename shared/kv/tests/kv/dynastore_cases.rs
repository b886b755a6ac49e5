//! The acceptance cases of dynastore, by number. Ten to fifteen are ours: where dynastore itself was wrong.

use std::time::Duration;

use highwater_local::EmbeddedDynamoDb;

use crate::engine::*;
use crate::probes::{HandClock, Requests};

/// A token that dynastore made: a gzip stream without its end, and JSON full of nulls.
const DYNASTORE_TOKEN: &str = "43hq9ZEtH5MmQ4HqcunoWHkJBoQUnu22Dsa1L9xdfG7ReiUJqPULC8AqoQxYg3jswJH4gGSncjrachbipBHxxmvTAryjUCj2sTomdzs8";

async fn indexed_table() -> (EmbeddedDynamoDb, Table) {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let table = store(&engine).table("kv-table");
    let spec = TableSpec::new()
        .local_index("idx_created", "created", FieldType::S)
        .global_index(
            "idx_global_1",
            ("pk1", FieldType::S),
            Some(("sk1", FieldType::S)),
        );
    table.create(&spec).await.unwrap();
    (engine, table)
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Created {
    created: String,
}

#[tokio::test]
async fn ds_01_get_of_a_missing_record_says_so() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    assert_eq!(records.get("nothing").await.unwrap(), None);
    let error = records.require("nothing").await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { key, .. } if key.name == "nothing"));
    assert!(error.is_conflict());
}

#[tokio::test]
async fn ds_02_put_get_exists_delete_for_path_like_names() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    for name in ["a", "a/", "a/testbar/", "a/testbar/testfoobar"] {
        let write = Write::text("bar").ttl(Duration::from_secs(2));
        let put = records.put(name, write).await.unwrap();
        assert_ne!(put.expires(), None);
        assert_ne!(put.version(), 0);
        let got = records.require(name).await.unwrap();
        assert_eq!(got, put);
        assert_eq!(got.text().unwrap(), "bar");
        assert_eq!((got.partition(), got.name()), ("agent", name));
        assert!(records.exists(name).await.unwrap());
        assert!(records.delete(name).await.unwrap());
        assert!(records.require(name).await.is_err());
        assert!(!records.exists(name).await.unwrap());
    }
}

#[tokio::test]
async fn ds_03_put_without_expiry_has_none() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    let record = records
        .put("n", Write::text("v").no_expiry())
        .await
        .unwrap();
    assert_eq!(record.expires(), None);
    assert_eq!(records.require("n").await.unwrap().expires(), None);
}

#[tokio::test]
async fn ds_04_atomic_put_demands_the_version_seen() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    let first = records.put("hello", Write::bytes("world")).await.unwrap();
    assert_eq!(first.bytes().unwrap(), b"world");

    let blind = records.put_if("hello", None, Write::text("x")).await;
    assert!(matches!(blind, Err(Error::Exists { version, .. }) if version == first.version()));

    let seen = Some(first.version());
    let second = records
        .put_if("hello", seen, Write::text("x"))
        .await
        .unwrap();
    assert_eq!(second.version(), first.version() + 1);

    let wrong = records.put_if("hello", Some(6744), Write::text("y")).await;
    assert!(matches!(
        wrong,
        Err(Error::Modified { seen: 6744, current, after_retry: false, .. }) if current == second.version()
    ));
    assert_eq!(records.require("hello").await.unwrap(), second);
}

#[tokio::test]
async fn ds_05_list_by_a_local_index() {
    let (_engine, table) = indexed_table().await;
    let records = table.partition("agent");
    let created = "20200103T1100Z";
    let write = Write::text("v").field("created", created);
    records.put("hello", write).await.unwrap();
    let other = Write::text("v").field("created", "20210101T0000Z");
    records.put("later", other).await.unwrap();
    records.put("unindexed", Write::text("v")).await.unwrap();

    let list = List::new()
        .prefix(created)
        .index(Index::local("idx_created", "created"));
    let page = records.list(&list).await.unwrap();
    assert_eq!(page.records.len(), 1);
    let fields: Created = page.records[0].decode_fields().unwrap();
    assert_eq!(fields.created, created);
    assert_eq!(page.records[0].field("created"), Some(created.into()));
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn ds_06_list_by_a_global_index() {
    let (_engine, table) = indexed_table().await;
    let created = "20200103T1100Z";
    let write = Write::text("v")
        .field("pk1", "wolfeidau")
        .field("sk1", created)
        .field("created", created);
    table.partition("agent").put("hello", write).await.unwrap();

    let list = List::new()
        .prefix("2020")
        .index(Index::global("idx_global_1", "pk1").sort("sk1"));
    let page = table.partition("wolfeidau").list(&list).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].partition(), "agent");
    let fields: Created = page.records[0].decode_fields().unwrap();
    assert_eq!(fields.created, created);
    assert_eq!(table.list_by("wolfeidau", &list).await.unwrap(), page);
    assert!(
        table
            .list_by("nobody", &list)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}

#[tokio::test]
async fn ds_07_atomic_delete_demands_the_version_seen() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    let record = records.put("n", Write::text("v")).await.unwrap();
    assert!(records.delete_if("n", 6744).await.is_err());
    assert!(records.exists("n").await.unwrap());
    records.delete_if("n", record.version()).await.unwrap();
    let again = records.delete_if("n", record.version()).await;
    assert!(matches!(
        again,
        Err(Error::NotFound {
            after_retry: false,
            ..
        })
    ));
}

#[tokio::test]
async fn ds_08_list_pages_by_prefix_limit_and_order() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    for name in [
        "something/withoutExpires",
        "testList/child",
        "testList/subfolder",
        "testList/subfolder/key1",
        "testList/subfolder/key2",
        "testList/subfolder/key3",
    ] {
        records.put(name, Write::text(name)).await.unwrap();
    }
    let by_prefix = List::new().prefix("testList/subfolder/key");
    assert_eq!(records.list(&by_prefix).await.unwrap().records.len(), 3);
    assert_eq!(records.list(&List::new()).await.unwrap().records.len(), 6);

    let last_five = List::new().limit(5).descending();
    let page = records.list(&last_five).await.unwrap();
    assert_eq!(page.records.len(), 5);
    assert_eq!(page.records[4].name(), "testList/child");
    let rest = last_five.token(page.next.unwrap());
    let page = records.list(&rest).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].name(), "something/withoutExpires");
}

#[tokio::test]
async fn ds_09_tokens_of_dynastore_are_understood() {
    let token: PageToken = DYNASTORE_TOKEN.parse().unwrap();
    assert_eq!(format!("{token:?}"), r#"PageToken({"id": S("welcome")})"#);
    let ours = token.to_string();
    assert_eq!(ours.parse::<PageToken>().unwrap(), token);

    // A whole key in dynastore's form continues a list where it says.
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    for name in ["a", "b", "c"] {
        records.put(name, Write::text(name)).await.unwrap();
    }
    let token = crate::tokens::as_dynastore_writes(
        r#"{"id":{"B":null,"N":null,"S":"p"},"name":{"B":null,"N":null,"S":"a"}}"#,
    );
    let page = records
        .list(&List::new().token(token.parse().unwrap()))
        .await
        .unwrap();
    let names: Vec<_> = page.records.iter().map(Record::name).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test]
async fn ds_10_create_over_an_expired_record_drops_all_of_it_and_never_reuses_a_version() {
    let (_engine, table) = fresh_table().await;
    let clock = HandClock::new();
    let store = table.store().clone().with_clock(clock.reader());
    let records = store.table("kv-table").partition("agent");
    let stale = Write::text("stale")
        .field("owner", "old")
        .ttl(Duration::from_secs(10));
    let old = records.create("lock", stale).await.unwrap();
    clock.forward(10);
    assert_eq!(records.get("lock").await.unwrap(), None);

    let new = records
        .create("lock", Write::new().field("other", 1))
        .await
        .unwrap();
    assert!(new.version() > old.version());
    assert_eq!((new.payload(), new.expires()), (None, None));
    assert_eq!(
        (new.field("owner"), new.field("other")),
        (None, Some(1.into()))
    );
    assert_eq!(records.require("lock").await.unwrap(), new);

    let old_holder = records
        .update("lock", old.version(), Write::text("mine!"))
        .await;
    assert!(matches!(old_holder, Err(Error::Modified { .. })));
    let old_holder = records.delete_if("lock", old.version()).await;
    assert!(matches!(old_holder, Err(Error::Modified { .. })));
}

#[tokio::test]
async fn ds_11_delete_of_a_missing_record_is_an_answer_and_no_panic() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    assert!(!records.delete("nothing").await.unwrap());
    for seen in [0, 1, i64::MAX, i64::MIN] {
        let deleted = records.delete_if("nothing", seen).await;
        assert!(
            matches!(deleted, Err(Error::NotFound { .. })),
            "{deleted:?}"
        );
    }
}

#[tokio::test]
async fn ds_12_delete_of_a_stale_version_says_modified() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    let first = records.create("n", Write::text("1")).await.unwrap();
    let second = records
        .update("n", first.version(), Write::text("2"))
        .await
        .unwrap();
    let deleted = records.delete_if("n", first.version()).await;
    assert!(matches!(
        deleted,
        Err(Error::Modified { seen, current, .. })
            if seen == first.version() && current == second.version()
    ));
    assert!(records.exists("n").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ds_13_of_sixteen_concurrent_creates_exactly_one_wins() {
    let (engine, table) = fresh_table().await;
    for round in 0..5 {
        let creators: Vec<_> = (0..16)
            .map(|creator| {
                // Stores of their own: nothing but DynamoDB decides between them.
                let records = store(&engine).table(table.name()).partition("locks");
                let name = format!("lock {round}");
                tokio::spawn(async move { records.create(&name, Write::value(&creator)?).await })
            })
            .collect();
        let mut winners = Vec::new();
        let mut losers = Vec::new();
        for creator in creators {
            match creator.await.unwrap() {
                Ok(record) => winners.push(record),
                Err(Error::Exists { version, .. }) => losers.push(version),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((winners.len(), losers.len()), (1, 15));
        assert!(
            losers
                .iter()
                .all(|version| *version == winners[0].version())
        );
        let name = winners[0].name();
        let stored = table.partition("locks").require(name).await.unwrap();
        assert_eq!(stored, winners[0]);
    }
}

#[tokio::test]
async fn ds_14_reads_are_consistent_in_the_request_unless_turned_off() {
    let (engine, _table) = indexed_table().await;
    let requests = Requests::default();
    let config = config(&engine).interceptor(requests.clone()).build();
    let table = Store::new(aws_sdk_dynamodb::Client::from_conf(config)).table("kv-table");
    let consistent = table.partition("agent");
    let eventual = consistent.clone().eventually_consistent();
    let local = List::new().index(Index::local("idx_created", "created"));
    let global = List::new().index(Index::global("idx_global_1", "pk1").sort("sk1"));

    consistent.get("n").await.unwrap();
    consistent.exists("n").await.unwrap();
    consistent.list(&List::new()).await.unwrap();
    consistent.list(&local).await.unwrap();
    consistent.records(List::new()).next().await.unwrap();
    assert_eq!(consistency(&requests), [true; 5]);

    eventual.get("n").await.unwrap();
    eventual.exists("n").await.unwrap();
    eventual.list(&List::new()).await.unwrap();
    eventual.records(List::new()).next().await.unwrap();
    let list = List::new().eventually_consistent();
    consistent.list(&list).await.unwrap();
    // DynamoDB refuses consistent reads of global indexes.
    consistent.list(&global).await.unwrap();
    table.list_by("x", &global).await.unwrap();
    assert_eq!(consistency(&requests), [false; 7]);
}

fn consistency(requests: &Requests) -> Vec<bool> {
    let read = |(name, body): (String, serde_json::Value)| {
        assert!(matches!(name.as_str(), "GetItem" | "Query"), "{name}");
        body["ConsistentRead"].as_bool().unwrap()
    };
    requests.take().into_iter().map(read).collect()
}

#[tokio::test]
async fn ds_15_a_write_without_expiry_removes_one_that_was_there() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("agent");
    let ttl = Duration::from_mins(1);
    let first = records.put("n", Write::text("v").ttl(ttl)).await.unwrap();
    assert_ne!(first.expires(), None);
    let kept = records.put("n", Write::text("w")).await.unwrap();
    assert_eq!(kept.expires(), first.expires());
    let removed = records.put("n", Write::new().no_expiry()).await.unwrap();
    assert_eq!(removed.expires(), None);
    assert_eq!(removed.text().unwrap(), "w");
    let set = Write::new().expires_at(4_000_000_000);
    let set = records.update("n", removed.version(), set).await.unwrap();
    assert_eq!(set.expires(), Some(4_000_000_000));
    let removed = Write::new().no_expiry();
    let removed = records.update("n", set.version(), removed).await.unwrap();
    assert_eq!(removed.expires(), None);
}
