//! Expired records are gone for every operation, from the very second on, whether or not DynamoDB has removed them.

use std::time::Duration;

use highwater_local::EmbeddedDynamoDb;

use crate::engine::*;
use crate::probes::{HandClock, Requests};

async fn timed_table() -> (EmbeddedDynamoDb, Table, HandClock) {
    let (engine, table) = fresh_table().await;
    let clock = HandClock::new();
    let store = table.store().clone().with_clock(clock.reader());
    (engine, store.table("kv-table"), clock)
}

#[tokio::test]
async fn the_second_of_expiry_means_gone_to_every_operation() {
    let (_engine, table, clock) = timed_table().await;
    let records = table.partition("p");
    let ttl = Duration::from_secs(5);
    let record = records
        .create("n", Write::text("v").ttl(ttl))
        .await
        .unwrap();
    assert_eq!(record.expires(), Some(HandClock::START + 5));
    let version = record.version();

    clock.forward(4);
    assert!(records.exists("n").await.unwrap());
    assert_eq!(records.get("n").await.unwrap(), Some(record));
    assert_eq!(records.list(&List::new()).await.unwrap().records.len(), 1);
    assert!(records.create("n", Write::new()).await.is_err());
    let touched = records
        .update("n", version, Write::text("w"))
        .await
        .unwrap();

    clock.forward(1);
    let version = touched.version();
    assert!(!records.exists("n").await.unwrap());
    assert_eq!(records.get("n").await.unwrap(), None);
    assert_eq!(records.list(&List::new()).await.unwrap().records, []);
    assert_eq!(records.records(List::new()).next().await.unwrap(), None);
    let update = records.update("n", version, Write::new().no_expiry()).await;
    assert!(matches!(update, Err(Error::NotFound { .. })));
    let delete = records.delete_if("n", version).await;
    assert!(matches!(delete, Err(Error::NotFound { .. })));
    let check = Transaction::new().check("p", "n", version);
    let Err(Error::TransactionCanceled { reasons, .. }) = table.transact(check).await else {
        panic!("the check passed");
    };
    assert_eq!(reasons[0].cause, Cause::NotFound);
    let absent = Transaction::new().check_absent("p", "n");
    assert_eq!(table.transact(absent).await.unwrap(), [None]);
    assert!(!records.delete("n").await.unwrap());
}

#[tokio::test]
async fn a_put_over_an_expired_record_keeps_nothing_but_the_count() {
    let (_engine, table, clock) = timed_table().await;
    let records = table.partition("p");
    let stale = Write::text("stale")
        .field("f", 1)
        .ttl(Duration::from_secs(5));
    let old = records.put("n", stale).await.unwrap();
    clock.forward(5);
    let new = records.put("n", Write::new().field("g", 2)).await.unwrap();
    assert!(new.version() > old.version());
    assert_eq!(
        (new.payload(), new.expires(), new.field("f")),
        (None, None, None)
    );
    assert_eq!(records.require("n").await.unwrap(), new);
}

#[tokio::test]
async fn pages_are_filled_up_past_expired_records() {
    let (engine, table, clock) = timed_table().await;
    let records = table.partition("p");
    for number in 0..300 {
        let write = Write::value(&number).unwrap();
        // Live ones at 0, 100, 200 and 299 only.
        let write = if number % 100 == 0 || number == 299 {
            write
        } else {
            write.ttl(Duration::from_secs(5))
        };
        records.put(&format!("{number:03}"), write).await.unwrap();
    }
    clock.forward(5);

    let requests = Requests::default();
    let config = config(&engine).interceptor(requests.clone()).build();
    let store = Store::new(aws_sdk_dynamodb::Client::from_conf(config)).with_clock(clock.reader());
    let records = store.table("kv-table").partition("p");
    let list = List::new().limit(3);
    let page = records.list(&list).await.unwrap();
    assert_eq!(names(&page.records), ["000", "100", "200"]);
    // Refills ask for more at a time: 3, then 100, then 200.
    assert_eq!(requests.take().len(), 3);
    let page = records.list(&list.token(page.next.unwrap())).await.unwrap();
    assert_eq!(names(&page.records), ["299"]);
    assert_eq!(page.next, None);

    let backwards = List::new().limit(1).descending();
    let mut walk = records.records(backwards);
    let mut seen = Vec::new();
    while let Some(record) = walk.next().await.unwrap() {
        seen.push(record);
    }
    assert_eq!(names(&seen), ["299", "200", "100", "000"]);

    let everything_expired = List::new().prefix("01");
    assert_eq!(records.list(&everything_expired).await.unwrap().records, []);
}

#[tokio::test]
async fn index_reads_hide_expired_records_too() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clock = HandClock::new();
    let table = store(&engine).with_clock(clock.reader()).table("kv-table");
    let spec = TableSpec::new()
        .local_index("by_rank", "rank", FieldType::N)
        .global_index("by_flag", ("flag", FieldType::B), None);
    table.create(&spec).await.unwrap();
    let records = table.partition("p");
    for rank in 0..20_u32 {
        let write = Write::text("v").field("rank", rank).field("flag", vec![7]);
        let write = if rank % 4 == 0 {
            write
        } else {
            write.ttl(Duration::from_secs(5))
        };
        // The order of names is not the order of ranks.
        records
            .put(&format!("{:02}", 19 - rank), write)
            .await
            .unwrap();
    }
    clock.forward(5);

    let by_rank = List::new().limit(2).index(Index::local("by_rank", "rank"));
    let mut walk = records.records(by_rank);
    let mut ranks = Vec::new();
    while let Some(record) = walk.next().await.unwrap() {
        ranks.push(record.field("rank").unwrap().to_string());
    }
    assert_eq!(ranks, ["0", "4", "8", "12", "16"]);

    let by_flag = List::new().limit(2).index(Index::global("by_flag", "flag"));
    let mut walk = table.records_by(vec![7], by_flag).unwrap();
    let mut count = 0;
    while walk.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
}

fn names(records: &[Record]) -> Vec<&str> {
    records.iter().map(Record::name).collect()
}
