//! Versions: one winner per version, none used twice, and what a lost answer leaves.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use highwater_local::EmbeddedDynamoDb;

use crate::engine::*;
use crate::probes::{HandClock, LossyClient};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_updates_of_one_version_exactly_one_wins() {
    let (engine, table) = fresh_table().await;
    let first = table
        .partition("p")
        .create("n", Write::value(&0).unwrap())
        .await
        .unwrap();
    for version in (first.version()..).take(5) {
        let updates: Vec<_> = (0..16)
            .map(|_| {
                let records = store(&engine).table("kv-table").partition("p");
                tokio::spawn(async move { records.update("n", version, Write::text("next")).await })
            })
            .collect();
        let mut won = Vec::new();
        for update in updates {
            match update.await.unwrap() {
                Ok(record) => won.push(record.version()),
                Err(Error::Modified { current, .. }) => assert_eq!(current, version + 1),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(won, [version + 1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_puts_all_get_versions_of_their_own() {
    let (engine, table) = fresh_table().await;
    let puts: Vec<_> = (0..32)
        .map(|number| {
            let records = store(&engine).table(table.name()).partition("p");
            tokio::spawn(async move { records.put("n", Write::value(&number)?).await })
        })
        .collect();
    let mut versions = HashSet::new();
    for put in puts {
        assert!(versions.insert(put.await.unwrap().unwrap().version()));
    }
    let last = table.partition("p").require("n").await.unwrap();
    assert_eq!(versions.into_iter().max(), Some(last.version()));
}

#[tokio::test]
async fn a_record_created_again_never_has_a_version_that_an_old_holder_may_hold() {
    let (_engine, table) = fresh_table().await;
    let clock = HandClock::new();
    let store = table.store().clone().with_clock(clock.reader());
    let records = store.table("kv-table").partition("p");
    let mut held = HashSet::new();
    for life in 0..20 {
        // The clock stands still, or even goes back: the store remembers what it has seen.
        clock.back(life);
        let mut record = match life % 2 {
            0 => records.create("n", Write::text("v")).await.unwrap(),
            _ => records.put("n", Write::text("v")).await.unwrap(),
        };
        assert!(held.iter().all(|old| *old < record.version()));
        for version in &held {
            assert!(records.update("n", *version, Write::new()).await.is_err());
        }
        for _ in 0..3 {
            held.insert(record.version());
            record = records
                .update("n", record.version(), Write::new())
                .await
                .unwrap();
        }
        held.insert(record.version());
        match life % 3 {
            0 => records.delete_if("n", record.version()).await.unwrap(),
            1 => assert!(records.delete("n").await.unwrap()),
            _ => assert_eq!(records.delete_prefix("").await.unwrap(), 1),
        }
    }
}

#[tokio::test]
async fn another_store_with_a_later_clock_starts_above_everything_former() {
    let (engine, _table) = fresh_table().await;
    let clock = HandClock::new();
    let mut highest = 0;
    for _ in 0..10 {
        let records = store(&engine)
            .with_clock(clock.reader())
            .table("kv-table")
            .partition("p");
        let first = records.create("n", Write::text("v")).await.unwrap();
        assert!(first.version() > highest);
        let second = records
            .update("n", first.version(), Write::new())
            .await
            .unwrap();
        highest = second.version();
        records.delete_if("n", highest).await.unwrap();
        clock.forward(1);
    }
}

#[tokio::test]
async fn a_slow_clock_over_an_expired_record_still_moves_the_version_on() {
    let (engine, table) = fresh_table().await;
    let fast = HandClock::new();
    fast.forward(1000);
    let records = table
        .store()
        .clone()
        .with_clock(fast.reader())
        .table("kv-table")
        .partition("p");
    let past = Write::text("v").expires_at(HandClock::START - 1);
    let mut last = records.create("n", past.clone()).await.unwrap().version();
    let slow = HandClock::new();
    for how in 0..3 {
        // Stores of their own each time: they know the former version only from DynamoDB's refusal.
        let table = store(&engine).with_clock(slow.reader()).table("kv-table");
        let records = table.partition("p");
        let version = match how {
            0 => records.create("n", past.clone()).await.unwrap().version(),
            1 => records.put("n", past.clone()).await.unwrap().version(),
            _ => {
                let create = Transaction::new().create("p", "n", Write::text("v"));
                table.transact(create).await.unwrap()[0].unwrap()
            }
        };
        assert!(version > last, "{version} after {last}");
        last = version;
    }
    let stored = table.partition("p").require("n").await.unwrap();
    assert_eq!(stored.version(), last);
}

#[tokio::test]
async fn a_record_written_by_dynastore_is_taken_as_it_is() {
    let (_engine, table) = fresh_table().await;
    let put = table.store().client().put_item().table_name("kv-table");
    put.item("id", S("p".into()))
        .item("name", S("n".into()))
        .item("version", N("1".into()))
        .item("payload", S("d29ybGQ=".into()))
        .item("pk1", S("x".into()))
        .send()
        .await
        .unwrap();
    let records = table.partition("p");
    let record = records.require("n").await.unwrap();
    assert_eq!((record.version(), record.expires()), (1, None));
    assert_eq!(record.bytes().unwrap(), b"world");
    assert_eq!(record.field("pk1"), Some("x".into()));
    let updated = records.update("n", 1, Write::text("w")).await.unwrap();
    assert_eq!(updated.version(), 2);
    assert_eq!(updated.field("pk1"), Some("x".into()));
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    let all = Write::text("v")
        .field("s", "text")
        .field("n", 5)
        .field("b", vec![0_u8, 255])
        .field("flag", true)
        .expires_at(4_000_000_000);
    let first = records.create("n", all).await.unwrap();
    let change = Write::new()
        .field("n", 6)
        .remove_field("s")
        .remove_field("absent");
    let second = records.update("n", first.version(), change).await.unwrap();
    assert_eq!(second.text().unwrap(), "v");
    assert_eq!(second.expires(), first.expires());
    assert_eq!(second.field("s"), None);
    assert_eq!(second.field("n"), Some(6.into()));
    assert_eq!(second.field("b"), Some(vec![0_u8, 255].into()));
    assert_eq!(second.field("flag"), Some(true.into()));
    assert_eq!(records.require("n").await.unwrap(), second);
}

#[tokio::test]
async fn reserved_names_are_refused_by_every_write() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    let reserved = |result: Result<_, Error>| matches!(result, Err(Error::ReservedField { name }) if name == "version");
    let write = || Write::text("v").field("version", 1);
    assert!(reserved(records.put("n", write()).await));
    assert!(reserved(records.create("n", write()).await));
    assert!(reserved(records.update("n", 1, write()).await));
    let transaction = Transaction::new().create("p", "n", write());
    assert!(matches!(
        table.transact(transaction).await,
        Err(Error::ReservedField { .. })
    ));
    assert!(!records.exists("n").await.unwrap());
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Nested {
    text: String,
    empty: String,
    numbers: Vec<i64>,
    none: Option<u8>,
    inner: std::collections::BTreeMap<String, f64>,
}

#[tokio::test]
async fn typed_payloads_come_back_as_they_went() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    let nested = Nested {
        text: "größer".into(),
        empty: String::new(),
        numbers: vec![i64::MIN, 0, i64::MAX],
        none: None,
        inner: [("pi".to_owned(), 3.25)].into(),
    };
    records
        .put("n", Write::value(&nested).unwrap())
        .await
        .unwrap();
    let record = records.require("n").await.unwrap();
    assert_eq!(record.value::<Nested>().unwrap(), nested);
    assert!(matches!(record.value::<u32>(), Err(Error::Decode { .. })));
    assert!(record.payload().unwrap().is_m());

    records.put("empty", Write::text("")).await.unwrap();
    assert_eq!(records.require("empty").await.unwrap().text().unwrap(), "");
    let none = records.put("none", Write::new()).await.unwrap();
    assert!(matches!(none.value::<u32>(), Err(Error::Decode { .. })));
    let odd = Write::value(&std::collections::BTreeMap::from([(vec![1], 1)]));
    assert!(matches!(odd, Err(Error::Encode { .. })));
}

async fn lossy_table() -> (EmbeddedDynamoDb, Table, LossyClient) {
    let (engine, _table) = fresh_table().await;
    let lossy = LossyClient::new();
    let config = config(&engine).http_client(lossy.clone()).build();
    let table = Store::new(aws_sdk_dynamodb::Client::from_conf(config)).table("kv-table");
    (engine, table, lossy)
}

#[tokio::test]
async fn a_create_whose_answer_got_lost_recognises_its_own_record() {
    let (_engine, table, lossy) = lossy_table().await;
    let records = table.partition("p");
    lossy.lose(1);
    let write = || {
        Write::text("mine")
            .ttl(Duration::from_mins(1))
            .field("f", 1)
    };
    let created = records.create("n", write()).await.unwrap();
    assert_eq!(records.require("n").await.unwrap(), created);

    // Somebody else's record, though of the same content, is not taken for one's own.
    lossy.lose(1);
    let second = records.create("n", write()).await;
    assert!(matches!(second, Err(Error::Exists { version, .. }) if version == created.version()));
}

#[tokio::test]
async fn updates_and_deletes_whose_answer_got_lost_say_that_they_were_sent_twice() {
    let (_engine, table, lossy) = lossy_table().await;
    let records = table.partition("p");
    let record = records.create("n", Write::text("1")).await.unwrap();
    lossy.lose(1);
    let update = records
        .update("n", record.version(), Write::text("2"))
        .await;
    let Err(Error::Modified {
        current,
        after_retry: true,
        ..
    }) = update
    else {
        panic!("{update:?}");
    };
    assert_eq!(current, record.version() + 1);
    assert_eq!(records.require("n").await.unwrap().text().unwrap(), "2");
    lossy.lose(1);
    let delete = records.delete_if("n", current).await;
    assert!(
        matches!(
            delete,
            Err(Error::NotFound {
                after_retry: true,
                ..
            })
        ),
        "{delete:?}"
    );
}

#[tokio::test]
async fn a_transaction_whose_answer_got_lost_is_exact() {
    let (_engine, table, lossy) = lossy_table().await;
    let records = table.partition("p");
    let record = records.create("n", Write::text("1")).await.unwrap();
    lossy.lose(1);
    let transaction = Transaction::new()
        .update("p", "n", record.version(), Write::text("2"))
        .create("p", "m", Write::text("new"));
    let versions = table.transact(transaction).await.unwrap();
    assert_eq!(versions[0], Some(record.version() + 1));
    let stored = records.require("m").await.unwrap();
    assert_eq!(versions[1], Some(stored.version()));
}
