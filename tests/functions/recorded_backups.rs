//! Backups of every kind, well and badly ended, so that each call that their functions make is made.

use aws_sdk_dynamodb::types::{StreamViewType, Tag, TimeToLiveSpecification};
use highwater_testkit::clients;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::wire_call::Instead;
use serde_json::{Value, json};

use super::account::{BUCKET, PREFIX, TABLE, at_once, request};
use super::recorded_account::Recorded;

/// How many items the table has.
pub const ITEMS: u64 = 600;

/// The table as its owner has set it up: items, tags, items that expire.
pub async fn furnish(recorded: &Recorded) {
    let client = clients::dynamodb(recorded.account.dynamodb.endpoint_url());
    let described = client
        .describe_table()
        .table_name(TABLE)
        .send()
        .await
        .unwrap();
    let arn = described.table.unwrap().table_arn.unwrap();
    // As many as a table can have: one of them must give way to the restore's own at first.
    let tags = (0..50).map(|n| {
        Tag::builder()
            .key(format!("k{n}"))
            .value("v")
            .build()
            .unwrap()
    });
    let tag = client
        .tag_resource()
        .resource_arn(arn)
        .set_tags(Some(tags.collect()));
    tag.send().await.unwrap();
    let ttl = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name("expires");
    let ttl = ttl.build().unwrap();
    let update = client.update_time_to_live().table_name(TABLE);
    update.time_to_live_specification(ttl).send().await.unwrap();
    let item = |n: u64| json!({"pk": {"S": format!("item-{n:05}")}, "n": {"N": n.to_string()}});
    let items = (0..ITEMS).map(|n| item(n).to_string().into_bytes());
    recorded
        .account
        .dynamodb
        .import(TABLE, items.collect())
        .await
        .unwrap();
}

/// Where the backup with this id is.
pub fn url(id: &Value) -> String {
    let id = id.as_str().unwrap();
    format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{id}")
}

fn small_parts(more: Value) -> Value {
    let mut request = request(
        json!({"concurrency": 3, "part_bytes": 1000, "read_capacity": 0, "settle_seconds": 0}),
    );
    let Value::Object(more) = more else {
        panic!("members")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

/// Runs them all; gives the id of the base of restores to a second.
pub async fn run(recorded: &Recorded) -> Value {
    without_stream(recorded).await;
    refused(recorded).await;
    let base = with_stream_in_trouble(recorded).await;
    failed_and_resumed(recorded).await;
    base
}

/// One more backup, a base of restores to a second.
pub async fn sealed(recorded: &Recorded) {
    let wanted = small_parts(json!({"with_stream": true}));
    let output = recorded.backup().execute(wanted, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
}

async fn without_stream(recorded: &Recorded) {
    let stack = recorded.backup();
    let limited = small_parts(json!({"segments": 5, "max_items": 90}));
    let output = stack.execute(limited, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
}

/// Executions that end before anything is scanned, each in its own way.
async fn refused(recorded: &Recorded) {
    let stack = recorded.backup();
    // A table whose stream cannot be looked at: the marker goes again.
    recorded
        .set_stream(Some(StreamViewType::NewAndOldImages))
        .await;
    recorded.play_once("plan-backup", "DescribeStream", "", |call| {
        Instead::Answer(call.denial())
    });
    let wanted = small_parts(json!({"with_stream": true}));
    let denied = stack.execute(wanted, at_once()).await.unwrap_err();
    assert_eq!(denied.error, "AccessDenied", "{denied:?}");
    recorded.set_stream(None).await;
    // A place that somebody else takes while it is planned: the record goes again.
    let id = "01768385930622-61b683f7";
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let foreign = json!({"request_id": "another"});
    let put = s3.put_object().bucket(BUCKET);
    let put = put.key(format!("{PREFIX}/{TABLE}/AWSDynamoDB/{id}/backup.json"));
    let foreign = put.body(foreign_metadata(recorded, foreign).await.into());
    foreign.send().await.unwrap();
    recorded.play_once("plan-backup", "GetObject", "/backup.json", |call| {
        Instead::Answer(call.refusal(404, "NoSuchKey", "The specified key does not exist."))
    });
    let taken = stack
        .execute(small_parts(json!({"snapshot_id": id})), at_once())
        .await
        .unwrap_err();
    assert_eq!(
        (taken.state.as_str(), taken.error.as_str()),
        ("BackupRefused", "SnapshotExists")
    );
    recorded.calm();
}

/// The metadata of a backup that is there, with other members.
async fn foreign_metadata(recorded: &Recorded, members: Value) -> Vec<u8> {
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let list = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix(format!("{PREFIX}/{TABLE}/AWSDynamoDB/"));
    let objects = list.send().await.unwrap();
    let mut keys = objects.contents().iter().filter_map(|object| object.key());
    let key = keys.find(|key| key.ends_with("/backup.json")).unwrap();
    let object = s3
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    let body = object.body.collect().await.unwrap().into_bytes();
    let mut metadata: Value = serde_json::from_slice(&body).unwrap();
    metadata
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    metadata.to_string().into_bytes()
}

/// Answers that get lost and services that are busy: claims are found again, parts adopted.
async fn with_stream_in_trouble(recorded: &Recorded) -> Value {
    for (fault, share, operation) in [
        (Fault::LoseAnswer, 0.2, "PutObject"),
        (Fault::ServerError, 0.05, "HeadObject"),
    ] {
        recorded
            .account
            .s3
            .inject(Rule::rate(fault, share).on(operation));
    }
    for (fault, share, operation) in [
        (Fault::LoseAnswer, 0.2, "TransactWriteItems"),
        (Fault::Throttle, 0.2, "Scan"),
        (Fault::LoseAnswer, 0.2, "UpdateItem"),
    ] {
        recorded
            .dynamodb
            .inject(Rule::rate(fault, share).on(operation));
    }
    let wanted = small_parts(json!({"segments": 3, "with_stream": true}));
    let output = recorded.backup().execute(wanted, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
    recorded.calm();
    output["snapshot_id"].clone()
}

/// One that fails, and is resumed after a part has landed that nobody waits for any more.
async fn failed_and_resumed(recorded: &Recorded) {
    let id = "01768385930622-00000001";
    let stack = recorded.backup();
    recorded.play_once("scan-segment", "Scan", "", |call| {
        Instead::Answer(call.denial())
    });
    let failed = stack.execute(
        small_parts(json!({"segments": 3, "snapshot_id": id})),
        at_once(),
    );
    let failed = failed.await.unwrap_err();
    assert_eq!(
        (failed.state.as_str(), failed.error.as_str()),
        ("BackupFailed", "AccessDenied")
    );
    recorded.calm();
    let key = format!("{PREFIX}/{TABLE}/AWSDynamoDB/{id}/data/s00002-p000999.json.gz");
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let late = s3.put_object().bucket(BUCKET).key(&key);
    late.send().await.unwrap();
    let resume = json!({"snapshot_id": id, "resume": true});
    let output = stack.execute(resume, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed");
    let gone = s3.head_object().bucket(BUCKET).key(&key).send().await;
    assert!(gone.unwrap_err().into_service_error().is_not_found());
}
