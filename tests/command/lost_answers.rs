//! One answer that gets lost, or one request that arrives twice, at each write of a backup in turn.

use futures::future::join_all;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::KeyShape;

use super::read_back::{Place, assert_same, id, table_items};
use super::stage::{Stage, TABLE, TO};

/// Every way to write.
const WRITES: [&str; 4] = ["PutItem", "UpdateItem", "TransactWriteItems", "PutObject"];

/// Backs up with `fault` at the first, second, … write of a kind, until a backup makes fewer such writes. Gives the
/// stories of those that failed.
async fn at_each(operation: &str, fault: Fault) -> (u32, Vec<String>) {
    let stage = Stage::with_items(40).await;
    stage
        .run(&["backup", TABLE, "--to", TO, "--id", id(0).as_str()])
        .await
        .done();
    let expected = table_items(&stage, TABLE, &KeyShape::STRING.schema()).await;
    let mut failed = Vec::new();
    for nth in 1.. {
        for proxy in [&stage.dynamodb_proxy, &stage.s3_proxy] {
            proxy.clear();
            proxy.inject(Rule::nth(fault, u64::from(nth)).on(operation));
        }
        let struck = || stage.dynamodb_proxy.count(fault) + stage.s3_proxy.count(fault);
        let before = struck();
        let id = id(nth);
        let begin = [
            "backup",
            TABLE,
            "--to",
            TO,
            "--id",
            id.as_str(),
            "--segments",
            "1",
            "--part-size",
            "2500",
        ];
        let told = stage.run(&begin).await;
        if struck() == before {
            return (nth - 1, failed);
        }
        if told.code == Some(0) {
            let (items, metadata) = Place::bucket(&stage, "daily").read(TABLE, &id).await;
            assert_same(&items, &expected);
            assert!(metadata.part_count > 1, "{metadata:?}");
        } else {
            failed.push(format!("{fault:?} at {operation} {nth}: {}", told.error()));
        }
    }
    unreachable!()
}

async fn at_every_write(fault: Fault) {
    let outcomes = join_all(WRITES.map(|operation| at_each(operation, fault))).await;
    let struck: u32 = outcomes.iter().map(|(struck, _)| struck).sum();
    let failed: Vec<String> = outcomes
        .into_iter()
        .flat_map(|(_, failed)| failed)
        .collect();
    assert!(struck > 12, "{struck} writes only");
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_get_lost_at_any_write() {
    at_every_write(Fault::LoseAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_arrive_twice_at_any_write() {
    at_every_write(Fault::Duplicate).await;
}

/// A busy moment of DynamoDB when a backup begins is no reason not to make it.
#[tokio::test(flavor = "multi_thread")]
async fn one_refusal_at_the_start_is_tried_again() {
    let stage = Stage::with_items(10).await;
    let calls = [
        "DescribeTable",
        "DescribeTimeToLive",
        "ListTagsOfResource",
        "DescribeContinuousBackups",
    ];
    let mut failed = Vec::new();
    for call in calls {
        for fault in [Fault::Throttle, Fault::ServerError, Fault::DropRequest] {
            stage.dynamodb_proxy.clear();
            stage.dynamodb_proxy.inject(Rule::nth(fault, 1).on(call));
            let told = stage.run(&["backup", TABLE, "--to", TO]).await;
            if told.code != Some(0) {
                failed.push(format!("{fault:?} at {call}: {}", told.error()));
            }
        }
    }
    assert_eq!(stage.dynamodb_proxy.count(Fault::ServerError), 4);
    assert!(failed.is_empty(), "{failed:#?}");
}
