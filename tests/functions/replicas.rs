//! A replica that the deployed functions keep: equal to its source after a bad day, and with what it does not take kept and raised.
//!
//! `HIGHWATER_TEST_RECORDS` is the number of writes, on a twentieth as many keys.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use highwater_domain::object_store::ObjectStore as _;
use highwater_domain::replica::Phase;
use highwater_local::StreamShape;
use highwater_testkit::clients;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::runtime_api::Function;
use highwater_testkit::tables::NewTable;
use serde_json::{Value, json};

use super::account::{BUCKET, LONG, PREFIX, TABLE, event};
use super::live_account::{Live, NASTY, audited, trouble};
use super::local_mapping::Mischief;
use super::replica_stage::{REPLICA, ReplicaStage, applied, back_up};
use super::told_lines::{eventually, sums};

const WRITERS: u64 = 6;

fn writes() -> u64 {
    let told = env::var("HIGHWATER_TEST_RECORDS").ok();
    told.map_or(3000, |text| text.parse().unwrap())
}

/// Puts, deletes and puts again, on keys that all writers share; `done` counts.
async fn write_hot(live: &Live, count: u64, keys: u64, seed: u64, done: &AtomicU64) {
    let client = clients::dynamodb(live.account.dynamodb.endpoint_url());
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..count {
        let key = AttributeValue::S(format!("hot-{:05}", random.u64(..keys)));
        if random.u8(..10) < 3 {
            let delete = client.delete_item().table_name(TABLE);
            delete.key("pk", key).send().await.unwrap();
        } else {
            let put = client.put_item().table_name(TABLE).item("pk", key);
            let put = put.item("n", AttributeValue::N(format!("{seed}.{number}")));
            let text = "é".repeat(random.usize(..80));
            put.item("text", AttributeValue::S(text))
                .send()
                .await
                .unwrap();
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs the applier again and again, beside itself and killed in the middle, until `is_over`.
async fn apply_on_a_bad_day(apply: &Function, audit: &Function, is_over: impl Fn() -> bool) -> u64 {
    let mut random = fastrand::Rng::with_seed(17);
    let mut killed = 0;
    while !is_over() {
        audited(audit).await;
        let run = || apply.invoke(event("apply-log/scheduled"), Duration::from_secs(20));
        if killed < 2 {
            let killing = async {
                tokio::time::sleep(Duration::from_millis(random.u64(100..1500))).await;
                apply.kill().await as u64
            };
            let (one, other, dead) = tokio::join!(run(), run(), killing);
            killed += dead;
            for ended in [one, other] {
                if let Err(error) = ended {
                    assert_eq!(error.error_type, "Runtime.ExitError", "{error}");
                }
            }
        } else {
            run().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    killed
}

/// Until the log is whole and the applier finds nothing more in it.
async fn catch_up(apply: &Function, audit: &Function) -> (u64, Phase) {
    for _ in 0..100 {
        let audit = audited(audit).await;
        let (report, replica) = applied(apply).await;
        if audit.done && report.done && replica.records == 0 && replica.phase == Phase::Live {
            return (replica.refused, replica.phase);
        }
    }
    panic!("the replica does not catch up");
}

/// Done-when 3 of the replica, and its 4: batches doubled, cut anew, in no order, killed; the applier doubled and killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_its_source_after_a_bad_day() {
    let (writes, keys) = (writes(), (writes() / 20).max(150));
    let stage = ReplicaStage::shaped(StreamShape {
        lineages: 3,
        roll_after_records: (writes / 20).max(60),
        made_before: Duration::from_mins(1),
        ..StreamShape::default()
    })
    .await;
    let live = &stage.live;
    let audit = live.function("audit-stream");
    audited(&audit).await;
    let consume = Arc::new(stage.function("consume-stream"));
    let apply = stage.function("apply-log");
    let mut mapping = live.mapping(&consume, NASTY, 41).await;
    trouble(live);
    let (done, over, delivered) = (
        AtomicU64::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let writing = async {
        let each = writes / WRITERS;
        let clerks = (0..WRITERS).map(|seed| write_hot(live, each, keys, seed, &done));
        join_all(clerks).await;
        over.store(true, Ordering::SeqCst);
    };
    let delivering = async {
        mapping.run(|| over.load(Ordering::SeqCst)).await;
        delivered.store(true, Ordering::SeqCst);
    };
    let replicating = async {
        while done.load(Ordering::SeqCst) < writes / 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let snapshot = back_up(&live.account).await;
        let record = stage.begin(&snapshot, None).await;
        let killed = apply_on_a_bad_day(&apply, &audit, || delivered.load(Ordering::SeqCst)).await;
        (record, killed)
    };
    let ((), (), (record, killed)) = tokio::join!(writing, delivering, replicating);
    live.account.s3.clear();
    let did = mapping.deliveries;
    assert!(
        did.doubled > 0 && did.killed > 0 && killed > 0,
        "{did:?}, {killed}"
    );
    let (refused, _) = catch_up(&apply, &audit).await;
    assert_eq!(refused, 0);
    let items = stage.assert_equal().await;
    let record = stage.record(&record).await;
    assert_eq!((record.phase, record.refused), (Phase::Live, 0));
    assert!(
        record.applied.is_some() && record.target_table_id.is_some(),
        "{record:?}"
    );
    println!("{writes} writes, {items} items, {did:?}, {killed} appliers killed");
}

/// A calm stage, with a live replica: its table has an index that the source has not.
async fn indexed_replica(
    stage: &ReplicaStage,
    audit: &Function,
) -> highwater_domain::replica::ReplicaRecord {
    let client = clients::dynamodb(stage.live.account.dynamodb.endpoint_url());
    let table = NewTable::new(REPLICA, KeyShape::STRING).with_global_index();
    table.create(&client).await.unwrap();
    audited(audit).await;
    stage.live.write(60, 3).await;
    let snapshot = back_up(&stage.live.account).await;
    // Another region at the same endpoint: the restore and the applier reach it there.
    stage.begin(&snapshot, Some("eu-west-1")).await
}

/// An item whose index key the replica cannot take, or can.
async fn put_indexed(stage: &ReplicaStage, key: &str, index_key: AttributeValue) {
    let client = clients::dynamodb(stage.live.account.dynamodb.endpoint_url());
    let put = client.put_item().table_name(TABLE);
    let put = put.item("pk", AttributeValue::S(key.to_owned()));
    put.item("gsi_key", index_key).send().await.unwrap();
}

async fn kept(stage: &ReplicaStage, id: &str) -> Vec<Value> {
    let store = stage.live.account.clients().await.s3_store(BUCKET);
    let folder = format!("{PREFIX}/{TABLE}/replicas/{id}/refused/");
    let page = store.list(&folder, None).await.unwrap();
    let mut kept = Vec::new();
    for object in page.objects {
        let body = store.read(&object.key).await.unwrap().unwrap();
        kept.push(serde_json::from_slice(&body).unwrap());
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_replica_does_not_take_is_kept_and_raised_and_blocks_nothing() {
    let stage = ReplicaStage::shaped(StreamShape {
        made_before: Duration::from_mins(1),
        ..StreamShape::default()
    })
    .await;
    let live = &stage.live;
    let audit = live.function("audit-stream");
    let consume = Arc::new(stage.function("consume-stream"));
    let apply = stage.function("apply-log");
    let record = indexed_replica(&stage, &audit).await;
    let mut mapping = live.mapping(&consume, Mischief::default(), 43).await;
    mapping.run(|| true).await;
    // From here on the shards are known, and the consumer writes by itself.
    catch_up(&apply, &audit).await;
    stage.assert_equal().await;

    let number = || AttributeValue::N("7".to_owned());
    put_indexed(&stage, "poison", number()).await;
    put_indexed(&stage, "mended", number()).await;
    live.write(80, 4).await;
    put_indexed(&stage, "mended", AttributeValue::S("well".to_owned())).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    mapping.run(|| true).await;
    let told = eventually(|| {
        let sums = sums(&[&consume]);
        let told = ["ReplicaApplied", "ReplicaRefused"].map(|name| sums.get(name).copied());
        match told {
            [Some(applied), Some(refused)] if applied > 0.0 && refused > 0.0 => Ok(refused),
            _ => Err(format!("{sums:?}")),
        }
    })
    .await;
    catch_up(&apply, &audit).await;
    let kept = kept(&stage, record.id.as_str()).await;
    let poison: Vec<_> = kept
        .iter()
        .filter(|it| it["record"]["dynamodb"]["Keys"]["pk"]["S"] == "poison")
        .collect();
    let [poison] = &poison[..] else {
        panic!("once: {kept:?}")
    };
    assert_eq!(
        poison["record"]["dynamodb"]["NewImage"],
        json!({"pk": {"S": "poison"}, "gsi_key": {"N": "7"}})
    );
    assert!(poison["reason"].as_str().unwrap().len() > 5, "{poison}");
    assert!((1.0..=2.0).contains(&told), "{told}");
    let (mut source, replica) = (stage.items(TABLE).await, stage.items(REPLICA).await);
    assert!(source.remove("poison").is_some());
    assert!(
        replica == source,
        "all others are there, what was mended included"
    );
    assert!(
        consume.output().contains("does not take a record"),
        "it is raised"
    );
    assert_eq!(stage.record(&record).await.phase, Phase::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_replicas_applies_nothing_and_says_so() {
    let stage = ReplicaStage::shaped(StreamShape::default()).await;
    let apply = stage.function("apply-log");
    let answer = apply.invoke(event("apply-log/first"), LONG).await.unwrap();
    assert_eq!(answer, json!({"replicas": [], "done": true}));
    let unknown = apply.invoke(event("apply-log/one-replica"), LONG).await;
    let unknown = unknown.unwrap_err();
    assert!(unknown.message.contains("5d6f1c2b3a495867"), "{unknown}");
}
