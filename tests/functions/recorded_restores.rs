//! Restores of every kind, well and badly ended, so that each call that their functions make is made.

use highwater_testkit::clients;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::wire_call::Instead;
use serde_json::{Value, json};

use super::account::{BUCKET, PREFIX, TABLE, at_once};
use super::recorded_account::Recorded;
use super::recorded_backups::{ITEMS, url};
use super::restore_stack::RestoreStack;

/// A bucket that is somebody else's, with the same stack over it: its prefix is the same, because a backup's manifests
/// name its objects by their whole keys.
pub const ELSEWHERE: &str = "highwater-elsewhere";

fn restore(backup: &str, to: &str, more: Value) -> Value {
    let rejects = format!("s3://{BUCKET}/{PREFIX}/rejects");
    let mut request = json!({"backup": backup, "to": to, "rejects": rejects, "concurrency": 2});
    let Value::Object(more) = more else {
        panic!("members")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

/// Runs them all, from the backup with the id `base` and from the log behind it.
pub async fn run(recorded: &Recorded, base: &Value) {
    let backup = url(base);
    let stack = recorded.restore();
    new_table_in_trouble(recorded, &stack, &backup).await;
    existing_table(&stack, &backup).await;
    rejected(recorded, &stack).await;
    failed_and_resumed(recorded, &stack, &backup).await;
    imported(recorded, &stack, &backup).await;
    elsewhere(recorded, &stack).await;
    second(recorded, &stack).await;
    materialized(recorded, &stack).await;
}

async fn completed(stack: &RestoreStack, request: Value) -> Value {
    let output = stack.execute(request.clone(), at_once()).await;
    let output = output.unwrap_or_else(|failed| panic!("{request}: {failed:?}"));
    assert_eq!(output["status"], "completed", "{request}");
    output
}

async fn new_table_in_trouble(recorded: &Recorded, stack: &RestoreStack, backup: &str) {
    for (fault, share, operation) in [
        (Fault::Throttle, 0.1, "BatchWriteItem"),
        (Fault::Unprocessed, 0.3, "BatchWriteItem"),
        (Fault::LoseAnswer, 0.2, "PutItem"),
        (Fault::LoseAnswer, 0.2, "UpdateItem"),
    ] {
        recorded
            .dynamodb
            .inject(Rule::rate(fault, share).on(operation));
    }
    let settings = json!({"load_write_capacity": 2000, "deletion_protection": true});
    completed(
        stack,
        restore(backup, "new-restored", json!({"settings": settings})),
    )
    .await;
    recorded.calm();
}

async fn existing_table(stack: &RestoreStack, backup: &str) {
    for more in [
        json!({"on_existing": "skip"}),
        json!({"on_existing": "overwrite", "max_items": 40}),
    ] {
        let mut request = restore(backup, "new-restored", more);
        request["into_existing"] = json!(true);
        completed(stack, request).await;
    }
}

async fn rejected(recorded: &Recorded, stack: &RestoreStack) {
    let lines = "{\"Item\":{\"pk\":{\"S\":\"a\"}}}\n{\"Item\":{\"pk\":{\"N\":\"1\"}}}\n";
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key(format!("{PREFIX}/lines.json"));
    put.body(lines.as_bytes().to_vec().into())
        .send()
        .await
        .unwrap();
    let backup = format!("s3://{BUCKET}/{PREFIX}/lines.json");
    let request = restore(&backup, "lines-restored", json!({"key": "pk:S"}));
    let failed = stack.execute(request, at_once()).await.unwrap_err();
    assert_eq!(failed.error, "ItemRejected", "{failed:?}");
}

async fn failed_and_resumed(recorded: &Recorded, stack: &RestoreStack, backup: &str) {
    let id = "01768385930622-0000000a";
    recorded.play_once("load-part", "BatchWriteItem", "", |call| {
        Instead::Answer(call.denial())
    });
    let request = restore(backup, "resumed-restored", json!({"restore_id": id}));
    let failed = stack.execute(request, at_once()).await.unwrap_err();
    assert_eq!(
        (failed.state.as_str(), failed.error.as_str()),
        ("RestoreFailed", "AccessDenied")
    );
    recorded.calm();
    completed(stack, json!({"restore_id": id, "resume": true})).await;
}

async fn imported(recorded: &Recorded, stack: &RestoreStack, backup: &str) {
    recorded.services.will_import(ITEMS, None);
    let request = restore(
        backup,
        "imported-restored",
        json!({"engine": "import-table"}),
    );
    completed(stack, request).await;
}

/// A backup and a log in somebody else's bucket.
async fn elsewhere(recorded: &Recorded, stack: &RestoreStack) {
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    s3.create_bucket().bucket(ELSEWHERE).send().await.unwrap();
    let list = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix(format!("{PREFIX}/{TABLE}/"));
    let mut pages = list.into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.unwrap().contents() {
            let key = object.key().unwrap();
            let copy = s3.copy_object().copy_source(format!("{BUCKET}/{key}"));
            copy.bucket(ELSEWHERE).key(key).send().await.unwrap();
        }
    }
    let backup = format!("s3://{ELSEWHERE}/{PREFIX}/{TABLE}");
    let work = format!("s3://{BUCKET}/{PREFIX}/work");
    let id = "01768385930622-0000000c";
    let first = json!({"at": "latest", "stamp_margin_s": 0, "work": work, "restore_id": id});
    let mut request = restore(&backup, "elsewhere-restored", first);
    // Objects of theirs that are gone: S3 says so only to those who may list.
    for (caller, object, error) in [
        ("scatter-log", ".jsonl.zst", "PartCorrupt"),
        ("load-part", ".json.gz", "PartMissing"),
    ] {
        recorded.play_once(caller, "GetObject", object, |call| {
            Instead::Answer(call.refusal(404, "NoSuchKey", "The specified key does not exist."))
        });
        let torn = stack.execute(request, at_once()).await.unwrap_err();
        assert_eq!(torn.error, error, "{torn:?}");
        recorded.calm();
        request = json!({"restore_id": id, "resume": true});
    }
    completed(stack, request).await;
}

async fn second(recorded: &Recorded, stack: &RestoreStack) {
    for (fault, share) in [(Fault::LoseAnswer, 0.2), (Fault::ServerError, 0.1)] {
        recorded
            .account
            .s3
            .inject(Rule::rate(fault, share).on("PutObject"));
    }
    let backup = format!("s3://{BUCKET}/{PREFIX}/{TABLE}");
    completed(
        stack,
        restore(
            &backup,
            "second-restored",
            json!({"at": "latest", "stamp_margin_s": 0}),
        ),
    )
    .await;
    recorded.calm();
}

/// The second as a snapshot; and once where its place is taken by somebody else while it is planned.
async fn materialized(recorded: &Recorded, stack: &RestoreStack) {
    let id = "01768385930622-0000000b";
    let states = format!("s3://{BUCKET}/{PREFIX}/states");
    let request = json!({
        "backup": format!("s3://{BUCKET}/{PREFIX}/{TABLE}"), "at": "latest", "stamp_margin_s": 0, "materialize": {"to": states},
        "restore_id": id,
    });
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let place = format!("{PREFIX}/states/{TABLE}/AWSDynamoDB/{id}/backup.json");
    let mut foreign = recorded.account.metadata(&theirs(recorded).await).await;
    foreign["request_id"] = json!("another");
    let put = s3.put_object().bucket(BUCKET).key(&place);
    put.body(foreign.to_string().into_bytes().into())
        .send()
        .await
        .unwrap();
    // A store that takes every claim to a name is no store for a snapshot: the marker goes again.
    recorded.play(Box::new(|call| {
        let claims = call.caller == "plan-restore" && call.operation == "PutObject";
        claims.then_some(Instead::PassOnWithout("if-none-match"))
    }));
    let mut unsuitable = request.clone();
    unsuitable["restore_id"] = json!("01768385930622-0000000d");
    let refused = stack.execute(unsuitable, at_once()).await.unwrap_err();
    assert_eq!(refused.error, "StoreUnsuitable", "{refused:?}");
    recorded.calm();
    recorded.play_once(
        "plan-restore",
        "GetObject",
        "0000000b/backup.json",
        |call| Instead::Answer(call.refusal(404, "NoSuchKey", "The specified key does not exist.")),
    );
    let taken = stack.execute(request.clone(), at_once()).await.unwrap_err();
    assert_eq!(taken.error, "SnapshotExists", "{taken:?}");
    recorded.calm();
    s3.delete_object()
        .bucket(BUCKET)
        .key(&place)
        .send()
        .await
        .unwrap();
    completed(stack, json!({"restore_id": id, "resume": true})).await;
}

/// The id of any snapshot that is there.
async fn theirs(recorded: &Recorded) -> String {
    let s3 = clients::s3(recorded.account.s3.endpoint_url());
    let list = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix(format!("{PREFIX}/{TABLE}/AWSDynamoDB/"));
    let list = list.delimiter("/").send().await.unwrap();
    let folder = list.common_prefixes()[0]
        .prefix()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    folder.rsplit('/').next().unwrap().to_owned()
}
