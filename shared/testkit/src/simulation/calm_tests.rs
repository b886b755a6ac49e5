//! The simulated table, scripted by hand: what DynamoDB does, no more and no less.

use std::time::Duration;

use crate::simulation::{SimTable, StreamCall};
use bytes::Bytes;
use highwater_domain::lineage::{Lineage, Position, oddities};
use highwater_domain::shard::{ShardId, StreamStatus, StreamView};
use highwater_domain::stream_record::{Change, StreamRecord};
use highwater_domain::stream_source::{RecordPage, StartAt, StreamError, StreamSource};

async fn page(
    table: &SimTable,
    shard: &ShardId,
    from: &StartAt,
) -> Result<RecordPage, StreamError> {
    let arn = table.stream_arn().unwrap();
    let iterator = table.iterator(&arn, shard, from).await?;
    table.records(&iterator, 1000).await
}

fn read(records: &[Bytes]) -> Vec<StreamRecord> {
    let records = records.iter().map(|raw| StreamRecord::read(raw).unwrap());
    records.collect()
}

fn at_start(table: &SimTable, shard: &ShardId) -> StartAt {
    StartAt::Position(Position::At(table.listed(shard).start))
}

#[tokio::test(start_paused = true)]
async fn changes_become_records_and_no_change_becomes_none() {
    let table = SimTable::calm("orders");
    let shard = table.shard_of("a").unwrap();
    table.put("a", "1").unwrap();
    assert!(table.put("a", "1").is_none() && table.delete("b").is_none());
    table.put("a", "2").unwrap();
    table.delete("a").unwrap();
    let page = page(&table, &shard, &at_start(&table, &shard))
        .await
        .unwrap();
    assert!(page.next.is_some(), "the shard is open");
    let records = read(&page.records);
    let changes: Vec<Change> = records.iter().map(|record| record.change).collect();
    assert_eq!(changes, [Change::Insert, Change::Modify, Change::Remove]);
    assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number));
    assert_eq!(records[1].old_image, records[0].new_image);
    assert_eq!(records[1].keys, r#"{"id":{"S":"a"}}"#);
    assert!(table.items().is_empty());
    assert_eq!(table.history("a").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn shards_split_roll_and_end() {
    let table = SimTable::calm("orders");
    let root = table.open_shards()[0].clone();
    table.put("a", "1");
    let (low, high) = table.split(&root);
    let end = page(&table, &root, &at_start(&table, &root)).await.unwrap();
    assert_eq!((end.records.len(), end.next), (1, None));
    tokio::time::advance(Duration::from_secs(1)).await;
    let next = table.begin_roll(&low);
    let listing = table.true_listing();
    assert_eq!(
        oddities(&listing, table.time().now()).len(),
        1,
        "an open parent"
    );
    table.end_roll(&low);
    let listing = table.listing(&table.stream_arn().unwrap()).await.unwrap();
    assert_eq!(oddities(&listing, table.time().now()), []);
    let lineage = Lineage::of(&listing, table.time().now());
    assert_eq!(lineage.roots().count(), 1);
    let mut open = table.open_shards();
    open.sort();
    let mut expected = vec![next, high];
    expected.sort();
    assert_eq!(open, expected);
    let asked = table.children(&table.stream_arn().unwrap(), &root).await;
    assert_eq!(asked.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_not_seen() {
    let table = SimTable::calm("orders");
    let shard = table.open_shards()[0].clone();
    table.hold_publication();
    table.put("a", "1");
    table.put("a", "2");
    let seen = async || {
        page(&table, &shard, &at_start(&table, &shard))
            .await
            .unwrap()
            .records
            .len()
    };
    assert_eq!(seen().await, 0);
    assert_eq!(table.publish(&shard, 1), 1);
    assert_eq!(seen().await, 1);
    table.publish_all();
    assert_eq!(seen().await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_is_told_and_skipped_only_on_request() {
    let table = SimTable::calm("orders");
    let shard = table.open_shards()[0].clone();
    let written: Vec<_> = (0..4)
        .map(|n| table.put("a", &n.to_string()).unwrap().record.unwrap())
        .collect();
    table.trim(&shard, 2);
    let after = |n: usize| StartAt::Position(Position::After(written[n].sequence_number.clone()));
    for position in [at_start(&table, &shard), after(0), after(1)] {
        let error = page(&table, &shard, &position).await.unwrap_err();
        assert!(matches!(error, StreamError::Trimmed { .. }), "{error}");
    }
    assert_eq!(
        page(&table, &shard, &after(2)).await.unwrap().records.len(),
        1
    );
    assert_eq!(
        page(&table, &shard, &StartAt::WhatIsLeft)
            .await
            .unwrap()
            .records
            .len(),
        2
    );
    // By itself after 24 hours.
    tokio::time::advance(Duration::from_secs(24 * 3600 + 1)).await;
    assert!(matches!(
        page(&table, &shard, &after(2)).await,
        Err(StreamError::Trimmed { .. })
    ));
    table.forget(&shard);
    assert!(matches!(
        page(&table, &shard, &after(2)).await,
        Err(StreamError::Gone(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn iterators_expire_and_errors_come_as_ordered() {
    let table = SimTable::calm("orders");
    let shard = table.open_shards()[0].clone();
    let arn = table.stream_arn().unwrap();
    let iterator = table
        .iterator(&arn, &shard, &StartAt::WhatIsLeft)
        .await
        .unwrap();
    table.empty_pages_next(1);
    table.put("a", "1");
    assert!(
        table
            .records(&iterator, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert_eq!(table.records(&iterator, 10).await.unwrap().records.len(), 1);
    table.fail_next(StreamCall::Records, StreamError::Gone("x".into()));
    assert!(table.records(&iterator, 10).await.is_err());
    tokio::time::advance(Duration::from_secs(901)).await;
    let expired = table.records(&iterator, 10).await;
    assert!(matches!(expired, Err(StreamError::IteratorExpired(_))));
}

#[tokio::test(start_paused = true)]
async fn another_stream_has_another_name() {
    let table = SimTable::calm("orders");
    let first = table.stream_arn().unwrap();
    let id = table.table_id();
    table.disable_stream();
    assert!(table.put("a", "1").unwrap().record.is_none());
    assert_eq!(table.true_listing().status, StreamStatus::Disabled);
    let second = table.enable_stream(StreamView::NewImage);
    assert_ne!(first, second);
    table.put("a", "2");
    let shard = table.open_shards()[0].clone();
    let page = page(&table, &shard, &at_start(&table, &shard))
        .await
        .unwrap();
    assert_eq!(read(&page.records)[0].old_image, None);
    assert_eq!(
        table.listing(&first).await.unwrap().status,
        StreamStatus::Disabled
    );
    table.drop_and_create();
    assert_ne!(table.table_id(), id);
    assert!(table.items().is_empty());
}

/// The simulated stream keeps the laws that every stream keeps.
mod laws {
    use std::sync::Arc;

    use async_trait::async_trait;
    use highwater_domain::shard::StreamView;
    use highwater_domain::stream_source::StreamSource;

    use crate::conformance::stream_source::{StreamStage, every_law};
    use crate::simulation::SimTable;

    struct Stage(Arc<SimTable>);

    #[async_trait]
    impl StreamStage for Stage {
        fn source(&self) -> &dyn StreamSource {
            &*self.0
        }

        async fn stream(&self) -> String {
            // The same item in an older stream would make the write no change.
            self.0.drop_and_create();
            self.0.enable_stream(StreamView::NewAndOldImages)
        }

        async fn put(&self, _stream_arn: &str, key: u32, n: u64) {
            let key = format!("key-{key}");
            let item = format!(r#"{{"id":{{"S":"{key}"}},"n":{{"N":"{n}"}}}}"#);
            self.0.put_item(&key, &item);
            let shard = self.0.open_shards()[0].clone();
            if self.0.records_of(&shard).len() == 30 {
                self.0.roll(&shard);
            }
        }

        async fn trim(&self, _stream_arn: &str) -> bool {
            for record in self.0.all_records() {
                self.0.trim(&record.shard, usize::MAX / 2);
            }
            true
        }

        async fn disable(&self, _stream_arn: &str) -> bool {
            self.0.disable_stream();
            true
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_calm_table_keeps_the_laws_of_streams() {
        every_law(&Stage(SimTable::calm("orders"))).await;
    }
}
