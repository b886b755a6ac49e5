//! What Retry and Catch get to see: the `errorType` on the wire, and a message that names the thing.

use std::time::Duration;

use aws_sdk_dynamodb::types::StreamViewType;
use futures::stream::{self, StreamExt as _};
use highwater_steps::ErrorName;
use highwater_testkit::clients;
use highwater_testkit::runtime_api::FunctionError;
use highwater_testkit::wire_call::Instead;
use highwater_tests::error_docs::{Branch, documented_errors};
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, TABLE, at_once, event, request};
use super::provoked::{ITEMS, Meddling, Seen, Stage};
use super::recorded_backups;

#[track_caller]
fn assert_error(answer: Result<Value, FunctionError>, error_type: &str, names: &str) {
    let error = answer.unwrap_err();
    assert_eq!(error.error_type, error_type, "{}", error.message);
    assert!(error.message.contains(names), "{names}: {}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_made_says_which_thing_is_wrong() {
    let account = Account::with_items(10).await;
    let function = account.function("plan-backup");
    let plan = async |request: Value| {
        let mut event = event("plan-backup/first");
        event["request"] = request;
        function.invoke(event, LONG).await
    };
    for (event, names) in [
        (json!({"nonsense": 1}), "nonsense"),
        (json!("text"), "PlanInput"),
        (json!({"request": {}, "execution_id": "e"}), "started_at"),
        (
            json!({"request": {"tabel": "orders"}, "execution_id": "e", "started_at": "now"}),
            "tabel",
        ),
    ] {
        assert_error(function.invoke(event, LONG).await, "InvalidInput", names);
    }
    assert_error(
        plan(json!({"to": "s3://b/p"})).await,
        "InvalidInput",
        "`table`",
    );
    let to = json!({"table": "orders", "to": "file:///backups"});
    assert_error(plan(to).await, "InvalidInput", "s3://");
    let table = json!({"table": "ordrs", "to": "s3://highwater-snapshots/p"});
    assert_error(plan(table).await, "TableNotFound", "ordrs");
    let bucket = json!({"table": "orders", "to": "s3://no-such-bucket/p"});
    assert_error(plan(bucket).await, "StoreNotFound", "no-such-bucket");
    let unknown = event("plan-backup/resume");
    assert_error(
        function.invoke(unknown, LONG).await,
        "SnapshotNotFound",
        "01768385930622-61b683f7",
    );
    let answer = function.invoke(event("plan-backup/first"), LONG).await;
    assert!(answer.is_ok(), "{answer:?}");
    let mut other = event("plan-backup/first");
    other["execution_id"] = json!("another");
    other["request"]["snapshot_id"] = json!("01768385930622-61b683f7");
    assert_error(
        function.invoke(other, LONG).await,
        "SnapshotExists",
        "01768385930622-61b683f7",
    );
    assert_eq!(function.starts(), 1, "an error does not end the process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_what_does_not_exist_says_so() {
    let account = Account::with_items(10).await;
    let stack = account.deploy();
    let first = event("scan-segment/first");
    assert_error(
        stack.scan.invoke(first.clone(), LONG).await,
        "SnapshotNotFound",
        "01768385930622-61b683f7",
    );
    let mut malformed = first.clone();
    malformed["snapshot_id"] = json!("../../etc");
    assert_error(
        stack.scan.invoke(malformed, LONG).await,
        "InvalidInput",
        "../../etc",
    );
    let negative = json!({"snapshot_id": "01768385930622-61b683f7", "segment": -1});
    assert_error(
        stack.scan.invoke(negative, LONG).await,
        "InvalidInput",
        "-1",
    );
    stack
        .plan
        .invoke(event("plan-backup/first"), LONG)
        .await
        .unwrap();
    let mut beyond = first.clone();
    beyond["segment"] = json!(4);
    assert_error(
        stack.scan.invoke(beyond, LONG).await,
        "InvalidInput",
        "segment 4 of 4",
    );
    let early = stack
        .finalize
        .invoke(event("finalize-backup/first"), LONG)
        .await;
    assert_error(early, "Internal", "4 of 4 segments are not done");
    assert_error(
        stack.finalize.invoke(json!({}), LONG).await,
        "InvalidInput",
        "snapshot_id",
    );
    let client = clients::dynamodb(account.dynamodb.endpoint_url());
    client
        .delete_table()
        .table_name("orders")
        .send()
        .await
        .unwrap();
    assert_error(
        stack.scan.invoke(first, LONG).await,
        "TableNotFound",
        "orders",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_its_control_table_says_which_one_is_missing() {
    let account = Account::with_items(0).await;
    let with_control_table = |name: &str| {
        let mut environment = account.environment();
        environment.retain(|(variable, _)| variable != "HIGHWATER_CONTROL_TABLE");
        environment.push(("HIGHWATER_CONTROL_TABLE".into(), name.into()));
        environment
    };
    for name in ["plan-backup", "scan-segment", "finalize-backup"] {
        let absent = Account::function_with(name, with_control_table("not-there"));
        let sample = event(&format!("{name}/first"));
        assert_error(
            absent.invoke(sample.clone(), LONG).await,
            "Config",
            "not-there",
        );
        // Which variable it is stands in the log: see the functions' own tests.
        let unnamed = Account::function_with(name, with_control_table(""));
        let error = unnamed.invoke(sample, LONG).await.unwrap_err();
        assert_eq!(error.error_type, "Runtime.ExitError", "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_ends_with_the_error_of_the_state_that_failed_first() {
    let account = Account::with_items(10).await;
    let stack = account.deploy();
    let refused = stack
        .execute(request(json!({"segments": 0})), at_once())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.state.as_str(), refused.error.as_str()),
        ("BackupRefused", "InvalidInput")
    );
    assert!(
        refused.cause.contains("`segments` is 0"),
        "{}",
        refused.cause
    );
    let missing = stack
        .execute(request(json!({"table": "ordrs"})), at_once())
        .await
        .unwrap_err();
    assert_eq!(
        (missing.state.as_str(), missing.error.as_str()),
        ("BackupFailed", "TableNotFound")
    );
    assert!(missing.cause.contains("ordrs"), "{}", missing.cause);
}

/// Errors that no function ends with, and why.
const NOT_RAISED: [(ErrorName, &str); 1] = [(
    ErrorName::LeaseLost,
    "a step that loses a shard's lease leaves the shard to its new owner and goes on with the others",
)];

/// How each of the others is provoked.
const PROVOKED: [(ErrorName, &str); 26] = [
    (
        ErrorName::Throttled,
        "the control table refuses ten requests in a row",
    ),
    (
        ErrorName::TransientAws,
        "the control table is out of order for ten requests in a row",
    ),
    (ErrorName::AccessDenied, "the policy lacks DescribeTable"),
    (ErrorName::TableNotFound, "a table that is not there"),
    (ErrorName::StoreNotFound, "a bucket that is not there"),
    (
        ErrorName::StoreUnsuitable,
        "a store that never sees If-None-Match",
    ),
    (ErrorName::StoreNotWritable, "a store that is full: 507"),
    (
        ErrorName::SnapshotExists,
        "the id of a snapshot that is there",
    ),
    (
        ErrorName::SnapshotNotFound,
        "a resume of what was never begun",
    ),
    (
        ErrorName::TableChanged,
        "the table is made anew between plan and scan",
    ),
    (
        ErrorName::PartCorrupt,
        "a part has other bytes when it is checked",
    ),
    (ErrorName::PartMissing, "a part is gone when it is checked"),
    (
        ErrorName::BackupIncomplete,
        "a restore of a backup that failed",
    ),
    (ErrorName::TableExists, "a restore into the table itself"),
    (
        ErrorName::RestoreExists,
        "the id of a restore that is there",
    ),
    (
        ErrorName::RestoreNotFound,
        "a resume of what was never begun",
    ),
    (
        ErrorName::ItemRejected,
        "an item with a key of the wrong type, and no folder for it",
    ),
    (ErrorName::ImportFailed, "an import that DynamoDB gives up"),
    (
        ErrorName::StreamUnsuitable,
        "a stream that carries keys only",
    ),
    (
        ErrorName::StreamChanged,
        "the stream is exchanged during the backup",
    ),
    (
        ErrorName::HandoffExpired,
        "a stream whose shards are older than a day, and nobody reads them",
    ),
    (ErrorName::NotRestorable, "a second of the next century"),
    (ErrorName::InvalidInput, "no segments at all"),
    (ErrorName::Config, "a control table that is not there"),
    (
        ErrorName::Interrupted,
        "somebody marks the backup as failed",
    ),
    (
        ErrorName::Internal,
        "a segment's row that is not there when it is counted",
    ),
];

const UNKNOWN: &str = "01768385930622-61b683f7";

/// Makes an error happen in an execution of the deployed definitions over the deployed programs.
async fn provoke(name: ErrorName) -> Seen {
    let age = match name {
        ErrorName::HandoffExpired => Duration::from_hours(25),
        _ => Duration::from_mins(1),
    };
    let mut stage = Stage::set(age).await;
    match name {
        ErrorName::TableNotFound => stage.back_up(json!({"table": "ordrs"})).await,
        ErrorName::StoreNotFound => stage.back_up(json!({"to": "s3://no-such-bucket/p"})).await,
        ErrorName::InvalidInput => stage.back_up(json!({"segments": 0})).await,
        ErrorName::HandoffExpired => stage.back_up(json!({"with_stream": true})).await,
        ErrorName::Config => {
            for function in ["plan-backup", "finalize-backup"] {
                stage.misconfigure(function, "not-there");
            }
            stage.back_up(json!({})).await
        }
        ErrorName::SnapshotExists => {
            stage.backed_up(json!({"snapshot_id": UNKNOWN})).await;
            stage.back_up(json!({"snapshot_id": UNKNOWN})).await
        }
        ErrorName::SnapshotNotFound => {
            let resume = json!({"snapshot_id": UNKNOWN, "resume": true});
            stage.back_up(resume).await
        }
        ErrorName::StreamUnsuitable => {
            let view = StreamViewType::KeysOnly;
            stage.recorded.set_stream(Some(view)).await;
            stage.back_up(json!({"with_stream": true})).await
        }
        ErrorName::TableChanged
        | ErrorName::PartCorrupt
        | ErrorName::PartMissing
        | ErrorName::StreamChanged
        | ErrorName::Interrupted
        | ErrorName::Internal => meddled(stage, name).await,
        ErrorName::Throttled
        | ErrorName::TransientAws
        | ErrorName::AccessDenied
        | ErrorName::StoreUnsuitable
        | ErrorName::StoreNotWritable => in_trouble(stage, name).await,
        _ => restored(stage, name).await,
    }
}

/// A backup of which a service makes trouble.
async fn in_trouble(stage: Stage, name: ErrorName) -> Seen {
    let plan = "plan-backup";
    match name {
        ErrorName::Throttled => stage.trouble(plan, "GetItem", 10, |call| {
            let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
            Instead::Answer(call.refusal(400, kind, "slow down"))
        }),
        ErrorName::TransientAws => stage.trouble(plan, "GetItem", 10, |call| {
            let kind = "com.amazonaws.dynamodb.v20120810#InternalServerError";
            Instead::Answer(call.refusal(500, kind, "out of order"))
        }),
        ErrorName::AccessDenied => stage.trouble(plan, "DescribeTable", u32::MAX, |call| {
            Instead::Answer(call.denial())
        }),
        ErrorName::StoreUnsuitable => stage.trouble(plan, "PutObject", u32::MAX, |_| {
            Instead::PassOnWithout("if-none-match")
        }),
        _ => stage.trouble("scan-segment", "PutObject", u32::MAX, |call| {
            Instead::Answer(call.refusal(507, "QuotaExceeded", "the disk is full"))
        }),
    }
    stage.back_up(json!({})).await
}

/// A backup that is well until somebody meddles with it.
async fn meddled(mut stage: Stage, name: ErrorName) -> Seen {
    let (function, meddling) = match name {
        ErrorName::TableChanged => ("scan-segment", Meddling::RemakeTable),
        ErrorName::Interrupted => ("scan-segment", Meddling::MarkFailed),
        ErrorName::PartCorrupt => ("finalize-backup", Meddling::OverwritePart),
        ErrorName::PartMissing => ("finalize-backup", Meddling::DeletePart),
        ErrorName::StreamChanged => ("finalize-backup", Meddling::ExchangeStream),
        _ => ("finalize-backup", Meddling::HideSegment),
    };
    stage.before(function, meddling);
    let with_stream = name == ErrorName::StreamChanged;
    stage.back_up(json!({"with_stream": with_stream})).await
}

/// Restores of what is not there, or may not be restored so.
async fn restored(stage: Stage, name: ErrorName) -> Seen {
    let rejects = format!("s3://{BUCKET}/{PREFIX}/rejects");
    let request =
        |backup: &str| json!({"backup": backup, "to": "orders-restored", "rejects": rejects});
    let resume = json!({"restore_id": UNKNOWN, "resume": true});
    let (backup, member, value) = match name {
        ErrorName::RestoreNotFound => return stage.restore(resume).await,
        ErrorName::ItemRejected => return rejected(stage).await,
        ErrorName::BackupIncomplete => {
            stage.trouble("scan-segment", "Scan", 1, |call| {
                Instead::Answer(call.denial())
            });
            let failed = stage.back_up(json!({"snapshot_id": UNKNOWN})).await;
            assert!(failed.end.is_err());
            let backup = recorded_backups::url(&json!(UNKNOWN));
            (backup, "concurrency", json!(1))
        }
        ErrorName::TableExists => (stage.backed_up(json!({})).await, "to", json!(TABLE)),
        ErrorName::RestoreExists => {
            let backup = stage.backed_up(json!({})).await;
            let mut first = request(&backup);
            first["restore_id"] = json!(UNKNOWN);
            first["to"] = json!("another-restored");
            assert!(stage.restore(first).await.end.is_ok());
            (backup, "restore_id", json!(UNKNOWN))
        }
        ErrorName::ImportFailed => {
            let failure = Some("an object is gone");
            stage.recorded.services.will_import(ITEMS, failure);
            let backup = stage.backed_up(json!({})).await;
            (backup, "engine", json!("import-table"))
        }
        ErrorName::NotRestorable => {
            stage.backed_up(json!({"with_stream": true})).await;
            let folder = format!("s3://{BUCKET}/{PREFIX}/{TABLE}");
            (folder, "at", json!("2126-01-14T10:18:50Z"))
        }
        _ => panic!("nobody has said how {name:?} is provoked"),
    };
    let mut request = request(&backup);
    request[member] = value;
    stage.restore(request).await
}

async fn rejected(stage: Stage) -> Seen {
    let s3 = clients::s3(stage.recorded.account.s3.endpoint_url());
    let lines = b"{\"Item\":{\"pk\":{\"N\":\"1\"}}}\n".to_vec();
    let key = format!("{PREFIX}/lines.json");
    let put = s3.put_object().bucket(BUCKET).key(&key);
    put.body(lines.into()).send().await.unwrap();
    let backup = format!("s3://{BUCKET}/{key}");
    let request = json!({"backup": backup, "to": "orders-restored", "key": "pk:S"});
    stage.restore(request).await
}

/// Done-when 3: the error is on the wire under its own name, and takes the way that the handbook says.
fn check(name: ErrorName, branch: &Branch, seen: &Seen) -> Result<(), String> {
    let error = name.as_str();
    let wrong = |what: &str| Err(format!("{error}: {what}: {seen:?}"));
    let Some((function, _)) = seen.wire.iter().find(|(_, told)| told == error) else {
        return wrong("no function has answered with it");
    };
    let tried_again = seen.retried.iter().any(|(_, told)| told == error);
    let ended = |state: &str| {
        let end = seen.end.as_ref().err();
        end.is_some_and(|end| {
            end.state.ends_with(state) && end.error == error && end.cause.contains(error)
        })
    };
    let marked = seen
        .entered
        .iter()
        .any(|state| state.starts_with("Mark") || state == "AbandonPlan");
    let caller = |state: &str| state.to_lowercase() == function.replace('-', "");
    match branch {
        Branch::Retried(_) if !tried_again => wrong("it was not tried again"),
        Branch::Retried(_) if seen.end.is_err() => wrong("another attempt did not mend it"),
        Branch::RefusedBy(_) | Branch::Failed if tried_again => wrong("it was tried again"),
        Branch::RefusedBy(states) if !states.iter().any(|it| caller(it)) => {
            wrong("another state has said it than the handbook names")
        }
        Branch::RefusedBy(_) if !ended("Refused") || marked => wrong("the request was not refused"),
        Branch::Failed if !ended("Failed") => wrong("the execution has not failed with it"),
        Branch::Failed if !marked => wrong("nobody has marked the job as failed"),
        Branch::Retried(_) | Branch::RefusedBy(_) | Branch::Failed => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_is_on_the_wire_and_takes_the_way_that_the_handbook_says() {
    let documented = documented_errors().unwrap();
    let branches = &documented.branches;
    let cases = PROVOKED.iter().map(|(name, how)| async move {
        let outcome = check(*name, &branches[name.as_str()], &provoke(*name).await);
        outcome.map_err(|wrong| format!("{wrong}\n(provoked by: {how})"))
    });
    // Most of them wait for a process to start or for a pause to end.
    let outcomes: Vec<Result<(), String>> = stream::iter(cases).buffer_unordered(6).collect().await;
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_error_is_provoked_or_has_a_reason_why_not() {
    let provoked = PROVOKED.iter().map(|(name, _)| *name);
    let listed: Vec<ErrorName> = provoked.chain(NOT_RAISED.map(|(name, _)| name)).collect();
    for name in ErrorName::ALL {
        let times = listed.iter().filter(|it| **it == name).count();
        assert_eq!(times, 1, "{name:?}");
    }
    assert_eq!(listed.len(), ErrorName::ALL.len());
}
