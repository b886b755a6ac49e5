//! One answer that gets lost, one request that arrives twice, or one refusal, at each request of a restore in turn.

use futures::future::join_all;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;

use super::read_back::{assert_same, table_items};
use super::restores::backed_up;
use super::restoring::{assert_accounted_for, assert_restored, completed, done, restore, total};
use super::stage::{Stage, TABLE, TO};

const ITEMS: u64 = 16;

/// How a table is filled: `--to` a new one, or one that is there.
const WAYS: [&[&str]; 3] = [
    &[],
    &["--into-existing"],
    &["--into-existing", "--allow-overwrite"],
];

/// A table with settings that are made after the load, so that their calls are struck, too.
async fn furnished_stage() -> (Stage, String) {
    let stage = Stage::start().await;
    let table = NewTable::new(TABLE, KeyShape::STRING)
        .with_stream()
        .with_ttl("expires")
        .with_tag("team", "orders");
    table.create(&stage.direct).await.unwrap();
    let items = Generator::small(7, KeyShape::STRING).items(ITEMS);
    let items = items.map(|item| item.json()).collect();
    stage.dynamodb.import(TABLE, items).await.unwrap();
    let backup = backed_up(&stage, TO).await;
    (stage, backup)
}

/// Restores with `fault` at the first, second, … request of a kind, until a restore makes fewer of them, or `most`.
/// Gives how often it struck and the stories of restores that failed.
async fn at_each(operation: &str, fault: Fault, way: &[&str], most: u32) -> (u32, Vec<String>) {
    let (stage, backup) = furnished_stage().await;
    let schema = KeyShape::STRING.schema();
    let expected = table_items(&stage, TABLE, &schema).await;
    let mut failed = Vec::new();
    for nth in 1..=most {
        for proxy in [&stage.dynamodb_proxy, &stage.s3_proxy] {
            proxy.clear();
            proxy.inject(Rule::nth(fault, u64::from(nth)).on(operation));
        }
        let struck = || stage.dynamodb_proxy.count(fault) + stage.s3_proxy.count(fault);
        let before = struck();
        let target = format!("target-{nth}");
        if !way.is_empty() {
            let table = NewTable::new(&target, KeyShape::STRING);
            table.create(&stage.direct).await.unwrap();
        }
        let begin = ["restore", &backup, "--from", TO, "--to", &target, "--json"];
        let told = stage.run(&[&begin[..], way].concat()).await;
        if struck() == before {
            return (nth - 1, failed);
        }
        if told.code == Some(0) {
            let result = completed(&told);
            assert_accounted_for(&result);
            assert_eq!(total(&result, "read"), ITEMS);
            if fault == Fault::LoseAnswer {
                assert_eq!(
                    total(&result, "written"),
                    ITEMS,
                    "{operation} {nth}: {result}"
                );
            }
            assert_same(&table_items(&stage, &target, &schema).await, &expected);
        } else {
            failed.push(format!(
                "{fault:?} at {operation} {nth} {way:?}: {}",
                told.error()
            ));
        }
    }
    (most, failed)
}

async fn at_every(operations: &[&str], faults: &[Fault], ways: &[&[&str]], bounds: (u32, u32)) {
    let combined = operations.iter().flat_map(|operation| {
        let with_fault = move |fault: &Fault| {
            ways.iter()
                .map(move |way| (*operation, *fault, *way))
                .collect::<Vec<_>>()
        };
        faults.iter().flat_map(with_fault).collect::<Vec<_>>()
    });
    let outcomes =
        join_all(combined.map(|(operation, fault, way)| at_each(operation, fault, way, bounds.1)))
            .await;
    let struck: u32 = outcomes.iter().map(|(struck, _)| struck).sum();
    let failed: Vec<String> = outcomes
        .into_iter()
        .flat_map(|(_, failed)| failed)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(struck >= bounds.0, "only {struck} requests struck");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_get_lost_or_a_request_come_twice_at_any_write_of_a_restore() {
    let settings = [
        "CreateTable",
        "UpdateTable",
        "UpdateTimeToLive",
        "TagResource",
        "UntagResource",
    ];
    let faults = [Fault::LoseAnswer, Fault::Duplicate];
    at_every(&settings, &faults, &WAYS[..1], (6, 9)).await;
    let items = [
        "PutItem",
        "UpdateItem",
        "TransactWriteItems",
        "BatchWriteItem",
    ];
    at_every(&items, &faults[..1], &WAYS[1..], (16, 24)).await;
    at_every(
        &["BatchWriteItem", "PutItem"],
        &faults[1..],
        &WAYS[1..2],
        (8, 8),
    )
    .await;
}

/// A busy moment of DynamoDB or S3 when a restore begins or ends is no reason not to do it.
#[tokio::test(flavor = "multi_thread")]
async fn one_refusal_at_the_start_or_end_of_a_restore_is_tried_again() {
    let looks = [
        "DescribeTable",
        "DescribeTimeToLive",
        "ListTagsOfResource",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
        "GetItem",
        "Query",
    ];
    at_every(&looks, &[Fault::Throttle], &WAYS[..1], (10, 4)).await;
    at_every(
        &[
            "CreateTable",
            "UpdateTimeToLive",
            "UpdateTable",
            "BatchWriteItem",
        ],
        &[Fault::ServerError, Fault::Throttle, Fault::DropRequest],
        &WAYS[..1],
        (8, 3),
    )
    .await;
}

/// Nine batches in ten come back half done, and one request in ten goes wrong: it takes its time, and is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_little_gets_everything_in_the_end() {
    let (stage, backup) = furnished_stage().await;
    let proxy = &stage.dynamodb_proxy;
    for fault in [Fault::Throttle, Fault::ServerError, Fault::LoseAnswer] {
        proxy.inject(Rule::rate(fault, 0.035));
    }
    proxy.inject(Rule::rate(Fault::Unprocessed, 0.9));
    let result = done(&stage, &restore(&backup, &["--concurrency", "12"])).await;
    assert_eq!(
        (total(&result, "read"), total(&result, "written")),
        (ITEMS, ITEMS)
    );
    assert!(total(&result, "throttles") > 0, "{result}");
    assert_restored(&stage, &KeyShape::STRING.schema()).await;
    assert!(proxy.count(Fault::Unprocessed) > 3);
}

/// An answer that was damaged on its way is not believed: what is restored is what was backed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_downloaded_part_is_noticed() {
    let (stage, backup) = furnished_stage().await;
    let data = format!("/backups/daily/orders/AWSDynamoDB/{backup}/data/");
    let schema = KeyShape::STRING.schema();
    let source = table_items(&stage, TABLE, &schema).await;
    for nth in 1..=4 {
        stage.s3_proxy.clear();
        let flipped = Rule::nth(Fault::CorruptAnswer, nth).on("GetObject");
        stage.s3_proxy.inject(flipped.under(&data));
        let target = format!("target-{nth}");
        let told = stage
            .run(&["restore", &backup, "--from", TO, "--to", &target])
            .await;
        if told.code == Some(0) {
            assert_same(&table_items(&stage, &target, &schema).await, &source);
        } else {
            told.failed(1, &["data/"]);
        }
    }
    assert!(stage.s3_proxy.count(Fault::CorruptAnswer) >= 2);
}
